"""Growth: what an operation costs as entries become more, and the worst single insert on the way to a million."""

from __future__ import annotations

import gc
import statistics
import time
from array import array
from collections.abc import Callable

import history
import transfers
from maps import evictions, hits, made
from rounds import PACE, Entrant, Race, loop
from subjects import FLIGHTS, HISTORIES, MAPS, Subject, present, skipped
from table import Table, number

PEERS = frozenset({"dict", "ullage", "cachebox", "lru-dict", "cachebox.VTTLCache"})

# 256 entries that are due soon are begun, the clock is turned, and they are handed over; dict sets and deletes them.
DUE = "for x in k: c.begin(x, v, ttl=1.0)\nclock.advance(1.5)\nc.pop_expired(256)"
DELETED = "for x in k: c[x] = v\nfor x in k: del c[x]"


def due(n: int) -> list[Entrant]:
    live, soon = transfers.named(0, n), transfers.named(n, n + transfers.BATCH)
    listed = [Entrant("dict", DELETED, {"c": dict.fromkeys(live), "v": None}, lambda ops: [soon] * ops, role="floor")]
    if not skipped("ullage"):
        from ullage import TransferMap
        from ullage.testing import ManualClock

        clock = ManualClock()
        waiting = TransferMap(1e8, timer=clock)
        for key in live:
            waiting.begin(key, None)
        names = {"c": waiting, "v": None, "clock": clock}
        listed.append(Entrant("ullage", DUE, names, lambda ops: [soon] * ops, role="ours"))
    return listed


def histories(operation: str, base: str) -> Callable[[int], list[Entrant]]:
    def runners(n: int) -> list[Entrant]:
        able = [s for s in present(HISTORIES) if s.name in (base, "ullage")]
        return [history.entrant(s, operation, n, lambda ops: [n // 2] * ops) for s in able]

    return runners


# What is done, the plain container beside it, and who does it at a size.
OPERATIONS: list[tuple[str, str, Callable[[int], list[Entrant]]]] = [
    ("Hit, str keys in random order", "dict", lambda n: hits(n, only=PEERS)),
    ("New str key that evicts", "dict", lambda n: evictions(n, only=PEERS)),
    ("Begin one, complete any", "dict", lambda n: transfers.pairs(n, only=PEERS)),
    ("256 entries begun, due, and handed over", "dict", due),
    ("Ask for what is due when nothing is", "cachebox.TTLCache", transfers.idle),
    ("Append when full", "deque", histories("append", "deque")),
    ("The last ten items", "list", histories("tail", "list")),
    ("One item in the middle", "list", histories("index", "list")),
]


def curve(title: str, base: str, runners: Callable[[int], list[Entrant]]) -> Table:
    """A race a size. The best rounds are compared, because rounds of different races were not disturbed alike."""
    sizes = PACE.sizes(1_000, 10_000, 100_000, 1_000_000)
    results = [Race(title, runners(n), base).run() for n in sizes]
    table = Table(f"Growth: {title}, best ns", ["subject", *(f"{n:,}" for n in sizes), "growth", "target", "met"])
    base_adds = results[-1].best(base) - results[0].best(base)
    for entrant in results[0].race.entrants:
        name, ours = entrant.name, entrant.role == "ours"
        costs = [result.best(name) for result in results]
        growth, added = costs[-1] / costs[0], costs[-1] - costs[0]
        # What stays near is flat. A table of a million entries cannot be, and adds about what dict's adds.
        verdict = ("≤ 1.2", growth, 1.2)
        if base == "dict":
            verdict = (f"adds ≤ {number(1.1 * base_adds)} ns, 1.1x dict", added, 1.1 * base_adds)
        cells = [*map(number, costs), number(growth), *table.judged([verdict] if ours else [])]
        table.add(name, *cells, ours=ours)
    return table


def inserts(subject: Subject, body: str, keys: list[str]) -> array[int]:
    """Nanoseconds of every single insert from empty to full, the clock's own cost included."""
    took = array("q", bytes(8 * len(keys)))
    names = {**subject.names(subject.new(len(keys)), len(keys)), "clock": time.thread_time_ns, "took": took}
    fill = loop(f"start = clock()\n{body}\ntook[i] = clock() - start", "i, k", names)
    gc.collect()
    gc.disable()
    try:
        fill(enumerate(keys), *names.values())
    finally:
        gc.enable()
    return took


def worst_insert() -> Table:
    n, runs = PACE.largest, 3
    keys = made("str", 0, n)
    note = (
        f"CPU time of one insert with the clock's own. Worst: the least of {runs} runs' worst ones; a stall that"
        " belongs to the structure comes in every run, a disturbance of the machine does not."
    )
    columns = ["subject", "p50 ns", "p99.99 ns", "worst µs", "all, ms", "target", "met"]
    table = Table(f"Growth: single inserts from empty to {n:,}", columns, note=note)
    listed = [(s, s.name, s.spelling.get("put") or s.spelling["evict"]) for s in present(MAPS)]
    listed += [(s, "ullage.TransferMap", s.spelling["begin"]) for s in present(FLIGHTS) if s.role == "ours"]
    rows = []
    for subject, name, body in listed:
        laps = [inserts(subject, body, keys) for _ in range(runs)]
        cuts = statistics.quantiles(min(laps, key=sum), n=10_000)
        rows.append((min(map(max, laps)) / 1e3, name, cuts[4_999], cuts[9_998], min(map(sum, laps)) / 1e6, subject))
    for worst, name, p50, tail, total, subject in sorted(rows, key=lambda row: row[0]):
        ours = subject.role == "ours"
        cells = [number(p50), number(tail), number(worst), number(total)]
        table.add(name, *cells, *table.judged([("worst < 1 ms", worst, 1e3)] if ours else []), ours=ours)
    return table


def tables() -> list[Table]:
    return [curve(*operation) for operation in OPERATIONS] + [worst_insert()]
