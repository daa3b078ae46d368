"""What users may rely on, and what must be an error: read by type checkers, never run.

A line with `type: ignore` is one that a checker must complain about; where it does not, the comment is reported.
"""

from collections.abc import Hashable, Iterator, KeysView, Mapping, MutableMapping, MutableSequence, ValuesView
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, Literal

from typing_extensions import assert_type
from ullage import (
    Cause,
    Full,
    HistoryRing,
    InstanceCache,
    LRUCache,
    TransferMap,
    cache,
    cached,
    cachedmethod,
    deep_sizeof,
    lru_cache,
    secret_key,
)
from ullage.testing import ManualClock

clock = ManualClock(5)
assert_type(clock(), float)
clock.advance(timedelta(seconds=1))
clock.advance("1")  # type: ignore[arg-type]

# deep_sizeof

assert_type(deep_sizeof(), int)
assert_type(deep_sizeof([1], "two", limit=10), int)
deep_sizeof([1], limit="10")  # type: ignore[arg-type]

# Cause, Full

assert_type(Cause.SIZE, Literal[Cause.SIZE])
assert_type(Cause("size"), Cause)
cause_is_text: str = Cause.EXPIRED
problem: Exception = Full("no room")

# LRUCache: how it is made


def on_evict(key: str, value: bytes, cause: Cause) -> None: ...


def weigh(key: str, value: bytes) -> int:
    return len(value)


pairs = [("a", b"")]
c: LRUCache[str, bytes] = LRUCache(100)
assert_type(c, LRUCache[str, bytes])
assert_type(LRUCache[str, bytes](100), LRUCache[str, bytes])
assert_type(LRUCache[str, bytes](maxsize=None), LRUCache[str, bytes])
assert_type(LRUCache(100, {"a": b""}), LRUCache[str, bytes])
assert_type(LRUCache(100, pairs), LRUCache[str, bytes])
assert_type(LRUCache(100, c), LRUCache[str, bytes])
assert_type(LRUCache(maxsize=100, iterable=c.items()), LRUCache[str, bytes])
assert_type(LRUCache[str, bytes](max_bytes="512 MiB"), LRUCache[str, bytes])
assert_type(LRUCache(max_bytes=2**20, iterable={"a": 1}), LRUCache[str, int])
assert_type(LRUCache(100, weigher=weigh), LRUCache[str, bytes])
assert_type(LRUCache(100, on_evict=on_evict), LRUCache[str, bytes])
assert_type(LRUCache.fromkeys(["a"], 1), LRUCache[str, int])
assert_type(LRUCache.fromkeys(["a"]), LRUCache[str, Any | None])
LRUCache[str, bytes](100, ttl=60, idle=timedelta(hours=1), policy="lru", timer=clock, name="pages")
LRUCache[str, bytes]()  # type: ignore[call-overload]
LRUCache[str, bytes]("100")  # type: ignore[call-overload]
LRUCache[str, bytes](100, max_bytes=2**20)  # type: ignore[call-overload]
LRUCache[str, bytes](max_bytes=2**20, weigher=weigh)  # type: ignore[call-overload]
LRUCache[str, bytes](100, {"a": 1})  # type: ignore[arg-type]
LRUCache[str, int](100, weigher=weigh)  # type: ignore[arg-type]
LRUCache[str, int](100, on_evict=on_evict)  # type: ignore[arg-type]
LRUCache[str, bytes](100, policy="fifo")  # type: ignore[call-overload]
LRUCache[str, bytes](100, ttl="60")  # type: ignore[call-overload]

# LRUCache: one entry

assert_type(c["k"], bytes)
assert_type(c.get("k"), bytes | None)
assert_type(c.get("k", None), bytes | None)
assert_type(c.get("k", b""), bytes)
assert_type(c.get("k", 0), bytes | int)
assert_type(c.get(key="k", default=0), bytes | int)
assert_type(c.peek("k"), bytes | None)
assert_type(c.peek("k", 0), bytes | int)
assert_type(c.pop("k"), bytes)
assert_type(c.pop("k", None), bytes | None)
assert_type(c.pop("k", b""), bytes)
assert_type(c.setdefault("k", b""), bytes)
assert_type(LRUCache[str, int | None](9).setdefault("k"), int | None)
assert_type(c.get_or_set("k", bytes), bytes)
assert_type(c.popitem(), tuple[str, bytes])
assert_type(c.popitem(last=False), tuple[str, bytes])
assert_type(c.expires_in("k"), float | None)
assert_type(c.ttl_of("k"), float | None)
assert_type(c.touch("k", ttl=5), bool)
assert_type("k" in c, bool)
c["k"] = b""
c.set("k", b"", ttl=timedelta(seconds=5))
c.move_to_end("k", last=False)
del c["k"]
len(c.get("k"))  # type: ignore[arg-type]
c["k"] = 1  # type: ignore[assignment]
c[1] = b""  # type: ignore[index]
c.get(1)  # type: ignore[call-overload]
c.set("k", 1)  # type: ignore[arg-type]
c.setdefault("k", 1)  # type: ignore[arg-type]
c.setdefault("k")  # type: ignore[call-arg]
c.get_or_set("k", str)  # type: ignore[arg-type]
hashable: Hashable = c  # type: ignore[assignment]

# LRUCache: several entries

for key in c:
    assert_type(key, str)
assert_type(iter(c), Iterator[str])
assert_type(list(reversed(c)), list[str])
keys: KeysView[str] = c.keys()
values: ValuesView[bytes] = c.values()
for key, value in c.items():
    assert_type(key, str)
    assert_type(value, bytes)
for key in reversed(c.keys()):
    assert_type(key, str)
assert_type(list(reversed(c.items())), list[tuple[str, bytes]])
assert_type(list(c.values()), list[bytes])
assert_type(c.keys() & {"k"}, set[str])
assert_type(c.items().mapping["k"], bytes)
assert_type(c.coldest(2), list[tuple[str, bytes]])
assert_type(c.hottest(2), list[tuple[str, bytes]])
assert_type(c.evict(), list[tuple[str, bytes]])
assert_type(c.expire(), int)
assert_type(c | c, LRUCache[str, bytes])
assert_type(c | {"k": b""}, LRUCache[str, bytes])
assert_type(c | {1: 2.0}, LRUCache[str | int, bytes | float])
assert_type({"k": b""} | c, LRUCache[str, bytes])
c |= {"k": b""}
c |= [("k", b"")]
c.update({"k": b""})
c.update([("k", b"")], more=b"")
c.update({"k": 1})  # type: ignore[dict-item]
a_mapping: MutableMapping[str, bytes] = c
dict(c)
assert_type(c == {}, bool)
assert_type(c.copy(), LRUCache[str, bytes])

# LRUCache: as a whole

assert_type(c.maxsize, int | None)
assert_type(c.currsize, int)
assert_type(c.name, str | None)
assert_type(c.policy, Literal["lru"])
c.maxsize = 5
c.maxsize = "5 MiB"
c.maxsize = 5.0  # type: ignore[assignment]
c.name = "other"  # type: ignore[misc]
counts = c.stats()
assert_type(counts.hits, int)
assert_type(counts.maxsize, int | None)
assert_type(counts.hit_rate, float)
assert_type((counts - c.stats()).misses, int)
counts.hits = 0  # type: ignore[misc]
counts - HistoryRing[int](1).stats()  # type: ignore[operator]


class Pages(LRUCache[str, bytes]):
    def __missing__(self, key: str) -> bytes:
        return key.encode()


assert_type(Pages(5)["k"], bytes)
assert_type(Pages(5).copy(), Pages)
assert_type(Pages(5) | {"k": b""}, Pages)

# HistoryRing: how it is made


def on_drop(items: list[str]) -> None: ...


texts = ["a"]
numbers = [1]
ring: HistoryRing[str] = HistoryRing(100)
assert_type(HistoryRing[str](100), HistoryRing[str])
assert_type(HistoryRing(100, ["a"]), HistoryRing[str])
assert_type(HistoryRing(None, iterable=ring), HistoryRing[str])
assert_type(HistoryRing[str](max_bytes="5%"), HistoryRing[str])
assert_type(HistoryRing(100, ["a"], max_bytes=2**20), HistoryRing[str])
assert_type(HistoryRing[str](max_weight=100, weigher=len), HistoryRing[str])
assert_type(HistoryRing(100, on_drop=on_drop), HistoryRing[str])
HistoryRing[str](100, keep_first=1, ttl=timedelta(hours=1), timer=clock, name="chat", weigher=len)
HistoryRing[str]()  # type: ignore[call-overload]
HistoryRing[str](max_weight=100)  # type: ignore[call-overload]
HistoryRing[str](100, max_bytes=2**20, weigher=len)  # type: ignore[call-overload]
HistoryRing[int](100, on_drop=on_drop)  # type: ignore[arg-type]
HistoryRing[str](100, [1])  # type: ignore[list-item]

# HistoryRing: as a list

assert_type(ring[0], str)
assert_type(ring[:2], list[str])
assert_type(ring + ring, list[str])
assert_type(ring + texts, list[str])
assert_type(texts + ring, list[str])
assert_type(ring + numbers, list[str | int])
assert_type(numbers + ring, list[str | int])
assert_type(ring * 2, list[str])
assert_type(2 * ring, list[str])
assert_type(ring.pop(), str)
assert_type(ring.pop(0), str)
assert_type(ring.popleft(), str)
assert_type(ring.index("a", 1), int)
assert_type(ring.count("a"), int)
assert_type(iter(ring), Iterator[str])
assert_type(list(reversed(ring)), list[str])
assert_type(ring == ["a"], bool)
assert_type(ring < ["a"], bool)
assert_type(ring.copy(), HistoryRing[str])
for item in ring:
    assert_type(item, str)
ring += ["a"]
assert_type(ring, HistoryRing[str])
ring *= 2
assert_type(ring, HistoryRing[str])
ring[0] = "a"
ring[:2] = ["a"]
del ring[0], ring[1:]
ring.append("a")
ring.appendleft("a")
ring.extend(ring)
ring.extendleft(["a"])
ring.insert(0, "a")
ring.remove("a")
ring.rotate(-1)
ring.reverse()
ring.sort()
ring.sort(key=len, reverse=True)
a_sequence: MutableSequence[str] = ring
a_list: list[str] = ring  # type: ignore[assignment]
ring.append(1)  # type: ignore[arg-type]
ring[0] = 1  # type: ignore[call-overload]
ring[:2] = [1]  # type: ignore[list-item]
ring["a"]  # type: ignore[call-overload]
ring += [1]  # type: ignore[list-item]
HistoryRing[complex](5).sort()  # type: ignore[call-arg]

# HistoryRing: as a whole

assert_type(ring.maxlen, int | None)
assert_type(ring.max_weight, int | None)
assert_type(ring.weight, int)
assert_type(ring.keep_first, int)
assert_type(ring.dropped, int)
assert_type(ring.offset, int)
assert_type(ring.stats().dropped, int)
assert_type((ring.stats() - ring.stats()).entries, int)
ring.maxlen = None
ring.max_weight = "1 GiB"
ring.dropped = 0  # type: ignore[misc]

# TransferMap: how it is made


def on_expire(batch: list[tuple[str, bytes]]) -> None: ...


def keep_some(batch: list[tuple[str, bytes]]) -> dict[str, float]:
    return {key: 5.0 for key, _ in batch}


def keep_all(batch: list[tuple[str, bytes]]) -> Mapping[str, timedelta] | None:
    return {key: timedelta(seconds=5) for key, _ in batch}


def keep_wrongly(batch: list[tuple[str, bytes]]) -> list[str]:
    return [key for key, _ in batch]


m: TransferMap[str, bytes] = TransferMap(30)
assert_type(TransferMap[str, bytes](timedelta(minutes=1)), TransferMap[str, bytes])
assert_type(TransferMap(30, on_expire=on_expire), TransferMap[str, bytes])
assert_type(TransferMap(30, on_expire=keep_some), TransferMap[str, bytes])
assert_type(TransferMap(30, on_expire=keep_all), TransferMap[str, bytes])
TransferMap[str, bytes](None, maxsize=5, on_full="evict", timer=clock, name="blocks")
TransferMap[str, bytes]()  # type: ignore[call-arg]
TransferMap[str, bytes](30, on_full="wait")  # type: ignore[arg-type]
TransferMap[str, bytes](30, on_expire=keep_wrongly)  # type: ignore[arg-type]
TransferMap[int, bytes](30, on_expire=on_expire)  # type: ignore[arg-type]

# TransferMap: one entry

assert_type(m.begin("k", b""), bool)
assert_type(m.begin("k", handle=b"", ttl=5), bool)
assert_type(m.renew("k", timedelta(seconds=5)), bool)
assert_type(m.complete("k"), bytes)
assert_type(m.complete("k", None), bytes | None)
assert_type(m.complete("k", b""), bytes)
assert_type(m.complete("k", default=0), bytes | int)
assert_type(m.fail("k"), bytes)
assert_type(m.claim("k"), AbstractContextManager[bytes])
with m.claim("k") as claimed:
    assert_type(claimed, bytes)
assert_type(m.remaining("k"), float | None)
assert_type(m.deadline("k"), float | None)
assert_type(m.next_deadline(), float | None)
assert_type(m.state("k"), Literal["live", "claimed", "expired", "completed", "failed", "unknown"])
assert_type(m["k"], bytes)
assert_type(m.get("k"), bytes | None)
assert_type(m.get("k", 0), bytes | int)
assert_type(m.peek("k"), bytes | None)
assert_type(m.pop("k"), bytes)
assert_type(m.pop("k", 0), bytes | int)
assert_type(m.popitem(), tuple[str, bytes])
assert_type(m.setdefault("k", b""), bytes)
TransferMap[str, list[int]](30).setdefault("k", []).append(1)
m["k"] = b""
len(m.get("k"))  # type: ignore[arg-type]
m.begin("k", 1)  # type: ignore[arg-type]
m.begin("k")  # type: ignore[call-arg]
m.begin("k", b"", ttl="5")  # type: ignore[arg-type]
state: Literal["done"] = m.state("k")  # type: ignore[assignment]


def after_a_claim() -> int:
    with m.claim("k"):
        return 1


# TransferMap: as a whole

assert_type(m.pop_expired(), list[tuple[str, bytes]])
assert_type(m.pop_expired(limit=5), list[tuple[str, bytes]])
assert_type(m.expire(), int)
assert_type(list(m), list[str])
assert_type(list(m.values()), list[bytes])
assert_type(dict(m.items()), dict[str, bytes])
assert_type(m.copy(), TransferMap[str, bytes])
assert_type(m.maxsize, int | None)
assert_type(m.stats().oldest_age, float | None)
assert_type((m.stats() - m.stats()).begun, int)
m.maxsize = 5
m.update({"k": b""})
m.maxsize = "5 MiB"  # type: ignore[assignment]
m.stats().begun = 0  # type: ignore[misc]
a_mapping = m

# lru_cache, cache


@lru_cache
def bare(path: str, *, size: int = 3) -> bytes:
    return b""


@lru_cache(maxsize=None, typed=True)
def called(n: int) -> float:
    return n


@cache
def unbounded(n: int) -> float:
    return n


class Page:
    @lru_cache(maxsize=16)
    def line(self, n: int) -> str:
        return str(n)

    @staticmethod
    @lru_cache
    def parsed(text: str) -> list[str]:
        return text.split()


assert_type(bare("a", size=4), bytes)
assert_type(called(1), float)
assert_type(unbounded(1), float)
assert_type(lru_cache(max)(1, 2), int)
assert_type(Page().line(1), str)
assert_type(Page.line(Page(), 1), str)
assert_type(Page.parsed("a"), list[str])
assert_type(bare.cache_info().hits, int)
assert_type(Page().line.cache_info().maxsize, int | None)
assert_type(bare.cache_parameters()["typed"], bool)
assert_type(bare.__wrapped__("a"), bytes)
bare.cache_clear()
Page.line.cache_clear()
bare(1)  # type: ignore[arg-type]
bare("a", 4)  # type: ignore[call-arg]
bare("a", colour=4)  # type: ignore[call-arg]
unbounded("a")  # type: ignore[arg-type]
Page().line("a")  # type: ignore[arg-type]
lru_cache("a")  # type: ignore[call-overload]

# cached, cachedmethod


@cached
def plain(x: int, y: str = "") -> bytes:
    return b""


@cached(100, ttl=60, typed=True, condition=lambda found: found is not None, weigher=lambda key, value: 1, timer=clock)
async def fetch(url: str) -> bytes:
    return b""


def of_item(shop: object, item: str) -> str:
    return item


class Shop:
    @cachedmethod
    def price(self, item: str, *, tax: float = 0.2) -> float:
        return tax

    @cachedmethod(maxsize=None, key=of_item, on_evict=on_evict)
    async def stock(self, item: str) -> int:
        return 1

    @cached(maxsize=10)
    def name(self, lang: str) -> str:
        return lang

    @cachedmethod(cache=lambda self: {})
    def owned(self) -> int:
        return 1


async def cached_functions_keep_their_types(shop: Shop) -> None:
    assert_type(plain(1, "a"), bytes)
    assert_type(plain(x=1), bytes)
    assert_type(await fetch("a"), bytes)
    assert_type(shop.price("a", tax=1), float)
    assert_type(Shop.price(shop, "a"), float)
    assert_type(await shop.stock("a"), int)
    assert_type(shop.name("en"), str)
    assert_type(plain.cache_contains(1), bool)
    assert_type(plain.cache_invalidate(1, y="b"), bool)
    assert_type(shop.price.cache_invalidate("a"), bool)
    assert_type(plain.cache_info().hits, int)
    assert_type(fetch.cache_stats().hit_rate, float)
    shop.price.cache_clear()
    Shop.price.cache_clear(shop)
    plain.cache_clear()
    plain.cache[plain.cache_key(1)] = b""
    plain("a")  # type: ignore[arg-type]
    plain.cache_contains("a")  # type: ignore[arg-type]
    await fetch(1)  # type: ignore[arg-type]
    shop.price(1)  # type: ignore[arg-type]
    shop.name(1)  # type: ignore[arg-type]


cached("100")  # type: ignore[call-overload]
cached(100, cache={})  # type: ignore[call-overload]
cached(cache=LRUCache[Any, Any](100, ttl=5))

# InstanceCache, secret_key


class Model:
    def close(self) -> None: ...


def load(key: str) -> Model:
    return Model()


async def load_async(key: str) -> Model:
    return Model()


models = InstanceCache(load, maxsize=2, close=Model.close, idle=timedelta(minutes=5), on_full="wait")
assert_type(models, InstanceCache[str, Model])
assert_type(models.get("a"), Model)
assert_type(models.reload("a"), Model)
assert_type(models.invalidate("a"), bool)
assert_type(models.stats().cost, Mapping[str, int])
assert_type(InstanceCache(load_async, close=Model.close), InstanceCache[str, Model])
InstanceCache(load, budget={"bytes": "8 GiB", "vram": 2**30}, weigher=lambda key, model: {"vram": len(key)})
InstanceCache(load, budget="5%", cost_hint=lambda key: None)
models.get(5)  # type: ignore[arg-type]
with models.lease("a") as model:
    assert_type(model, Model)


async def ask() -> None:
    assert_type(await models.aget("a"), Model)
    async with models.alease("a") as leased:
        assert_type(leased, Model)


assert_type(secret_key("url", b"token", 1), str)
