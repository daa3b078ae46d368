"""deep_sizeof: what objects hold, each counted once, whatever they are."""

import array
import collections
import dataclasses
import gc
import itertools
import json
import sys
import threading
import types
import weakref
from functools import partial
from typing import NamedTuple
from unittest.mock import MagicMock, Mock

import pytest
from child import run
from ullage import HistoryRing, LRUCache, TransferMap, deep_sizeof

BIG = 1_000_000


def big():
    """An object of a megabyte that nobody else holds."""
    return bytes(BIG)


@dataclasses.dataclass
class Plain:
    content: object


@dataclasses.dataclass
class Two:
    first: object
    second: object


@dataclasses.dataclass(slots=True)
class Slotted:
    content: object


class Inherited(Slotted):
    """Slots, and an attribute dict besides."""


class Pair(NamedTuple):
    left: object
    right: object = None


class Words(dict):
    pass


@pytest.mark.parametrize("leaf", [0, 10**100, 1.5, "a", "ä" * 99, b"abc", bytearray(99), 1j, range(9), slice(1)])
def test_what_refers_to_nothing_is_as_large_as_sys_says(leaf):
    counted = [leaf.start, leaf.stop, leaf.step] if isinstance(leaf, range) else []
    assert deep_sizeof(leaf) in (sys.getsizeof(leaf), sys.getsizeof(leaf) + sum(map(sys.getsizeof, [1, *counted])))


def test_a_list_is_itself_and_its_items():
    items = [10**50, "text", b"bytes", 2.5]
    assert deep_sizeof(items) == sys.getsizeof(items) + sum(map(sys.getsizeof, items))


def test_a_dict_is_itself_its_keys_and_its_values():
    for table in ({"key": 10**50}, {(1.5, 2.5): "value"}, {b"key": "value", "other": None}, {}):
        parts = [*table, *table.values()]
        parts += [part for key in table if isinstance(key, tuple) for part in key]
        sizes = sum(sys.getsizeof(part) for part in parts if part is not None)
        assert deep_sizeof(table) == sys.getsizeof(table) + sizes


def in_flight(item):
    """A TransferMap that holds an item."""
    transfers = TransferMap(60)
    transfers["a"] = item
    return transfers


HOLDERS = {
    "list": lambda item: [item],
    "tuple": lambda item: (item,),
    "set": lambda item: {item},
    "frozenset": lambda item: frozenset({item}),
    "dict value": lambda item: {"a": item},
    "dict key": lambda item: {item: "a"},
    "mixed dict key": lambda item: {item: "a", 1: 2},
    "deep": lambda item: [[{"a": ([item],)}]],
    "deque": lambda item: collections.deque([item]),
    "defaultdict": lambda item: collections.defaultdict(list, a=[item]),
    "OrderedDict": lambda item: collections.OrderedDict(a=item),
    "OrderedDict key": lambda item: collections.OrderedDict({item: "a"}),
    "Counter": lambda item: collections.Counter([item]),
    "ChainMap": lambda item: collections.ChainMap({}, {"a": item}),
    "UserDict": lambda item: collections.UserDict(a=item),
    "subclass of dict": lambda item: Words({item: 1}),
    "mappingproxy": lambda item: types.MappingProxyType({"a": item}),
    "namespace": lambda item: types.SimpleNamespace(a=item),
    "instance": Plain,
    "slots": Slotted,
    "slots and dict": Inherited,
    "named tuple": Pair,
    "partial": lambda item: partial(print, item),
    "bound method": lambda item: Plain(item).__repr__,
    "iterator": lambda item: iter([item]),
    "chain": lambda item: itertools.chain([item], []),
    "generator": lambda item: (i for i in [item]),
    "exception": lambda item: ValueError(item),
    "memoryview": lambda item: memoryview(item if isinstance(item, bytes) else item.encode()),
    "LRUCache value": lambda item: LRUCache(3, {"a": item}),
    "LRUCache key": lambda item: LRUCache(3, {item: "a"}),
    "HistoryRing": lambda item: HistoryRing(3, [item]),
    "TransferMap": in_flight,
}


MAKERS = {"bytes": big, "str": lambda: "x" * BIG}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS)
def test_what_a_holder_holds_is_counted(hold, make):
    item = make()
    assert BIG < deep_sizeof(hold(item)) < BIG + 20_000


@pytest.mark.parametrize("view", [dict.keys, dict.values, dict.items, iter])
def test_views_and_iterators_hold_their_dict(view):
    assert deep_sizeof(view({"a": big()})) > BIG


def test_a_view_of_an_attribute_dict_changes_nothing():
    instance = Plain(big())
    before = deep_sizeof(instance)
    vars(instance)
    assert abs(deep_sizeof(instance) - before) < 1000


def test_what_is_shared_counts_once():
    item = big()
    for shared in ([item] * 100, {"a": item, "b": [item]}, Two(item, item), (item, [item], {1: item})):
        assert BIG < deep_sizeof(shared) < 1.01 * BIG
    assert BIG < deep_sizeof(item, [item], item, (item,)) < 1.01 * BIG
    assert deep_sizeof([big(), big()]) > 2 * BIG


def test_objects_that_are_equal_are_not_one():
    assert deep_sizeof([big(), big()]) > 2 * BIG


def test_cycles_end():
    ring = [big()]
    ring.append(ring)
    table = {"a": ring}
    table["self"] = table
    ring.append(table)
    instance = Plain(None)
    instance.content = [instance, big()]
    assert BIG < deep_sizeof(ring) == deep_sizeof(ring, ring, table) < 1.01 * BIG
    assert BIG < deep_sizeof(instance) < 1.01 * BIG
    history = HistoryRing(5, [big()])
    history.append(history)
    assert BIG < deep_sizeof(history) < 1.01 * BIG


def test_none_and_nothing_are_nothing():
    assert deep_sizeof() == 0
    assert deep_sizeof([None, True, False, ..., NotImplemented]) == sys.getsizeof([None] * 5)


def make_class():
    class Holder:
        attribute = big()

        def method(self, default=big()):  # noqa: B008
            return default

    return Holder


def make_function():
    captured = big()
    return lambda default=big(): (captured, default)  # noqa: B008


def make_module():
    module = types.ModuleType("large")
    module.content = big()
    return module


@pytest.mark.parametrize(
    "shared",
    [make_class(), make_function(), make_module(), make_class().method, len, make_function().__code__, int],
    ids=["class", "function", "module", "unbound method", "builtin", "code", "builtin class"],
)
def test_classes_modules_and_functions_are_not_counted(shared):
    for holder in ([shared], Plain(shared), {"a": shared}, (shared, [shared])):
        assert deep_sizeof(holder) < 2000
    # Asked for themselves, they are no more than their own size.
    assert deep_sizeof(shared) < 10_000


def test_the_class_of_an_instance_is_not_counted():
    assert deep_sizeof(make_class()()) < 1000


def test_a_weak_reference_holds_nothing():
    instance = Plain(big())
    assert deep_sizeof(weakref.ref(instance)) < 1000
    assert deep_sizeof([weakref.ref(instance)]) < 1000


def test_locks_files_and_threads_do_no_harm(tmp_path):
    with open(tmp_path / "file", "w") as file:
        for odd in (threading.Lock(), threading.RLock(), file, threading.current_thread(), sys.implementation):
            assert deep_sizeof(odd) > 0


class Sized:
    """Says itself how large it is."""

    def __init__(self, says):
        self.says = says

    def __sizeof__(self):
        return self.says() if callable(self.says) else self.says


def test_an_object_may_say_how_large_it_is():
    assert deep_sizeof(Sized(5000)) > 5000
    assert BIG + 5000 < deep_sizeof([Sized(5000), big()]) < BIG + 10_000


def breaks():
    raise ZeroDivisionError


@pytest.mark.parametrize("says", [breaks, -1, "5", None, 2**70, 1.5])
def test_an_object_that_cannot_say_it_is_an_error_as_with_sys(says):
    expected = None
    try:
        sys.getsizeof(Sized(says))
    except Exception as error:
        expected = type(error)
    assert expected is not None
    with pytest.raises(expected):
        deep_sizeof([1, Sized(says)])
    # An entry that cannot be weighed is not taken.
    cache, ring = LRUCache(max_bytes="1 MB"), HistoryRing(max_bytes="1 MB")
    cache["a"] = "old"
    ring.append("old")
    with pytest.raises(expected):
        cache["a"] = Sized(says)
    with pytest.raises(expected):
        ring.append(Sized(says))
    assert (cache.peek("a"), ring[:]) == ("old", ["old"])


def test_an_object_that_changes_what_is_measured():
    for change in (
        lambda held: held.clear(),
        lambda held: held.extend(range(1000)),
        lambda held: held.append(held),
        lambda held: (held.clear(), gc.collect()),
        lambda held: deep_sizeof(held, limit=2),
    ):
        held = []
        held += [Sized(lambda held=held, change=change: bool(change(held)) + 100), [big()], "text"]
        assert deep_sizeof(held) > 100


def test_a_container_that_is_used_while_it_is_measured():
    ring, cache = HistoryRing(5), LRUCache(5)
    ring.append(Sized(lambda: ring.clear() or 100))
    ring.append(big())
    cache["a"] = Sized(lambda: cache.clear() or 100)
    cache["b"] = big()
    assert deep_sizeof(ring) > 100
    assert deep_sizeof(cache) > 100
    assert (len(ring), len(cache)) == (0, 0)


class Buffer:
    """An array as numpy and torch have them: a small object, and bytes elsewhere."""

    def __init__(self, nbytes):
        self._nbytes = nbytes

    @property
    def nbytes(self):
        return self._nbytes() if callable(self._nbytes) else self._nbytes


def test_an_array_counts_its_bytes():
    assert BIG <= deep_sizeof(Buffer(BIG)) < BIG + 1000
    assert 3 * BIG <= deep_sizeof([Buffer(BIG), Plain(Buffer(2 * BIG))]) < 3 * BIG + 5000
    # These allocate some more than they hold.
    assert BIG < deep_sizeof(array.array("b", big())) < 1.2 * BIG
    assert BIG < deep_sizeof(bytearray(BIG)) < 1.2 * BIG


@pytest.mark.parametrize("nbytes", [None, -1, "5", 1.5, 2**70, breaks, lambda: gc.collect() and None])
def test_odd_bytes_are_passed_over(nbytes):
    assert 0 < deep_sizeof(Buffer(nbytes)) < 1000


def test_numpy():
    numpy = pytest.importorskip("numpy")
    array_of_numbers = numpy.zeros(BIG, dtype="u1")
    assert BIG <= deep_sizeof(array_of_numbers) < 1.01 * BIG
    assert BIG <= deep_sizeof({"a": array_of_numbers, "b": array_of_numbers}) < 1.01 * BIG
    # A view keeps the whole array alive, but holds what it says.
    assert 100 <= deep_sizeof(array_of_numbers[:100]) < 1.01 * BIG


def test_after_the_limit_the_rest_is_not_counted():
    items = [str(i) * 10 for i in range(1000)]
    sizes = [deep_sizeof(items, limit=limit) for limit in (0, 1, 2, 100, 1001, 10**6)]
    assert sizes == sorted(sizes)
    assert sizes[:2] == [0, sys.getsizeof(items)]
    assert sizes[3] < sizes[4] == sizes[5] == sys.getsizeof(items) + sum(map(sys.getsizeof, items))
    assert deep_sizeof(*items, limit=10) == sum(map(sys.getsizeof, items[:10]))


@pytest.mark.parametrize(
    ("limit", "error"), [(-1, OverflowError), (1.5, TypeError), ("1", TypeError), (None, TypeError)]
)
def test_limits_that_are_none(limit, error):
    with pytest.raises(error):
        deep_sizeof([], limit=limit)


def test_arguments():
    with pytest.raises(TypeError):
        deep_sizeof(size=1)
    assert deep_sizeof(1, 2.5, "a") == sum(map(sys.getsizeof, (1, 2.5, "a")))


def test_what_is_deep_is_measured_without_recursion():
    run("""
        from ullage import deep_sizeof

        deep = []
        for _ in range(300_000):
            deep = [deep]
        assert deep_sizeof(deep) > 300_000 * 56
    """)


def test_threads_that_change_what_is_measured():
    run("""
        import sys, threading
        from ullage import HistoryRing, LRUCache, deep_sizeof

        sys.setswitchinterval(1e-6)
        table, items, ring, cache = {}, [], HistoryRing(50), LRUCache(50)
        done = threading.Event()

        def change():
            i = 0
            while not done.is_set():
                i += 1
                table[f"key {i}"] = [i]
                items.append([i])
                ring.append([i])
                cache[i] = [i]
                if not i % 100:
                    table.clear()
                    items.clear()

        thread = threading.Thread(target=change)
        thread.start()
        for _ in range(2000):
            assert deep_sizeof(table, items, ring, cache) > 0
        done.set()
        thread.join()
    """)


def test_nothing_is_leaked_by_measuring():
    item = object()
    held = {"a": [item], item: Plain(item)}
    before = sys.getrefcount(item)
    for _ in range(10):
        deep_sizeof(held, item)
        with pytest.raises(ZeroDivisionError):
            deep_sizeof(held, Sized(breaks))
    assert sys.getrefcount(item) == before


def test_documents_count_their_keys():
    text = json.dumps({f"a rather long name of a field, number {i}": i for i in range(1000)})
    document = json.loads(text)
    assert deep_sizeof(document) > sys.getsizeof(document) + sum(map(sys.getsizeof, document))
    cache = LRUCache(max_bytes="1 MB")
    for i in range(50):
        cache[i] = json.loads(text)
    assert sum(deep_sizeof(value) for value in cache.values()) < 1_000_000
    assert len(cache) < 10


@pytest.mark.parametrize("kind", [Mock, MagicMock])
def test_an_object_that_answers_everything_does_not_keep_the_walk_going(kind):
    mock = kind()
    before = deep_sizeof(mock)
    assert 0 < deep_sizeof(mock) == before < 1_000_000
    assert deep_sizeof(kind(text="x" * 5_000_000)) > 5_000_000
