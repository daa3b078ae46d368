"""DSPy's memory cache before and after: memory and latency of 20,000 requests, of which one in four was asked before.

pip install "ullage[dspy,demo]"
python examples/dspy_cache.py --png dspy_cache.png
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import dspy
from offline import OfflineEngine
from ullage.demo.example import main
from ullage.demo.story import MIB, Story
from ullage.integrations.dspy import install

BOUND = 64 * MIB
ANSWER = 20_000
RECENT = 1_000


class Stock:
    """A program whose answers are cached in memory; DSPy as it comes. It keeps no history, to show the cache alone."""

    def __init__(self) -> None:
        dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
        self.engine = OfflineEngine(ANSWER)
        dspy.configure(lm=dspy.LM("offline/model", engine=self.engine), trace=None, disable_history=True)
        self.program = dspy.Predict("question -> answer")
        self.asked = 0

    def __call__(self, question: str) -> None:
        self.asked += 1
        self.program(question=question)

    def outcome(self) -> str:
        hits = 1 - self.engine.calls / self.asked
        return f"keeps {len(dspy.cache.memory_cache):,} answers; {hits:.1%} of the requests were hits"


class Bounded(Stock):
    """The same with one line more."""

    def __init__(self) -> None:
        install(cache_bytes=BOUND)
        super().__init__()


def load(count: int) -> Iterator[str]:
    """New questions, and one in four that was among the last thousand."""
    chance = random.Random(8)
    for number in range(count):
        again = number > RECENT and chance.random() < 0.25
        yield f"question {number - chance.randint(1, RECENT) if again else number}"


STORY = Story(
    name="dspy-cache",
    title="DSPy: memory cache",
    axis="requests",
    timed="one call of a predictor, model offline",
    price="Each answer is weighed when it is stored, and an answer that has left is asked for again.",
    bound=BOUND,
    items=(20_000, 5_000),
    load=load,
    stock=Stock,
    stock_label=f"dspy {dspy.__version__}",
    ours=Bounded,
    ours_label=f'install(cache_bytes="{BOUND // MIB} MiB")',
)

if __name__ == "__main__":
    main(STORY)
