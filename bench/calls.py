"""Memoized functions: hits by what the call gives, and calls that are new and evict."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

from maps import made
from rounds import PACE, Entrant, Race, Target, Wheel, loop
from subjects import MEMOS, ONCE, TRUTHS, TYPED_MEMOS, Subject, present


def filled(subject: Subject, operation: str, n: int, kind: str, twins: bool = False) -> Entrant:
    """A function that remembers its results for n keys, which are given again in random order, or equal ones."""
    keys, body, names = made(kind, 0, n), subject.spelling[operation], subject.names(subject.new(n), n)
    loop(body, "k", names)(keys, *names.values())
    order = random.Random(n).choices(made(kind, 0, n) if twins else keys, k=PACE.most_ops)
    return Entrant(subject.name, body, names, Wheel(order), "k", subject.role, subject.remark)


def hits(
    operation: str, n: int, kind: str = "str", twins: bool = False, family: list[Subject] = MEMOS
) -> list[Entrant]:
    return [filled(s, operation, n, kind, twins) for s in present(family) if operation in s.spelling]


def evictions(n: int, kind: str) -> list[Entrant]:
    entrants = [filled(s, "evict", n, kind) for s in present(TRUTHS) if "evict" in s.spelling]
    keys = made(kind, n, 3 * n + PACE.most_ops)
    for entrant in entrants:
        entrant.feed = Wheel(keys)
    return entrants


def races() -> list[tuple[str, Callable[[], Race]]]:
    def race(
        title: str,
        runners: Callable[[], list[Entrant]],
        limit: float | None,
        note: str = "",
        base: str = "functools.lru_cache",
    ) -> None:
        targets = () if limit is None else (Target(limit, base),)
        listed.append((title, lambda: Race(title, runners(), base, targets, note)))

    listed: list[tuple[str, Callable[[], Race]]] = []
    n, *_ = PACE.sizes(1_000)
    for kind in ("str", "int"):
        race(f"Call that hits, one argument, {n:,} of {kind}", partial(hits, "one", n, kind), 0.55)
    for kind in ("str", "int"):
        title = f"Call that hits, one argument, {n:,} of {kind}, equal but not identical"
        race(title, partial(hits, "one", n, kind, twins=True), None)
    race(f"Call that hits, two arguments, {n:,}", partial(hits, "two", n), 0.6)
    race(f"Call that hits, three arguments, {n:,}", partial(hits, "three", n), 0.6)
    race(f"Call that hits, one argument by name, {n:,}", partial(hits, "name", n), 0.6)
    race(f"Call that hits, one argument and one by name, {n:,}", partial(hits, "both", n), 0.6)
    race("Call that hits, no arguments", partial(hits, "none", n), 1.0)
    race(f"Call that hits, one argument, typed, {n:,}", partial(hits, "one", n, family=TYPED_MEMOS), None)
    for kind in ("str", "int"):
        note = "The function is `operator.truth`, so that what is measured is the memo."
        race(f"Call that misses and evicts, {n:,} of {kind}", partial(evictions, n, kind), 0.9, note)
    for arguments, family in ONCE.items():
        title = f"Call that hits and is computed once at a time, {arguments}"
        limit = None if "any" in arguments else 2.0
        race(title, partial(hits, "call", n, family=family), limit, base="ullage.lru_cache")
    return listed
