"""`cached`: what functions and coroutine functions remember, under which keys, and when not."""

import asyncio
import collections
import copy
import functools
import gc
import inspect
import pickle
import sys
import threading
import weakref
from collections import OrderedDict
from textwrap import dedent

import child
import pytest
import ullage
from ullage import Cause, LRUCache, cached
from ullage.testing import ManualClock


def counted(function=lambda *args, **kwargs: (args, kwargs)):
    """A function that counts its calls."""

    def call(*args, **kwargs):
        call.calls += 1
        return function(*args, **kwargs)

    call.calls = 0
    return call


@cached
def documented(a: int, b: str = "b", *, c: float = 1.0) -> tuple[int, str, float]:
    """What it is for."""
    return a, b, c


@cached(maxsize=10)
async def fetched(url: str) -> list[str]:
    await asyncio.sleep(0)
    return [url]


# What is decorated looks as it did.


@pytest.mark.parametrize("function", [documented, fetched])
def test_a_cached_function_looks_as_before(function):
    inner = function.__wrapped__
    for attribute in ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__"):
        assert getattr(function, attribute) == getattr(inner, attribute)
    assert inspect.signature(function) == inspect.signature(inner)
    assert inspect.iscoroutinefunction(function) == inspect.iscoroutinefunction(inner)
    assert pickle.loads(pickle.dumps(function)) is function
    assert copy.copy(function) is copy.deepcopy(function) is function
    assert weakref.ref(function)() is function


def test_wrong_arguments_are_the_errors_of_python():
    for call in (lambda f: f(), lambda f: f(1, 2, 3, 4), lambda f: f(1, d=2), lambda f: f(1, a=1)):
        with pytest.raises(TypeError) as expected:
            call(documented.__wrapped__)
        with pytest.raises(TypeError) as error:
            call(documented)
        assert str(error.value) == str(expected.value)


def test_bare_and_with_arguments():
    for decorator in (cached, cached(), cached(5), cached(maxsize=None, typed=True)):
        function = counted()
        f = decorator(function)
        assert f(1) is f(1) and function.calls == 1
    assert cached(5)(len).cache_parameters() == {"maxsize": 5, "typed": False}
    assert cached(len).cache_parameters() == {"maxsize": 128, "typed": False}


def test_functions_of_all_kinds():
    class Callable:
        def __call__(self, x):
            return [x]

    class Awaited:
        async def __call__(self, x):
            return [x]

    for function in (list, functools.partial(sorted, reverse=True), Callable(), lambda x: [x], "a b".split):
        f = cached(function)
        assert f("a") is f("a") and f("a") == function("a")
    for function in (Awaited(), functools.partial(fetched.__wrapped__)):
        f = cached(function)
        assert asyncio.run(f("a")) is asyncio.run(f("a")) and inspect.iscoroutinefunction(f)


def test_decorating_twice():
    function = counted()
    f = cached(10)(cached(20)(function))
    assert f(1) is f(1) and function.calls == 1
    assert f.cache_parameters()["maxsize"] == 10 and f.__wrapped__.cache_parameters()["maxsize"] == 20


def test_in_classes():
    class Shop:
        @cached
        def method(self, n):
            return [self, n]

        @classmethod
        @cached
        def of_class(cls, n):
            return [cls, n]

        @staticmethod
        @cached(maxsize=3)
        def static(n):
            return [n]

        @property
        @cached
        def value(self):
            return [self]

    a, b = Shop(), Shop()
    assert a.method(1) is a.method(n=1) is Shop.method(a, 1) is not b.method(1) and a.method(1) == [a, 1]
    assert Shop.of_class(1) is a.of_class(1) == [Shop, 1]
    assert Shop.static(1) is a.static(n=1) == [1] and Shop.static.cache_info().maxsize == 3
    assert a.value is a.value is not b.value
    assert Shop.method.cache_contains(a, 1) and not Shop.method.cache_contains(a, 2)


# Keys.


def test_a_call_has_one_key_however_it_is_written():
    function = counted(lambda a=0, b=2, *, c=3: [a, b, c])

    @cached
    def f(a, b=2, *, c=3):
        return function(a, b, c=c)

    same = [f(1), f(1, 2), f(a=1), f(b=2, a=1), f(1, c=3), f(c=3, b=2, a=1)]
    assert function.calls == 1 and len(set(map(id, same))) == 1
    assert f.cache_key(1) == f.cache_key(a=1, b=2, c=3)

    @cached
    def g(*args, **kwargs):
        return function(1)

    assert g(1, x=1, y=2) is g(1, y=2, x=1) and function.calls == 2
    assert g(1, 2) is not g((1, 2)) is not g(a=1) is not g(("a", 1)) is not g("a", 1)
    assert function.calls == 7


def test_parameters_of_every_kind_and_name():
    @cached
    def f(a, /, b, *, key, _shelf=5, call=0):
        return [a, b, key, _shelf, call]

    assert f(1, 2, key=3) == f(1, b=2, key=3, _shelf=5) == [1, 2, 3, 5, 0] and f(1, 2, key=3, call=1)[4] == 1

    @cached
    def e(key, call, _0=1, *, _, functools=()):
        return [key, call, _0, _, functools]

    assert e(1, 2, _=3) is e(call=2, key=1, _=3, functools=()) and e(1, 2, _=3) == [1, 2, 1, 3, ()]

    @cached
    def g(self, /, _function=1, **cache):
        return [self, _function, cache]

    assert g(1, self=2) is g(1, self=2) and g(1, self=2) == [1, 1, {"self": 2}]

    @cached
    def h(x, opts=[]):  # noqa: B006
        return [x, *opts]

    assert h(1, (2,)) is h(1, (2,)) and h(1) == [1]

    @cached
    def none():
        return []

    assert none() is none()


def test_typed_tells_types_apart():
    plain, typed = counted(lambda x, y=0: [x]), counted(lambda x, y=0: [x])
    f, g = cached(lambda x, y=0: plain(x, y)), cached(typed=True)(lambda x, y=0: typed(x, y))
    for value in (1, 1.0, True):
        f(value), g(value), g(value, 0), g(value, y=False)
    assert plain.calls == 1 and typed.calls == 6
    assert type(g(True)[0]) is bool and type(g(1.0)[0]) is float
    h = cached(typed=True)(counted())
    assert h(1, a=1, b=2.0) is h(1, b=2.0, a=1) is not h(1, a=1.0, b=2.0)


def test_a_key_of_ones_own():
    function = counted(lambda request, *, user: [user])
    f = cached(key=lambda request, *, user: (request["id"], user))(function)
    assert f({"id": 1, "noise": 2}, user="a") is f({"id": 1}, user="a") is not f({"id": 1}, user="b")
    assert function.calls == 2 and f.cache_key({"id": 5}, user="c") == (5, "c")
    with pytest.raises(KeyError) as error:
        f({}, user="a")
    assert error.value.args == ("id",)


def test_an_unhashable_argument_is_an_error_that_helps():
    async def coroutine(x):
        return x

    for call in (cached(lambda x: x), cached(lambda *x: x), cached(lambda x: x, key=lambda x: x)):
        with pytest.raises(
            TypeError, match=r"unhashable type: 'list'; .* hashable: pass a tuple for a list, or give key="
        ):
            call([])
    with pytest.raises(TypeError, match="must be hashable"):
        asyncio.run(cached(coroutine)({}))


@pytest.mark.parametrize("error", [KeyError("mine"), TypeError("mine"), ZeroDivisionError()])
@pytest.mark.parametrize("moment", ["__hash__", "__eq__"])
def test_what_a_key_raises_is_raised(moment, error):
    class Key:
        armed = False

        def __hash__(self):
            return self.boom("__hash__") or 7

        def __eq__(self, other):
            return self.boom("__eq__") or self is other

        def boom(self, where):
            if Key.armed and where == moment:
                raise error

    function = counted()
    f = cached(function)
    f(Key())
    Key.armed = True
    with pytest.raises(type(error)) as raised:
        f(Key())
    assert "mine" in str(raised.value) or type(error) is ZeroDivisionError
    assert function.calls == 1


def test_errors_of_the_function_come_without_a_context():
    @cached
    def f(x):
        raise KeyError("mine")

    @cached
    async def g(x):
        raise KeyError("mine")

    for call in (lambda: f(1), lambda: asyncio.run(g(1))):
        with pytest.raises(KeyError, match="mine") as error:
            call()
        assert error.value.__context__ is None and error.value.__cause__ is None


# What is remembered.


def test_the_bound_and_the_order_are_those_of_an_lru_cache():
    function = counted()
    f = cached(2)(function)
    f(1), f(2), f(1), f(3)
    assert [f.cache_contains(n) for n in (1, 2, 3)] == [True, False, True]
    assert function.calls == 3 and isinstance(f.cache, LRUCache) and len(f.cache) == 2
    f.cache.maxsize = 1
    assert not f.cache_contains(1) and f.cache_contains(3)


def test_a_lifetime():
    clock = ManualClock()
    function = counted()
    f = cached(ttl=60, timer=clock)(function)
    f(1)
    clock.advance(59)
    f(1)
    assert function.calls == 1
    clock.advance(1)
    assert not f.cache_contains(1)
    f(1)
    assert function.calls == 2


def test_a_condition_decides_what_is_remembered():
    function = counted(lambda x: x)
    f = cached(condition=lambda found: found is not None)(function)
    assert f(None) is f(None) is None and function.calls == 2
    assert f(1) == f(1) == 1 and function.calls == 3
    # Without one, None and False are results as any others.
    function = counted(lambda x: x)
    f = cached(function)
    assert f(None) is f(None) is None and f(False) is f(False) is False and function.calls == 2


def test_a_condition_that_raises_is_a_failure_of_the_call():
    f = cached(condition=lambda found: 1 / 0)(lambda x: x)
    with pytest.raises(ZeroDivisionError):
        f(1)
    assert not f.cache_contains(1)


def test_a_weigher_and_results_that_are_too_heavy():
    left = []
    function = counted(lambda n: "x" * n)

    @cached(10, weigher=lambda key, text: len(text), on_evict=lambda *entry: left.append(entry))
    def f(n):
        return function(n)

    f(4), f(5), f(3)
    assert left == [(4, "xxxx", Cause.SIZE)] and f.cache_info().currsize == 8
    assert f(11) == f(11) == "x" * 11 and function.calls == 5
    assert f.cache_contains(5) and f.cache_stats().rejected == 2

    for wrong, error in ((lambda key, text: -1, ValueError), (lambda key, text: "heavy", TypeError)):
        with pytest.raises(error):
            cached(10, weigher=wrong)(str)(1)


def test_a_failure_is_not_remembered():
    @counted
    def function(x):
        if function.calls < 3:
            raise ValueError(x)
        return x

    f = cached(function)
    for _ in range(2):
        with pytest.raises(ValueError):
            f(1)
    assert f(1) == f(1) == 1 and function.calls == 3


def test_counts_are_those_of_functools():
    ours, theirs = cached(3)(lambda x: x), functools.lru_cache(3)(lambda x: x)
    for f in (ours, theirs):
        for x in (1, 2, 3, 1, 4, 2, 1):
            f(x)
    assert ours.cache_info() == theirs.cache_info() == (2, 5, 3, 3)
    assert ours.cache_info()._fields == theirs.cache_info()._fields
    ours.cache_clear()
    theirs.cache_clear()
    assert ours.cache_info() == theirs.cache_info() == (0, 0, 3, 0)
    assert ours.cache_stats().hits == 2 and ours.cache_stats().evictions == 2


def test_one_call_is_asked_for_and_forgotten():
    function = counted()
    f = cached(function)
    f(1, a=2), f(2)
    assert f.cache_contains(1, a=2) and not f.cache_contains(1)
    assert f.cache_invalidate(1, a=2) is True and f.cache_invalidate(1, a=2) is False
    assert not f.cache_contains(1, a=2) and f.cache_contains(2)
    assert f.cache.peek(f.cache_key(2)) == ((2,), {})
    before = f.cache_stats()
    f.cache_contains(2), f.cache_key(2), f.cache_info()
    assert f.cache_stats() == before


# A cache that is given.


@pytest.mark.parametrize("make", [dict, OrderedDict, lambda: LRUCache(100), lambda: collections.defaultdict(list)])
def test_functions_that_share_a_cache_do_not_meet(make):
    shared = make()
    double, triple = counted(lambda x: 2 * x), counted(lambda x: 3 * x)

    @cached(cache=shared)
    def f(x):
        return double(x)

    @cached(cache=shared)
    def g(x):
        return triple(x)

    assert [f(1), g(1), f(1), g(1), f(x=1)] == [2, 3, 2, 3, 2] and double.calls == triple.calls == 1
    assert f.cache is shared and len(shared) == 2 and shared[f.cache_key(1)] == 2
    assert f.cache_info() == (2, 1, getattr(shared, "maxsize", None), 2) and g.cache_info()[:2] == (1, 1)
    assert f.cache_stats().hits == 2 and f.cache_stats().entries == 2
    assert f.cache_invalidate(1) and not f.cache_contains(1) and g.cache_contains(1)
    assert pickle.loads(pickle.dumps(g.cache_key(1))) == g.cache_key(1)
    g.cache_clear()
    assert not shared and g.cache_info()[:2] == (0, 0)


def test_functions_with_a_key_of_their_own_share_what_they_agree_upon():
    shared = {}
    f = cached(cache=shared, key=lambda x: ("user", x))(lambda x: [x])
    g = cached(cache=shared, key=lambda name, x: ("user", x))(lambda name, x: [name])
    assert f(1) is g("a", 1) and shared == {("user", 1): [1]}


def test_a_cache_of_cachetools():
    cachetools = pytest.importorskip("cachetools")
    function = counted(lambda n: "x" * n)
    f = cached(cache=cachetools.LRUCache(10, getsizeof=len))(function)
    assert f(4) is f(4) and f(11) == f(11) and function.calls == 3
    assert f.cache_info() == (1, 3, 10, 4)


# What is wrong is told when it is written.


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        (lambda: cached(0), ValueError, "maxsize must be at least 1, or None for no bound; got 0"),
        (lambda: cached(-1), ValueError, "maxsize must be at least 1"),
        (lambda: cached(2**63), None, ""),
        (lambda: cached(True), TypeError, "maxsize must be an integer"),
        (lambda: cached("100"), TypeError, "maxsize must be an integer"),
        (lambda: cached(float("nan")), TypeError, "maxsize must be an integer"),
        (lambda: cached(ttl=0), ValueError, "ttl must be more than 0"),
        (lambda: cached(ttl=-1), ValueError, "ttl must be more than 0"),
        (lambda: cached(ttl=float("nan")), ValueError, "ttl must be more than 0"),
        (lambda: cached(ttl=float("inf")), None, ""),
        (lambda: cached(ttl="60"), TypeError, "ttl must be a number of seconds"),
        (lambda: cached(key="name"), TypeError, "key must be callable, or None; got str"),
        (lambda: cached(condition=True), TypeError, "condition must be callable, or None; got bool"),
        (lambda: cached(condition=fetched.__wrapped__), TypeError, "condition must be a plain function"),
        (lambda: cached(weigher=1), TypeError, "weigher must be callable"),
        (lambda: cached(on_evict=1), TypeError, "on_evict must be callable"),
        (lambda: cached(timer=1), TypeError, "timer must be callable"),
        (lambda: cached(cache={}, ttl=5), TypeError, "give them to it"),
        (lambda: cached(10, cache={}), TypeError, "give them to it"),
        (lambda: cached(cache=[])(len), TypeError, "cache must be a mutable mapping; list has no get()"),
        (lambda: cached(10)(5), TypeError, "@cached decorates a function; got int"),
        (lambda: cached(classmethod(len)), TypeError, "put @cached under @classmethod"),
        (lambda: cached(10)(staticmethod(len)), TypeError, "put @cached under @staticmethod"),
    ],
)
def test_wrong_settings(wrong, error, text):
    if error is None:
        wrong()
        return
    with pytest.raises(error) as raised:
        wrong()
    assert text in str(raised.value)


def test_generators_are_refused():
    def generate():
        yield 1

    async def agenerate():
        yield 1

    class Callable:
        def __call__(self):
            yield 1

    for function in (generate, agenerate, Callable(), functools.partial(generate)):
        with pytest.raises(
            TypeError, match="makes generators, which can be walked only once; return a list or a tuple"
        ):
            cached(function)


def test_a_coroutine_that_a_plain_function_returns_is_refused():
    async def coroutine():
        return 1

    f = cached(lambda: coroutine())
    with pytest.raises(TypeError, match="returned a coroutine, which can be awaited only once; decorate an async def"):
        f()
    assert not f.cache


# Single flight; what can go wrong in it is in test_flight.py.


def test_threads_compute_each_result_once_a_generation():
    sys_interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        calls = collections.Counter()
        generation = 0  # read by the function

        @cached(None)
        def f(n):
            calls[n, generation] += 1
            return n

        for generation in range(5):  # noqa: B007
            barrier = threading.Barrier(8)

            def ask(barrier=barrier):
                barrier.wait(30)
                for n in range(100):
                    assert f(n) == n

            threads = [threading.Thread(target=ask) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            assert f.cache_info() == (700, 100, None, 100)
            f.cache_clear()
        assert len(calls) == 500 and set(calls.values()) == {1}
    finally:
        sys.setswitchinterval(sys_interval)


def test_tasks_of_one_loop_after_another_share_results():
    calls = collections.Counter()

    @cached
    async def f(n):
        calls[n] += 1
        await asyncio.sleep(0.001)
        return n

    async def ask():
        return await asyncio.gather(*(f(n % 3) for n in range(30)))

    for _ in range(3):
        assert asyncio.run(ask()) == [n % 3 for n in range(30)]
    assert calls == {0: 1, 1: 1, 2: 1} and f.cache_info() == (87, 3, 128, 3)


def test_a_failure_that_many_waited_for_is_one_miss():
    @cached
    async def f(n):
        await asyncio.sleep(0)
        raise LookupError(n)

    async def ask():
        return await asyncio.gather(*(f(1) for _ in range(5)), return_exceptions=True)

    assert len(set(asyncio.run(ask()))) == 1 and f.cache_info() == (4, 1, 128, 0)


PREAMBLE = """
import asyncio, collections, faulthandler, gc, random, sys, threading, time
from ullage import cached, LRUCache
faulthandler.dump_traceback_later(45, exit=True)

def hammer(*bodies):
    errors = []
    def guard(body):
        try:
            body()
        except BaseException as error:
            errors.append(error)
    threads = [threading.Thread(target=guard, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
"""


def run(code):
    child.run(PREAMBLE + dedent(code), 60)


def test_recursion():
    run("""
        @cached
        def fib(n):
            return n if n < 2 else fib(n - 1) + fib(n - 2)

        @cached
        async def afib(n):
            return n if n < 2 else sum(await asyncio.gather(afib(n - 1), afib(n - 2)))

        assert fib(100) == asyncio.run(afib(100)) == 354224848179261915075
        assert fib.cache_info().misses == afib.cache_info().misses == 101

        @cached
        def endless(n):
            return endless(n)

        @cached
        def ping(n):
            return pong(n)

        @cached
        def pong(n):
            return ping(n=n)

        for call, text in ((endless, "__main__.endless(1) needs __main__.endless(1)"),
                           (ping, "__main__.pong(1) needs __main__.ping(1) needs __main__.pong(1)")):
            try:
                call(1)
            except RecursionError as error:
                assert str(error) == "waits in a circle: " + text, error
            else:
                raise AssertionError
        """)


def test_a_result_from_before_a_clear_is_never_seen_after_it():
    run("""
        sys.setswitchinterval(1e-6)
        truth, known, end = 0, 0, time.monotonic() + 4

        @cached(4)
        def f(n):
            return truth

        @cached(4)
        async def g(n):
            before = truth
            await asyncio.sleep(0)
            return before

        def thread():
            dice = random.Random()
            while time.monotonic() < end:
                least = known
                assert f(dice.randrange(6)) >= least

        async def task():
            dice = random.Random()
            while time.monotonic() < end:
                least = known
                assert await g(dice.randrange(6)) >= least

        async def tasks():
            await asyncio.gather(*(task() for _ in range(8)))

        def change():
            global truth, known
            while time.monotonic() < end:
                truth += 1
                if truth % 2:
                    f.cache_clear(), g.cache_clear()
                else:
                    for n in range(6):
                        f.cache_invalidate(n), g.cache_invalidate(n)
                known = truth
                time.sleep(0.0005)
            assert truth > 100, truth

        hammer(thread, thread, thread, lambda: asyncio.run(tasks()), lambda: asyncio.run(tasks()), change)
        """)


def test_hooks_may_use_the_function():
    run("""
        def weigh(key, value):
            f.cache_clear()
            return 1

        f = cached(2, weigher=weigh, condition=lambda value: f(-1) == -1 if value != -1 else True,
                   on_evict=lambda key, value, cause: f(key))(lambda x: x)
        for n in range(10):
            assert f(n) == n
        assert len(f.cache) <= 2
        """)


def test_what_a_key_does_while_it_is_compared():
    run("""
        class Key:
            depth = 0

            def __hash__(self):
                return 7

            def __eq__(self, other):
                if Key.depth < 2:
                    Key.depth += 1
                    f(Key())
                    f.cache_invalidate(self)
                    f.cache_clear()
                    Key.depth -= 1
                return self is other

        @cached(5)
        def f(key):
            return [key]

        kept = [Key() for _ in range(4)]
        for _ in range(5):
            assert [f(key)[0] for key in kept] == kept
        assert len(f.cache) <= 5
        """)


def test_a_function_and_its_results_are_freed():
    class Thing:
        pass

    f = cached(lambda x: Thing())

    seen = weakref.ref(f(1))
    assert seen() is not None
    f.cache_clear()
    assert seen() is None

    g = cached(lambda x: Thing())
    seen = [weakref.ref(g), weakref.ref(g(1))]
    del g
    gc.collect()
    assert [each() for each in seen] == [None, None]


def test_the_names_are_public():
    assert {"cached", "cachedmethod"} <= set(ullage.__all__)
