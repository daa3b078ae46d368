"""A story: one load, played to a stock object and to ours, and what is measured while it plays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

MIB = 1 << 20


class Subject(Protocol):
    """What a story measures: it takes one item of the load at a time, and says at the end what came of it."""

    def __call__(self, item: Any, /) -> None: ...

    def outcome(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Story:
    name: str
    title: str
    axis: str
    """What one item of the load is, in the plural: the unit of the time axis."""
    timed: str
    """The operation whose latency is taken."""
    price: str
    """What ours costs by design, said whatever the numbers are."""
    bound: int = 0
    """Bytes ours was told to keep to; 0 where the bound is a time."""
    event: str = ""
    """What changes in the load half way, if anything does."""
    items: tuple[int, int]
    """How many items the load has: in full, and with --quick."""
    load: Callable[[int], Iterator[Any]]
    """The same items for both subjects, made outside the timed operation."""
    stock: Callable[[], Subject]
    stock_label: str
    ours: Callable[[], Subject]
    ours_label: str

    def subject(self, side: str) -> Subject:
        return self.stock() if side == "stock" else self.ours()

    def label(self, side: str) -> str:
        return self.stock_label if side == "stock" else self.ours_label


SIDES = ("stock", "ours")


class Window(NamedTuple):
    """A stretch of the load: memory of the process at its end, and latencies in it (in microseconds)."""

    done: int
    rss: int
    p50: float
    p99: float
    worst: float


@dataclass(frozen=True)
class Run:
    """One subject's part of a story."""

    windows: tuple[Window, ...]
    steady: Window
    """The last quarter of the load, when whatever fills up is full; `rss` is the peak of the whole run."""
    outcome: str
