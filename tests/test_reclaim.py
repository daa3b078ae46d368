"""Freeing in slices: what leaves a container is taken apart a little at a time, and nothing of it is lost or kept."""

import gc
import sys
import threading
import weakref
from collections import deque
from typing import Any

import pytest
import ullage
from child import run
from ullage import HistoryRing, LRUCache, TransferMap, _core


class Node:
    def __init__(self, *others: object) -> None:
        self.others = others


@pytest.fixture(autouse=True)
def nothing_left() -> Any:
    """Each test begins and ends with nothing retired, and nothing is freed but by its own calls."""
    _core._before_fork()
    ullage.flush()
    yield
    ullage.flush()
    _core._after_fork_in_parent()


def evict(value: object) -> LRUCache[int, Any]:
    """A cache that has just let go of `value`."""
    cache: LRUCache[int, Any] = LRUCache(1)
    cache[0] = value
    del value
    cache[1] = None
    return cache


def nodes(make: Any, n: int) -> tuple[Any, list[weakref.ref[Node]]]:
    """A container of `n` nodes, and weak references to them."""
    items = [Node() for _ in range(n)]
    return make(items), [weakref.ref(item) for item in items]


def alive(watched: list[weakref.ref[Node]]) -> int:
    return sum(ref() is not None for ref in watched)


CONTAINERS = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "dict values": lambda items: dict(enumerate(items)),
    "dict keys": dict.fromkeys,
    "nested lists": lambda items: [[[item]] for item in items],
    "nested tuples": lambda items: tuple((i, (item,)) for i, item in enumerate(items)),
    "dicts of lists": lambda items: {i: [item, str(i)] for i, item in enumerate(items)},
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_a_big_container_is_freed_a_slice_with_each_write(kind: str) -> None:
    value, watched = nodes(CONTAINERS[kind], 2000)
    cache: LRUCache[int, Any] = LRUCache(1, {0: value})
    del value
    before = alive(watched)
    cache[1] = 1
    # The write that made it leave has done enough; one slice at most goes with the next.
    assert alive(watched) == before
    cache[1] = 1
    assert before - 70 <= alive(watched) < before
    assert cache.stats().retired == 1
    seen = []
    while alive(watched):
        seen.append(alive(watched))
        cache[1] = 1
    assert seen == sorted(seen, reverse=True) and 2000 / 70 < len(seen) < 2000
    while cache.stats().retired:
        cache[1] = 1
    stats = cache.stats()
    assert stats.retired == 0 and stats.retired_max == 1 and stats.reclaimed >= 2000 and stats.reclaim_seconds > 0


@pytest.mark.parametrize("references", [40, 100, 1000, 3000])
def test_few_of_the_values_that_leave_one_by_one_wait_however_large_they_are(references: int) -> None:
    cache: LRUCache[int, Any] = LRUCache(1)
    for key in range(300):
        cache[key] = [[] for _ in range(references)]
    assert cache.stats().retired_max <= 65


def test_what_waits_is_not_freed_by_a_write_that_adds_nothing() -> None:
    value, watched = nodes(list, 30_000)
    cache: LRUCache[int, Any] = LRUCache(None, ((key, [[] for _ in range(300)]) for key in range(200)))
    ring = HistoryRing(None, value)
    del value
    cache.maxsize = 1
    ring.clear()
    waiting = alive(watched)
    assert waiting > 20_000
    other = LRUCache(1, {0: 0})
    other[0] = 1
    assert waiting - alive(watched) <= 2000


@pytest.mark.parametrize("kind", CONTAINERS)
def test_flush_frees_everything_at_once(kind: str) -> None:
    value, watched = nodes(CONTAINERS[kind], 2000)
    cache = LRUCache(1, {0: value})
    del value
    cache[1] = 1
    cache.flush()
    assert alive(watched) == 0 and cache.stats().retired == 0


def test_reclaim_frees_so_many_references() -> None:
    value, watched = nodes(list, 1000)
    cache = LRUCache(1, {0: value})
    del value
    cache[1] = 1
    left = alive(watched)
    assert ullage.reclaim(100) == 100 and left - 100 <= alive(watched) < left
    assert cache.reclaim(0) == 0
    assert ullage.reclaim() > 0 and alive(watched) == 0 and ullage.reclaim() == 0


@pytest.mark.parametrize(
    ("bad", "error"), [(-1, ValueError), (-(2**70), ValueError), (1.5, TypeError), ("1", TypeError)]
)
def test_a_budget_that_is_no_number_of_references(bad: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"at least 0|integer"):
        ullage.reclaim(bad)
    assert ullage.reclaim(2**70) >= 0


def test_what_somebody_else_holds_stays_whole() -> None:
    inner = [Node() for _ in range(500)]
    outer = [inner, (1, inner), {2: inner}]
    evict(outer)
    ullage.flush()
    assert len(outer) == 3 and outer[1] == (1, inner) and len(inner) == 500
    shared = tuple(inner)
    evict([shared, shared])
    ullage.flush()
    assert len(shared) == 500 and None not in shared


@pytest.mark.parametrize("small", [[1, "a"], (1, 2.0), {"a": b"b"}, "text", b"bytes", 1.5, 10**30, [], {}, set()])
def test_small_things_are_freed_on_the_spot(small: object) -> None:
    cache = evict(type(small)(small))  # type: ignore[call-arg]
    assert cache.stats().retired == 0 and cache.stats().retired_max == 0


@pytest.mark.parametrize("container", ["cache", "ring", "map"])
def test_inline_frees_everything_on_the_spot(container: str) -> None:
    value, watched = nodes(list, 5000)
    if container == "cache":
        box: Any = LRUCache(1, {0: value}, drop="inline")
        del value
        box[1] = 1
    elif container == "ring":
        box = HistoryRing(1, [value], drop="inline")
        del value
        box.append(1)
    else:
        box = TransferMap(60, drop="inline")
        box[0] = value
        del value
        box[0] = 1
    assert alive(watched) == 0 and box.stats().retired_max == 0
    assert box.copy().stats().retired_max == 0


@pytest.mark.parametrize("bad", ["", "later", None, 1, True])
def test_an_unknown_way_to_drop_is_an_error(bad: Any) -> None:
    for make in (lambda: LRUCache(1, drop=bad), lambda: HistoryRing(1, drop=bad), lambda: TransferMap(1, drop=bad)):
        with pytest.raises(ValueError, match="slices"):
            make()


WAYS = {
    "cache eviction": lambda v: LRUCache(1, [(0, v), (1, 1)]),
    "cache replacement": lambda v: LRUCache(1, [(0, v), (0, 1)]),
    "cache deletion": lambda v: LRUCache(1, {0: v}).__delitem__(0),
    "cache clear": lambda v: LRUCache(1, {0: v}).clear(),
    "cache close": lambda v: LRUCache(1, {0: v}).close(),
    "cache end": lambda v: len(LRUCache(1, {0: v})),
    "cache shrunk": lambda v: setattr(LRUCache(2, {0: v, 1: 1}), "maxsize", 1),
    "ring append": lambda v: HistoryRing(1, [v, 1]),
    "ring assignment": lambda v: HistoryRing(1, [v]).__setitem__(0, 1),
    "ring deletion": lambda v: HistoryRing(1, [v]).__delitem__(0),
    "ring slice": lambda v: HistoryRing(3, [v]).__setitem__(slice(0, 1), [1, 2]),
    "ring clear": lambda v: HistoryRing(1, [v]).clear(),
    "ring end": lambda v: len(HistoryRing(1, [v])),
    "map replacement": lambda v: [m := TransferMap(60), m.begin(0, v), m.begin(0, 1)].clear(),
    "map clear": lambda v: [m := TransferMap(60), m.begin(0, v), m.clear()].clear(),
    "map end": lambda v: [m := TransferMap(60), m.begin(0, v)].clear(),
    "hook": lambda v: LRUCache(1, [(0, v), (1, 1)], on_evict=lambda key, value, cause: None),
    "ring hook": lambda v: HistoryRing(1, [v, 1], on_drop=lambda items: None),
}


@pytest.mark.parametrize("way", WAYS)
def test_whatever_way_it_leaves_all_of_it_is_freed(way: str) -> None:
    value, watched = nodes(lambda items: [[item] for item in items], 3000)
    keep = WAYS[way](value)
    del value
    ullage.flush()
    assert alive(watched) == 0
    del keep


def test_clearing_many_entries_frees_some_and_retires_the_rest() -> None:
    cache = LRUCache(None, ((i, Node()) for i in range(100_000)))
    watched = [weakref.ref(node) for node in cache.values()]
    cache.clear()
    assert len(cache) == 0 and 0 < alive(watched) < 100_000
    assert cache.stats().retired == alive(watched)
    left = alive(watched)
    cache[1] = 1
    assert left - 260 <= alive(watched) <= left
    cache.flush()
    assert alive(watched) == 0 and cache.stats().retired == 0


def test_a_list_a_million_deep_needs_no_stack() -> None:
    chain: Any = None
    for _ in range(1_000_000):
        chain = [chain]
    evict(chain)
    del chain
    pair: Any = None
    for _ in range(300_000):
        pair = (1, pair, 2)
    evict(pair)
    del pair
    ullage.flush()


def test_cycles_are_left_to_the_collector() -> None:
    node = Node()
    cycle: list[Any] = [node]
    cycle.append(cycle)
    watched = weakref.ref(node)
    del node
    evict(cycle)
    del cycle
    ullage.flush()
    gc.collect()
    assert watched() is None


@pytest.mark.parametrize("kind", CONTAINERS)
def test_the_collector_may_run_while_something_is_half_taken_apart(kind: str) -> None:
    value, watched = nodes(CONTAINERS[kind], 300)
    cache = LRUCache(1, {0: value})
    place = id(value)
    del value
    cache[1] = 1
    while alive(watched):
        cache[1] = 1
        gc.collect()
        assert not any(id(each) == place for each in gc.get_objects())


def test_finalizers_that_raise_use_the_container_and_start_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: raised.append(args.exc_value))
    cache: LRUCache[Any, Any] = LRUCache(2)
    threads = []
    seen = []

    class Rude:
        def __init__(self, number: int) -> None:
            self.number = number

        def __del__(self) -> None:
            seen.append(self.number)
            cache[("from", self.number % 7)] = [Rude.__name__] * 100
            cache.reclaim(), cache.flush(), cache.clear()
            if self.number % 100 == 0:
                thread = threading.Thread(target=lambda: cache.__setitem__(1, [1] * 100))
                threads.append(thread)
                thread.start()
            if self.number % 3 == 0:
                raise ValueError(self.number)

    cache[0] = [Rude(i) for i in range(300)]
    cache[1] = cache[2] = 1
    cache.flush()
    for thread in threads:
        thread.join(30)
    cache.flush()
    assert sorted(seen) == list(range(300)) and len(raised) == 100
    assert all(type(error) is ValueError for error in raised)


def test_an_object_that_comes_back_to_life_is_left_alone() -> None:
    saved = []

    class Phoenix:
        def __del__(self) -> None:
            saved.append(self)

    evict([Phoenix() for _ in range(100)])
    ullage.flush()
    assert len(saved) == 100 and len(set(map(id, saved))) == 100


def test_a_set_that_a_weak_reference_finds_is_whole() -> None:
    items = {(i, "item") for i in range(500)}
    found = weakref.ref(items)
    cache: LRUCache[int, Any] = LRUCache(1, {0: items})
    del items
    for i in range(1, 4):
        cache[i] = None
    back = found()
    assert back is None or (len(back) == 500 and gc.is_tracked(back))


def test_an_exception_on_its_way_meets_no_finalizer() -> None:
    seen = []

    class Nosy:
        def __del__(self) -> None:
            seen.append(sys.exc_info()[1])

    def fail() -> None:
        cache = LRUCache(None, ((i, Nosy()) for i in range(100)))
        assert cache
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail()
    ullage.flush()
    assert len(seen) == 100


def test_several_threads_free_one_pile() -> None:
    values = []
    watched = []
    for _ in range(8):
        value, refs = nodes(lambda items: [{i: item} for i, item in enumerate(items)], 3000)
        values.append(value)
        watched += refs
    del value
    caches: list[LRUCache[int, Any]] = [LRUCache(1) for _ in range(8)]

    def work(cache: LRUCache[int, Any]) -> None:
        cache[0] = values.pop()
        for i in range(200):
            cache[i] = [i] * 50

    threads = [threading.Thread(target=work, args=(cache,)) for cache in caches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    ullage.flush()
    assert alive(watched) == 0 and sum(cache.stats().retired for cache in caches) == 0


def test_other_objects_are_dropped_whole() -> None:
    value, watched = nodes(lambda items: Node(deque(items)), 1000)
    evict(value)
    del value
    ullage.flush()
    assert alive(watched) == 0


def test_what_is_retired_is_bounded() -> None:
    run(
        """
        import ullage
        cache = ullage.LRUCache(1)
        most = 0
        for i in range(60):
            cache[i] = [[] for _ in range(100_000)]
            most = max(most, cache.stats().retired)
        # Two million references at most wait, one value aside.
        assert 10 < most <= 22, most
        ullage.flush()
        assert cache.stats().retired == 0
        """,
        ULLAGE_SWEEPER="0",
    )


def test_what_hangs_deep_counts_towards_the_bound() -> None:
    run(
        """
        import ullage
        cache = ullage.LRUCache(4)
        most = 0
        for i in range(600):
            cache[i] = {"vectors": [[float(x) for x in range(256)] for _ in range(64)]}
            most = max(most, cache.stats().retired)
        # Each holds some 16,000 references: about 130 of them are two millions.
        assert 50 < most < 160, most
        for i in range(3000):
            cache[i] = {"vectors": [[float(x) for x in range(256)] for _ in range(64)]} if i % 20 == 0 else i
        # Where little is large, writes keep up.
        assert cache.stats().retired < 80, cache.stats()
        """,
        timeout=60,
        ULLAGE_SWEEPER="0",
    )


@pytest.mark.parametrize("sweeper", ["1", "0"])
def test_at_exit_finalizers_of_what_is_retired_have_run(sweeper: str) -> None:
    out = run(
        """
        import atexit
        count = 0
        class Node:
            def __del__(self):
                global count
                count += 1
        # Registered first, called last.
        atexit.register(lambda: print(count))
        import ullage
        cache = ullage.LRUCache(1)
        cache[0] = [Node() for _ in range(5000)]
        cache[1] = {i: [Node()] for i in range(5000)}
        cache[2] = 2
        assert cache.stats().retired
        """,
        ULLAGE_SWEEPER=sweeper,
    )
    assert out.stdout == "10000\n" and out.stderr == ""
