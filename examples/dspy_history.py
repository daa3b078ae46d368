"""DSPy's histories before and after: memory and latency of 20,000 calls with prompts of 20 kB.

pip install "ullage[dspy,demo]"
python examples/dspy_history.py --png dspy_history.png
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import dspy
from offline import OfflineEngine
from ullage.demo.example import main
from ullage.demo.story import MIB, Story
from ullage.integrations.dspy import install

BOUND = 16 * MIB
PROMPT = 20_000


class Stock:
    """A program that answers questions; DSPy as it comes."""

    def __init__(self) -> None:
        dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
        self.lm = dspy.LM("offline/model", engine=OfflineEngine(), cache=False)
        dspy.configure(lm=self.lm)
        self.program = dspy.Predict("question -> answer")

    def __call__(self, question: str) -> None:
        self.program(question=question)

    def outcome(self) -> str:
        start = perf_counter()
        list(self.program.named_sub_modules())
        walk = perf_counter() - start
        kept = f"{len(self.lm.history):,} calls in each of three histories, {len(dspy.settings.trace):,} in the trace"
        return f"keeps {kept}; a walk over the program takes {walk * 1e6:,.0f} µs"


class Bounded(Stock):
    """The same with one line more."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        warnings.showwarning = lambda *warning, **_: self.said.append(warning)
        install(history_bytes=BOUND)
        super().__init__()

    def outcome(self) -> str:
        soft = sum("GLOBAL_HISTORY" in str(warning[0]) for warning in self.said)
        return f"{super().outcome()}; warnings at the soft limit: {soft}"


def load(count: int) -> Iterator[str]:
    for number in range(count):
        yield f"{number} ".ljust(PROMPT, "x")


STORY = Story(
    name="dspy-history",
    title="DSPy: histories",
    axis="calls",
    timed="one call of a predictor, model offline",
    price="Each call is weighed once for each of the four places that record it.",
    bound=2 * BOUND,
    items=(20_000, 3_000),
    load=load,
    stock=Stock,
    stock_label=f"dspy {dspy.__version__}",
    ours=Bounded,
    ours_label=f'install(history_bytes="{BOUND // MIB} MiB")',
)

if __name__ == "__main__":
    main(STORY)
