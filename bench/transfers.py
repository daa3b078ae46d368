"""Maps with lifetimes: begin and complete in any order, and handing over what is due."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from rounds import PACE, Entrant, Race, Target, Wheel, loop
from subjects import FLIGHTS, Subject, present, skipped
from table import Table, number

BATCH = 256


def named(start: int, stop: int) -> list[str]:
    return [f"transfer:{i}" for i in range(start, stop)]


def filled(subject: Subject, keys: list[str]) -> dict[str, Any]:
    names = subject.names(subject.new(len(keys)), len(keys))
    loop(subject.spelling["begin"], "k", names)(keys, *names.values())
    return names


class AnyOrder:
    """Pairs of a key to begin and of any live key to complete. Completed keys are begun again much later.

    Made anew, as keys are that come out of a message, each is a new object whose hash nobody has asked for.
    """

    def __init__(self, live: list[str], spare: list[str], anew: bool) -> None:
        self.live, self.spare, self.random = list(live), deque(spare), random.Random(len(live))
        self.anew = anew

    def __call__(self, ops: int) -> list[tuple[str, str]]:
        pairs = []
        for i in self.random.choices(range(len(self.live)), k=ops):
            new, old = self.spare.popleft(), self.live[i]
            self.live[i] = new
            self.spare.append(old)
            pairs.append((new[:1] + new[1:], old[:1] + old[1:]) if self.anew else (new, old))
        return pairs


def pairs(n: int, order: str = "random", anew: bool = False, only: frozenset[str] = frozenset()) -> list[Entrant]:
    live, spare = named(0, n), named(n, 2 * n + PACE.most_ops)

    def feed() -> Callable[[int], list[tuple[str, str]]]:
        if order == "random":
            return AnyOrder(live, spare, anew)
        new, old = Wheel(live + spare, n), Wheel(live + spare)
        return lambda ops: list(zip(new(ops), old(ops), strict=True))

    return [
        Entrant(s.name, s.spelling["pair"], filled(s, live), feed(), "k, o", s.role, s.remark)
        for s in present(FLIGHTS)
        if not only or s.name in only
    ]


def idle(n: int) -> list[Entrant]:
    """Asking for what is due when nothing is."""
    live = named(0, n)
    return [
        Entrant(s.name, s.spelling["expire"], filled(s, live), lambda ops: [None] * ops, "k", s.role, s.remark)
        for s in present(FLIGHTS)
        if "expire" in s.spelling
    ]


def races() -> list[tuple[str, Callable[[], Race]]]:
    def race(title: str, runners: Callable[[], list[Entrant]]) -> None:
        targets = (Target(1.3, "dict"), Target(1.0, "best peer"))
        listed.append((title, lambda: Race(title, runners(), "dict", targets)))

    listed: list[tuple[str, Callable[[], Race]]] = []
    for n in PACE.sizes(1_000, 100_000, 1_000_000):
        race(f"Begin one, complete the oldest, {n:,} live", partial(pairs, n, "fifo"))
    for n in PACE.sizes(1_000, 100_000, 1_000_000):
        race(f"Begin one, complete any, {n:,} live", partial(pairs, n))
    small = min(PACE.sizes(1_000))
    race(f"Begin one, complete any, {small:,} live, keys made anew", partial(pairs, small, anew=True))
    return listed


def burst() -> Table:
    """All entries fall due at once, and are handed over: by ullage in batches, by the others as they do it."""
    n = min(200_000, PACE.largest)
    columns = ["subject", "calls", "median µs", "p99 µs", "worst µs", "all, ms", "target", "met"]
    note = "The worst call is the least of three runs' worst ones, so that a disturbance in one of them does not count."
    table = Table(f"{n:,} entries due at once, handed over", columns, note=note)
    for name, module, start in BURSTS:
        if skipped(module):
            continue
        runs = [handed_over(*start(n)) for _ in range(3)]
        calls = min(runs, key=sum)
        p99 = statistics.quantiles(calls, n=100)[98] if len(calls) > 1 else calls[0]
        figures = [statistics.median(calls), p99, min(map(max, runs)), sum(calls) / 1e3]
        ours = module == "ullage"
        verdict = table.judged([("p99 < 50 µs", p99, 50.0)] if ours else [])
        table.add(name, f"{len(calls):,}", *map(number, figures), *verdict, ours=ours)
    return table


def handed_over(call: Callable[[], Any], left: Callable[[], int]) -> list[float]:
    """Microseconds of each call until nothing is left."""
    laps = []
    gc.collect()
    gc.disable()
    try:
        while left():
            start = time.thread_time_ns()
            gone = call()
            laps.append((time.thread_time_ns() - start) / 1e3)
            del gone
    finally:
        gc.enable()
    return laps


def by_ullage(n: int) -> tuple[Callable[[], Any], Callable[[], int]]:
    from ullage import TransferMap
    from ullage.testing import ManualClock

    clock = ManualClock()
    transfers = TransferMap(30.0, timer=clock)
    for key in named(0, n):
        transfers.begin(key, [key])
    clock.advance(31.0)
    todo = iter(range(n, 0, -BATCH))
    return partial(transfers.pop_expired, BATCH), lambda: next(todo, 0)


def by_cachetools(n: int) -> tuple[Callable[[], Any], Callable[[], int]]:
    from cachetools import TTLCache

    now = [0.0]
    transfers = TTLCache(2 * n, 30.0, timer=lambda: now[0])
    for key in named(0, n):
        transfers[key] = [key]
    now[0] = 31.0
    todo = iter([n])
    return transfers.expire, lambda: next(todo, 0)


def by_cachebox(n: int) -> tuple[Callable[[], Any], Callable[[], int]]:
    from cachebox import VTTLCache

    transfers = VTTLCache(2 * n)
    due = time.monotonic() + n / 100_000
    for key in named(0, n):
        transfers.insert(key, [key], max(due - time.monotonic(), 0.01))
    time.sleep(max(due - time.monotonic(), 0.0) + 0.1)
    todo = iter([n])
    return transfers.expire, lambda: next(todo, 0)


BURSTS = [
    ("ullage", "ullage", by_ullage),
    ("cachetools.TTLCache", "cachetools", by_cachetools),
    ("cachebox.VTTLCache", "cachebox", by_cachebox),
]
