"""lru_cache and cache: everything that can be seen of functools' own is seen of ours, at bad moments too."""

import copy
import functools
import gc
import inspect
import operator
import os
import pickle
import random
import sys
import threading
import types
import weakref
from functools import partial

import pytest
import ullage
from child import run

BOTH = [functools, ullage]
MAXSIZES = [None, -3, 0, 1, 2, 5, 128, True, sys.maxsize]


class Word(str):
    """Not an exact str, though equal to one."""

    __slots__ = ()


class Key:
    """A key that only Python can compare; keys that are equal modulo 7 have one hash."""

    def __init__(self, n):
        self.n = n

    def __hash__(self):
        return self.n % 7

    def __eq__(self, other):
        return isinstance(other, Key) and self.n == other.n


class Meta(type):
    """A type that equals all others of its kind."""

    def __hash__(cls):
        return 5

    def __eq__(cls, other):
        return isinstance(other, Meta)


class One(Key, metaclass=Meta):
    __hash__ = Key.__hash__


class Two(Key, metaclass=Meta):
    __hash__ = Key.__hash__


@ullage.lru_cache
def in_module(x):
    return [x]


class InModule:
    @ullage.lru_cache(maxsize=4)
    def method(self, x):
        return [x]

    @staticmethod
    @ullage.cache
    def static(x):
        return [x]

    @classmethod
    @ullage.cache
    def of_class(cls, x):
        return [cls, x]


def told(call, *args, **names):
    """What a call returns, or the exception it raises, as something that can be compared."""
    try:
        return call(*args, **names)
    except Exception as error:
        return type(error), str(error)


# What is a hit.


VALUES = [
    *(0, 1, True, False, 1.0, 0.0, -0.0, -1, -2, 2**30, 2**61 - 1, 2**70, float(2**70), 1 + 0j, float("inf")),
    *("", "a", Word("a"), "é", "\U0001f600", b"a", b"", None, ..., int, str, len, (), (1,), (1.0,), ("a", (1, 2.5))),
    *(frozenset({1}), range(3), Key(1), Key(8), Key(1), One(1), Two(1), tuple(range(30)), [], {}, {1}, ([],)),
]


def random_calls(seed, n=400):
    chance = random.Random(seed)
    few = chance.sample(VALUES, 6)
    for _ in range(n):
        positional = chance.choices(few, k=chance.choice([0, 1, 1, 1, 2, 3, 4, 5, 20]))
        names = chance.sample(["a", "b", "c", *map("n{}".format, range(20))][: chance.choice([3, 23])], k=3)
        names = names[: chance.choice([0, 0, 0, 1, 2, 3])]
        yield positional, {name: chance.choice(few) for name in names}


@pytest.mark.parametrize("typed", [False, True])
@pytest.mark.parametrize("maxsize", MAXSIZES)
def test_any_calls_hit_and_miss_as_with_functools(maxsize, typed):
    memos = [
        module.lru_cache(maxsize, typed)(lambda *args, **names: (list(args), list(names.items()))) for module in BOTH
    ]
    for seed in range(5):
        for args, names in random_calls(f"{seed} {maxsize} {typed}"):
            theirs, ours = (told(memo, *args, **names) for memo in memos)
            # repr tells 1 from True and from 1.0: which of the equal calls was the first to be stored?
            assert repr(ours) == repr(theirs)
            assert memos[1].cache_info() == memos[0].cache_info()


@pytest.mark.parametrize("module", BOTH)
def test_only_a_lone_int_or_str_is_told_from_what_equals_it(module):
    memo = module.lru_cache(lambda *args, **names: object())
    assert memo(1) is not memo(True) and memo(1) is not memo(1.0) and memo("a") is not memo(Word("a"))
    assert memo(True) is memo(1.0)
    assert memo(1, 2) is memo(True, 2.0)
    assert memo(x=1) is memo(x=1.0)
    assert memo((1,)) is not memo(1) and memo(()) is not memo()
    assert memo("x", 1) is not memo(x=1)
    assert memo(x=1, y=2) is not memo(y=2, x=1)


@pytest.mark.parametrize("module", BOTH)
def test_with_types_only_the_outermost_counts(module):
    memo = module.lru_cache(typed=True)(lambda *args, **names: object())
    assert memo(1) is not memo(True) and memo(x=1) is not memo(x=1.0) and memo(1, 2) is not memo(1, 2.0)
    assert memo((1,)) is memo((True,))
    assert memo(One(1)) is memo(Two(1)), "types are compared as any object is"


def test_no_names_given_by_name_is_a_call_without_names():
    memo = ullage.lru_cache(lambda *args: object())
    assert memo(1, **{}) is memo(1) is partial(memo, 1)() is operator.methodcaller("__call__", 1)(memo)


def test_results_are_kept_for_many_arguments_and_long_names():
    memo = ullage.lru_cache(lambda *args, **names: object())
    many, names = range(10_000), {f"name {i}": i for i in range(3_000)}
    assert (
        memo(*many) is memo(*many) and memo(**names) is memo(**names) and memo(*many, **names) is memo(*many, **names)
    )
    assert memo.cache_info() == (3, 3, 128, 3)
    typed = ullage.lru_cache(typed=True)(lambda *args, **names: object())
    assert typed(*many, **names) is typed(*many, **names)


# The bound.


@pytest.mark.parametrize("module", BOTH)
def test_the_result_used_least_recently_leaves(module):
    memo = module.lru_cache(3)(lambda x: [x])
    first, *_ = [memo(x) for x in range(3)]
    assert memo(0) is first
    memo(3)
    assert memo(0) is first and memo.cache_info() == (2, 4, 3, 3)
    memo(1)
    assert memo.cache_info() == (2, 5, 3, 3)


@pytest.mark.parametrize("maxsize", [0, -1, False, -(2**62)])
def test_without_room_nothing_is_kept_and_nothing_hashed(maxsize):
    memo = ullage.lru_cache(maxsize)(lambda *args: list(args))
    assert memo([1]) == [[1]] and memo(1) is not memo(1)
    assert memo.cache_info() == (0, 3, 0, 0)
    memo.cache_clear()
    assert memo.cache_info() == (0, 0, 0, 0)


def test_a_huge_bound_costs_nothing_until_it_is_used():
    memo = ullage.lru_cache(sys.maxsize)(str)
    assert memo(1) is memo(1) and memo.cache_info() == (1, 1, sys.maxsize, 1) and sys.getsizeof(memo) < 10_000


def test_its_size_grows_with_what_it_holds():
    memo = ullage.cache(str)
    before = sys.getsizeof(memo)
    for x in range(1000):
        memo(x)
    assert before + 1000 * 30 < sys.getsizeof(memo) < before + 1000 * 200


def test_deep_sizeof_counts_what_it_remembers():
    memo = ullage.cache(lambda x: x + "r")
    for x in range(100):
        memo(f"{x:1000}")
    assert 100 * 2000 < ullage.deep_sizeof(memo) < 100 * 2500


# How it is made.


DECORATIONS = {
    "a str": lambda module: module.lru_cache("128"),
    "a float": lambda module: module.lru_cache(1.5),
    "a list": lambda module: module.lru_cache([]),
    "too large": lambda module: module.lru_cache(2**63)(len),
    "too small": lambda module: module.lru_cache(-(2**64))(len).cache_info(),
    "no function": lambda module: module.lru_cache()(5),
    "no function, and typed": lambda module: module.lru_cache(None, typed=True)(5),
    "nothing": lambda module: module.cache(5),
    "too much": lambda module: module.lru_cache(1, True, 3),
    "typed is truth": lambda module: module.lru_cache(5, typed=[1])(len).cache_parameters(),
    "typed cannot be told": lambda module: module.lru_cache(5, typed=NoTruth())(len),
    "a function and typed": lambda module: module.lru_cache(len, True).cache_parameters(),
    "a function and an int": lambda module: module.lru_cache(len, 1),
    "a class": lambda module: module.lru_cache(dict)(a=1),
    "True": lambda module: repr(module.lru_cache(True)(len).cache_parameters()),
}


class NoTruth:
    def __bool__(self):
        raise ValueError("neither")


@pytest.mark.parametrize("decorate", DECORATIONS.values(), ids=DECORATIONS)
def test_bad_input_is_answered_as_by_functools(decorate):
    theirs, ours = (told(decorate, module) for module in BOTH)
    assert ours == theirs


def test_what_is_refused_says_what_to_write_instead():
    with pytest.raises(TypeError, match="Expected first argument to be an integer, a callable, or None"):
        ullage.lru_cache("128")
    with pytest.raises(TypeError, match="the first argument must be callable"):
        ullage.cache(None)
    with pytest.raises(TypeError, match="unhashable type: 'list'"):
        ullage.cache(len)([])


def test_the_class_is_not_to_be_called_or_changed():
    kind = type(in_module)
    for change in (kind, lambda: type("Sub", (kind,), {}), lambda: setattr(kind, "__call__", None)):
        with pytest.raises(TypeError):
            change()


def test_it_looks_like_what_it_wraps():
    def function(a: int, /, b, *, c=True) -> str:
        """What it does."""
        return f"{a} {b} {c}"

    function.marked = 1
    memo = ullage.lru_cache(function)
    for name in (*functools.WRAPPER_ASSIGNMENTS, "marked"):
        assert getattr(memo, name) == getattr(function, name)
    assert memo.__wrapped__ is function and inspect.signature(memo) == inspect.signature(function)
    assert inspect.unwrap(memo) is function and inspect.isroutine(memo) and callable(memo)
    assert str(inspect.signature(memo.cache_info)) == str(inspect.signature(memo.cache_clear)) == "()"
    memo.marked = 2
    assert vars(memo)["marked"] == 2 and function.marked == 1
    memo.__dict__ = {}
    assert not hasattr(memo, "marked") and memo(1, 2) == "1 2 True"
    assert type(memo.cache_info()) is functools._CacheInfo


@pytest.mark.parametrize(
    "function", [len, str, partial(max, "aa"), InModule().method, ullage.cache(len), functools.cache(len), "a b".join]
)
def test_any_callable_can_be_wrapped(function):
    memo = ullage.lru_cache(function)
    assert memo("ab") == function("ab") and memo("ab") is memo("ab") and memo.__wrapped__ is function


# As a method.


def test_it_binds_as_a_function_does():
    one, other = InModule(), InModule()
    assert one.method(1) is one.method(1) is InModule.method(one, 1) is not other.method(1)
    assert isinstance(one.method, types.MethodType) and one.method.__self__ is one
    assert one.method.cache_info() == InModule.method.cache_info()
    assert InModule.method.__get__(None, InModule) is InModule.method is vars(InModule)["method"]
    assert one.static(1) is InModule.static(1) is InModule().static(1)
    assert one.of_class(1) is InModule.of_class(1) and one.of_class(1)[0] is InModule
    InModule.method.cache_clear()


def test_an_instance_attribute_goes_before_it_and_another_name_is_as_good():
    class Owner:
        method = again = ullage.cache(lambda self: [self])

    owner = Owner()
    assert owner.method() is owner.again()
    owner.method = lambda: "mine"
    assert owner.method() == "mine"


# Copied, pickled, referred to.


def test_a_copy_is_the_memo_itself():
    for memo in (in_module, InModule.method, ullage.cache(partial(max, 1))):
        assert copy.copy(memo) is copy.deepcopy(memo) is copy.deepcopy([memo])[0] is memo


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_is_pickled_by_name(protocol):
    for memo in (in_module, InModule.method, InModule.static):
        assert pickle.loads(pickle.dumps(memo, protocol)) is memo
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(ullage.cache(lambda: 1), protocol)
    with pytest.raises(AttributeError, match="__qualname__"):
        pickle.dumps(ullage.cache(partial(max)), protocol)


def test_it_can_be_referred_to_weakly():
    memo, gone = ullage.cache(str), []
    reference = weakref.ref(memo, gone.append)
    assert reference() is memo
    del memo
    assert reference() is None and gone == [reference]


# When something raises.


class Boom(Exception):
    pass


@pytest.mark.parametrize("maxsize", [None, 0, 2])
@pytest.mark.parametrize("module", BOTH)
def test_what_raises_is_not_kept_and_passes_through_untouched(module, maxsize):
    error, calls = Boom("as it is"), []

    @module.lru_cache(maxsize)
    def memo(x):
        calls.append(x)
        raise error

    for _ in range(2):
        with pytest.raises(Boom) as caught:
            memo(1)
        assert caught.value is error and error.__context__ is None
    assert calls == [1, 1] and memo.cache_info() == (0, 2, max(maxsize, 0) if maxsize is not None else None, 0)


@pytest.mark.parametrize("maxsize", [None, 2])
@pytest.mark.parametrize("typed", [False, True])
@pytest.mark.parametrize("module", BOTH)
def test_a_key_that_cannot_be_hashed_or_compared_says_why_and_counts_for_nothing(module, maxsize, typed):
    class Raises:
        def __init__(self, in_hash):
            self.in_hash = in_hash

        def __hash__(self):
            if self.in_hash:
                raise Boom("hash")
            return 1

        def __eq__(self, other):
            raise Boom("eq")

    memo = module.lru_cache(maxsize, typed)(lambda *args, **names: "kept")
    with pytest.raises(Boom, match="hash"):
        memo(Raises(True))
    with pytest.raises(Boom, match="hash"):
        memo(a=Raises(True))
    assert memo(Raises(False)) == "kept"
    with pytest.raises(Boom, match="eq"):
        memo(Raises(False))
    assert memo.cache_info() == (0, 1, maxsize, 1)


@pytest.mark.parametrize("module", BOTH)
def test_equality_that_begins_to_raise_while_the_function_runs_loses_only_the_storing(module):
    class Later:
        armed = False

        def __hash__(self):
            return 1

        def __eq__(self, other):
            if self.armed:
                raise Boom("eq")
            return False

    def function(x):
        Later.armed = x is second
        return "result"

    first, second = Later(), Later()
    memo = module.lru_cache(function)
    assert memo(first) == "result"
    with pytest.raises(Boom, match="eq"):
        memo(second)
    Later.armed = False
    assert memo.cache_info() == (0, 2, 128, 1) and memo(first) == "result"


# Coming back at a bad moment.


@pytest.mark.parametrize("maxsize", [None, 1, 3])
@pytest.mark.parametrize("module", BOTH)
def test_a_result_that_is_there_already_stays_in_a_bounded_memo_and_leaves_an_unbounded_one(module, maxsize):
    depth = 0

    @module.lru_cache(maxsize)
    def memo(x):
        nonlocal depth
        depth += 1
        return (memo(x), "outer") if depth == 1 else "inner"

    assert memo(1) == ("inner", "outer")
    assert memo(1) == (("inner", "outer") if maxsize is None else "inner")
    assert memo.cache_info() == (1, 2, maxsize, 1)


@pytest.mark.parametrize("maxsize", [None, 1, 3])
@pytest.mark.parametrize("module", BOTH)
def test_a_function_that_clears_its_memo_is_remembered_after(module, maxsize):
    @module.lru_cache(maxsize)
    def memo(x):
        memo.cache_clear()
        return [x]

    assert memo(1) is memo(1) and memo.cache_info() == (1, 0, maxsize, 1)


@pytest.mark.parametrize("maxsize", [None, 1, 3])
def test_equality_that_clears_the_memo_it_is_asked_for(maxsize):
    class Clears(Key):
        __hash__ = Key.__hash__

        def __eq__(self, other):
            memo.cache_clear()
            return super().__eq__(other)

    memo = ullage.lru_cache(maxsize)(lambda *args: list(args))
    for x in (1, 8, 15, 1, 8, 1):
        assert [key.n for key in memo(Clears(x), "and", Clears(x))[::2]] == [x, x]
        assert memo.cache_info().currsize <= 1


@pytest.mark.parametrize("maxsize", [None, 1, 3])
def test_equality_that_calls_the_memo_it_is_asked_for(maxsize):
    class Calls(Key):
        __hash__ = Key.__hash__
        left = 50

        def __eq__(self, other):
            if Calls.left:
                Calls.left -= 1
                memo(Calls(self.n + 7))
            return super().__eq__(other)

    memo = ullage.lru_cache(maxsize)(lambda x: x.n)
    for x in (1, 8, 15, 1, 8, 1):
        assert memo(Calls(x)) == x
    assert Calls.left == 0 and (maxsize is None or memo.cache_info().currsize <= maxsize)


def test_equality_that_changes_the_memo_for_ever_is_told_so():
    class Restless(Key):
        def __hash__(self):
            return 1

        def __eq__(self, other):
            memo.cache_clear()
            memo.__wrapped__ = memo(Key(1))
            return False

    memo = ullage.lru_cache(lambda x: x)
    memo(Key(1))
    with pytest.raises(RuntimeError, match="__eq__"):
        memo(Restless(1))


def test_what_leaves_may_use_the_memo_while_it_is_freed():
    class Last:
        def __init__(self, x):
            self.x = x

        def __del__(self):
            freed.append((self.x, memo.cache_info().currsize, memo(-1 - self.x) is not None))

    freed = []
    memo = ullage.lru_cache(2)(lambda x: Last(x) if x >= 0 else x)
    for x in range(3):
        memo(x)
    assert (0, 2, True) in freed and memo.cache_info().currsize == 2
    memo.cache_clear()
    gc.collect()
    assert sorted(x for x, *_ in freed) == [0, 1, 2] and memo.cache_info().currsize <= 2


def test_an_argument_may_change_its_class_while_it_is_compared():
    memo = ullage.lru_cache(typed=True)(lambda x: [type(x)])

    def changing():
        class Shifty:
            def __hash__(self):
                return 1

            def __eq__(self, other):
                self.__class__ = Plain
                gc.collect()
                return True

        return Shifty()

    class Plain:
        pass

    for _ in range(20):
        memo(changing())
    assert memo.cache_info().currsize == 20


# Garbage.


def test_cycles_through_the_function_a_key_and_a_result_are_collected():
    def by_closure():
        memo = ullage.lru_cache(lambda x: memo)
        memo(1)
        return memo

    def by_key():
        class Node:
            @ullage.cache
            def method(self):
                return [self]

        Node().method()
        return Node

    def by_result():
        memo = ullage.lru_cache(lambda x: x)
        memo(x=weakref.ref(memo))
        memo.itself = memo
        memo(memo)
        return memo

    def before_it_holds_anything_else():
        memo = ullage.lru_cache(lambda x: x)
        for x in range(100):
            memo(x)
        held = [memo]
        memo(tuple(held))
        return memo

    for make in (by_closure, by_key, by_result, before_it_holds_anything_else):
        reference = weakref.ref(make())
        gc.collect()
        assert reference() is None, make.__name__


def test_a_memo_of_strings_and_numbers_is_not_walked():
    memo = ullage.cache(lambda x, y=0: f"{x}")
    for x in range(100):
        memo(x), memo(x, y=str(x)), memo(float(x), 2)
    assert len(gc.get_referents(memo)) < 20
    memo(1, y=())
    assert len(gc.get_referents(memo)) > 300


def test_no_call_leaks_a_reference():
    class Argument:
        pass

    class Raises:
        def __hash__(self):
            raise Boom

    memos = [ullage.lru_cache(maxsize, typed)(lambda *a, **n: result) for maxsize in (None, 0, 1) for typed in (0, 1)]
    argument, result, raises = Argument(), object(), Raises()
    counted = (argument, result, raises, Argument, Raises)
    before = [sys.getrefcount(each) for each in counted]
    for memo in memos:
        for _ in range(50):
            memo(argument), memo(argument, argument), memo(a=argument), memo(argument, b=argument, c=1)
            told(memo, raises), told(memo, argument, raises), told(memo, a=argument, b=raises)
        memo.cache_clear()
    assert [sys.getrefcount(each) for each in counted] == before


# In an interpreter of its own.


def test_memos_in_memos_are_freed_and_called_however_deep():
    run(
        """
    import gc, ullage
    gc.disable()
    for wrap in (True, False):
        memo = len
        for _ in range(60_000):
            if wrap:
                memo = ullage.lru_cache(memo)
            else:
                outer = ullage.cache(id)
                outer(memo)
                memo = outer
        if wrap:
            try:
                memo("a")
            except RecursionError:
                pass
            else:
                raise AssertionError("60,000 calls in one another")
        del memo
    def nested():
        outer = None
        for _ in range(150_000):
            memo = ullage.lru_cache(lambda inner: [inner])
            memo(outer)
            outer = memo
        return outer

    nested().cache_clear()
    left_at_exit = nested()
    """,
        timeout=120,
    )


def test_recursion_without_end_is_an_error():
    run("""
    import ullage
    memo = ullage.lru_cache(lambda x: memo(x + 1))
    try:
        memo(0)
    except RecursionError:
        pass
    assert memo.cache_info().currsize == 0
    memo.cache_clear()
    """)


def test_threads_at_one_memo_get_the_right_results_within_the_bound():
    run(
        """
    import random, sys, threading, ullage
    sys.setswitchinterval(1e-6)

    class Key:
        def __init__(self, n): self.n = n
        def __hash__(self): return self.n % 3
        def __eq__(self, other): return self.n == other.n

    for maxsize in (None, 5, 50):
        memo = ullage.lru_cache(maxsize)(lambda x, y=0, *, z=0: [getattr(x, "n", x), y, z])
        start, errors, n = threading.Barrier(8), [], 3000

        def work(seed):
            chance = random.Random(seed)
            start.wait()
            try:
                for i in range(n):
                    x, y = chance.randrange(30), chance.randrange(3)
                    call = chance.randrange(4)
                    if call == 0: assert memo(x) == [x, 0, 0]
                    elif call == 1: assert memo(Key(x), y) == [x, y, 0]
                    elif call == 2: assert memo(x, z=y) == [x, 0, y]
                    else: assert memo(str(x), y=y) == [str(x), y, 0]
                    info = memo.cache_info()
                    assert maxsize is None or info.currsize <= maxsize, info
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert not errors, errors
        info = memo.cache_info()
        assert info.hits + info.misses == 8 * n, info
    """,
        timeout=60,
    )


def test_clearing_while_others_call():
    run("""
    import sys, threading, ullage
    sys.setswitchinterval(1e-6)
    memo = ullage.lru_cache(10)(lambda x: [x])
    over = threading.Event()

    def clear():
        while not over.is_set():
            memo.cache_clear()

    thread = threading.Thread(target=clear)
    thread.start()
    try:
        for i in range(30_000):
            assert memo(i % 20) == [i % 20]
    finally:
        over.set()
        thread.join()
    """)


def test_two_that_miss_at_once_both_call_the_function():
    together = threading.Barrier(2, timeout=10)

    @ullage.lru_cache
    def memo(x):
        together.wait()
        return [x]

    results = []
    threads = [threading.Thread(target=lambda: results.append(memo(1))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[1], [1]] and memo.cache_info() == (0, 2, 128, 1)
    assert any(memo(1) is result for result in results)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_while_the_function_runs_leaves_both_sides_whole():
    run("""
    import os, ullage

    @ullage.lru_cache(3)
    def memo(x):
        return os.fork() if x == "fork" else x

    memo(1), memo(2)
    child = memo("fork")
    assert memo("fork") is child and memo.cache_info()[:2] == (1, 3)
    assert memo(2) == 2 and memo(5) == 5 and memo.cache_info().currsize == 3
    memo.cache_clear()
    if child == 0:
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    """)
