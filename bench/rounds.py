"""Races: subjects do the same operation in short, interleaved rounds on one thread.

On a machine that does other work too, a single timing says little; but what slows one lap slows its neighbours, so
the ratio of two laps of the same round says a lot, and the median of many such ratios repeats. A lap is timed in CPU
time of the thread, with the garbage collector off; what the bare loop costs is taken off.
"""

from __future__ import annotations

import gc
import os
import statistics
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

from table import Table, number


@dataclass
class Pace:
    """How much is measured. The quick pace checks that every benchmark runs; its numbers mean nothing."""

    rounds: int = 31
    lap_ns: int = 4_000_000
    most_ops: int = 20_000
    largest: int = 1_000_000
    quick: bool = False

    def quicken(self) -> None:
        self.quick = True
        self.rounds, self.lap_ns, self.most_ops, self.largest = 3, 200_000, 500, 2_000

    def sizes(self, *sizes: int) -> list[int]:
        return sorted({min(n, self.largest) for n in sizes})


PACE = Pace()
if os.environ.get("ULLAGE_BENCH_QUICK"):
    PACE.quicken()


class Wheel:
    """The same items again and again, as many at a time as a lap asks for."""

    def __init__(self, items: Sequence[Any], start: int = 0) -> None:
        self.items = cycle(items)
        next(islice(self.items, start, start), None)

    def __call__(self, ops: int) -> list[Any]:
        return list(islice(self.items, ops))


def loop(body: str, each: str, names: Iterable[str]) -> Callable[..., None]:
    """The body in a for loop of its own: shared code would share, and so spoil, the interpreter's inline caches."""
    space: dict[str, Any] = {}
    exec(f"def loop({', '.join(['items', *names])}):\n  for {each} in items:\n{textwrap.indent(body, '    ')}", space)
    return space["loop"]


def timed(call: Callable[..., None], *args: Any) -> int:
    start = time.thread_time_ns()
    call(*args)
    return time.thread_time_ns() - start


@dataclass
class Entrant:
    """One subject in one race: its operation as source text, what the text may name, and what feeds the loop."""

    name: str
    body: str
    names: dict[str, Any]
    feed: Callable[[int], list[Any]]
    each: str = "k"
    role: str = "peer"  # or "ours", which is held to the targets, or "floor", which is not compared with peers
    remark: str = ""
    ops: int = 16
    run: Callable[..., None] = field(init=False)
    spin: Callable[..., None] = field(init=False)

    def __post_init__(self) -> None:
        self.run = loop(self.body, self.each, self.names)
        self.spin = loop("pass", self.each, self.names)

    def lap(self) -> tuple[float, float]:
        """Nanoseconds an operation with its loop, and of the loop alone, over the same items."""
        items, names = self.feed(self.ops), self.names.values()
        self.spin(items, *names)  # brings the items into the cache, alike for every entrant
        bare = timed(self.spin, items, *names)
        return timed(self.run, items, *names) / self.ops, bare / self.ops

    def warm_up(self) -> None:
        """Finds how many operations make a lap: a slow subject does fewer, so that no round is long."""
        for _ in range(3):
            cost = max(self.lap()[0], 1.0)
            self.ops = int(min(max(PACE.lap_ns / cost, 16), PACE.most_ops))


@dataclass(frozen=True)
class Target:
    """At most `limit` times the cost of another entrant, or of the best peer."""

    limit: float
    against: str

    def __str__(self) -> str:
        return f"≤ {self.limit:g}x {self.against}"


@dataclass
class Race:
    title: str
    entrants: list[Entrant]
    base: str
    targets: tuple[Target, ...] = ()
    note: str = ""

    def run(self) -> Results:
        costs: dict[str, list[float]] = {entrant.name: [] for entrant in self.entrants}
        collecting = gc.isenabled()
        gc.collect()
        if "ullage" in sys.modules:
            # What an earlier race left is nobody's to free within this one.
            sys.modules["ullage"].flush()
        gc.disable()
        try:
            for entrant in self.entrants:
                entrant.warm_up()
            for turn in range(PACE.rounds):
                first = turn % len(self.entrants)
                order = self.entrants[first:] + self.entrants[:first]
                laps = {entrant.name: entrant.lap() for entrant in order}
                bare = min(loop_alone for _, loop_alone in laps.values())
                for name, (cost, _) in laps.items():
                    costs[name].append(max(cost - bare, 0.1))
        finally:
            if collecting:
                gc.enable()
        return Results(self, costs)


@dataclass
class Results:
    """What every entrant's operation cost in every round, in nanoseconds."""

    race: Race
    costs: dict[str, list[float]]

    def best(self, name: str) -> float:
        return min(self.costs[name])

    def median(self, name: str) -> float:
        return statistics.median(self.costs[name])

    def ratio(self, name: str, other: str) -> float:
        return statistics.median(a / b for a, b in zip(self.costs[name], self.costs[other], strict=True))

    @property
    def best_peer(self) -> str | None:
        peers = [entrant.name for entrant in self.race.entrants if entrant.role == "peer"]
        return min(peers, key=self.median, default=None)

    def against(self, name: str, other: str) -> float | None:
        rival = self.best_peer if other == "best peer" else other
        return self.ratio(name, rival) if rival in self.costs else None

    def table(self) -> Table:
        ranked = sorted(self.race.entrants, key=lambda entrant: self.median(entrant.name))
        rivals = [self.race.base, *(["best peer"] if self.best_peer else [])]
        remarks = any(entrant.remark for entrant in ranked)
        columns = ["subject", "best ns", "median ns", *(f"÷ {rival}" for rival in rivals), "target", "met"]
        table = Table(self.race.title, columns + ["remark"] * remarks, note=self.race.note)
        for entrant in ranked:
            name, ours = entrant.name, entrant.role == "ours"
            cells = [number(self.best(name)), number(self.median(name))]
            cells += [number(self.against(name, rival)) for rival in rivals]
            cells += table.judged((str(t), self.against(name, t.against), t.limit) for t in self.race.targets if ours)
            table.add(name, *cells, *[entrant.remark] * remarks, ours=ours)
        return table
