"""watch_growth: what only grows is named, whatever the objects around it do."""

from __future__ import annotations

import collections
import math
import sys
import threading
import time
import types
import weakref
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from child import run
from ullage import watch_growth
from ullage.monitor import Growth, GrowthWatch, growth
from ullage.testing import ManualClock

SOURCE = """
import collections, functools

history = []
by_name = {}
seen = set()
recent = collections.deque()
ordered = collections.OrderedDict()
groups = collections.defaultdict(list)
nested = {"a": {3: [[]]}}
rebound = []

class Session:
    registry = {}
    def __init__(self):
        self.turns = []

class Slotted:
    __slots__ = ("_turns",)
    def __init__(self):
        self._turns = []

class Unslotted(Slotted):
    pass

session = Session()
session.child = Session()
slotted = Slotted()
both = Unslotted()
both.more = {}

def collect(x, into=[]):
    into.append(x)

def memoize():
    memo = {}
    def look(x):
        memo[x] = x
    return look

look = memoize()

def grow(n):
    global rebound
    for at in range(n, n + 100):
        history.append(at)
        by_name[str(at)] = "x" * 1000
        seen.add(at)
        recent.append(at)
        ordered[at] = at
        groups["k"].append(at)
        nested["a"][3][0].append(at)
        Session.registry[at] = at
        session.turns.append(at)
        session.child.turns.append(at)
        slotted._turns.append(at)
        both._turns.append(at)
        both.more[at] = at
        collect(at)
        look(at)
    rebound = rebound + [0] * 100
"""
EXPRESSIONS = {
    *("history", "by_name", "seen", "recent", "ordered", "groups['k']", "nested['a'][3][0]", "rebound"),
    *("Session.registry", "session.turns", "session.child.turns", "slotted._turns", "both._turns", "both.more"),
    *("collect.__defaults__[0]", "look.__closure__[0].cell_contents"),
}


@pytest.fixture
def program() -> Iterator[Any]:
    """A loaded module, `program`, that a test may fill."""
    module = types.ModuleType("program")
    sys.modules["program"] = module
    yield module
    del sys.modules["program"]


def found(watch: GrowthWatch) -> dict[str, Growth]:
    return {growth.where: growth for growth in watch.report()}


def test_whatever_only_grows_is_named_by_an_expression_that_leads_to_it(program: Any) -> None:
    exec(SOURCE, vars(program))
    watch = watch_growth(None)
    for at in range(0, 500, 100):
        program.grow(at)
        watch.sample()
    growths = found(watch)
    assert {f"program.{expression}" for expression in EXPRESSIONS} <= growths.keys()
    for expression in EXPRESSIONS:
        container = eval(expression, vars(program))
        growth = growths[f"program.{expression}"]
        assert (growth.length, growth.length_before) == (len(container), 100)
        assert growth.kind.rpartition(".")[2] == type(container).__name__


def test_growth_is_told_in_entries_and_bytes_a_minute(program: Any) -> None:
    clock = ManualClock()
    program.history = []
    watch = watch_growth(None, timer=clock)
    for _ in range(5):
        program.history += ["x" * 10_000 + str(at) for at in range(150)]
        watch.sample()
        clock.advance(30)
    growth = found(watch)["program.history"]
    assert (growth.length_before, growth.length, growth.seconds) == (150, 750, 120)
    assert growth.per_minute == 300
    assert growth.bytes == pytest.approx(750 * 10_000, rel=0.05)
    assert growth.bytes_per_minute == pytest.approx(3e6, rel=0.05)
    assert str(growth).startswith("program.history: list of 750, about 7.5 MB, 300.0 entries and 3.0 MB more a minute")


def test_the_one_that_takes_the_most_memory_comes_first(program: Any) -> None:
    program.light, program.heavy = [], []
    watch = watch_growth(None)
    for _ in range(5):
        program.light += [None] * 1_000
        program.heavy += [bytes(100_000 + at) for at in range(100)]
        watch.sample()
    places = [growth.where for growth in watch.report()]
    assert places.index("program.heavy") < places.index("program.light")


def test_what_all_entries_share_is_not_counted_for_each(program: Any) -> None:
    shared = [str(at) * 10_000 for at in range(100)]
    program.history = []
    watch = watch_growth(None, collector=False)
    for turn in range(5):
        program.history += [(shared, f"{turn} {at}" * 1_000) for at in range(100)]
        watch.sample()
    total = sum(sys.getsizeof(text) for _, text in program.history)
    assert found(watch)["program.history"].bytes == pytest.approx(total, rel=0.1)


def test_what_shrinks_stands_still_or_stopped_growing_is_not_reported(program: Any) -> None:
    program.churns, program.still, program.full, program.short = {}, list(range(1_000)), [], []
    watch = watch_growth(None, collector=False, timer=(clock := ManualClock()))
    for turn in range(20):
        program.churns = dict.fromkeys(range(1_000 + turn % 5))
        if turn < 6:
            program.full += range(100)
        program.short += range(4)
        clock.advance(1)
        watch.sample()
    assert not [where for where in found(watch) if where.startswith("program.")]


def test_an_object_that_is_replaced_by_another_kind_starts_anew(program: Any) -> None:
    watch = watch_growth(None)
    for turn in range(6):
        program.thing = list(range(100 * turn)) if turn % 2 else dict.fromkeys(range(100 * turn))
        watch.sample()
    assert "program.thing" not in found(watch)


def test_other_names_of_the_same_object_are_told(program: Any) -> None:
    other = sys.modules["program_user"] = types.ModuleType("program_user")
    program.history = other.history = []
    try:
        watch = watch_growth(None)
        for _ in range(4):
            program.history += range(100)
            watch.sample()
    finally:
        del sys.modules["program_user"]
    growth = found(watch)["program.history"]
    assert growth.also == ("program_user.history",)
    assert "(also program_user.history)" in str(growth)


class Holder:
    def __init__(self) -> None:
        self.deep: Any = {"inner": []}


def test_what_no_module_leads_to_is_found_by_the_collector_and_named_by_its_holder() -> None:
    holder, local, queue = Holder(), {}, collections.deque()
    waiting = (lambda items: (yield items))(suspended := [])
    next(waiting)
    watch, blind = watch_growth(None), watch_growth(None, collector=False)
    for turn in range(5):
        holder.deep["inner"] += range(100)
        local.update((f"{turn} {at}", [at]) for at in range(100))
        queue += range(1_000)
        suspended += range(2_000)
        watch.sample()
        blind.sample()
    assert found(watch)[f"<{__name__}.Holder>.deep['inner']"].length == 500
    places = {(growth.kind, growth.length): growth.where for growth in watch.report()}
    assert places["dict", 500] == places["collections.deque", 5_000] == "a local variable of a running function"
    assert "<lambda>" in places["list", 10_000]
    assert not {500, 5_000, 10_000} & {growth.length for growth in blind.report()}


def test_the_address_of_a_dead_container_is_not_mistaken_for_it() -> None:
    watch, others = watch_growth(None), []
    for turn in range(1, 10):
        for kind in (list, set, collections.deque):
            entries = [object() for _ in range(100 * turn)]
            local = kind(entries)
            watch.sample()
            # Its address may be taken again, those of the entries at its ends are not.
            others += [entries[0], entries[-1]]
            del local, entries
    assert not [growth for growth in watch.report() if growth.where.startswith("a local")]


def test_nothing_is_kept_alive(program: Any) -> None:
    class Tracked(set[int]):
        pass

    program.tracked, program.holder = Tracked(), Holder()
    local = Tracked()
    dead = [weakref.ref(each) for each in (program.tracked, program.holder, local)]
    watch = watch_growth(None)
    for turn in range(5):
        for each in (program.tracked, local):
            each.update(range(turn * 100, turn * 100 + 100))
        program.holder.deep["inner"] += range(100)
        watch.sample()
    del program.tracked, program.holder, local, each
    assert [reference() for reference in dead] == [None] * 3
    assert "program.tracked" in found(watch)
    watch.sample()
    assert "program.tracked" not in found(watch)


HOOKS = """__getattribute__ __getattr__ __hash__ __eq__ __ne__ __bool__ __len__ __iter__ __repr__ __str__ __format__
    __sizeof__ __dir__ __reversed__ __contains__ __getitem__ __index__ __length_hint__
    __instancecheck__ __subclasscheck__ __subclasses__ keys items values copy"""
PROPERTIES = "__class__ __dict__ __module__ __name__ __mro__ __flags__ __bases__ __weakref__"


class Traps:
    """Classes whose every method and property is a trap, as are those of their metaclass, once it is set."""

    def __init__(self) -> None:
        self.set = False
        self.sprung: list[str] = []
        hooks = {name: self.hook(name) for name in HOOKS.split()}
        properties = {name: property(self.hook(name)) for name in PROPERTIES.split()}
        self.meta = type("Meta", (type,), hooks | properties)
        self.namespace = hooks | {name: properties[name] for name in ("__class__", "__dict__")}

    def hook(self, name: str) -> Any:
        def sprung(*args: Any) -> Any:
            if self.set:
                self.sprung.append(name)
            raise AttributeError(name)

        return sprung

    def instance(self, kind: type = object, **more: Any) -> Any:
        return kind.__new__(self.meta("Hostile", (kind,), self.namespace | more))


@pytest.mark.parametrize("kind", [list, dict, set, collections.deque])
def test_no_code_of_the_program_is_run(program: Any, kind: Any) -> None:
    traps = Traps()
    container = traps.instance(kind)
    holder = traps.instance(__slots__=("inside",))
    slot = vars(type)["__dict__"].__get__(type(holder))["inside"]
    slot.__set__(holder, container)
    program.holder = holder
    program.Class = type(traps.instance())
    program.keyed = {traps.instance(__hash__=lambda self: 1): (hidden := [])}
    local = traps.instance(kind)
    watch = watch_growth(None)
    for turn in range(5):
        hidden += range(1_000)
        for each in (container, local):
            new = [traps.instance(__hash__=lambda self: 1, __eq__=lambda self, other: False) for _ in range(100)]
            if kind is dict:
                dict.update(each, enumerate(new, turn * 100))
            elif kind is set:
                set.update(each, range(turn * 100, turn * 100 + 100))
            else:
                kind.extend(each, new)
        traps.set = True
        watch.sample()
        growths = found(watch)
        traps.set = False
    assert traps.sprung == []
    assert growths["program.holder.inside"].length == 500
    assert growths[f"program.keyed[<{__name__}.Hostile>]"].length == 5_000


def test_odd_modules_and_odd_namespaces_are_passed_by(program: Any) -> None:
    class Lazy(types.ModuleType):
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError("code of the program was run")

    odd = {"lazy": Lazy("lazy"), "none": None, "text": "text", "number": 7}
    vars(program)[7] = by_number = []
    program.holder = Holder()
    vars(program.holder)[7] = []
    for name, module in odd.items():
        sys.modules[f"program_{name}"] = module  # type: ignore[assignment]
    types.ModuleType.__dict__["__dict__"].__get__(odd["lazy"])["history"] = history = []
    try:
        watch = watch_growth(None)
        for _ in range(4):
            for each in (by_number, history, vars(program.holder)[7]):
                each += range(100)
            watch.sample()
    finally:
        for name in odd:
            del sys.modules[f"program_{name}"]
    assert {"program_lazy.history", "program.__dict__[7]", "program.holder.__dict__[7]"} <= found(watch).keys()


def test_containers_that_change_while_they_are_looked_at() -> None:
    code = """
        import sys, threading, types
        from collections import deque
        from ullage import watch_growth

        sys.setswitchinterval(1e-5)
        module = sys.modules["program"] = types.ModuleType("program")
        containers = [{}, set(), [], deque()]
        stop = threading.Event()

        def churn():
            n = 0
            while not stop.is_set():
                n += 1
                module.containers = containers
                setattr(module, f"name{n % 200}", [n] * 200)
                for at in range(n % 300):
                    containers[0][at] = containers[2:]
                    containers[1].add(at)
                    containers[2].append(at)
                    containers[3].appendleft(at)
                if n % 3 == 0:
                    for each in containers:
                        each.clear()
                    vars(module).clear()

        threads = [threading.Thread(target=churn) for _ in range(3)]
        for thread in threads:
            thread.start()
        with watch_growth(None) as watch:
            for _ in range(10):
                watch.sample()
                watch.report()
        stop.set()
        for thread in threads:
            thread.join()
    """
    run(code, timeout=120)


def test_a_thread_looks_until_it_is_stopped(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "_SHARE", 0.1)
    program.history = []
    with watch_growth(0.001) as watch:
        while "program.history" not in found(watch):
            program.history += range(100)
            # The interpreter is free while this waits.
            time.sleep(0.01)
    assert not [thread for thread in threading.enumerate() if thread.name == "ullage-growth"]
    watch.stop()
    program.history += range(100)
    watch.sample()
    assert found(watch)["program.history"].length == len(program.history)


def test_the_thread_ends_with_the_program() -> None:
    assert run("from ullage import watch_growth; watch = watch_growth(0.001)").stderr == ""


def test_it_goes_on_in_a_forked_child() -> None:
    code = """
        import os, sys, time, types
        from ullage import watch_growth
        from ullage.monitor import growth

        growth._SHARE = 1
        module = sys.modules["program"] = types.ModuleType("program")
        module.history = []
        watch = watch_growth(0.001)
        watch._lock.acquire()
        child = os.fork()
        if not child:
            while not any(growth.where == "program.history" for growth in watch.report()):
                module.history += range(100)
                time.sleep(0.01)
            watch.sample()
            watch.stop()
            os._exit(0)
        watch._lock.release()
        assert os.waitpid(child, 0)[1] == 0
        watch.stop()
    """
    run(code, timeout=60)


def test_a_finalizer_may_sample_and_report(program: Any) -> None:
    watch = watch_growth(None)
    asked = []

    class Asks:
        def __del__(self) -> None:
            watch.sample()
            asked.append(watch.report())

    def timer() -> float:
        # Inside a sample, with its lock held.
        if not asked:
            Asks()
        return float(len(asked))

    watch = watch_growth(None, timer=timer)
    watch.sample()
    assert asked


@pytest.mark.parametrize("interval", [0, -1, math.nan, math.inf, 2**80, True, "1", [], timedelta(0)])
def test_an_interval_is_a_number_of_seconds(interval: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="interval must be"):
        watch_growth(interval)


def test_a_timer_is_callable() -> None:
    with pytest.raises(TypeError, match="timer must be callable"):
        watch_growth(None, timer=7)  # type: ignore[arg-type]


@pytest.mark.parametrize("least", [0, -1, None, True, 1.5, "1"])
def test_a_length_is_an_integer(least: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="min_length must be"):
        watch_growth(None, min_length=least)
