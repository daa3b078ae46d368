"""`cachedmethod`: what each instance remembers, for as long as it lives."""

import asyncio
import copy
import functools
import gc
import inspect
import pickle
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import dedent

import child
import pytest
from ullage import Cause, LRUCache, _cached, cachedmethod
from ullage.testing import ManualClock


class Counted:
    """Calls are counted."""

    __slots__ = ()

    def __init__(self) -> None:
        self.calls = 0

    @cachedmethod
    def twice(self, n, factor=2):
        """n times two."""
        self.calls += 1
        return [n * factor]

    @cachedmethod(maxsize=2)
    async def later(self, n):
        self.calls += 1
        await asyncio.sleep(0)
        return [n]


class Plain(Counted):
    """Hashable by identity."""


class Unhashable(Plain):
    __hash__ = None

    def __eq__(self, other):
        raise AssertionError("not asked")


class Slotted(Counted):
    __slots__ = ("__weakref__", "calls")


@dataclass(eq=True)
class Data(Plain):
    calls: int = 0


@dataclass(frozen=True)
class Frozen:
    n: int

    @cachedmethod
    def doubled(self):
        return [self.n * 2]


KINDS = [Plain, Unhashable, Slotted, Data]


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    gc.collect()
    assert not [address for address, own in _cached._homeless.items() if own.owner() is None]


@pytest.mark.parametrize("kind", KINDS)
def test_each_instance_has_results_of_its_own(kind):
    a, b = kind(), kind()
    assert a.twice(1) is a.twice(1) is a.twice(n=1) is a.twice(1, 2) is kind.twice(a, 1)
    assert a.twice(1) is not b.twice(1) and (a.calls, b.calls) == (1, 1)
    assert asyncio.run(a.later(1)) is asyncio.run(a.later(1)) is not asyncio.run(b.later(1))
    assert (a.calls, b.calls) == (2, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_an_instance_is_not_kept_alive(kind):
    gc.disable()
    try:
        instance = kind()
        result = weakref.ref(instance)
        instance.twice(1), asyncio.run(instance.later(1)), instance.twice.cache_info()
        del instance
        assert result() is None
    finally:
        gc.enable()


def test_results_leave_with_the_instance_and_may_refer_to_it():
    class Node:
        @cachedmethod
        def child(self):
            node = Node()
            node.parent = self
            return node

    node = Node()
    seen = [weakref.ref(node), weakref.ref(node.child()), weakref.ref(node.child().child())]
    assert node.child() is node.child()
    del node
    gc.collect()
    assert [each() for each in seen] == [None] * 3


def test_a_bound_method_keeps_its_instance_and_a_call_on_a_new_instance_works():
    assert Plain().twice(4) == [8]
    method = Plain().twice
    assert method(3) is method(3) and method.__self__.calls == 1


def test_a_bound_method_looks_as_before():
    instance = Plain()
    for name in ("twice", "later"):
        method, plain = getattr(instance, name), getattr(Plain, name).__wrapped__
        assert method.__name__ == name and method.__qualname__ == f"Counted.{name}" and method.__doc__ == plain.__doc__
        assert inspect.signature(method) == inspect.signature(plain.__get__(instance))
        assert inspect.signature(getattr(Plain, name)) == inspect.signature(plain)
        assert (
            inspect.iscoroutinefunction(method)
            == (name == "later")
            == inspect.iscoroutinefunction(getattr(Plain, name))
        )
        assert method.__wrapped__ is plain  # as of a method under functools.lru_cache: it takes the instance
    assert instance.twice.__wrapped__(instance, 1) is not instance.twice.__wrapped__(instance, 1)
    with pytest.raises(TypeError, match=r"Counted\.twice\(\) missing 1 required positional argument: 'n'"):
        instance.twice()
    with pytest.raises(AttributeError, match="no_such"):
        instance.twice.no_such  # noqa: B018


def test_the_cache_of_one_instance():
    a, b = Plain(), Plain()
    for n in (1, 2, 1):
        a.twice(n), b.twice(n)
    assert a.twice.cache_info() == Plain.twice.cache_info(a) == (1, 2, 128, 2)
    assert a.twice.cache_key(1) == a.twice.cache_key(n=1, factor=2) == Plain.twice.cache_key(a, 1)
    assert a.twice.cache_contains(1) and Plain.twice.cache_contains(a, 1)
    assert a.twice.cache_invalidate(1) and not a.twice.cache_contains(1) and b.twice.cache_contains(1)
    a.twice.cache_clear()
    assert a.twice.cache_info() == (0, 0, 128, 0) and b.twice.cache_info()[3] == 2
    Plain.twice.cache_clear(b)
    assert b.twice.cache_stats().entries == 0 and b.later.cache_parameters() == {"maxsize": 2, "typed": False}


def test_settings_are_of_each_instance():
    clock, left = ManualClock(), []

    class Shop:
        @cachedmethod(2, ttl=60, timer=clock, on_evict=lambda *entry: left.append(entry), typed=True)
        def price(self, item):
            return [item]

        @cachedmethod(condition=bool, weigher=lambda key, value: 1, key=lambda self, item: (type(self), item["id"]))
        def stock(self, item):
            return item["id"]

    shop, other = Shop(), Shop()
    shop.price(1), shop.price(2), other.price(3), shop.price(1.0)
    assert left == [((1, int), [1], Cause.SIZE)]
    clock.advance(61)
    assert not shop.price.cache_contains(2)
    shop.stock({"id": 0}), shop.stock({"id": 1})
    assert shop.stock.cache_info().currsize == 1 and shop.stock.cache_key({"id": 5}) == (Shop, 5)


def test_a_cache_that_each_instance_gives():
    class Shop:
        def __init__(self):
            self.cache = LRUCache(10)

        @cachedmethod(cache=lambda self: self.cache)
        def price(self, item):
            return [item]

        @cachedmethod(cache=lambda self: self.cache)
        def stock(self, item):
            return [item]

    shop = Shop()
    assert shop.price(1) is shop.price(1) is not shop.stock(1) and len(shop.cache) == 2
    assert shop.cache[shop.price.cache_key(1)] is shop.price(1)
    seen = weakref.ref(shop)
    del shop
    gc.collect()
    assert seen() is None


def test_inheritance():
    class Base:
        @cachedmethod
        def name(self, n):
            return ["base", n]

        @cachedmethod
        def same(self):
            return [type(self)]

    class Derived(Base):
        @cachedmethod
        def name(self, n):
            return ["derived", *super().name(n)]

    instance = Derived()
    assert instance.name(1) is instance.name(1) == ["derived", "base", 1]
    assert Base.name(instance, 1) is Base.name(instance, 1) == ["base", 1]
    assert instance.same() == [Derived] and Base().same() == [Base]


def test_under_other_decorators():
    class Mixed:
        @classmethod
        @cachedmethod
        def of_class(cls, n):
            return [cls, n]

        @property
        @cachedmethod
        def value(self):
            return [1]

        @cachedmethod
        @functools.wraps(len)
        def wrapped(self, n):
            return [n]

    class Derived(Mixed):
        pass

    assert Mixed.of_class(1) is Mixed.of_class(1) is Mixed().of_class(1) == [Mixed, 1]
    assert Derived.of_class(1) is Derived.of_class(1) == [Derived, 1]
    instance = Mixed()
    assert instance.value is instance.value
    assert instance.wrapped(1) is instance.wrapped(1)

    for wrong in (classmethod, staticmethod):
        with pytest.raises(TypeError, match=f"put @cachedmethod under @{wrong.__name__}"):
            cachedmethod(wrong(lambda self: 1))


def test_copies_remember_nothing():
    a = Plain()
    a.n = 1
    result = a.twice(1)
    for other in (copy.copy(a), copy.deepcopy(a), pickle.loads(pickle.dumps(a))):
        assert other.n == 1
        assert other.twice(1) is other.twice(1) is not result and other.calls == 2
    assert a.twice(1) is result and a.calls == 1


def test_frozen_and_equal_instances():
    a, b = Frozen(1), Frozen(1)
    assert a.doubled() is a.doubled() is not b.doubled() and a == b and hash(a) == hash(b)
    assert Data() == Data() and repr(a) == "Frozen(n=1)"


def test_instances_without_weak_references():
    class Number(int):
        @cachedmethod
        def doubled(self):
            return [self * 2]

    number = Number(5)
    assert number.doubled() is number.doubled() == [10]

    class Pair(tuple):
        @cachedmethod
        def total(self):
            return [sum(self)]

    pair = Pair((1, 2))
    assert pair.total() is pair.total() is not copy.copy(pair).total()

    class Bare:
        __slots__ = ()

        @cachedmethod
        def m(self):
            return 1

    with pytest.raises(TypeError, match="a Bare has no place for results: add '__weakref__' to its __slots__"):
        Bare().m()


def test_an_address_that_is_used_again():
    for _ in range(1000):
        instance = Slotted()
        assert instance.twice(1) == [2] and instance.calls == 1


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda: cachedmethod(0), ValueError),
        (lambda: cachedmethod(ttl=-1), ValueError),
        (lambda: cachedmethod("5"), TypeError),
        (lambda: cachedmethod(cache={}), TypeError),
        (lambda: cachedmethod(5, cache=dict), TypeError),
        (lambda: cachedmethod(5)(5), TypeError),
    ],
)
def test_wrong_settings(wrong, error):
    with pytest.raises(error):
        wrong()


def test_generators_are_refused():
    def generate(self):
        yield 1

    with pytest.raises(TypeError, match="makes generators"):
        cachedmethod(generate)


def test_one_computation_an_instance():
    class Shop:
        def __init__(self):
            self.calls, self.go = 0, threading.Event()

        @cachedmethod
        def slow(self, n):
            self.calls += 1
            assert self.go.wait(30)
            return [n]

    shop, other = Shop(), Shop()
    other.go.set()
    results = []
    threads = [threading.Thread(target=lambda: results.append(shop.slow(1))) for _ in range(10)]
    for thread in threads:
        thread.start()
    assert other.slow(1) == [1]
    shop.go.set()
    for thread in threads:
        thread.join(30)
    assert shop.calls == 1 and results == [[1]] * 10 and len(set(map(id, results))) == 1
    assert shop.slow.cache_info() == (9, 1, 128, 1)


def test_threads_that_meet_a_new_instance():
    child.run(
        dedent("""
        import faulthandler, sys, threading
        from ullage import cachedmethod
        faulthandler.dump_traceback_later(45, exit=True)
        sys.setswitchinterval(1e-6)

        class Shop:
            def __init__(self):
                self.calls = []

            @cachedmethod
            def price(self, n):
                self.calls.append(n)
                return n

        class Slotted(Shop):
            __slots__ = ()

        class Bare:
            __slots__ = ("calls", "__weakref__")
            __init__, price = Shop.__init__, Shop.__dict__["price"]

        for kind in (Shop, Slotted, Bare) * 60:
            shop, barrier = kind(), threading.Barrier(6)

            def ask():
                barrier.wait()
                for n in range(5):
                    assert shop.price(n) == n

            threads = [threading.Thread(target=ask) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sorted(shop.calls) == list(range(5)), shop.calls
        """),
        60,
    )


def test_recursion():
    class Numbers:
        @cachedmethod
        def fib(self, n):
            return n if n < 2 else self.fib(n - 1) + self.fib(n - 2)

        @cachedmethod
        def endless(self):
            return self.endless()

    assert Numbers().fib(60) == 1548008755920
    with pytest.raises(RecursionError, match=r"Numbers\.endless\(\(\)\) needs .*Numbers\.endless\(\(\)\)"):
        Numbers().endless()
