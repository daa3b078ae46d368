"""Histories: appending when full, the last ten items, one item by index."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

from rounds import PACE, Entrant, Race, Target, Wheel, loop
from subjects import HISTORIES, Subject, present


def filled(subject: Subject, n: int) -> dict[str, Any]:
    names = subject.names(subject.new(n), n)
    loop(subject.spelling["fill"], "_", names)(range(n), *names.values())
    return names


def entrant(subject: Subject, operation: str, n: int, feed: Callable[[int], list[Any]], name: str = "") -> Entrant:
    body, names = subject.spelling[operation], filled(subject, n)
    return Entrant(name or subject.name, body, names, feed, "k", subject.role, subject.remark)


def appends(n: int) -> list[Entrant]:
    return [entrant(s, "append", n, lambda ops: [None] * ops) for s in present(HISTORIES)]


def tails(n: int) -> list[Entrant]:
    return [entrant(s, "tail", n, lambda ops: [None] * ops) for s in present(HISTORIES) if "tail" in s.spelling]


def indexed(n: int) -> list[Entrant]:
    able = [s for s in present(HISTORIES) if "index" in s.spelling]
    ends = [entrant(s, "index", n, lambda ops: [-1] * ops, f"{s.name}, at its end") for s in able]
    return ends + [entrant(s, "index", n, lambda ops: [n // 2] * ops, f"{s.name}, in the middle") for s in able]


def anywhere(n: int) -> list[Entrant]:
    places = random.Random(n).choices(range(n), k=PACE.most_ops)
    return [entrant(s, "index", n, Wheel(places)) for s in present(HISTORIES) if "index" in s.spelling]


def races() -> list[tuple[str, Callable[[], Race]]]:
    def race(title: str, runners: Callable[[], list[Entrant]], base: str, *limits: float) -> None:
        listed.append((title, lambda: Race(title, runners(), base, tuple(Target(limit, base) for limit in limits))))

    listed: list[tuple[str, Callable[[], Race]]] = []
    for n in PACE.sizes(100, 10_000, 1_000_000):
        race(f"Append when full, {n:,} items", partial(appends, n), "deque", 1.3)
    for n in PACE.sizes(100, 10_000, 1_000_000):
        race(f"The last ten items, [-10:] of {n:,}", partial(tails, n), "list", 1.2)
    for n in PACE.sizes(100, 10_000, 1_000_000):
        race(f"One item by index, of {n:,}", partial(indexed, n), "deque, at its end", 1.0)
    for n in PACE.sizes(100, 10_000, 1_000_000):
        race(f"One item at random positions, of {n:,}", partial(anywhere, n), "list")
    return listed
