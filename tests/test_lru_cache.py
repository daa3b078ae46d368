"""LRUCache as a dict, as an LRU, and as a bound."""

import collections
import copy
import datetime
import gc
import inspect
import json
import math
import operator
import pickle
import sys
import threading
import types
import weakref
from collections.abc import ItemsView, KeysView, Mapping, MutableMapping, Set, ValuesView

import pytest
import ullage
from ullage import Cause, LRUCache
from ullage.testing import ManualClock

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
NEVER = math.inf


def filled(n=5, **settings):
    """A cache 0..n-1 -> "0".."n-1", full."""
    return LRUCache(n, {i: str(i) for i in range(n)}, **settings)


class Log(list):
    """An on_evict that notes what it is told."""

    def __call__(self, key, value, cause):
        assert isinstance(cause, Cause)
        self.append((key, value, str(cause)))

    def taken(self):
        told = list(self)
        self.clear()
        return told


# Making one.


@pytest.mark.parametrize("bound", [0, -1, -(10**30), math.nan, 1.5, "10", True, False, [], b"1", math.inf])
def test_a_bound_that_is_none_is_refused_in_words(bound):
    for make in (LRUCache, lambda bound: setattr(filled(), "maxsize", bound)):
        with pytest.raises((ValueError, TypeError), match=r"maxsize must be .*at least 1, or None for no bound; got"):
            make(bound)


@pytest.mark.parametrize("bound", [1, 2, 10**12, sys.maxsize, 2**63 - 1])
def test_a_bound_costs_nothing_until_it_is_used(bound):
    cache = LRUCache(bound, {1: 2})
    assert cache.maxsize == bound and cache == {1: 2}
    assert sys.getsizeof(cache) < 10_000


def test_an_integer_is_what_has_an_index():
    class Five:
        def __index__(self):
            return 5

    assert LRUCache(Five()).maxsize == 5
    assert LRUCache(None).maxsize is None
    assert len(LRUCache(2**200, {1: 1, 2: 2})) == 2


@pytest.mark.parametrize(
    ("arguments", "settings", "error", "text"),
    [
        ((), {}, TypeError, "maxsize.*max_bytes"),
        ((3,), {"max_bytes": 10}, TypeError, "either maxsize"),
        ((), {"max_bytes": 10, "weigher": len}, TypeError, "weigher"),
        ((3, 42), {}, TypeError, "iterable"),
        ((3, None), {}, TypeError, "iterable"),
        ((3, [(1, 2, 3)]), {}, ValueError, "unpack"),
        ((3, (), ()), {}, TypeError, "positional"),
        ((3,), {"a": 1}, TypeError, "unexpected keyword"),
        ((3,), {"policy": "mru"}, ValueError, "lru"),
        ((3,), {"weigher": 1}, TypeError, "weigher must be callable"),
        ((3,), {"on_evict": "x"}, TypeError, "on_evict must be callable"),
        ((3,), {"timer": 1.5}, TypeError, "timer must be callable"),
        ((), {"max_bytes": "12 parsecs"}, ValueError, "max_bytes.*512 MiB"),
        ((), {"max_bytes": "0"}, ValueError, "at least 1 byte"),
        ((), {"max_bytes": "101%"}, ValueError, "more than all"),
        ((), {"max_bytes": 0}, ValueError, "at least 1"),
        ((), {"max_bytes": True}, TypeError, "integer"),
    ],
)
def test_what_cannot_be_made(arguments, settings, error, text):
    with pytest.raises(error, match=text):
        LRUCache(*arguments, **settings)


def test_an_argument_is_named_by_its_text_whatever_str_says_of_that():
    class Name(str):
        __slots__ = ()

        def __str__(self):
            return "default"

    assert LRUCache(1, {1: 2}).get(**{Name("key"): 1}) == 2


@pytest.mark.parametrize("name", ["ttl", "idle"])
@pytest.mark.parametrize(
    ("lifetime", "error"),
    [
        (0, ValueError),
        (0.0, ValueError),
        (-1, ValueError),
        (-(10**400), ValueError),
        (math.nan, ValueError),
        (-math.inf, ValueError),
        (datetime.timedelta(0), ValueError),
        (datetime.timedelta(seconds=-1), ValueError),
        ("5", TypeError),
        (True, TypeError),
        (5j, TypeError),
    ],
)
def test_a_lifetime_that_is_none_is_refused_in_words(name, lifetime, error):
    with pytest.raises(error, match=f"{name} must be .*, or None for ever; got"):
        LRUCache(3, **{name: lifetime})
    if name == "ttl":
        for method in (filled().set, lambda key, value, ttl: filled().touch(key, ttl=ttl)):
            with pytest.raises(error, match="ttl must be"):
                method(1, 1, ttl=lifetime)


@pytest.mark.parametrize("forever", [None, NEVER, 1e300, 10**400, 1e12, datetime.timedelta.max])
def test_for_ever(forever):
    clock = ManualClock()
    cache = LRUCache(3, {1: 1}, ttl=forever, idle=forever, timer=clock)
    cache.set(2, 2, ttl=forever)
    clock.advance(1e9)
    assert cache == {1: 1, 2: 2}
    assert cache.expires_in(1) is None and cache.ttl_of(2) is None


@pytest.mark.parametrize("source", [dict, collections.OrderedDict, list, iter, lambda pairs: LRUCache(9, pairs)])
def test_made_from_whatever_a_dict_is_made_from(source):
    pairs = [("a", 1), ("b", 2), ("c", 3)]
    assert list(LRUCache(9, source(pairs)).items()) == pairs
    assert list(LRUCache(2, source(pairs)).items()) == pairs[1:]


def test_the_names_of_settings():
    cache = LRUCache(maxsize=3, iterable={1: 1}, ttl=5, idle=datetime.timedelta(seconds=2), name="sessions")
    assert (cache.maxsize, cache.ttl, cache.idle, cache.policy) == (3, 5, datetime.timedelta(seconds=2), "lru")
    assert cache.name == "sessions" and LRUCache(3).name is None
    for name in ("currsize", "name", "policy", "ttl"):
        with pytest.raises(AttributeError):
            setattr(cache, name, 1)


# The surface of a dict.


def test_every_method_of_dict_and_of_ordered_dict_is_there():
    names = {*dir(dict), *dir(collections.OrderedDict)} - {"__dict__"}
    assert names - set(dir(LRUCache)) == set()
    assert all(getattr(LRUCache, name).__doc__ for name in dir(LRUCache) if not name.startswith("_"))


def test_what_it_is():
    cache = filled()
    for abc in (MutableMapping, Mapping):
        assert isinstance(cache, abc) and issubclass(LRUCache, abc)
    assert not isinstance(cache, dict)
    with pytest.raises(TypeError, match="unhashable"):
        hash(cache)
    with pytest.raises(TypeError):
        json.dumps(cache)
    with pytest.raises(AttributeError):
        cache.attribute = 1
    assert bool(cache) is True and bool(LRUCache(1)) is False


def test_items_in_and_out():
    cache = LRUCache(3)
    cache["a"] = 1
    cache.update({"b": 2}, c=3)
    assert cache["a"] == 1 and "b" in cache and "z" not in cache and len(cache) == 3
    assert cache.get("z") is None and cache.get("z", 5) == 5 and cache.get(key="a", default=2) == 1
    assert cache.pop("a") == 1 and cache.pop("a", None) is None and cache.pop("a", 7) == 7
    del cache["b"]
    assert cache == {"c": 3}
    for missing in (
        lambda: cache["z"],
        lambda: cache.pop("z"),
        lambda: cache.__delitem__("z"),
        lambda: cache.ttl_of("z"),
    ):
        with pytest.raises(KeyError) as error:
            missing()
        assert error.value.args == ("z",)
    for wrong in (cache.get, cache.pop, cache.setdefault, cache.peek, cache.move_to_end, cache.set, cache.touch):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(TypeError):
        cache.pop("z", 1, 2)
    with pytest.raises(TypeError):
        cache.get("z", 1, 2)


@pytest.mark.parametrize("missing", [(1,), (), None, ("a", ("b",))])
def test_a_key_error_holds_the_key_itself(missing):
    cache = LRUCache(1)
    for look in (cache.__getitem__, cache.__delitem__, cache.pop, cache.move_to_end, cache.expires_in):
        with pytest.raises(KeyError) as error:
            look(missing)
        assert error.value.args == (missing,)


@pytest.mark.parametrize("unhashable", [[], {}, set(), LRUCache(1), ([],)])
def test_an_unhashable_key_is_a_type_error(unhashable):
    cache = filled()
    for use in (
        lambda: cache[unhashable],
        lambda: cache.__setitem__(unhashable, 1),
        lambda: cache.__delitem__(unhashable),
        lambda: unhashable in cache,
        lambda: cache.get(unhashable),
        lambda: cache.peek(unhashable),
        lambda: cache.pop(unhashable, None),
        lambda: cache.setdefault(unhashable, 1),
        lambda: cache.set(unhashable, 1),
        lambda: cache.get_or_set(unhashable, list),
        lambda: cache.touch(unhashable),
    ):
        with pytest.raises(TypeError, match="unhashable"):
            use()
    assert cache == filled()


def test_a_default_by_name_as_ordered_dict_and_cachetools_have_it():
    cache = LRUCache(3)
    assert cache.pop("a", default=1) == 1
    assert cache.peek("a", default=1) == 1
    assert cache.setdefault("a", default=1) == 1 == cache["a"]


def test_setdefault():
    cache = LRUCache(2)
    assert cache.setdefault("a") is None and cache.setdefault("a", 1) is None
    cache.setdefault("b", []).append(3)
    cache.setdefault("b", []).append(4)
    assert cache["b"] == [3, 4]
    cache.setdefault("c", 5)
    assert list(cache.items()) == [("b", [3, 4]), ("c", 5)]


def test_ints_of_every_size_are_told_apart_as_in_a_dict():
    sizes, near = (0, 1, 15, 29, 30, 31, 60, 61, 62, 64), range(-2, 3)
    edges = dict.fromkeys(sign * (2**size + step) for size in sizes for step in near for sign in (1, -1))
    cache = LRUCache(None, ((int(str(edge)), None) for edge in edges))
    assert list(cache) == list(edges)
    assert all(int(str(edge)) in cache for edge in edges)
    assert all(float(edge) in cache for edge in edges if abs(edge) < 2**53)
    others = [other for edge in edges for other in (edge + 2**30, edge - 2**30, edge * 2**30, ~edge, edge // 2**30)]
    assert [other in cache for other in others] == [other in edges for other in others]
    assert LRUCache(None, {1: "int", 0: "zero"}) == {True: "int", False: "zero"}


def test_strings_with_one_hash_are_told_apart():
    """32 bits of a hash are kept, so that among so many strings some share theirs: only their characters differ."""

    def mixed(key):
        product = (hash(key) % 2**64) * 0x9E3779B97F4A7C15
        return (product >> 64 ^ product >> 32) % 2**32

    shared = 0
    for before, after in [(0, 0), (0, 2), (7, 3), (8, 50), (58, 0), (30, 28), (17, 40), (70, 0)]:
        keys = ["x" * before + f"{i:06}" + "y" * after for i in range(250_000)]
        shared += len(keys) - len(set(map(mixed, keys)))
        cache = LRUCache(len(keys), zip(keys, range(len(keys)), strict=True))
        assert len(cache) == len(keys)
        assert all(cache["x" * before + f"{i:06}" + "y" * after] == i for i in range(len(keys)))
    assert shared > 0


@pytest.mark.parametrize("length", [*range(10), 15, 16, 17, 63, 64, 65])
def test_equal_strings_are_one_key_whatever_they_are_made_of(length):
    for text in ("a" * length, "\xe9" * length, "\u20ac" * length, "\U0001f600" * length, "a" * length + "\udc80"):
        cache = LRUCache(1, {text: 1})
        twin = "".join(list(text))
        cache[twin] = 2
        assert cache[twin] == 2 and len(cache) == 1
        assert cache.stats().replaced == 1 and cache.stats().hits == 1


def test_a_full_cache_counts_what_comes_and_goes():
    cache = LRUCache(3, dict.fromkeys("abc", 0))
    cache["a"] = 1
    for key in ["d", ("t",), 5]:
        cache[key] = key
    assert list(cache.items()) == [("d", "d"), (("t",), ("t",)), (5, 5)]
    stats = cache.stats()
    assert (stats.insertions, stats.replaced, stats.evictions, stats.evicted_weight) == (6, 1, 3, 3)
    walk = iter(cache)
    assert next(walk) == "d"
    cache["e"] = 1
    with pytest.raises(RuntimeError):
        next(walk)
    assert cache.get("gone") is None and cache.get("gone", 7) == 7 and "gone" not in cache
    assert cache.stats().misses == 2


def test_a_timer_is_asked_also_where_nothing_is_held():
    def broken():
        if broken.calls:
            raise OSError("no clock")
        broken.calls = 1
        return 0.0

    broken.calls = 0
    cache = LRUCache(9, ttl=60, timer=broken)
    for look in (lambda: cache["x"], lambda: cache.get("x"), lambda: "x" in cache):
        with pytest.raises(OSError, match="no clock"):
            look()


def test_equal_keys_are_one_key_and_the_first_stays():
    cache = LRUCache(9)
    one = cache[1] = object()
    cache[True] = cache[1.0] = "last"
    assert [type(key) for key in cache] == [int] and cache[1] == "last" != one
    nan = float("nan")
    cache[nan] = 1
    assert cache[nan] == 1 and float("nan") not in cache
    cache["a"] = 1
    assert cache.get(b"a") is None and cache.get(("a",)) is None
    text, same = "key-1234", "".join(["key-", "1234"])
    cache[text], cache[("x", 1, (2.0, text))] = 1, 2
    assert cache[same] == 1 and cache[("x", True, (2, same))] == 2
    assert -1 not in LRUCache(2, {-2: 0})  # one hash, two keys


@pytest.mark.parametrize(
    "key",
    [None, ..., 0, 2**100, -(2**100), 1e308, 1j, "", "ä", "\U0001f600", b"", (), frozenset({1}), int, len, range(3)],
)
def test_keys_of_every_builtin_type(key):
    cache = LRUCache(2)
    cache[key] = 1
    assert cache[key] == 1 and key in cache and list(cache) == [key] and cache.pop(key) == 1 and not cache


def test_update_takes_what_dict_takes():
    class Rows:
        def keys(self):
            return ["x", "y"]

        def __getitem__(self, key):
            return key * 2

    cache = LRUCache(99)
    cache.update()
    cache.update(Rows())
    cache.update([("a", 1), ["b", 2], "c3"])
    cache.update(iter([("d", 4)]), self=5, other=6, iterable=7, key=8)
    assert cache == dict(x="xx", y="yy", a=1, b=2, c="3", d=4, self=5, other=6, iterable=7, key=8)
    cache.update(cache)
    assert len(cache) == 10
    for wrong, error in ((42, TypeError), (None, TypeError), ([1], TypeError), ([(1,)], ValueError)):
        with pytest.raises(error):
            cache.update(wrong)
    with pytest.raises(TypeError):
        cache.update({}, {})


def test_update_keeps_the_last_that_fit():
    cache = LRUCache(3, {"old": 0})
    cache.update((i, i) for i in range(10))
    assert list(cache) == [7, 8, 9]
    source = filled(3)
    cache.update(source)
    assert list(source) == [0, 1, 2] and source.stats().hits == 0


def test_fromkeys():
    assert LRUCache.fromkeys("abc") == {"a": None, "b": None, "c": None}
    cache = LRUCache.fromkeys(iter("abca"), 1)
    assert dict(cache) == dict.fromkeys("abc", 1) and cache.maxsize == 4
    assert list(LRUCache.fromkeys(range(9), 0, 3)) == [6, 7, 8] and LRUCache.fromkeys([1], maxsize=None).maxsize is None
    assert LRUCache.fromkeys([]) == {}

    class Sub(LRUCache):
        pass

    assert type(Sub.fromkeys("ab")) is Sub is type(Sub(3).fromkeys("ab"))
    with pytest.raises(TypeError):
        LRUCache.fromkeys(3)
    with pytest.raises(TypeError):
        LRUCache.fromkeys()


@pytest.mark.parametrize(
    "other",
    [
        {"a": 1, "b": 2},
        collections.OrderedDict(b=2, a=1),
        collections.UserDict(a=1, b=2),
        collections.ChainMap({"a": 1}, {"b": 2, "a": 9}),
        types.MappingProxyType({"b": 2, "a": 1}),
        LRUCache(2, {"b": 2, "a": 1}),
        LRUCache(None, {"a": 1, "b": 2}),
    ],
)
def test_equal_to_any_mapping_in_any_order(other):
    cache = LRUCache(5, {"a": 1, "b": 2})
    assert cache == other and other == cache
    assert (cache != other) is False is (other != cache)
    cache["c"] = 3
    assert cache != other and other != cache


def test_equality_uses_nothing_and_knows_its_limits():
    cache = filled(3)
    assert cache == cache and cache != {0: "0"} and cache != {0: "0", 1: "1", 2: "x"}
    for other in (3, None, [(0, "0")], {0, 1, 2}):
        assert cache != other and (cache == other) is False
    assert cache.__eq__([]) is NotImplemented
    nan = float("nan")
    assert LRUCache(1, {1: nan}) == {1: nan} and LRUCache(1, {1: nan}) != {1: float("nan")}
    assert list(cache) == [0, 1, 2] and cache.stats().hits == cache.stats().misses == 0
    for compare in (operator.lt, operator.le, operator.gt, operator.ge, operator.add):
        with pytest.raises(TypeError):
            compare(cache, cache)


def test_merging():
    a, b = LRUCache(9, {0: 0, 1: 1, 2: 1}), LRUCache(9, {1: 1, 2: 2, 3: 3})
    for left, right in ((a, b), (dict(a), b), (a, dict(b)), (a, types.MappingProxyType(dict(b)))):
        assert left | right == {0: 0, 1: 1, 2: 2, 3: 3}
    for merged in (a | b, a | dict(b), dict(a) | b):
        assert type(merged) is LRUCache and merged.maxsize == 9 and list(merged) == [0, 1, 2, 3]
    assert list(b | a) == [3, 0, 1, 2] and list(dict(b) | a) == [3, 0, 1, 2]
    same = a
    a |= b
    a |= [(4, 4)]
    a |= ()
    assert a is same and a == {0: 0, 1: 1, 2: 2, 3: 3, 4: 4}
    for wrong in (None, (), "", "BAD", [(1, 1)], 3):
        assert a.__or__(wrong) is NotImplemented and a.__ror__(wrong) is NotImplemented
        with pytest.raises(TypeError):
            a | wrong
    with pytest.raises(TypeError):
        a |= None
    with pytest.raises(ValueError):
        a |= "BAD"
    plain = {0: 0}
    plain |= b
    assert type(plain) is dict and plain == {0: 0, **dict(b)}


def test_a_merge_keeps_the_bound():
    a, b = filled(3), LRUCache(5, {i: i for i in range(10, 15)})
    assert list(a | b) == [12, 13, 14] and list(a) == [0, 1, 2]
    assert list(b | a) == [13, 14, 0, 1, 2]
    assert list({7: 7, 8: 8} | a) == [0, 1, 2]
    a |= b
    assert list(a) == [12, 13, 14] and a.maxsize == 3


def test_star_star_and_dict_and_match():
    cache = LRUCache(3, {"b": 1, "a": 2})
    assert dict(**cache) == dict(cache) == {**cache} == {"b": 1, "a": 2} and list(cache) == ["b", "a"]
    assert list(dict(cache)) == list(copy.copy(cache)) == ["b", "a"]
    match cache:
        case {"a": 2, "z": _}:
            found = "wrong"
        case {"a": 2, **rest}:
            found = rest
    assert found == {"b": 1}
    assert "{b} {a}".format_map(cache) == "1 2"


def test_annotations():
    alias = LRUCache[str, bytes]
    assert alias.__origin__ is LRUCache and alias.__args__ == (str, bytes)
    assert alias(3) == {} and type(alias(3)) is LRUCache

    class Typed(LRUCache[str, int]):
        pass

    assert Typed(3, {"a": 1}) == {"a": 1}
    assert str(inspect.signature(LRUCache)).startswith("(maxsize: ")


# Views.


def test_views_are_live():
    cache = LRUCache(3)
    keys, values, items = cache.keys(), cache.values(), cache.items()
    assert (isinstance(keys, KeysView), isinstance(values, ValuesView), isinstance(items, ItemsView)) == (True,) * 3
    assert isinstance(keys, Set) and isinstance(items, Set) and not isinstance(values, Set)
    cache.update(a=1, b=2)
    assert (list(keys), list(values), list(items)) == (["a", "b"], [1, 2], [("a", 1), ("b", 2)])
    cache.update(c=3, d=4)
    assert list(reversed(keys)) == ["d", "c", "b"] and list(reversed(values)) == [4, 3, 2]
    assert list(reversed(items)) == [("d", 4), ("c", 3), ("b", 2)] == list(reversed(list(items)))
    assert len(keys) == len(values) == len(items) == 3
    assert "d" in keys and "a" not in keys and 4 in values and 1 not in values
    assert ("d", 4) in items and ("d", 5) not in items and "d" not in items and ["d", 4] not in items
    assert repr(keys).endswith("(['b', 'c', 'd'])") and repr(items).endswith("([('b', 2), ('c', 3), ('d', 4)])")
    assert repr(values).endswith("([2, 3, 4])")
    for view in (keys, values, items):
        assert isinstance(view.mapping, types.MappingProxyType) and view.mapping == cache
        with pytest.raises(TypeError):
            view.mapping["a"] = 1
    cache.clear()
    assert not keys and not values and not items
    for method in (cache.keys, cache.values, cache.items):
        with pytest.raises(TypeError):
            method(None)


SETS = [set(), {1}, {1, 2}, {1, 2, 3}, {2, 3, 4}, {5}]
OPERATORS = [operator.and_, operator.or_, operator.sub, operator.xor]
COMPARISONS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]


@pytest.mark.parametrize("operate", [*OPERATORS, *COMPARISONS, set.isdisjoint], ids=lambda operate: operate.__name__)
@pytest.mark.parametrize("left", SETS, ids=str)
def test_keys_and_items_are_sets(left, operate):
    if operate is set.isdisjoint:
        operate = lambda left, right: left.isdisjoint(right)  # noqa: E731
    for right in SETS:
        want = operate(left, right)
        a, b = LRUCache(9, dict.fromkeys(left)), LRUCache(9, dict.fromkeys(right))
        for x in (a.keys(), dict(a).keys(), left):
            for y in (b.keys(), dict(b).keys(), right):
                assert operate(x, y) == want, (x, y)
        pairs = operate({(i, None) for i in left}, {(i, None) for i in right})
        for x in (a.items(), dict(a).items()):
            for y in (b.items(), dict(b).items()):
                assert operate(x, y) == pairs


@pytest.mark.parametrize("operate", OPERATORS, ids=lambda operate: operate.__name__)
def test_a_view_operates_with_any_iterable(operate):
    cache = LRUCache(9, {1: 1, 2: 2})
    assert operate(cache.keys(), [2, 3, 3]) == operate({1, 2}, {2, 3})
    assert operate(cache.items(), iter([(2, 2), 5])) == operate({(1, 1), (2, 2)}, {(2, 2), 5})
    with pytest.raises(TypeError):
        operate(cache.keys(), 3)
    with pytest.raises(TypeError):
        operate(cache.values(), {1})


def test_views_of_unhashable_values():
    cache = LRUCache(3, {1: []})
    assert (1, []) in cache.items() and cache.items() == {1: []}.items() and [] in cache.values()
    assert cache.items() <= LRUCache(3, {1: [], 2: 2}).items()
    with pytest.raises(TypeError):
        cache.items() | {1}
    assert cache.values() != cache.values()
    for view in (cache.keys(), cache.items()):
        with pytest.raises(TypeError):
            hash(view)


def test_looking_uses_nothing():
    cache = filled(4)
    before = cache.stats()
    nothing = cache == {}, 0 in cache, cache.peek(0), cache.peek(9), list(cache), list(reversed(cache)), repr(cache)
    views = cache.keys(), cache.values(), cache.items()
    looked = [list(view) for view in views] + [0 in views[0], "0" in views[1], (0, "0") in views[2], views[0] & {0}]
    sizes = len(cache), cache.currsize, cache.maxsize, sys.getsizeof(cache), cache.coldest(2), cache.hottest(2)
    assert nothing and looked and sizes and cache.expires_in(0) is None and cache.copy() == cache
    assert list(cache) == [0, 1, 2, 3] and cache.stats() == before


# Order of use.


USES = {
    "[]": lambda cache: cache[1],
    "get": lambda cache: cache.get(1),
    "setdefault": lambda cache: cache.setdefault(1, 5),
    "assignment": lambda cache: cache.__setitem__(1, "1"),
    "set": lambda cache: cache.set(1, "1"),
    "update": lambda cache: cache.update({1: "1"}),
    "|=": lambda cache: operator.ior(cache, {1: "1"}),
    "get_or_set": lambda cache: cache.get_or_set(1, lambda: 5),
    "touch": lambda cache: cache.touch(1),
    "move_to_end": lambda cache: cache.move_to_end(1),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_use_makes_it_the_latest(use):
    cache = filled(4)
    use(cache)
    assert list(cache.items()) == [(0, "0"), (2, "2"), (3, "3"), (1, "1")]
    assert list(reversed(cache)) == [1, 3, 2, 0]
    cache["new"] = 1
    assert list(cache) == [2, 3, 1, "new"]


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("walk", [iter, reversed, lambda cache: iter(cache.items())], ids=["iter", "reversed", "items"])
def test_a_use_never_breaks_or_bends_an_iteration(use, walk):
    cache = filled(6)
    want = list(walk(cache))
    seen = []
    for item in walk(cache):
        seen.append(item)
        use(cache)
    assert sorted(seen) == sorted(want)


@pytest.mark.parametrize("walk", [iter, reversed], ids=["iter", "reversed"])
def test_using_what_an_iteration_stands_on(walk):
    cache = filled(6)
    assert [cache[key] for key in walk(cache)] == [str(key) for key in walk(filled(6))]
    others = iter([5, 0, 3, 1, 4, 2])
    assert sorted(key for key in walk(cache) if cache[next(others)]) == list(range(6))


@pytest.mark.parametrize("last", [True, False])
def test_popitem_and_move_to_end(last):
    cache, model = filled(5), collections.OrderedDict((i, str(i)) for i in range(5))
    for key in (2, 2, 0, 4, 3):
        cache.move_to_end(key, last)
        model.move_to_end(key, last)
        assert list(cache) == list(model)
    cache.move_to_end(1, last=not last)
    model.move_to_end(1, last=not last)
    while model:
        assert cache.popitem(last=last) == model.popitem(last=last)
    for empty in (cache.popitem, lambda: cache.popitem(False)):
        with pytest.raises(KeyError, match="empty"):
            empty()
    with pytest.raises(KeyError):
        cache.move_to_end("x")
    with pytest.raises(TypeError):
        cache.popitem(True, 1)


def test_victims():
    cache = filled(5)
    assert cache.coldest(2) == [(0, "0"), (1, "1")] and cache.hottest(2) == [(4, "4"), (3, "3")]
    assert cache.coldest(0) == [] == cache.hottest(0) and cache.coldest(10**30) == cache.hottest(99)[::-1]
    assert cache.evict() == [(0, "0")] and cache.evict(2) == [(1, "1"), (2, "2")] and cache.evict(0) == []
    assert cache.evict(10**30) == [(3, "3"), (4, "4")] and cache.evict() == [] and not cache
    for method in (cache.evict, cache.coldest, cache.hottest):
        for wrong, error in ((-1, ValueError), (1.0, TypeError), (True, TypeError), (None, TypeError)):
            with pytest.raises(error, match="n must be"):
                method(wrong)


def test_peek_and_get_or_set():
    cache = LRUCache(2, {"a": 1, "b": 2})
    assert cache.peek("a") == 1 and cache.peek("z") is None and cache.peek("z", 3) == 3
    assert cache.get_or_set("a", lambda: pytest.fail("not needed")) == 1
    assert cache.get_or_set("c", lambda: 5) == 5 and list(cache) == ["a", "c"]
    with pytest.raises(ZeroDivisionError):
        cache.get_or_set("d", lambda: 1 // 0)
    assert "d" not in cache and list(cache) == ["a", "c"]
    assert cache.get_or_set("e", lambda: cache.setdefault("e", "first") and "second") == "first" == cache["e"]


def test_none_is_a_value():
    cache = LRUCache(2, {1: None})
    assert 1 in cache and cache.get(1, 5) is None and cache.peek(1, 5) is None and cache.setdefault(1, 5) is None
    assert cache.get_or_set(1, lambda: 5) is None and cache.pop(1, 5) is None and 1 not in cache


def test_iteration_notices_what_comes_and_goes():
    changes = [
        lambda cache: cache.__setitem__("new", 1),
        lambda cache: cache.__delitem__(3),
        lambda cache: cache.clear(),
        lambda cache: cache.popitem(),
        lambda cache: cache.evict(),
        lambda cache: setattr(cache, "maxsize", 2),
        lambda cache: cache.setdefault("new"),
    ]
    for change in changes:
        for view in (iter, reversed, LRUCache.keys, LRUCache.values, LRUCache.items):
            cache = filled(5)
            walk = iter(view(cache))
            next(walk)
            change(cache)
            for _ in range(2):
                with pytest.raises(RuntimeError, match="changed size during iteration"):
                    next(walk)


def test_an_exhausted_iteration_stays_exhausted():
    cache = filled(2)
    walk = iter(cache)
    assert list(walk) == [0, 1]
    cache["new"] = 1
    assert list(walk) == [] and next(walk, "end") == "end" and iter(walk) is walk


def test_an_iteration_keeps_its_cache():
    cache = filled(3)
    gone = weakref.ref(cache)
    walk = iter(cache.items())
    del cache
    gc.collect()
    assert list(walk) == [(0, "0"), (1, "1"), (2, "2")]
    del walk
    gc.collect()
    assert gone() is None


# The bound.


def test_live_resize():
    log = Log()
    cache = filled(5, on_evict=log)
    cache[0]
    cache.maxsize = 3
    assert list(cache) == [3, 4, 0] and cache.maxsize == 3
    assert log == [(1, "1", "size"), (2, "2", "size")]
    cache.maxsize = None
    cache.update((i, i) for i in range(100, 200))
    assert len(cache) == 103 and cache.maxsize is None
    cache.maxsize = 1
    assert list(cache) == [199] and cache.stats().maxsize == 1
    cache.maxsize = 2
    cache["a"] = 1
    assert list(cache) == [199, "a"]


def test_weights():
    calls = []

    def weigher(key, value):
        calls.append((key, value))
        return value

    log = Log()
    cache = LRUCache(10, {"a": 3, "b": 4}, weigher=weigher, on_evict=log)
    assert cache.currsize == 7 and len(cache) == 2 and cache.stats().weight == 7
    cache["c"] = 3
    assert cache.currsize == 10 and not log
    cache["d"] = 0
    assert cache.currsize == 10 and len(cache) == 4
    cache["e"] = 4
    assert (
        list(cache) == ["c", "d", "e"] and cache.currsize == 7 and log.taken() == [("a", 3, "size"), ("b", 4, "size")]
    )
    cache["c"] = 6
    assert list(cache) == ["d", "e", "c"] and cache.currsize == 10 and log.taken() == [("c", 3, "replaced")]
    cache["c"] = 10
    assert list(cache) == ["c"] and cache.currsize == 10
    assert log.taken() == [("c", 6, "replaced"), ("d", 0, "size"), ("e", 4, "size")]
    assert calls == [("a", 3), ("b", 4), ("c", 3), ("d", 0), ("e", 4), ("c", 6), ("c", 10)]
    del cache["c"]
    assert cache.currsize == 0


def test_a_weight_is_taken_once_and_remembered():
    value = [1]
    cache = LRUCache(5, weigher=lambda key, value: len(value))
    cache["a"] = value
    value.extend(range(50))
    assert cache.currsize == 1
    cache["b"] = [1] * 4
    assert len(cache) == 2 and cache.get("a") is value
    cache["c"] = [1]
    assert list(cache) == ["a", "c"] and cache.currsize == 2
    cache.maxsize = 1
    assert list(cache) == ["c"]


@pytest.mark.parametrize(
    "store", [LRUCache.__setitem__, LRUCache.set, lambda cache, key, value: cache.update({key: value})]
)
def test_too_heavy_is_refused_and_the_old_value_stays(store):
    log = Log()
    cache = LRUCache(10, {"a": 3, "b": 4}, weigher=lambda key, value: value, on_evict=log)
    for key in ("a", "z"):
        for weight in (11, 2**64, 10**30):
            with pytest.raises(ValueError, match=r"too heavy: weighs .*, more than the 10"):
                store(cache, key, weight)
    assert list(cache.items()) == [("a", 3), ("b", 4)] and not log and cache.currsize == 7
    assert cache.stats().rejected == 6 and cache.stats().evictions == 0
    with pytest.raises(ValueError, match="too heavy"):
        cache.setdefault("z", 11)
    assert cache.setdefault("a", 11) == 3 or cache["a"] == 3


@pytest.mark.parametrize(
    ("weight", "error"),
    [
        (-1, ValueError),
        (-(10**30), ValueError),
        (1.0, TypeError),
        ("1", TypeError),
        (None, TypeError),
        (True, TypeError),
    ],
)
def test_a_weight_is_an_integer_of_at_least_0(weight, error):
    cache = LRUCache(10, weigher=lambda key, value: weight)
    with pytest.raises(error, match="weigher must return an integer"):
        cache[1] = 1
    assert not cache and cache.currsize == 0


@pytest.mark.parametrize("weight", [0, 3, 10, -1, 11, 2**70, -(2**70)])
def test_a_weight_may_be_anything_with_an_index(weight):
    class Number:
        """An integer as numpy has them."""

        def __index__(self):
            return weight

    cache = LRUCache(10, weigher=lambda key, value: Number())
    if 0 <= weight <= 10:
        cache[1] = 1
        assert cache.currsize == weight
    else:
        with pytest.raises(ValueError, match="too heavy" if weight > 0 else "weigher must return an integer >= 0"):
            cache[1] = 1
        assert not cache


def test_a_weigher_that_raises_changes_nothing():
    cache = LRUCache(10, {"a": 3}, weigher=lambda key, value: 3 // (value - 2))
    with pytest.raises(ZeroDivisionError):
        cache["a"] = 2
    with pytest.raises(ZeroDivisionError):
        cache["b"] = 2
    assert list(cache.items()) == [("a", 3)]


def test_without_a_bound_nothing_is_evicted():
    cache = LRUCache(None, weigher=lambda key, value: value)
    cache[1] = 2**63
    # More than can be counted is refused; it never makes others leave.
    for weight in (2**63, 2**64, 10**30):
        with pytest.raises(ValueError, match="too heavy"):
            cache[2] = weight
    cache[3] = 5
    assert list(cache) == [1, 3] and cache.stats().evictions == 0


def test_a_live_resize_of_weights():
    cache = LRUCache(10, {"a": 3, "b": 4, "c": 3}, weigher=lambda key, value: value)
    cache.maxsize = 6
    assert list(cache) == ["c"] and cache.currsize == 3
    cache.maxsize = 2
    assert not cache and cache.currsize == 0
    with pytest.raises(ValueError):
        cache["a"] = 3


def test_a_bound_in_bytes():
    cache = LRUCache(max_bytes="1 MiB")
    assert cache.maxsize == 1 << 20 and cache.currsize == 0
    for i in range(100):
        cache[i] = bytes(50_000)
        assert cache.currsize <= 1 << 20
    assert 15 <= len(cache) <= 20 and list(cache)[-1] == 99 and cache.currsize >= len(cache) * 50_000
    with pytest.raises(ValueError, match="too heavy"):
        cache[0] = bytes(2 << 20)
    cache.maxsize = "200 kB"
    assert cache.maxsize == 200_000 >= cache.currsize and list(cache) == [97, 98, 99]
    for wrong in (0, None, "x", True):
        with pytest.raises((ValueError, TypeError), match="maxsize"):
            cache.maxsize = wrong
    assert LRUCache(max_bytes="2GB").maxsize == 2_000_000_000 and LRUCache(max_bytes=5000).maxsize == 5000
    assert LRUCache(max_bytes=" 1.5 kib ").maxsize == 1536 and LRUCache(max_bytes="5%").maxsize > 10**6


# Lifetimes.


def timed(**settings):
    clock = ManualClock()
    return LRUCache(settings.pop("maxsize", 5), timer=clock, **settings), clock


def test_a_ttl_for_all():
    cache, clock = timed(ttl=10)
    cache["a"] = 1
    clock.advance(4)
    cache["b"] = 2
    assert cache.expires_in("a") == 6 and cache.ttl_of("b") == 10
    clock.advance(5.999)
    assert cache["a"] == 1 and cache.expires_in("a") == pytest.approx(0.001)
    clock.advance(0.001)
    assert "a" not in cache and cache.get("a") is None and cache.peek("a") is None and len(cache) == 1
    assert list(cache.items()) == [("b", 2)] == cache.coldest(5) == cache.hottest(5) and cache == {"b": 2}
    for look in (cache.__getitem__, cache.expires_in, cache.__delitem__, cache.pop, cache.move_to_end):
        with pytest.raises(KeyError):
            look("a")
    assert cache.touch("a") is False and cache.setdefault("a", 3) == 3 and cache.expires_in("a") == 10


def test_a_ttl_of_its_own():
    cache, clock = timed(ttl=10)
    cache.set("short", 1, ttl=datetime.timedelta(seconds=3))
    cache.set("long", 2, ttl=100)
    cache.set("ever", 3, ttl=NEVER)
    cache.set("usual", 4)
    assert [cache.expires_in(key) for key in cache] == [3, 100, None, 10]
    clock.advance(3)
    assert list(cache) == ["long", "ever", "usual"]
    clock.advance(7)
    assert list(cache) == ["long", "ever"]
    cache["long"] = 5
    assert cache.expires_in("long") == 10
    clock.advance(1000)
    assert list(cache) == ["ever"]


def test_a_ttl_in_a_cache_without_one():
    cache, clock = timed()
    cache["ever"] = 1
    cache.set("short", 2, ttl=3)
    assert cache.expires_in("ever") is None and cache.expires_in("short") == 3
    clock.advance(3)
    assert cache == {"ever": 1}


def test_idle():
    cache, clock = timed(idle=10)
    cache.update(a=1, b=2)
    clock.advance(6)
    assert cache["a"] == 1 and cache.peek("b") == 2 and "b" in cache
    clock.advance(4)
    assert list(cache) == ["a"]
    clock.advance(5)
    assert cache.touch("a") and cache.expires_in("a") == 10
    clock.advance(10)
    assert not cache


def test_ttl_and_idle_whichever_is_first():
    cache, clock = timed(ttl=15, idle=10)
    cache["a"] = 1
    for _ in range(2):
        clock.advance(7)
        assert cache["a"] == 1
    assert cache.expires_in("a") == 1
    clock.advance(1)
    assert "a" not in cache


def test_touch():
    cache, clock = timed(ttl=10)
    cache.update(a=1, b=2)
    clock.advance(5)
    assert cache.touch("a") is True and cache.expires_in("a") == 5 and list(cache) == ["b", "a"]
    assert cache.touch("b", ttl=20) and cache.expires_in("b") == 20
    assert cache.touch("b", ttl=NEVER) and cache.expires_in("b") is None
    assert cache.touch("z") is False and cache.touch("z", ttl=5) is False and "z" not in cache


def test_expire():
    log = Log()
    cache, clock = timed(maxsize=2000, ttl=10, on_evict=log)
    cache.update((i, i) for i in range(1000))
    clock.advance(5)
    cache.set("b", 1, ttl=1)
    cache["c"] = 2
    assert cache.expire() == 0
    clock.advance(5)
    assert cache.expire() == 1001 and cache.expire() == 0
    assert cache == {"c": 2} and {cause for *_, cause in log} == {"expired"} and len(log) == 1001


def test_expired_entries_make_room_before_live_ones():
    log = Log()
    cache, clock = timed(maxsize=3, on_evict=log)
    cache["old"] = 1
    cache.set("dead", 2, ttl=1)
    cache["new"] = 3
    clock.advance(1)
    cache["newest"] = 4
    assert list(cache) == ["old", "new", "newest"] and log == [("dead", 2, "expired")]


def test_replacing_an_expired_entry_is_an_insertion():
    log = Log()
    cache, clock = timed(ttl=1, on_evict=log)
    cache["a"] = 1
    clock.advance(1)
    cache["a"] = 2
    assert log == [("a", 1, "expired")] and cache.stats().insertions == 2 and cache.stats().replaced == 0


def test_expiry_never_breaks_an_iteration():
    cache, clock = timed(ttl=10)
    cache.update(a=1, b=2)
    cache.set("c", 3, ttl=20)
    walk = iter(cache)
    assert next(walk) == "a"
    clock.advance(10)
    assert list(walk) == ["c"]


def test_the_way_out_skips_the_dead():
    log = Log()
    cache, clock = timed(on_evict=log)
    for key in "abc":
        cache.set(key, key, ttl=1 if key != "b" else 9)
    clock.advance(1)
    assert cache.popitem() == ("b", "b")
    with pytest.raises(KeyError):
        cache.popitem()
    assert sorted(log) == [("a", "a", "expired"), ("b", "b", "explicit"), ("c", "c", "expired")]


@pytest.mark.parametrize("reading", [math.nan, math.inf, -math.inf, "1", None])
def test_a_timer_that_does_not_tell_the_time(reading):
    now = [0]
    cache = LRUCache(3, {1: 1}, ttl=5, timer=lambda: now[0])
    now[0] = reading
    for use in (
        lambda: cache[1],
        lambda: cache.__setitem__(2, 2),
        lambda: len(cache),
        lambda: list(cache),
        cache.stats,
    ):
        with pytest.raises((ValueError, TypeError)):
            use()
    now[0] = 1
    assert cache == {1: 1} and cache.expires_in(1) == 4
    with pytest.raises((ValueError, TypeError)):
        LRUCache(3, ttl=5, timer=lambda: reading)


@pytest.mark.parametrize("then", [-5, -1e300, 1e300, 2**64])
def test_a_timer_that_jumps(then):
    now = [0]
    cache = LRUCache(3, {1: 1}, ttl=5, timer=lambda: now[0])
    cache.set(2, 2, ttl=NEVER)
    now[0] = then
    assert list(cache) == ([1, 2] if then < 0 else [2]) and len(cache) == len(list(cache))
    cache[3] = 3
    assert 2 in cache


def test_without_a_timer_the_clock_is_the_monotonic_one():
    cache = LRUCache(3, {1: 1}, ttl=1000)
    assert 900 < cache.expires_in(1) <= 1000
    cache.set(2, 2, ttl=1e-9)
    while 2 in cache:
        pass
    assert cache == {1: 1}


# The ways out.


def out_of_time(cache, clock):
    clock.advance(100)
    return cache.expire()


WAYS = {
    "del": (lambda cache, clock: cache.__delitem__(1), [1], "explicit"),
    "pop": (lambda cache, clock: cache.pop(1), [1], "explicit"),
    "popitem": (lambda cache, clock: cache.popitem(), [2], "explicit"),
    "popitem first": (lambda cache, clock: cache.popitem(last=False), [0], "explicit"),
    "clear": (lambda cache, clock: cache.clear(), [0, 1, 2], "explicit"),
    "close": (lambda cache, clock: cache.close(), [0, 1, 2], "explicit"),
    "assignment": (lambda cache, clock: cache.__setitem__(1, "new"), [1], "replaced"),
    "the same again": (lambda cache, clock: cache.__setitem__(1, cache.peek(1)), [1], "replaced"),
    "set": (lambda cache, clock: cache.set(1, "new", ttl=5), [1], "replaced"),
    "update": (lambda cache, clock: cache.update({1: 5, 0: 5}), [1, 0], "replaced"),
    "room": (lambda cache, clock: cache.update(a=1, b=2), [0, 1], "size"),
    "setdefault": (lambda cache, clock: cache.setdefault("new"), [0], "size"),
    "get_or_set": (lambda cache, clock: cache.get_or_set("new", list), [0], "size"),
    "resize": (lambda cache, clock: setattr(cache, "maxsize", 1), [0, 1], "size"),
    "evict": (lambda cache, clock: cache.evict(2), [0, 1], "size"),
    "expire": (out_of_time, [0, 1, 2], "expired"),
    "a late write": (lambda cache, clock: (clock.advance(100), cache.update(a=1)), [0, 1, 2], "expired"),
    "nothing": (lambda cache, clock: (cache.get(1), 1 in cache, cache.move_to_end(1), cache.touch(1)), [], ""),
}


@pytest.mark.parametrize(("leave", "keys", "cause"), WAYS.values(), ids=WAYS)
def test_every_way_out_is_told_once_with_its_cause(leave, keys, cause):
    log, clock = Log(), ManualClock()
    cache = filled(3, on_evict=log, ttl=50, timer=clock)
    leave(cache, clock)
    assert log == [(key, str(key), cause) for key in keys]


def test_a_cause_is_text():
    assert Cause.SIZE == "size" and str(Cause.EXPIRED) == "expired" and Cause("explicit") is Cause.EXPLICIT
    assert [cause.name for cause in Cause] == ["EXPLICIT", "REPLACED", "SIZE", "EXPIRED"]
    assert f"{Cause.REPLACED}" == "replaced" and json.dumps(Cause.SIZE) == '"size"' and isinstance(Cause.SIZE, str)


def test_the_state_is_final_when_the_hook_is_called():
    seen = []
    cache = filled(3, on_evict=lambda key, value, cause: seen.append((key in cache, len(cache), list(cache))))
    cache["new"] = 1
    cache.clear()
    assert seen == [(False, 3, [1, 2, "new"])] + [(False, 0, [])] * 3


def test_an_exception_of_the_hook_reaches_nobody(monkeypatch):
    caught = []
    monkeypatch.setattr(sys, "unraisablehook", caught.append)
    cache = filled(3, on_evict=lambda key, value, cause: key / 0)
    cache["new"] = 1
    assert cache.pop(1) == "1" and cache.popitem() == ("new", 1) and cache.evict() == [(2, "2")]
    assert [error.exc_type for error in caught] == [ZeroDivisionError, ZeroDivisionError, TypeError, ZeroDivisionError]
    assert cache.stats().callback_errors == 4 and not cache


# Statistics.


def test_stats():
    clock = ManualClock()
    cache = LRUCache(3, ttl=10, timer=clock, name="x")
    zero = cache.stats()
    assert zero.hit_rate == 0 and zero.entries == zero.hits == zero.weight == 0 and zero.maxsize == 3
    cache.update(a=1, b=2, c=3, d=4)
    assert cache["b"] and cache.get("c") and cache.get("a") is None and cache.setdefault("b", 0)
    with pytest.raises(KeyError):
        cache["a"]
    cache["b"] = 5
    del cache["c"]
    middle = cache.stats()
    assert (middle.hits, middle.misses, middle.insertions, middle.replaced) == (3, 2, 4, 1)
    assert (middle.evictions, middle.explicit, middle.expirations, middle.entries) == (1, 1, 0, 2)
    assert middle.hit_rate == 0.6 and cache.stats() == middle == cache.stats()
    clock.advance(10)
    assert cache.expire() == 2
    later = cache.stats() - middle
    assert (later.expirations, later.hits, later.entries, later.maxsize) == (2, 0, 0, 3)
    assert (cache.stats() - zero).hits == 3
    with pytest.raises(AttributeError):
        middle.hits = 0
    with pytest.raises(TypeError):
        middle - 1
    assert hash(middle) == hash(pickle.loads(pickle.dumps(middle)))


def test_statistics_of_lookups():
    cache = LRUCache(3, {"a": 1})
    for look, hits, misses in [
        (lambda: cache.get("a"), 1, 0),
        (lambda: cache.get("z"), 0, 1),
        (lambda: cache.setdefault("a", 1), 1, 0),
        (lambda: cache.setdefault("b", 1), 0, 1),
        (lambda: cache.get_or_set("a", list), 1, 0),
        (lambda: "a" in cache, 0, 0),
        (lambda: cache.peek("z"), 0, 0),
        (lambda: cache.pop("z", 0), 0, 0),
        (lambda: cache.touch("a"), 0, 0),
        (lambda: cache.update(a=1), 0, 0),
    ]:
        before = cache.stats()
        look()
        done = cache.stats() - before
        assert (done.hits, done.misses) == (hits, misses)


def test_a_get_or_set_of_what_is_not_there_is_one_miss():
    cache = LRUCache(3)
    cache.get_or_set("a", lambda: 1)
    assert cache.stats().misses == 1


def test_missing_counts_as_a_miss():
    class Sub(LRUCache):
        def __missing__(self, key):
            return key

    cache = Sub(3)
    assert cache["x"] == "x" and cache.stats().misses == 1


# Copies.


def pairs_of(cache):
    return list(cache.items()), cache.maxsize, type(cache)


COPIES = {
    "copy()": lambda cache: cache.copy(),
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    **{f"pickle {n}": lambda cache, n=n: pickle.loads(pickle.dumps(cache, n)) for n in PROTOCOLS},
    "pickle in Python": lambda cache: pickle._loads(pickle._dumps(cache)),
}


@pytest.fixture(params=COPIES.values(), ids=COPIES)
def duplicate(request):
    return request.param


def test_a_copy_has_contents_order_and_bound(duplicate):
    cache = LRUCache(4, {"a": [1], "b": 2, "c": 3}, name="n")
    cache["a"]
    twin = duplicate(cache)
    assert (
        pairs_of(twin) == pairs_of(cache) and twin is not cache and twin.name == "n" and list(cache) == ["b", "c", "a"]
    )
    assert cache.stats().hits == 1
    twin.update(d=4, e=5)
    assert list(twin) == ["c", "a", "d", "e"] and len(cache) == 3
    assert pairs_of(duplicate(LRUCache(None))) == ([], None, LRUCache)


def test_a_copy_of_a_bound_in_bytes(duplicate):
    cache = LRUCache(max_bytes="1 MiB")
    cache["a"] = "x" * 1000
    twin = duplicate(cache)
    assert pairs_of(twin) == pairs_of(cache) and twin.currsize == cache.currsize
    twin.maxsize = "100 kB"
    for i in range(200):
        twin[i] = "x" * 1000 + str(i)
    assert 50 < len(twin) < 100 and twin.currsize <= 100_000
    assert duplicate(twin).maxsize == 100_000


def test_a_copy_after_a_resize(duplicate):
    cache = filled(5)
    cache.maxsize = 3
    twin = duplicate(cache)
    twin["new"] = 1
    assert list(twin) == [3, 4, "new"] and twin.maxsize == 3


def weigh_by_value(key, value):
    return value


def test_a_copy_weighs(duplicate):
    cache = LRUCache(10, {"a": 3, "b": 4}, weigher=weigh_by_value)
    twin = duplicate(cache)
    assert twin.currsize == 7
    twin["c"] = 5
    assert list(twin) == ["b", "c"]


def test_a_weigher_that_cannot_be_pickled_fails_loudly():
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(LRUCache(3, weigher=lambda key, value: 1))


def test_a_copy_has_the_remaining_lifetimes(duplicate):
    cache, clock = timed(ttl=10)
    cache["a"] = 1
    cache.set("ever", 2, ttl=NEVER)
    clock.advance(4)
    cache.set("long", 3, ttl=50)
    cache.set("dead", 4, ttl=1)
    clock.advance(1)
    twin = duplicate(cache)
    assert [twin.expires_in(key) for key in twin] == [5, None, 49] and list(twin) == ["a", "ever", "long"]
    twin["new"] = 5
    assert twin.expires_in("new") == 10 and twin.ttl == 10


def test_a_copy_goes_on_being_used(duplicate):
    cache, clock = timed(idle=10, ttl=100)
    cache["a"] = 1
    clock.advance(4)
    twin = duplicate(cache)
    clock = twin._settings["timer"]
    for _ in range(5):
        clock.advance(6)
        assert twin.get("a") == 1
    clock.advance(10)
    assert not twin


def test_a_copy_weighs_what_the_original_weighed(duplicate):
    value = [1]
    cache = LRUCache(5, {"a": value}, weigher=weigh_by_length)
    value.extend(range(50))
    twin = duplicate(cache)
    assert twin == cache and twin.currsize == 1


def weigh_by_length(key, value):
    return len(value)


def test_a_deep_copy_is_deep_and_a_copy_is_not():
    cache = LRUCache(3, {"a": [1]})
    assert cache.copy()["a"] is cache["a"] and copy.deepcopy(cache)["a"] is not cache["a"]
    shared = []
    twin, same = copy.deepcopy((LRUCache(3, {1: shared, 2: shared}), shared))
    assert twin[1] is twin[2] is same


@pytest.mark.parametrize("duplicate", [v for k, v in COPIES.items() if k not in ("copy()", "copy.copy")])
def test_cycles(duplicate):
    cache = LRUCache(3)
    cache["me"] = cache
    cache["list"] = [cache]
    twin = duplicate(cache)
    assert (
        twin is not cache and twin.peek("me") is twin and twin.peek("list")[0] is twin and list(twin) == ["me", "list"]
    )
    holder = [cache]
    twin = duplicate(holder)
    assert twin[0]["list"][0] is twin[0]["me"] is twin[0]


class Store:
    """An owner whose method is the hook of the cache that it owns: a common circle."""

    def __init__(self):
        self.gone = []
        self.cache = LRUCache(2, {1: 1, 2: 2}, on_evict=self.note)

    def note(self, key, value, cause):
        self.gone.append(key)


@pytest.mark.parametrize("duplicate", [v for k, v in COPIES.items() if k not in ("copy()", "copy.copy")])
def test_a_hook_goes_with_its_owner(duplicate):
    store = Store()
    twin = duplicate(store)
    twin.cache[3] = 3
    assert twin.gone == [1] and store.gone == [] and list(twin.cache) == [2, 3]
    alone = duplicate(store.cache)
    alone[3] = 3
    assert list(alone) == [2, 3]


class Own(LRUCache):
    """A subclass with an `__init__`, attributes and a hook of its own."""

    def __init__(self, label):
        super().__init__(2, on_evict=self.note)
        self.label, self.gone = label, []

    def note(self, key, value, cause):
        self.gone.append(key)


def test_a_subclass_with_its_own_init(duplicate):
    cache = Own("x")
    cache[1] = cache[2] = [0]
    cache.extra = [1]
    twin = duplicate(cache)
    assert pairs_of(twin) == pairs_of(cache) and (twin.label, twin.extra) == ("x", [1])
    twin.gone = []
    twin[3] = 3
    assert twin.gone == [1] and cache.gone == [] and len(cache) == 2


class Slotted(LRUCache):
    __slots__ = ("_private", "x")


class SlottedAndNot(Slotted):
    pass


@pytest.mark.parametrize("cls", [Slotted, SlottedAndNot])
def test_a_subclass_with_slots(duplicate, cls):
    cache = cls(3, {1: 1})
    cache.x, cache._private = [1], 2
    twin = duplicate(cache)
    assert (twin.x, twin._private) == ([1], 2) and pairs_of(twin) == pairs_of(cache)
    assert hasattr(cls(3), "__dict__") is (cls is SlottedAndNot)
    if cls is SlottedAndNot:
        cache.y = 3
        assert duplicate(cache).y == 3
    assert not hasattr(duplicate(cls(3)), "x")


class Locked(LRUCache):
    """A subclass that says itself what of it is pickled, as a class with a lock must."""

    def __init__(self, maxsize):
        super().__init__(maxsize)
        self.lock, self.label = threading.Lock(), "l"

    def __getstate__(self):
        state = self.__dict__.copy()
        del state["lock"]
        return state

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.lock = threading.Lock()


def test_a_subclass_with_its_own_state(duplicate):
    cache = Locked(3)
    cache.update(a=1, b=2)
    twin = duplicate(cache)
    assert pairs_of(twin) == pairs_of(cache) and twin.label == "l" and twin.lock is not cache.lock


class Reduced(LRUCache):
    """A subclass that says itself how it is pickled."""

    def __reduce__(self):
        return Reduced, (self.maxsize, [("reduced", 1)])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_subclass_with_its_own_reduce(protocol):
    assert pairs_of(pickle.loads(pickle.dumps(Reduced(7), protocol))) == ([("reduced", 1)], 7, Reduced)


def test_hooks_that_cannot_be_pickled_stay_behind():
    log = Log()
    cache = LRUCache(1, {1: 1}, on_evict=lambda *entry: log.append(entry))
    for twin in (pickle.loads(pickle.dumps(cache)), cache.copy(), copy.deepcopy(cache)):
        twin[2] = 2
        assert list(twin) == [2]
    assert len(log) == 2


def test_cloudpickle_keeps_the_bound():
    cloudpickle = pytest.importorskip("cloudpickle")

    class Local(LRUCache):
        pass

    for cls in (LRUCache, Local):
        cache = cls(2, {1: 1, 2: 2}, weigher=lambda key, value: 1)
        twin = pickle.loads(cloudpickle.dumps(cache))
        assert type(twin).__name__ == cls.__name__ and list(twin.items()) == [(1, 1), (2, 2)]
        twin[3] = 3
        assert list(twin) == [2, 3] and twin.maxsize == 2


# Subclasses.


def test_missing():
    class Squares(LRUCache):
        def __missing__(self, key):
            if key < 0:
                raise RuntimeError(key)
            self[key] = value = key * key
            return value

    cache = Squares(2)
    assert cache[3] == 9 and cache == {3: 9} and cache.get(4) is None and 4 not in cache and cache.peek(4) is None
    assert cache.pop(4, 5) == 5 and cache.setdefault(4, 5) == 5 and cache[5] == 25 and list(cache) == [4, 5]
    with pytest.raises(RuntimeError):
        cache[-1]
    with pytest.raises(KeyError):
        cache.pop(-1)
    assert not hasattr(LRUCache, "__missing__")

    class OnTheInstance(LRUCache):
        pass

    cache = OnTheInstance(2)
    cache.__missing__ = lambda key: 1
    with pytest.raises(KeyError):
        cache["x"]


def test_overridden_methods():
    class Lower(LRUCache):
        def __setitem__(self, key, value):
            super().__setitem__(key.lower(), value)

        def __getitem__(self, key):
            return super().__getitem__(key.lower())

        def __delitem__(self, key):
            super().__delitem__(key.lower())

        def __contains__(self, key):
            return super().__contains__(key.lower())

        def update(self, *args, **more):
            pytest.fail("the constructor calls no overridden update")

    cache = Lower(2, {"A": 1})
    cache["B"] = 2
    assert list(cache) == ["a", "b"] and cache["A"] == 1 and "B" in cache and {"B"} <= cache.keys()
    del cache["B"]
    assert list(cache.copy()) == ["a"] and list(Lower.fromkeys("XY")) == ["x", "y"]


def test_a_subclass_that_forgets_super_init_says_so():
    class Forgetful(LRUCache):
        def __init__(self):
            pass

    with pytest.raises(RuntimeError, match="did not call super"):
        Forgetful()[1] = 1
    with pytest.raises(RuntimeError, match="did not call super"):
        Forgetful()[1]
    repr(Forgetful())


def test_a_subclass_with_a_base_beside():
    class Mixin:
        def __init__(self, *args, **more):
            super().__init__(*args, **more)
            self.made = True

    class Both(Mixin, LRUCache):
        pass

    cache = Both(2, {1: 1})
    assert cache.made and cache.copy().made and type(cache | {2: 2}) is Both


# Being an object.


def test_repr():
    assert repr(LRUCache(3)) == "LRUCache(3, {})" and repr(LRUCache(None, {"a": 1})) == "LRUCache(None, {'a': 1})"
    cache = LRUCache(3, {1: "x"})
    cache[2] = cache
    cache[3] = [cache]
    assert repr(cache) == "LRUCache(3, {1: 'x', 2: ..., 3: [...]})" == str(cache)
    assert repr(type("Sub", (LRUCache,), {})(1)) == "Sub(1, {})"
    shown = repr(filled(100_000))
    assert len(shown) < 1000 and "99980 more" in shown and shown.startswith("LRUCache(100000, {0: '0', ")

    class Bad:
        def __repr__(self):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        repr(LRUCache(1, {1: Bad()}))
    cache = LRUCache(3, {1: 1})
    cache[42] = cache.values()
    assert repr(cache) == "LRUCache(3, {1: 1, 42: Values([1, ...])})"
    assert repr(cache.peek(42)) == "Values([1, ...])"


def test_weak_references():
    cache = filled()
    gone = []
    weak = weakref.ref(cache, gone.append)
    assert weak() is cache and weakref.proxy(cache)[1] == "1"
    del cache
    gc.collect()
    assert weak() is None and gone == [weak]


def test_the_collector_sees_through_it():
    class Thing:
        pass

    for make in (lambda cache: cache, lambda cache: iter(cache), lambda cache: cache.items(), lambda cache: [cache]):
        cache, thing = LRUCache(3), Thing()
        cache[thing] = cache["values"] = thing
        thing.way_back = make(cache)
        weak = weakref.ref(thing)
        del cache, thing
        gc.collect()
        assert weak() is None
    for hook in ("on_evict", "weigher", "timer"):
        thing = Thing()

        def call(*args, thing=thing):
            return 1

        cache = thing.cache = LRUCache(3, **{hook: call})
        weak = weakref.ref(thing)
        del cache, thing, call
        gc.collect()
        assert weak() is None, hook
    assert gc.is_tracked(filled())


def test_it_holds_each_object_once_and_lets_go():
    class Thing:
        pass

    def check(leave):
        key, value = Thing(), Thing()
        weak = weakref.ref(key), weakref.ref(value)
        cache = LRUCache(2)
        before = sys.getrefcount(key), sys.getrefcount(value)
        cache[key] = value
        assert (sys.getrefcount(key), sys.getrefcount(value)) == (before[0] + 1, before[1] + 1)
        for _ in range(3):
            cache[key], cache.get(key), cache.peek(key), key in cache, list(cache.items()), cache.coldest(1)
        assert (sys.getrefcount(key), sys.getrefcount(value)) == (before[0] + 1, before[1] + 1)
        leave(cache, key)
        del key, value
        assert [thing() for thing in weak] == [None, None]

    check(lambda cache, key: cache.__delitem__(key))
    check(lambda cache, key: cache.pop(key))
    check(lambda cache, key: cache.popitem() and None)
    check(lambda cache, key: cache.popitem(last=False) and None)
    check(lambda cache, key: cache.evict() and None)
    check(lambda cache, key: cache.clear())
    check(lambda cache, key: cache.close())
    check(lambda cache, key: cache.update(a=1, b=2))
    check(lambda cache, key: cache.__init__(3))


def test_sizeof():
    empty = sys.getsizeof(LRUCache(None))
    assert 50 < empty < 1000
    cache = filled(10_000)
    # Two pointers, two links and an index at the least; a dict of this length takes 29 bytes an entry.
    assert 24 * 10_000 < sys.getsizeof(cache) - empty < 120 * 10_000
    cache.clear()
    assert sys.getsizeof(cache) == empty
    timed = filled(10_000, ttl=5)
    assert sys.getsizeof(timed) > 24 * 10_000 + empty


@pytest.mark.parametrize(
    "use",
    [
        lambda cache: cache[0],
        lambda cache: cache.get(0),
        lambda cache: cache.peek(0),
        lambda cache: 0 in cache,
        lambda cache: cache.__setitem__(0, 0),
        lambda cache: cache.set(0, 0, ttl=5),
        lambda cache: cache.setdefault(0, 0),
        lambda cache: cache.get_or_set(0, list),
        lambda cache: cache.update({0: 0}),
        lambda cache: cache.__delitem__(0),
        lambda cache: cache.pop(0, None),
        lambda cache: cache.popitem(),
        lambda cache: cache.evict(),
        lambda cache: cache.expire(),
        lambda cache: cache.touch(0),
        lambda cache: cache.move_to_end(0),
        lambda cache: cache.expires_in(0),
        lambda cache: cache.coldest(1),
        lambda cache: cache.clear(),
        lambda cache: list(cache),
        lambda cache: list(reversed(cache)),
        lambda cache: list(cache.items()),
        lambda cache: copy.copy(cache),
        lambda cache: copy.deepcopy(cache),
        lambda cache: pickle.dumps(cache),
        lambda cache: setattr(cache, "maxsize", 5),
        lambda cache: cache | {},
        len,
        bool,
        lambda cache: cache == {},
        lambda cache: cache.currsize,
    ],
)
def test_a_closed_cache_says_so(use):
    log = Log()
    cache = filled(2, on_evict=log)
    walk = iter(cache)
    next(walk)
    cache.close()
    assert log == [(0, "0", "explicit"), (1, "1", "explicit")]
    with pytest.raises(RuntimeError, match="closed"):
        use(cache)
    with pytest.raises(RuntimeError):
        next(walk)
    cache.close()
    assert len(log) == 2 and repr(cache) == "LRUCache(closed)" and cache.stats().explicit == 2


def test_closing_lets_go_of_everything():
    class Thing:
        def __call__(self, *entry):
            return 1

    things = {name: Thing() for name in ("value", "weigher", "timer", "on_evict")}
    weak = [weakref.ref(thing) for thing in things.values()]
    cache = LRUCache(3, {1: things.pop("value")}, **things)
    things.clear()
    cache.close()
    assert [thing() for thing in weak] == [None] * 4


def test_exported():
    assert ullage.LRUCache is LRUCache and LRUCache.__module__.startswith("ullage") and LRUCache.__name__ == "LRUCache"
