"""Back ends of cachelib in memory: values that are found, and values that are stored when the cache is full."""

from __future__ import annotations

import random
from collections.abc import Callable

from maps import filled, made
from rounds import PACE, Entrant, Race, Target, Wheel
from subjects import BACKENDS, present

OURS, STOCK = (subject.name for subject in BACKENDS)


def entrants(operation: str, n: int) -> list[Entrant]:
    keys = made("str", 0, 2 * n + PACE.most_ops)
    order = random.Random(n).choices(keys[:n], k=PACE.most_ops) if operation == "hit" else keys[n:]
    return [
        Entrant(s.name, s.spelling[operation], filled(s, keys[:n]), Wheel(order), "k", s.role, s.remark)
        for s in present(BACKENDS)
    ]


def races() -> list[tuple[str, Callable[[], Race]]]:
    def race(title: str, operation: str, n: int, limit: float) -> None:
        note = "Values are pickled in both."
        make = lambda: Race(title, entrants(operation, n), OURS, (Target(limit, STOCK),), note)  # noqa: E731
        listed.append((title, make))

    listed: list[tuple[str, Callable[[], Race]]] = []
    if len(present(BACKENDS)) == len(BACKENDS):
        small, *_ = PACE.sizes(1_000)
        race(f"`get` that finds, {small:,}", "hit", small, 1.0)
        for n, limit in zip(PACE.sizes(1_000, 100_000), (0.05, 0.001), strict=True):
            race(f"`set` in a full cache, {n:,}", "evict", n, limit)
    return listed
