"""Hostile keys, values and hooks: nothing hangs, crashes or gets lost, and the bound holds.

What could hang runs in an interpreter of its own: a deadlock would keep the GIL, and no timeout within would ever fire.
"""

import gc
import sys
import weakref
from collections import OrderedDict
from pathlib import Path
from textwrap import dedent

import child
import hostile
import pytest
from ullage import HistoryRing, LRUCache, TransferMap

PREAMBLE = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import copy, functools, gc, itertools, operator, os, pickle, threading, weakref
from ullage import HistoryRing, LRUCache, TransferMap, deep_sizeof

def unraisable(info):
    if issubclass(info.exc_type, SystemError):
        print(info.exc_value, file=sys.stderr)
        os._exit(1)

sys.unraisablehook = unraisable

def raised(error, act):
    try:
        act()
    except error:
        return
    raise AssertionError(f"no {{error}}")
"""


def run(code, timeout=60):
    return child.run(PREAMBLE + dedent(code), timeout)


@pytest.mark.parametrize(
    ("kind", "moment"), [(kind, moment) for kind, moments in hostile.MOMENTS.items() for moment in moments]
)
def test_every_operation_while_every_other_is_done_in_its_middle(kind, moment):
    run(f"import hostile; [hostile.play({kind!r}, {moment!r}, plain) for plain in (True, False)]")


@pytest.mark.parametrize("kind", hostile.MOMENTS)
def test_a_collection_at_every_allocation(kind):
    # The collector visits what a container holds: in the middle of whatever allocates.
    run(f"""
        import hostile
        gc.set_threshold(1)
        acts, few = hostile.ACTS[{kind!r}], ("clear", "list", "pop", "items", "append", "insert")
        hostile.ACTS[{kind!r}] = {{name: acts[name] for name in few if name in acts}}
        hostile.play({kind!r}, "eq", plain=True)
        """)


# What never has enough ends with a RecursionError, also where no frame of Python counts the depth.


def test_a_hook_that_inserts_for_ever():
    run("""
        numbers = itertools.count(10)
        c = LRUCache(3, {1: 1, 2: 2, 3: 3}, on_evict=lambda key, value, cause: c.__setitem__(next(numbers), 1))
        c[4] = 4
        stats = c.stats()
        assert len(c) == 3 and stats.callback_errors >= 1 and stats.insertions - stats.evictions == 3, stats
        r = HistoryRing(3, range(3), on_drop=lambda items: r.extend(items))
        r.append(3)
        assert len(r) == 3
        """)


def test_a_hook_in_c_that_inserts_for_ever():
    run("""
        for limit in (100, 1000, 3000):
            sys.setrecursionlimit(limit)
            r = HistoryRing(2)
            r.__init__(2, [1, 2], on_drop=r.append)
            r.append(3)
            assert len(r) == 2
            a, b = HistoryRing(2), HistoryRing(2)
            a.__init__(2, [1, 2], on_drop=b.append)
            b.__init__(2, [1, 2], on_drop=a.append)
            b.append(3)
            assert len(a) == len(b) == 2
        """)


def test_a_weigher_a_timer_and_an_eq_in_c_that_come_back_for_ever():
    run("""
        def play():
            for name in ("setdefault", "__setitem__"):
                c = LRUCache(2)
                c.__init__(2, weigher=getattr(c, name))
                raised(RecursionError, lambda: c.__setitem__(1, 1))
                assert len(c) == 0
            for name in ("popitem", "expire", "__len__", "stats", "__iter__"):
                c, timer = LRUCache(2), functools.partial(float, 0)
                c.__init__(2, {1: 1}, ttl=5, timer=timer)
                timer.__setstate__((getattr(c, name), (), {}, {}))
                raised((RecursionError, TypeError), lambda: (c.get(1), len(c)))
            for make in (lambda: LRUCache(3), lambda: TransferMap(3)):
                c = make()
                class Key:
                    __hash__, __eq__ = lambda self: 1, c.get
                c[Key()] = 1
                raised(RecursionError, lambda: c.get(Key()))
                assert len(c) == 1
            class Missing(LRUCache):
                __missing__ = property(lambda self: self.__getitem__)
            raised(RecursionError, lambda: Missing(3)[1])

        play()
        thread = threading.Thread(target=play)
        thread.start()
        thread.join()
        """)


@pytest.mark.parametrize("make", ["LRUCache(3)", "LRUCache(None)", "TransferMap(10)"])
def test_an_eq_that_changes_the_container_every_time(make):
    run(f"""
        c = {make}
        class Key:
            def __hash__(self): return 1
            def __eq__(self, other):
                c.clear()
                Key.__eq__ = object.__eq__
                for _ in range(3): c[Key()] = 1
                Key.__eq__ = eq
                return False
        eq = Key.__eq__
        for act in (c.__getitem__, c.get, c.__contains__, lambda key: c.setdefault(key, 1), lambda key: c.pop(key, 1)):
            Key.__eq__ = object.__eq__
            c[Key()] = 1
            Key.__eq__ = eq
            raised(RuntimeError, lambda: act(Key()))
            assert 0 < len(c) <= 4
        """)


# Keys that do not keep to the rules.


class Shifty:
    """A key whose hash and equality can be changed."""

    def __init__(self, hash=1, equal=False):
        self.hash, self.equal = hash, equal

    def __hash__(self):
        return self.hash

    def __eq__(self, other):
        return self is other or self.equal


def test_a_key_whose_hash_changes_is_evicted_as_any_other():
    cache = LRUCache(3)
    keys = [Shifty(n) for n in range(10)]
    for key in keys:
        cache[key] = key.hash
        key.hash += 1000
        assert len(cache) <= 3
    assert list(cache) == keys[-3:] and list(cache.values()) == [7, 8, 9]
    assert keys[-1] not in cache
    assert cache.popitem() == (keys[-1], 9) and cache.evict() == [(keys[-3], 7)] and cache.copy() is not cache
    cache.maxsize = 1
    cache.update({1: 1})
    assert list(cache) == [1]
    transfers = TransferMap(10, maxsize=3, on_full="evict")
    for key in keys:
        transfers[key] = 1
        key.hash += 1000
        assert len(transfers) <= 3


def test_a_hash_that_raises_changes_nothing():
    class Key:
        def __hash__(self):
            raise ZeroDivisionError

    for container in (LRUCache(3, {1: 1}), TransferMap(10)):
        container[1] = 1
        for act in ("__getitem__", "__delitem__", "__contains__", "get", "pop", "setdefault", "peek"):
            with pytest.raises(ZeroDivisionError):
                getattr(container, act)(Key())
        with pytest.raises(ZeroDivisionError):
            container[Key()] = 1
        assert list(container.items()) == [(1, 1)]


@pytest.mark.parametrize("bad", ["text", 1.5, None, 2**100])
def test_a_hash_that_is_none(bad):
    class Key:
        def __hash__(self):
            return bad

    if bad == 2**100:
        assert Key() not in LRUCache(3)
    else:
        with pytest.raises(TypeError, match="__hash__ method should return an integer"):
            LRUCache(3)[Key()] = 1


def test_an_equality_that_changes():
    cache = LRUCache(5)
    keys = [Shifty() for _ in range(4)]
    for n, key in enumerate(keys):
        cache[key] = n
    for key in keys:
        key.equal = True
    # All are equal now: one look-up finds one of them, one removal removes one.
    assert cache[Shifty(equal=True)] in range(4) and cache.pop(Shifty()) in range(4)
    assert len(cache) == len(list(cache)) == 3
    for key in keys:
        key.equal = False
    assert sum(key in cache for key in keys) == 3 and Shifty() not in cache
    cache.clear()
    assert not cache


def test_an_equality_that_is_no_truth():
    class NoTruth:
        def __bool__(self):
            raise ZeroDivisionError

    class Key:
        def __hash__(self):
            return 1

        def __eq__(self, other):
            return NoTruth()

    for container in (LRUCache(3), TransferMap(10)):
        container[Key()] = 1
        for act in (container.get, container.__contains__, container.pop, lambda key, c=container: c.update({key: 1})):
            with pytest.raises(ZeroDivisionError):
                act(Key())
        assert len(container) == 1


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt, SystemExit, GeneratorExit, StopIteration, MemoryError])
def test_what_an_equality_raises_arrives(error):
    class Key:
        def __hash__(self):
            return 1

        def __eq__(self, other):
            raise error("from __eq__")

    for container in (LRUCache(3), TransferMap(10)):
        container[Key()] = 1
        for act in (
            container.get,
            container.__getitem__,
            container.__contains__,
            container.__delitem__,
            lambda key, c=container: c.pop(key, None),
            lambda key, c=container: c.setdefault(key, 1),
            lambda key, c=container: c.__setitem__(key, 1),
        ):
            with pytest.raises(error, match="from __eq__"):
                act(Key())
        assert len(container) == 1


@pytest.mark.parametrize(
    "mapping", [lambda: LRUCache(None), lambda: TransferMap(10), dict], ids=["lru", "transfer", "dict"]
)
def test_a_thousand_keys_with_one_hash(mapping):
    asked = 0

    class Key:
        def __init__(self, n):
            self.n = n

        def __hash__(self):
            return 7

        def __eq__(self, other):
            nonlocal asked
            asked += 1
            return self.n == other.n

    container = mapping()
    for n in range(1000):
        container[Key(n)] = n
    # Each insertion asks each key that is there once, as a dict does.
    assert asked == 1000 * 999 // 2
    asked = 0
    assert container.get(Key(1000)) is None and asked == 1000
    asked = 0
    assert container[Key(0)] == 0 and container[Key(999)] == 999 and asked <= 2 * 1000
    assert len(container) == len({key.n for key in container}) == 1000
    for n in range(0, 1000, 100):
        assert container.pop(Key(n)) == n
    assert len(container) == 990


@pytest.mark.parametrize("store", ["__setitem__", "setdefault", "get", "__contains__", "pop", "set", "touch", "update"])
def test_hash_and_eq_are_asked_as_seldom_as_by_a_dict(store):
    class Key:
        hashes = comparisons = 0

        def __hash__(self):
            self.hashes += 1
            return 42

        def __eq__(self, other):
            Key.comparisons += 1
            return self is other

    cache, old, new = LRUCache(9), Key(), Key()
    cache.update([(old, 1), (1, 1), (2, 2), (3, 3)])
    if store == "update":
        cache.update([(new, 1)])
    else:
        getattr(cache, store)(new, *[1] * (store not in ("__contains__", "touch")))
    assert (old.hashes, new.hashes, Key.comparisons) == (1, 1, 1)
    list(cache.items()), cache.maxsize, repr(cache), len(cache), cache.coldest(3), cache.evict(9)
    assert (old.hashes, new.hashes, Key.comparisons) == (1, 1, 1)


def test_the_keys_of_issue_14417():
    """`del` of a key while it is compared with another (CPython's test_mutating_lookup)."""
    for make in (dict, lambda: LRUCache(5), lambda: TransferMap(5)):

        class Nasty:
            victim = None

            def __init__(self, value):
                self.value = value

            def __hash__(self):
                return 1

            def __eq__(self, other):
                if Nasty.victim:
                    mapping, key = Nasty.victim
                    Nasty.victim = None
                    del mapping[key]
                return self.value == other.value

        mapping, first, second = make(), Nasty(1), Nasty(2)
        mapping[first] = 1
        Nasty.victim = mapping, first
        mapping[second] = 2
        assert list(mapping.items()) == [(second, 2)]


@pytest.mark.parametrize("change", ["clear", "delete", "replace", "shrink"])
@pytest.mark.parametrize("make", [OrderedDict, lambda: LRUCache(9)], ids=["OrderedDict", "LRUCache"])
def test_an_eq_of_values_that_changes_the_mapping_compared(change, make):
    """CPython's issue 119004: a comparison of two mappings whose values change them."""

    class Value:
        def __eq__(self, other):
            if change == "clear":
                left.clear()
            elif change == "delete":
                left.pop("b", None)
            elif change == "replace":
                left["b"] = 5
            elif make is not OrderedDict:
                left.maxsize = 1
            return True

        __hash__ = None

    left, right = make(), make()
    left.update(a=Value(), b=1, c=Value())
    right.update(a=Value(), b=1, c=Value())
    try:
        assert left == right or change != "none"
    except RuntimeError:
        assert make is OrderedDict
    assert len(left) == len(list(left))


# Things that end.


def test_a_finalizer_that_uses_the_cache_it_left():
    log = []

    class Value:
        def __init__(self, key):
            self.key = key

        def __del__(self):
            log.append((self.key, self.key in cache, len(cache)))
            cache.get(self.key)
            gc.collect()

    cache = LRUCache(2)
    for key in range(4):
        cache[key] = Value(key)
    assert log == [(0, False, 2), (1, False, 2)]
    cache[3] = None
    assert log[2:] == [(3, True, 2)]
    cache.clear()
    assert log[3:] == [(2, False, 0)] and cache == {}


def test_a_finalizer_that_fills_what_is_being_cleared():
    class Value:
        made = 0

        def __del__(self):
            if Value.made < 50:
                Value.made += 1
                cache[object()] = Value()

    cache = LRUCache(3, {n: Value() for n in range(3)})
    for leave in (
        cache.clear,
        lambda: cache.evict(3),
        lambda: setattr(cache, "maxsize", 1),
        lambda: cache.update(a=1, b=2),
    ):
        leave()
        assert len(cache) == len(list(cache)) <= cache.maxsize
    Value.made = 50
    cache.clear()
    assert not cache


def test_a_finalizer_in_a_circle_with_the_cache():
    saved = []

    class Thing:
        def __del__(self):
            assert self.cache["me"] is self and len(self.cache) == 2
            self.cache["more"] = 1
            saved.append(self.cache)

    for make in (lambda: LRUCache(2), lambda: TransferMap(10)):
        thing = Thing()
        thing.cache = make()
        thing.cache["me"], thing.cache["it"] = thing, thing.cache
        del thing
        gc.collect()
        # Risen again, and as good as ever.
        cache = saved.pop()
        assert len(cache) == len(list(cache)) and "more" in cache
        cache["x"] = 1
        assert cache["x"] == 1
        cache.clear()
        gc.collect()


def test_a_weak_reference_to_a_value_whose_callback_uses_the_cache():
    class Value:
        pass

    cache, seen = LRUCache(2), []

    def gone(_):
        seen.append((list(cache), cache.setdefault("from the callback", 1)))

    weak = []
    for key in range(3):
        cache[key] = value = Value()
        weak.append(weakref.ref(value, gone))
        del value
    # What the callback put in let value 1 go, too: that one is freed after the first, not within it.
    assert seen == [([1, 2], 1), ([2, "from the callback"], 1)] and list(cache) == [2, "from the callback"]


def test_a_cache_that_holds_itself():
    cache = LRUCache(3, {1: 1})
    cache["me"] = cache
    assert cache == cache and cache["me"]["me"] is cache and repr(cache) == "LRUCache(3, {1: 1, 'me': ...})"
    assert cache.copy().peek("me") is cache
    weak = weakref.ref(cache)
    del cache
    gc.collect()
    assert weak() is None
    first, second = LRUCache(1), LRUCache(1)
    first[0], second[0] = second, first
    assert repr(first) == "LRUCache(1, {0: LRUCache(1, {0: ...})})"
    with pytest.raises(RecursionError):
        assert first == second
    first.clear()
    assert second == {0: {}}


@pytest.mark.parametrize(
    "wrap",
    [
        "LRUCache(1, {0: x})",
        "Sub(1, {0: x})",
        "iter(LRUCache(1, {0: x}).items())",
        "LRUCache(1, {0: x}).values()",
        "HistoryRing(1, [x])",
        "iter(HistoryRing(1, [x]))",
        "begun(x)",
        "iter(begun(x))",
        "HistoryRing(2, [LRUCache(1, {0: begun(x)})])",
    ],
)
def test_a_hundred_thousand_nested_are_freed(wrap):
    run(f"""
        class Sub(LRUCache):
            pass

        def begun(x):
            transfers = TransferMap(1000)
            transfers[0] = x
            return transfers

        def nested(depth):
            x = None
            for _ in range(depth):
                x = {wrap}
            return x

        def play():
            x = nested(100_000)
            del x
            holder = [nested(20_000)]
            holder.append(holder)
            del holder
            gc.collect()
            cache, ring = LRUCache(1), HistoryRing(1)
            cache[0] = nested(9_000)
            cache.clear()
            ring.append(nested(9_000))
            ring.clear()

        # A thread has a smaller stack than the main one. From 3.13 on deallocation nests 10,000 deep on any stack,
        # which takes a megabyte or two, of whatever is nested.
        threading.stack_size((8 if sys.version_info >= (3, 13) else 1) << 20)
        thread = threading.Thread(target=play)
        thread.start()
        thread.join()
        """)


def test_a_deep_nest_is_refused_by_what_walks_it_recursively():
    run("""
        x = y = None
        for _ in range(20_000):
            x, y = LRUCache(1, {0: x}), LRUCache(1, {0: y})
        for walk in (repr, copy.deepcopy, pickle.dumps, lambda x: x == y):
            raised(RecursionError, lambda: walk(x))
        assert deep_sizeof(x) > 0 and gc.collect() >= 0 and copy.copy(x) is not x
        """)


# Iterations.


@pytest.mark.parametrize(
    "walk", [iter, reversed, lambda c: iter(c.keys()), lambda c: iter(c.values()), lambda c: iter(c.items())]
)
def test_iterations_kept_while_everything_changes(walk):
    cache = LRUCache(10, {n: str(n) for n in range(10)})
    walks = []
    for n in range(198):
        started = walk(cache)
        for _ in range(n % 7):
            next(started)
        walks.append(started)
        cache.get(n % 10)
        if n % 3 == 0:
            cache[object()] = n
        if n % 50 == 49:
            cache.clear()
            cache.update((n, str(n)) for n in range(10))
        if n % 5 == 0:
            cache.update((n, str(n)) for n in range(10))
    # All but what began after the last change of size end with an error, and none with a crash.
    ends = []
    for started in walks:
        try:
            ends.append(len(list(started)))
        except RuntimeError:
            ends.append(None)
    assert ends[-1] is not None and ends.count(None) > 150
    assert list(cache) and len(cache) == 10


def test_many_iterations_at_once_cost_nothing_when_they_are_gone():
    cache = LRUCache(100, {n: n for n in range(100)})
    before = sys.getsizeof(cache)
    walks = [iter(cache) for _ in range(1000)]
    for started in walks:
        next(started)
    cache[50]
    assert [len(list(started)) for started in walks] == [99] * 1000
    del walks, started
    for n in range(100):
        cache[n]
    assert sys.getsizeof(cache) == before


def test_an_iteration_that_deletes_what_it_holds():
    class Value:
        def __del__(self):
            cache.clear()

    cache = LRUCache(8, {n: Value() for n in range(8)})
    with pytest.raises(RuntimeError, match="changed size"):
        for key, _ in cache.items():
            if key == 2:
                # The old value's finalizer clears the cache.
                cache[2] = None


def test_a_view_compared_while_it_is_cleared():
    class Value:
        def __eq__(self, other):
            cache.clear()
            return NotImplemented

        __hash__ = None

    for look in (
        lambda c: (0, Value()) in c.items(),
        lambda c: Value() in c.values(),
        lambda c: c == {0: Value(), 1: 1},
        lambda c: c.items() == {0: Value(), 1: 1}.items(),
    ):
        cache = LRUCache(5, {0: set(), 1: 1})
        try:
            assert look(cache) is False
        except RuntimeError as changed:
            assert "changed size" in str(changed)
        assert not cache


# Hooks.


def test_a_hook_may_use_the_cache_in_every_way():
    log = []

    def hook(key, value, cause):
        log.append((key, str(cause), len(cache)))
        cache.get("kept"), list(cache), repr(cache), cache.stats(), cache.copy(), cache.coldest(1)
        if key == 0:
            cache["from the hook"] = 1

    cache = LRUCache(3, {"kept": 0, 0: 0, 1: 1}, on_evict=hook)
    cache["kept"]
    cache[2] = 2
    assert len(cache) == 3 and sorted(log, key=str) == sorted([(0, "size", 3), (1, "size", 3)], key=str)
    assert set(cache) == {"kept", 2, "from the hook"}


def test_a_hook_that_puts_back_what_was_evicted_keeps_it():
    returned = []

    def hook(key, value, cause):
        if key == "precious" and len(returned) < 5:
            returned.append(key)
            cache[key] = value

    cache = LRUCache(2, {"precious": 1, "other": 2}, on_evict=hook)
    cache["new"] = 3
    assert cache["precious"] == 1 and len(cache) == 2 and returned == ["precious"]


def test_a_hook_that_closes_or_resizes():
    for act in (LRUCache.close, lambda c: setattr(c, "maxsize", 1), lambda c: c.__init__(1)):
        log, holder = [], []

        def hook(key, value, cause, log=log, act=act, holder=holder):
            log.append(key)
            if len(log) == 1:
                act(holder[0])

        cache = LRUCache(3, {0: 0, 1: 1, 2: 2}, on_evict=hook)
        holder.append(cache)
        cache[3] = 3
        assert log[0] == 0 and len(log) == len(set(log))
        assert "closed" in repr(cache) or len(cache) <= 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError, RecursionError, StopIteration])
def test_whatever_a_hook_raises_the_caller_gets_his_result(error, monkeypatch):
    caught = []
    monkeypatch.setattr(sys, "unraisablehook", lambda info: caught.append(info.exc_type))

    def hook(*arguments):
        raise error

    cache = LRUCache(2, {1: 1, 2: 2}, on_evict=hook)
    cache[3] = 3
    assert cache.pop(3) == 3 and cache.popitem() == (2, 2)
    assert caught == [error] * 3 and cache.stats().callback_errors == 3
    ring = HistoryRing(1, [1], on_drop=hook)
    ring.append(2)
    assert ring == [2] and caught == [error] * 4


def test_an_unraisablehook_that_uses_the_cache(monkeypatch):
    cache = LRUCache(1, {1: 1}, on_evict=lambda *entry: 1 / 0)
    seen = []

    def unraisable(info):
        seen.append(list(cache))
        if len(seen) < 5:
            cache[len(seen) + 100] = 1

    monkeypatch.setattr(sys, "unraisablehook", unraisable)
    cache[2] = 2
    assert len(cache) == 1 and len(seen) == 5 and cache.stats().callback_errors == 5


def test_a_factory_and_a_missing_that_come_back():
    cache = LRUCache(3)

    def factory(depth=3):
        if depth:
            assert cache.get_or_set("k", lambda: factory(depth - 1)) == "deep"
        return "deep" if not depth else "shallow"

    assert cache.get_or_set("k", factory) == "deep" and len(cache) == 1
    assert cache.get_or_set("x", lambda: cache.clear() or 1) == 1 and list(cache) == ["x"]
    assert cache.get_or_set("y", lambda: cache.evict(9) and 2) == 2 and list(cache) == ["y"]
    cache.maxsize = 1
    assert cache.get_or_set("z", lambda: cache.update(a=1, b=2) or 3) == 3 and list(cache) == ["z"]


def test_a_source_that_changes_the_cache_it_is_read_into():
    cache = LRUCache(5)

    def pairs():
        for n in range(10):
            yield n, n
            if n == 5:
                cache.clear()

    cache.update(pairs())
    assert list(cache) == [6, 7, 8, 9]

    class Rows:
        def keys(self):
            return iter("abc")

        def __getitem__(self, key):
            cache.evict()
            return cache.pop(key, 0)

    cache.update(Rows())
    assert list(cache) == [9, "a", "b", "c"]


def test_weighing_again_while_weighing():
    def weigher(key, value):
        if key == "outer":
            cache["inner"] = 5
            cache.maxsize = 6
        return value

    cache = LRUCache(10, weigher=weigher)
    cache["outer"] = 4
    assert list(cache) == ["outer"] and cache.currsize == 4
    cache.maxsize = 10
    with pytest.raises(ValueError, match="too heavy"):
        cache["outer"] = 8
    assert "outer" in cache or list(cache) == ["inner"]
    assert cache.currsize <= cache.maxsize == 6
