"""What a comparison found: each number as better, worse or about the same, by the same rule for every story."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from ullage.demo.story import MIB, Run


class Verdict(Enum):
    BETTER = "better"
    SAME = "about the same"
    WORSE = "worse"


@dataclass(frozen=True)
class Finding:
    """One number of ours beside the stock object's; less is better for all of them."""

    what: str
    stock: float
    ours: float
    unit: str
    tolerance: float
    """The ratio up to which two numbers count as the same."""

    @property
    def verdict(self) -> Verdict:
        if self.ours * self.tolerance < self.stock:
            return Verdict.BETTER
        return Verdict.WORSE if self.ours > self.stock * self.tolerance else Verdict.SAME

    def __str__(self) -> str:
        text = f"{self.what} {amount(self.stock)} -> {amount(self.ours)} {self.unit}"
        if self.verdict is Verdict.SAME:
            return text
        more, less = max(self.stock, self.ours), min(self.stock, self.ours)
        return f"{text} ({more / less:.1f} times {'more' if self.ours > self.stock else 'less'})"


def amount(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def findings(stock: Run, ours: Run) -> Iterator[Finding]:
    """Not the worst latency: it is one single operation, and chance decides it."""
    yield Finding("peak memory", stock.steady.rss / MIB, ours.steady.rss / MIB, "MiB", 1.1)
    yield Finding("median", stock.steady.p50, ours.steady.p50, "µs", 1.25)
    yield Finding("p99", stock.steady.p99, ours.steady.p99, "µs", 1.25)
