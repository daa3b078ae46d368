"""Bounded maps: hits, misses, overwriting, and new keys that evict."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

from rounds import PACE, Entrant, Race, Target, Wheel, loop
from subjects import MAPS, Subject, present

KEYS: dict[str, Callable[[int], Any]] = {
    "str": lambda i: f"key:{i}",
    "int": lambda i: 1_000_000 + i,
    "tuple": lambda i: ("key", 1_000_000 + i),
}


def made(kind: str, start: int, stop: int) -> list[Any]:
    """New key objects, hashed once, so that a str's cached hash does not depend on who is measured first."""
    keys = [KEYS[kind](i) for i in range(start, stop)]
    for key in keys:
        hash(key)
    return keys


def filled(subject: Subject, keys: list[Any]) -> dict[str, Any]:
    names = subject.names(subject.new(len(keys)), len(keys))
    loop(subject.spelling.get("put") or subject.spelling["evict"], "k", names)(keys, *names.values())
    return names


def entrants(
    operation: str, keys: list[Any], feed: Callable[[], Callable[[int], list[Any]]], each: str, only: frozenset[str]
) -> list[Entrant]:
    return [
        Entrant(s.name, s.spelling[operation], filled(s, keys), feed(), each, s.role, s.remark)
        for s in present(MAPS)
        if operation in s.spelling and (not only or s.name in only)
    ]


def hits(n: int, kind: str = "str", twins: bool = False, only: frozenset[str] = frozenset()) -> list[Entrant]:
    """Keys asked for in random order: the objects that were put in, or equal ones made anew."""
    keys = made(kind, 0, n)
    order = random.Random(n).choices(made(kind, 0, n) if twins else keys, k=max(n, PACE.most_ops))
    return entrants("hit", keys, lambda: Wheel(order), "k", only)


def misses(n: int, kind: str = "str") -> list[Entrant]:
    order = random.Random(n).choices(made(kind, n, 2 * n), k=max(n, PACE.most_ops))
    return entrants("miss", made(kind, 0, n), lambda: Wheel(order), "k", frozenset())


def overwrites(n: int, kind: str = "str") -> list[Entrant]:
    keys = made(kind, 0, n)
    order = random.Random(n).choices(keys, k=max(n, PACE.most_ops))
    return entrants("put", keys, lambda: Wheel(order), "k", frozenset())


def evictions(n: int, kind: str = "str", only: frozenset[str] = frozenset()) -> list[Entrant]:
    """Every key is new: it comes again only long after it was evicted. `o` is the key dict has to be told to remove."""
    keys = made(kind, 0, 2 * n + PACE.most_ops)

    def pairs() -> Callable[[int], list[Any]]:
        new, old = Wheel(keys, n), Wheel(keys)
        return lambda ops: list(zip(new(ops), old(ops), strict=True))

    return entrants("evict", keys[:n], pairs, "k, o", only)


def races() -> list[tuple[str, Callable[[], Race]]]:
    """Title and maker of every race; a maker fills a million entries, so it is called when its turn comes."""

    def race(title: str, runners: Callable[[], list[Entrant]], *targets: Target, note: str = "") -> None:
        listed.append((title, lambda: Race(title, runners(), "dict", targets, note)))

    def at_most(limit: float) -> Target:
        return Target(limit, "dict")

    listed: list[tuple[str, Callable[[], Race]]] = []
    ahead = Target(1.0, "best peer")
    small, *_, large = PACE.sizes(1_000, 1_000_000)
    race(f"Hit, {small:,} str keys", partial(hits, small), at_most(1.25), ahead)
    race(f"Hit, {small:,} str keys, equal but not identical", partial(hits, small, twins=True), at_most(1.4))
    race(f"Hit, {small:,} int keys", partial(hits, small, "int"), at_most(1.4))
    race(f"Hit, {small:,} int keys, equal but not identical", partial(hits, small, "int", twins=True), at_most(1.4))
    race(f"Hit, {small:,} tuple keys, equal but not identical", partial(hits, small, "tuple", twins=True), at_most(1.0))
    race(f"Hit, {large:,} str keys in random order", partial(hits, large), at_most(1.0))
    title = f"Hit, {large:,} str keys in random order, equal but not identical"
    race(title, partial(hits, large, twins=True), at_most(1.0))
    for n in PACE.sizes(1_000, 1_000_000):
        race(f"Miss by get, {n:,} str keys", partial(misses, n), at_most(0.8))
    for n in PACE.sizes(1_000, 1_000_000):
        race(f"Overwriting, {n:,} str keys", partial(overwrites, n), at_most(1.3))
    for kind, n in [("int", small), *(("str", n) for n in PACE.sizes(1_000, 100_000, 1_000_000))]:
        title, note = f"New {kind} key that evicts, {n:,} entries", "dict is told which key to delete."
        race(title, partial(evictions, n, kind), Target(0.7, "best peer"), note=note)
    return listed
