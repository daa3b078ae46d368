"""What it costs a hit to be watched: a guard at its default pace and a report a second, on and off in turns.

The time is that of the whole process, since the work of the watchers is part of the price, and a lap takes two seconds.
"""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from maps import filled, made
from rounds import PACE, loop
from subjects import MAPS
from table import Table, number
from ullage import LRUCache, MemoryGuard, report

CONTAINERS = 100
LIMIT = 1.03


@contextmanager
def watched() -> Iterator[None]:
    """A guard looks, and a report is made every second, as an exporter would."""
    ended = threading.Event()

    def reports() -> None:
        while not ended.wait(1):
            report().as_dict()

    reporter = threading.Thread(target=reports)
    reporter.start()
    try:
        with MemoryGuard():
            yield
    finally:
        ended.set()
        reporter.join()


def lap(seconds: float, run: object, keys: list[str], names: dict[str, object]) -> float:
    """Nanoseconds of the process a hit, hits being made for so many seconds."""
    done, until, began = 0, time.perf_counter() + seconds, time.process_time_ns()
    while time.perf_counter() < until:
        run(keys, *names.values())  # type: ignore[operator]
        done += len(keys)
    return (time.process_time_ns() - began) / done


def tables() -> list[Table]:
    subject = next(subject for subject in MAPS if subject.role == "ours")
    keys = made("str", 0, 1_000)
    names = filled(subject, keys)
    run = loop(subject.spelling["hit"], "k", names)
    order = random.Random(1).choices(keys, k=PACE.most_ops)
    seconds, rounds = (0.01, 2) if PACE.quick else (2.0, 9)
    others = [LRUCache(None, {n: str(n) for n in range(100)}) for _ in range(CONTAINERS)]
    off, on = [], []
    for turn in range(rounds):
        for watching in (turn % 2, 1 - turn % 2):
            if watching:
                with watched():
                    on.append(lap(seconds, run, order, names))
            else:
                off.append(lap(seconds, run, order, names))
    ratio = statistics.median(a / b for a, b in zip(on, off, strict=True))
    title = f"Hits in one of {len(others) + 1} containers, watched and not"
    table = Table(title, ["subject", "median ns", "÷ not watched", "target", "met"])
    table.add("not watched", number(statistics.median(off)), "1.00", "", "")
    cells = table.judged([(f"≤ {LIMIT:g}x not watched", ratio, LIMIT)])
    table.add("watched", number(statistics.median(on)), f"{ratio:.3f}", *cells, ours=True)
    return [table]
