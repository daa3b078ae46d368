"""A cache of completions: an LRU bounded by the number of entries beside one bounded by bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import accumulate
from random import Random
from typing import Any

from ullage import LRUCache
from ullage.demo.story import MIB, Story

CAP = 5_000
BOUND = 32 * MIB
KEYS = 40_000
EMBEDDINGS = 20
"""One request in so many is for a batch of embeddings, which DSPy keeps in the same cache as short answers."""


def answer(key: int) -> dict[str, Any]:
    if key % EMBEDDINGS == EMBEDDINGS - 1:
        return {"vectors": [[key + row + column / 256 for column in range(256)] for row in range(64)]}
    return {"text": f"{key:08} ".ljust(2_000 + key * 7 % 8_000, "x"), "usage": {"completion_tokens": 500}}


def load(count: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Requests with a few popular keys and a long tail; the answer comes along, so that making it is not timed."""
    weights = list(accumulate(1 / rank**0.9 for rank in range(1, KEYS + 1)))
    for key in Random(1).choices(range(KEYS), cum_weights=weights, k=count):
        yield f"sha256-{key:057}", answer(key)


class OrderedDictCache:
    """The usual handmade LRU. It has no lock: it is quicker than cachetools, and for one thread only."""

    def __init__(self) -> None:
        self.cache: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self.hits = self.requests = 0

    def __call__(self, item: tuple[str, dict[str, Any]]) -> None:
        key, value = item
        self.requests += 1
        if key in self.cache:
            self.cache.move_to_end(key)
            self.hits += 1
            return
        self.cache[key] = value
        if len(self.cache) > CAP:
            self.cache.popitem(last=False)

    def outcome(self) -> str:
        return f"{self.hits / self.requests:.0%} hits, {len(self.cache):,} entries"


class ByteCache:
    def __init__(self) -> None:
        self.cache: LRUCache[str, dict[str, Any]] = LRUCache(max_bytes=BOUND)
        self.hits = self.requests = 0

    def __call__(self, item: tuple[str, dict[str, Any]]) -> None:
        key, value = item
        self.requests += 1
        if self.cache.get(key) is not None:
            self.hits += 1
            return
        self.cache[key] = value

    def outcome(self) -> str:
        return f"{self.hits / self.requests:.0%} hits, {len(self.cache):,} entries"


STORY = Story(
    name="completions",
    title="Cache of completions",
    axis="requests",
    timed="look one up, and store it on a miss",
    price="A byte bound that bites keeps fewer entries, so it misses more; each value is weighed when it is stored.",
    bound=BOUND,
    items=(60_000, 14_000),
    load=load,
    stock=OrderedDictCache,
    stock_label=f"OrderedDict, {CAP:,} entries",
    ours=ByteCache,
    ours_label=f'LRUCache(max_bytes="{BOUND // MIB} MiB")',
)
