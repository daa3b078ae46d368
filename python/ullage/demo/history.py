"""A history of prompts: a list bounded by count, as DSPy keeps it, beside a ring bounded by bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ullage import HistoryRing
from ullage.demo.story import MIB, Story

CAP = 10_000
BOUND = 64 * MIB
SHORT, LONG = 8_000, 40_000


def load(count: int) -> Iterator[dict[str, Any]]:
    """Entries shaped like DSPy's. Half way, users start to paste documents, and prompts become five times longer."""
    for number in range(count):
        prompt = f"{number:08} ".ljust(SHORT if number < count // 2 else LONG, "x")
        yield {
            "messages": [{"role": "system", "content": "Answer."}, {"role": "user", "content": prompt}],
            "outputs": [f"answer {number}"],
            "kwargs": {"temperature": 0.0},
            "usage": {"prompt_tokens": len(prompt) // 4, "completion_tokens": 12},
            "model": "offline/model",
        }


class ListHistory:
    """What `dspy.clients.base_lm.record_history` does with its list."""

    def __init__(self) -> None:
        self.history: list[dict[str, Any]] = []

    def __call__(self, entry: dict[str, Any]) -> None:
        if len(self.history) >= CAP:
            self.history.pop(0)
        self.history.append(entry)

    def outcome(self) -> str:
        return f"keeps the last {len(self.history):,} prompts"


class RingHistory:
    def __init__(self) -> None:
        self.history: HistoryRing[dict[str, Any]] = HistoryRing(CAP, max_bytes=BOUND)

    def __call__(self, entry: dict[str, Any]) -> None:
        self.history.append(entry)

    def outcome(self) -> str:
        return f"keeps the last {len(self.history):,} prompts"


STORY = Story(
    name="history",
    title="History of prompts",
    axis="prompts recorded",
    timed="record one prompt",
    price="Each prompt is weighed when it is recorded, and a bound in bytes keeps fewer long prompts than short ones.",
    bound=BOUND,
    event="prompts five times longer",
    items=(60_000, 24_000),
    load=load,
    stock=ListHistory,
    stock_label=f"list, pop(0) at {CAP:,}",
    ours=RingHistory,
    ours_label=f'HistoryRing({CAP:,}, max_bytes="{BOUND // MIB} MiB")',
)
