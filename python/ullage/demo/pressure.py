"""Memory that gets short: containers bounded by a guess at a number, alone and under a MemoryGuard."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from time import sleep
from typing import Any

import psutil

from ullage import HistoryRing, LRUCache, MemoryGuard
from ullage.demo.story import MIB, Story
from ullage.monitor.memory import Usage

CAP = 4_000
LIMIT = 160 * MIB
"""What the program may take beyond what it takes at the start; for a real one, its control group says so."""
SHORT, LONG = 10_000, 50_000
PAUSE = 0.0003
"""Seconds between two prompts: three thousand a second, from all users."""


def load(count: int) -> Iterator[tuple[str, str, str]]:
    """A digest, a prompt and its answer. Half way, both become five times longer."""
    for number in range(count):
        sleep(PAUSE)
        length = SHORT if number < count // 2 else LONG
        yield f"sha256-{number:057}", f"{number:08} ".ljust(length, "p"), f"{number:08} ".ljust(length, "a")


class Unguarded:
    def __init__(self) -> None:
        self.answers: LRUCache[str, str] = LRUCache(CAP, name="answers")
        self.prompts: HistoryRing[str] = HistoryRing(CAP, name="prompts")
        self.start = psutil.Process().memory_info().rss
        self.memory = psutil.Process().memory_info

    def __call__(self, item: tuple[str, str, str]) -> None:
        key, prompt, answer = item
        self.answers[key] = answer
        self.prompts.append(prompt)

    def usage(self) -> Usage:
        return Usage(max(self.memory().rss - self.start, 0), LIMIT, "set by the demo")

    def outcome(self) -> str:
        return f"ends at {self.usage().share:.0%} of its limit; a real limit would have ended it"


class Guarded(Unguarded):
    def __init__(self) -> None:
        super().__init__()
        self.said = "said nothing"
        warnings.showwarning = self.hear  # type: ignore[assignment]
        self.guard = MemoryGuard(0.6, 0.75, interval=0.01, warn_every=3600, reader=self.usage)
        self.guard.start()

    def hear(self, message: Warning | str, *_where: Any) -> None:
        self.said = f'said "{message}"'

    def outcome(self) -> str:
        self.guard.stop()
        return f"keeps {len(self.answers):,} answers and {len(self.prompts):,} prompts, and {self.said}"


STORY = Story(
    name="pressure",
    title="Memory gets short",
    axis="prompts answered",
    timed="keep one prompt and its answer",
    price="What was given back is asked for anew. The guard looks a hundred times as often here as it would for a "
    "program that waits for models. Bounds in bytes need no guard.",
    bound=LIMIT,
    event="texts five times longer",
    items=(12_000, 6_000),
    load=load,
    stock=Unguarded,
    stock_label=f"{CAP:,} entries each",
    ours=Guarded,
    ours_label="the same under MemoryGuard",
)
