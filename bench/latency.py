"""Latency: what a single operation costs its caller, and everyone else, when something large leaves.

Each subject plays each scene in a process of its own, on the wall clock. The timer's own readings stand in the same
table, taken between the operations: what they show is the machine's doing. Two operations of the clock are in each.
"""

from __future__ import annotations

import gc
import json
import math
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from rounds import PACE
from subjects import MAPS, Subject, skipped
from table import Table, number

INLINE = Subject(
    "ullage, inline", "ullage", lambda m, n: m.LRUCache(n, drop="inline"), MAPS[1].spelling, "ours, inline"
)
SUBJECTS = {s.name: s for s in [*MAPS[:2], INLINE, *MAPS[2:]] if "put" in s.spelling}
EXPIRING = {
    "ullage": lambda n, ttl: __import__("ullage").LRUCache(n, ttl=ttl),
    "ullage.TransferMap": lambda n, ttl: __import__("ullage").TransferMap(ttl, on_expire=lambda batch: None),
    "cachetools.TTLCache": lambda n, ttl: __import__("cachetools").TTLCache(n, ttl),
    "cachebox.TTLCache": lambda n, ttl: __import__("cachebox").TTLCache(n, ttl),
    "expiringdict": lambda n, ttl: __import__("expiringdict").ExpiringDict(n, ttl),
}
PLOTS = Path(__file__).parents[1] / "docs" / "images"
SHARES = [50, 90, 99, 99.9, 100]


def share(laps: list[int], percent: float) -> float:
    """A percentile in microseconds, by nearest rank: as many in a hundred are not larger."""
    return sorted(laps)[math.ceil(len(laps) * percent / 100) - 1] / 1e3


def spread(laps: list[int]) -> list[float]:
    return [share(laps, percent) for percent in SHARES]


class Heartbeat(threading.Thread):
    """Wakes each millisecond, and notes how late it is."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.late: list[int] = []
        self.going = True
        self.start()

    def run(self) -> None:
        while self.going:
            due = perf_counter_ns() + 1_000_000
            time.sleep(0.001)
            self.late.append(perf_counter_ns() - due)

    def stop(self) -> list[int]:
        self.going = False
        self.join()
        return self.late


def writer(name: str, n: int) -> tuple[Any, Callable[[Any, Any, Any], None]]:
    """A full container of small values, and a function that stores a value: a new key, with the one that leaves."""
    subject = SUBJECTS[name]
    container = subject.new(n)
    space: dict[str, Any] = {}
    exec(f"def write(c, k, v, o):\n  {subject.spelling['evict']}", space)
    put: dict[str, Any] = {}
    exec(f"def put(c, k, v):\n  {subject.spelling['put']}", put)
    for key in range(-n, 0):
        put["put"](container, key, None)
    return container, lambda key, value, leaves: space["write"](container, key, value, leaves)


# Scenes. Each returns what it measured, as JSON can carry it.


def many_big(name: str, references: int) -> dict[str, Any]:
    """1,000 evictions of values that hold 10,000 fresh objects each, with other work and a pause between them."""
    steps, size = (1000, 64) if not PACE.quick else (20, 4)
    _, write = writer(name, size)
    evicting: list[int] = []
    timer: list[int] = []
    heartbeat = Heartbeat()
    for key in range(steps + size):
        value: Any = [str(i) for i in range(10_000)]
        if references < len(value):
            # The same work, but nothing large leaves.
            while len(value) > references:
                del value[-64:]
        before = perf_counter_ns()
        write(key, value, key - size)
        evicting.append(perf_counter_ns() - before)
        del value
        before = perf_counter_ns()
        timer.append(perf_counter_ns() - before)
        # A service does other things as well: small entries come and go in another container.
        for _ in range(200):
            side_write(name)
        time.sleep(0.001)
    return {"evicting": spread(evicting[size:]), "timer": spread(timer), "heartbeat": spread(heartbeat.stop())}


_side: dict[str, Any] = {}


def side_write(name: str) -> None:
    """A small write to another container of the same kind."""
    if name not in _side:
        _side[name] = [*writer(name, 100), 0]
    side = _side[name]
    side[1](side[2], None, side[2] - 100)
    side[2] += 1


def one_huge(name: str, _: int) -> dict[str, Any]:
    """One value of a million objects leaves; then small writes, each timed. Beside it the same loop around nothing."""
    n, after = (1_000_000, 100_000) if not PACE.quick else (1000, 200)
    _, write = writer(name, 1)
    write(0, [[i] for i in range(n)], -1)
    gc.collect()
    laps: list[int] = []
    for key in range(1, after):
        before = perf_counter_ns()
        write(key, None, key - 1)
        laps.append(perf_counter_ns() - before)
    empty: list[int] = []
    for _ in range(after):
        before = perf_counter_ns()
        empty.append(perf_counter_ns() - before)
    return {"first": laps[0] / 1e3, "after": spread(laps[1:]), "timer": spread(empty)}


def busy_caller(name: str, _: int) -> dict[str, Any]:
    """The worst turn of a busy caller in the 20 ms after a value left, large or small: the median of many times."""
    trials, n = (25, 300_000) if not PACE.quick else (2, 100)
    worst: dict[str, list[float]] = {"big": [], "small": []}
    for _ in range(trials):
        for size, items in (("big", n), ("small", 1)):
            _, write = writer(name, 1)
            write(0, [[i] for i in range(items)], -1)
            write(1, None, 0)
            turns = 0
            key, end = 2, perf_counter_ns() + 20_000_000
            while True:
                before = perf_counter_ns()
                write(key, None, key - 1)
                now = perf_counter_ns()
                turns = max(turns, now - before)
                key += 1
                if now > end:
                    break
            worst[size].append(turns / 1e3)
    return {size: statistics.median(turns) for size, turns in worst.items()}


def clearing(name: str, _: int) -> dict[str, Any]:
    """`clear()` of a million entries that hold a list each, then small writes, each timed."""
    n, after = (1_000_000, 50_000) if not PACE.quick else (1000, 200)
    container, write = writer(name, n)
    for key in range(n):
        write(key, [key], key - n)
    side_write(name)  # makes the other container
    before = perf_counter_ns()
    container.clear()
    took = perf_counter_ns() - before
    laps = []
    for _ in range(after):
        before = perf_counter_ns()
        side_write(name)
        laps.append(perf_counter_ns() - before)
    return {"clear": took / 1e3, "after": spread(laps)}


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def expiring(name: str, n: int) -> dict[str, Any]:
    """All entries expire at (nearly) the same instant; the next operations are timed, then memory without any call."""
    n = min(n, 2_000 if PACE.quick else n)
    ttl = 0.5 + n * 4e-6
    make = EXPIRING[name]
    empty = resident()
    container = make(2 * n, ttl)
    for key in range(n):
        container[key] = [key]
    full, until = resident(), time.monotonic() + ttl + 0.002
    sample = random.Random(1).sample(range(n), 300)
    # Until the last one is due. What holds expired entries until they are asked for is asked from here on.
    while time.monotonic() < until:
        time.sleep(0.0005)
    laps: dict[str, list[int]] = {"get": [], "set": [], "len": []}
    for i, key in enumerate(sample):
        before = perf_counter_ns()
        container.get(key)
        then = perf_counter_ns()
        container[-1 - i] = None
        later = perf_counter_ns()
        len(container)
        laps["get"].append(then - before)
        laps["set"].append(later - then)
        laps["len"].append(perf_counter_ns() - later)
    time.sleep(2)
    left = (resident() - empty) / max(full - empty, 1)
    return {name: [share(taken, 50), share(taken, 100)] for name, taken in laps.items()} | {"left": left}


def week(name: str, _: int) -> dict[str, Any]:
    """A week of traffic with a turned clock: 168 hours, the same number of operations in each."""
    from ullage import LRUCache, TransferMap
    from ullage.testing import ManualClock

    hours, each = (168, 12_000) if not PACE.quick else (4, 200)
    clock = ManualClock()
    cache: Any = LRUCache(5_000, ttl=3600, timer=clock)
    transfers: Any = TransferMap(600, timer=clock)
    rng = random.Random(7)
    keys = [int(rng.paretovariate(0.6)) % 50_000 for _ in range(each)]
    tails, residents, objects = [], [], []
    for hour in range(hours):
        laps = []
        for i, key in enumerate(keys):
            clock.advance(3600 / each)
            before = perf_counter_ns()
            if cache.get(key) is None:
                cache[key] = [str(key), [i, hour]]
            transfers.begin((hour, i), [i])
            if i % 100:
                transfers.complete((hour, i))
            laps.append(perf_counter_ns() - before)
            if i % 500 == 0:
                transfers.pop_expired()
        tails.append(share(laps, 99.9))
        residents.append(resident() / 2**20)
        gc.collect()
        objects.append(len(gc.get_objects()))
    return {"p99.9": tails, "resident": residents, "objects": objects}


def total(name: str, _: int) -> dict[str, Any]:
    """What freeing in slices costs, held against freeing at once: CPU time, values made alike and turn by turn."""
    from ullage import LRUCache, reclaim

    n, rounds = (200_000, 9) if not PACE.quick else (1000, 2)
    shapes: dict[str, Callable[[], Any]] = {
        "list of strings": lambda: [str(i) for i in range(n)],
        "list of lists": lambda: [[i] for i in range(n)],
        "dict of strings": lambda: {str(i): str(-i) for i in range(n)},
        "list of dicts": lambda: [{"role": str(i), "content": [i]} for i in range(n // 4)],
        "tuple of tuples": lambda: tuple((i, [i]) for i in range(n)),
        "set of strings": lambda: {str(i) for i in range(n)},
    }
    ratios = {}
    for shape, make in shapes.items():
        taken = []
        for _ in range(rounds):
            value = make()
            before = time.thread_time_ns()
            del value
            at_once = time.thread_time_ns() - before
            cache = LRUCache(1, {0: make()})
            before = time.thread_time_ns()
            cache[1] = None
            while reclaim(64):
                pass
            taken.append((time.thread_time_ns() - before) / at_once)
        ratios[shape] = statistics.median(taken)
    return ratios


SCENES: dict[str, Callable[[str, int], dict[str, Any]]] = {
    scene.__name__: scene for scene in (many_big, one_huge, busy_caller, clearing, expiring, week, total)
}


def play(scene: str, name: str, argument: int = 0, **environment: str) -> dict[str, Any]:
    """Plays a scene in a fresh process."""
    command = [sys.executable, __file__, scene, name, str(argument)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | environment)
    return json.loads(done.stdout)


def names() -> Iterator[tuple[str, bool]]:
    for name, subject in SUBJECTS.items():
        if not skipped(subject.module):
            yield name, subject.role == "ours"


def tables() -> Iterator[Table]:
    curves: dict[str, dict[str, list[float]]] = {}
    heads = [f"p{percent:g} µs" if percent < 100 else "worst µs" for percent in SHARES]

    note = "1,000 values of 10,000 fresh strings leave one by one; between two, 200 small writes and a pause of 1 ms."
    table = Table("Latency: values of 10,000 objects leave", ["subject", *heads, "target", "met"], note=note)
    beats = Table(
        "Latency: how late a heartbeat thread is meanwhile",
        ["subject", *heads, "p99 ÷ small values", "worst ÷ small values", "target", "met"],
        note="Beside it the same program, which takes each value apart in small pieces before it stores"
        " what is left. A busy interpreter's switch interval is 5 ms.",
    )
    timer: list[list[float]] = []
    curves["values of 10,000 objects leave"] = {}
    for name, ours in names():
        big, small = play("many_big", name, 10_000), play("many_big", name, 10)
        p999 = big["evicting"][3]
        judged = Table.judged([("p99.9 < 20 µs", p999, 20)] if ours else [])
        table.add(name, *map(number, big["evicting"]), *judged, ours=ours)
        curves["values of 10,000 objects leave"][name] = big["evicting"]
        ratios = [big["heartbeat"][i] / max(small["heartbeat"][i], 1) for i in (2, 4)]
        judged = Table.judged([("both ≤ 1.5", max(ratios), 1.5)] if ours else [])
        beats.add(name, *map(number, big["heartbeat"]), *map(number, ratios), *judged, ours=ours)
        timer.append(big["timer"])
    table.add("(timer)", *(number(statistics.median(column)) for column in zip(*timer, strict=True)), "", "")
    yield table
    yield beats

    note = "Then 100,000 small writes to the same container. The timer's readings are taken in the same process."
    table = Table(
        "Latency: one value of a million objects leaves",
        ["subject", "the write µs", *heads, "timer's worst µs", "target", "met"],
        note=note,
    )
    curves["after a million objects left"] = {}
    for name, ours in names():
        got = play("one_huge", name)
        worst = max(got["first"], got["after"][-1])
        limit = 100 + got["timer"][-1]
        judged = Table.judged([("worst < 100 µs + timer's", worst, limit)] if ours else [])
        cells = [number(got["first"]), *map(number, got["after"]), number(got["timer"][-1])]
        table.add(name, *cells, *judged, ours=ours)
        curves["after a million objects left"][name] = [*got["after"][:-1], worst]
    yield table

    columns = ["subject", "small value left, µs", "300,000 objects left, µs", "ratio", "target", "met"]
    note = "Worst of its operations in the 20 ms after; the median of 25 times."
    table = Table("Latency: a busy caller's worst turn", columns, note=note)
    for name, ours in names():
        got = play("busy_caller", name)
        ratio = got["big"] / got["small"]
        judged = Table.judged([("≤ 1.2", ratio, 1.2)] if ours else [])
        table.add(name, number(got["small"]), number(got["big"]), number(ratio), *judged, ours=ours)
    yield table

    columns = ["subject", "clear() µs", *heads, "target", "met"]
    note = "A million entries, a list in each; then 50,000 small writes to another container."
    table = Table("Latency: clear()", columns, note=note)
    for name, ours in names():
        got = play("clearing", name)
        judged = Table.judged(
            [("clear() < 1,000 µs", got["clear"], 1000), ("worst after < 100 µs", got["after"][-1], 100)]
        )
        table.add(name, number(got["clear"]), *map(number, got["after"]), *(judged if ours else ["", ""]), ours=ours)
    yield table

    for n in PACE.sizes(100_000, 1_000_000):
        columns = ["subject", "get: p50, worst µs", "set", "len", "memory left after 2 s", "target", "met"]
        note = "300 of each in turn, begun when the last one is due. Memory without any further call."
        table = Table(f"Latency: {n:,} entries expire together", columns, note=note)
        for name in EXPIRING:
            if skipped(name.split(".")[0]):
                continue
            got, ours = play("expiring", name, n), name.startswith("ullage")
            worst = max(got[each][1] for each in ("get", "set", "len"))
            judged = Table.judged([("worst < 20 µs", worst, 20), ("memory < 0.2", got["left"], 0.2)] if ours else [])
            cells = [", ".join(map(number, got[each])) for each in ("get", "set", "len")]
            table.add(name, *cells, number(got["left"]), *judged, ours=ours)
        yield table

    got = play("week", "ullage")
    columns = ["", "first hours", "last hours", "ratio", "target", "met"]
    note = "168 hours of 12,000 steps: a look-up, an insertion if it missed, a transfer begun, 99 in 100 completed."
    table = Table("Latency: a week with a turned clock", columns, note=note)
    for what, limit in (("p99.9", 1.2), ("resident", 1.1), ("objects", 1.1)):
        series = got[what]
        part = max(len(series) // 7, 1)
        # The first day fills: the second is the first that can be compared.
        first, last = statistics.median(series[part : 2 * part]), statistics.median(series[-part:])
        unit = {"p99.9": "p99.9 of a step, µs", "resident": "resident, MiB", "objects": "objects tracked"}[what]
        judged = Table.judged([(f"≤ {limit}", last / first, limit)])
        table.add(unit, number(first), number(last), number(last / first), *judged)
    yield table

    table = Table("Latency: all work of freeing in slices ÷ freeing at once", ["value", "ratio", "target", "met"])
    for shape, ratio in play("total", "ullage", ULLAGE_SWEEPER="0").items():
        table.add(shape, number(ratio), *Table.judged([("≤ 1.5", ratio, 1.5)]))
    yield table
    plot(curves)


def plot(curves: dict[str, dict[str, list[float]]]) -> None:
    if PACE.quick or skipped("matplotlib"):
        return
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(curves), figsize=(6.5 * len(curves), 5), layout="constrained")
    for axis, (title, subjects) in zip(axes, curves.items(), strict=True):
        for name, values in subjects.items():
            ours = name == "ullage"
            axis.plot(range(len(SHARES)), values, marker="o", lw=3 if ours else 1.2, label=name, zorder=2 + ours)
        axis.set(title=title, yscale="log", ylabel="microseconds", xlabel="percentile")
        axis.set_xticks(range(len(SHARES)), [f"{percent:g}" for percent in SHARES[:-1]] + ["worst"])
        axis.grid(alpha=0.3)
    axes[-1].legend(fontsize="small")
    PLOTS.mkdir(exist_ok=True)
    figure.savefig(PLOTS / "latency.png", dpi=90)


if __name__ == "__main__":
    scene, name, argument = sys.argv[1:]
    print(json.dumps(SCENES[scene](name, int(argument))))
