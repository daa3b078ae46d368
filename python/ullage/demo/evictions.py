"""Large values among small ones: freeing one stops the caller that evicted it, or is spread over the calls after it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from ullage import LRUCache
from ullage.demo.story import Story

CAP = 100
RARE = 90
"""One value in so many is large."""
LARGE = 2_500
"""Objects that a large value holds: a parsed document, a table, a batch of embeddings."""


def load(count: int) -> Iterator[tuple[int, Any]]:
    for key in range(count):
        yield key, [[part] for part in range(LARGE)] if key % RARE == 0 else key


class OrderedDictCache:
    """The usual handmade LRU."""

    def __init__(self) -> None:
        self.cache: OrderedDict[int, Any] = OrderedDict()

    def __call__(self, item: tuple[int, Any]) -> None:
        key, self.cache[key] = item
        if len(self.cache) > CAP:
            self.cache.popitem(last=False)

    def outcome(self) -> str:
        return f"{len(self.cache):,} entries"


class SlicingCache:
    def __init__(self) -> None:
        self.cache: LRUCache[int, Any] = LRUCache(CAP)

    def __call__(self, item: tuple[int, Any]) -> None:
        key, value = item
        self.cache[key] = value

    def outcome(self) -> str:
        stats = self.cache.stats()
        return f"{stats.entries:,} entries, {stats.reclaimed:,} references freed in slices, {stats.retired} values wait"


STORY = Story(
    name="evictions",
    title="Large values leave",
    axis="requests",
    timed="store a value, for which another one leaves",
    price="What waits to be freed takes memory meanwhile, and each write frees a slice of it.",
    items=(120_000, 20_000),
    load=load,
    stock=OrderedDictCache,
    stock_label=f"OrderedDict, {CAP:,} entries",
    ours=SlicingCache,
    ours_label=f"LRUCache({CAP:,})",
)
