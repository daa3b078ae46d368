"""Keys, values and hooks that use the container they are in at the worst moment, and what must be true afterwards.

`play(kind, moment, plain)` does every operation while every act is done in the middle of it; test_reentrancy asks for
it, in an interpreter of its own.
"""

import copy
import gc
import operator
import pickle
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any

from ullage import Full, HistoryRing, LRUCache, TransferMap


class Boom(Exception):
    """What hostile code raises."""


class Trap:
    """What is done when hostile code is called, where, and how often yet."""

    moment = ""
    act: Callable[[Any], object] = staticmethod(lambda container: None)
    container: Any = None
    left = 0
    fired = 0

    @classmethod
    def set(cls, moment, act, container, times=3):
        cls.moment, cls.act, cls.container, cls.left, cls.fired = moment, staticmethod(act), container, times, 0

    @classmethod
    def spring(cls, moment):
        if cls.left > 0 and cls.moment == moment:
            cls.left -= 1
            cls.fired += 1
            cls.act(cls.container)

    @classmethod
    def disarm(cls):
        fired = cls.fired
        cls.set("", lambda container: None, None, 0)
        return fired


class Thing:
    """A key, a value or an item whose every special method springs the trap. Two hashes, so that keys collide."""

    alive = 0

    def __init__(self, n):
        type(self).alive += 1
        self.n = n

    def __hash__(self):
        Trap.spring("hash")
        return self.n % 2

    def __eq__(self, other):
        Trap.spring("eq")
        return isinstance(other, Thing) and self.n == other.n

    def __lt__(self, other):
        Trap.spring("lt")
        return self.n < other.n

    def __repr__(self):
        Trap.spring("repr")
        return f"Thing({self.n})"

    def __del__(self):
        type(self).alive -= 1
        Trap.spring("del")

    def __reduce__(self):
        Trap.spring("reduce")
        return Thing, (self.n,)

    def __deepcopy__(self, memo):
        Trap.spring("reduce")
        return Thing(self.n)


fresh = count(100)


def weigh(*entry):
    Trap.spring("weigher")
    return 1


def hook(*arguments):
    Trap.spring("hook")


class Clock:
    """Turned by the test; reading it springs the trap."""

    now = 0.0

    def __call__(self):
        Trap.spring("timer")
        return self.now


def raises(container):
    raise Boom


def half_walk(container):
    walk = iter(container)
    next(walk, None)
    walks.append(walk)


def half_walk_back(container):
    walk = reversed(container)
    next(walk, None)
    walks.append(walk)


# Iterators that were left in the middle.
walks: list[Any] = []

ACTS_ON_ALL = {
    "nothing": lambda c: None,
    "raises": raises,
    "len": len,
    "list": list,
    "reversed": lambda c: list(reversed(c)),
    "repr": repr,
    "==": lambda c: c == copy.copy(c),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": pickle.dumps,
    "clear": lambda c: c.clear(),
    "close": lambda c: c.close(),
    "gc": lambda c: gc.collect(),
    "stats": lambda c: c.stats(),
    "sizeof": sys.getsizeof,
    "iterators left": half_walk,
    "reversed iterators left": half_walk_back,
    "in": lambda c: Thing(1) in c,
}
ACTS_ON_MAPS = {
    **ACTS_ON_ALL,
    "insert": lambda c: operator.setitem(c, Thing(next(fresh)), Thing(0)),
    "insert twenty": lambda c: c.update((Thing(next(fresh)), Thing(0)) for _ in range(20)),
    "replace": lambda c: operator.setitem(c, Thing(1), Thing(0)),
    "replace all": lambda c: c.update([(key, Thing(0)) for key in c]),
    "get": lambda c: c.get(Thing(1)),
    "get all": lambda c: [c[key] for key in list(c)],
    "setdefault": lambda c: c.setdefault(Thing(next(fresh)), Thing(0)),
    "items": lambda c: list(c.items()) and (Thing(1), Thing(1)) in c.items(),
    "pop": lambda c: c.pop(next(iter(c), 0)),
    "del": lambda c: operator.delitem(c, next(reversed(c), 0)),
    "popitem": lambda c: c.popitem(),
    "empty slowly": lambda c: [c.pop(key, None) for key in list(c)],
}
ACTS = {
    "LRUCache": {
        **ACTS_ON_MAPS,
        "shrink": lambda c: setattr(c, "maxsize", 1),
        "grow": lambda c: setattr(c, "maxsize", 100),
        "evict": lambda c: c.evict(2),
        "expire": lambda c: c.expire(),
        "short life": lambda c: c.set(Thing(1), Thing(0), ttl=1e-9),
        "touch": lambda c: c.touch(Thing(1), ttl=5),
        "to the end": lambda c: c.move_to_end(Thing(1), last=False),
        "update with itself": lambda c: c.update(c),
        "merge": lambda c: c | {Thing(next(fresh)): Thing(0)},
        "time passes": lambda c: setattr(Clock, "now", Clock.now + 1e4),
        "init": lambda c: c.__init__(3),
    },
    "TransferMap": {
        **ACTS_ON_MAPS,
        "begin": lambda c: c.begin(Thing(next(fresh)), Thing(0), ttl=1),
        "complete": lambda c: c.complete(Thing(1)),
        "fail": lambda c: c.fail(Thing(2)),
        "renew": lambda c: c.renew(Thing(1), 1e3),
        "claim": lambda c: c.claim(Thing(1)).__enter__(),
        "pop_expired": lambda c: c.pop_expired(),
        "state": lambda c: c.state(Thing(1)),
        "time passes": lambda c: setattr(Clock, "now", Clock.now + 1e4),
    },
    "HistoryRing": {
        **ACTS_ON_ALL,
        "append": lambda c: c.append(Thing(next(fresh))),
        "append twenty": lambda c: c.extend([Thing(next(fresh)) for _ in range(20)]),
        "appendleft": lambda c: c.appendleft(Thing(next(fresh))),
        "assign": lambda c: operator.setitem(c, 0, Thing(0)),
        "assign slice": lambda c: operator.setitem(c, slice(0, 2), [Thing(0)]),
        "delete slice": lambda c: operator.delitem(c, slice(0, 2)),
        "insert": lambda c: c.insert(0, Thing(0)),
        "pop": lambda c: c.pop(),
        "popleft": lambda c: c.popleft(),
        "shrink": lambda c: setattr(c, "maxlen", 2),
        "grow": lambda c: setattr(c, "maxlen", 100),
        "reverse": lambda c: c.reverse(),
        "rotate": lambda c: c.rotate(1),
        "sort": lambda c: c.sort(key=lambda item: item.n),
        "time passes": lambda c: setattr(Clock, "now", Clock.now + 1e4),
    },
}

OPERATIONS_ON_MAPS = {
    "[]": lambda c: c[Thing(1)],
    "[] of what is not there": lambda c: c[Thing(9)],
    "[]=": lambda c: operator.setitem(c, Thing(9), Thing(9)),
    "[]= again": lambda c: operator.setitem(c, Thing(1), Thing(9)),
    "del": lambda c: operator.delitem(c, Thing(1)),
    "in": lambda c: Thing(9) in c,
    "get": lambda c: c.get(Thing(2)),
    "pop": lambda c: c.pop(Thing(2)),
    "pop with default": lambda c: c.pop(Thing(9), None),
    "popitem": lambda c: c.popitem(),
    "setdefault": lambda c: c.setdefault(Thing(9), Thing(9)),
    "setdefault again": lambda c: c.setdefault(Thing(1), Thing(9)),
    "update": lambda c: c.update([(Thing(n), Thing(n)) for n in (1, 9, 3, 10)]),
    "update with a dict": lambda c: c.update({Thing(n): Thing(n) for n in (1, 9)}),
    "==": lambda c: c == {Thing(n): Thing(n) for n in range(1, 5)},
    "items": lambda c: [(key.n, value.n) for key, value in c.items()],
    "in items": lambda c: (Thing(1), Thing(1)) in c.items(),
    "in values": lambda c: Thing(4) in c.values(),
    "keys &": lambda c: c.keys() & {Thing(1), Thing(9)},
    "items |": lambda c: c.items() | {1},
    "use each": lambda c: [c[key] for key in c],
}
OPERATIONS_ON_ALL = {
    "repr": repr,
    "iterate": lambda c: [item.n for item in c],
    "reversed": lambda c: [item.n for item in reversed(c)],
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda c: pickle.loads(pickle.dumps(c)),
    "clear": lambda c: c.clear(),
    "close": lambda c: c.close(),
    "len": len,
    "gc": lambda c: gc.collect(),
}
OPERATIONS = {
    "LRUCache": {
        **OPERATIONS_ON_ALL,
        **OPERATIONS_ON_MAPS,
        "peek": lambda c: c.peek(Thing(2)),
        "touch": lambda c: c.touch(Thing(1)),
        "move_to_end": lambda c: c.move_to_end(Thing(1)),
        "set": lambda c: c.set(Thing(1), Thing(9), ttl=5),
        "get_or_set": lambda c: c.get_or_set(Thing(9), lambda: Thing(9)),
        "expires_in": lambda c: c.expires_in(Thing(2)),
        "evict": lambda c: c.evict(2),
        "coldest": lambda c: c.coldest(2),
        "shrink": lambda c: setattr(c, "maxsize", 2),
        "late": lambda c: (setattr(Clock, "now", Clock.now + 1e4), operator.setitem(c, Thing(1), Thing(9))),
        "expire": lambda c: (setattr(Clock, "now", Clock.now + 1e4), c.expire()),
        "|": lambda c: c | {Thing(9): Thing(9)},
        "|=": lambda c: operator.ior(c, [(Thing(9), Thing(9))]),
        "currsize": lambda c: c.currsize,
    },
    "TransferMap": {
        **OPERATIONS_ON_ALL,
        **OPERATIONS_ON_MAPS,
        "begin": lambda c: c.begin(Thing(9), Thing(9)),
        "complete": lambda c: c.complete(Thing(1)),
        "complete early": lambda c: (c.complete(Thing(9)), c.begin(Thing(9), Thing(9))),
        "fail": lambda c: c.fail(Thing(2)),
        "renew": lambda c: c.renew(Thing(1), 1e3),
        "remaining": lambda c: c.remaining(Thing(1)),
        "state": lambda c: (c.state(Thing(1)), c.complete(Thing(1)), c.state(Thing(1))),
        "claim": lambda c: [c.complete(Thing(2)) for _ in [0] if c.claim(Thing(1)).__enter__()],
        "pop_expired": lambda c: (setattr(Clock, "now", Clock.now + 1e4), c.pop_expired()),
        "late": lambda c: (setattr(Clock, "now", Clock.now + 1e4), c.begin(Thing(1), Thing(9))),
    },
    "HistoryRing": {
        **OPERATIONS_ON_ALL,
        "append": lambda c: c.append(Thing(9)),
        "appendleft": lambda c: c.appendleft(Thing(9)),
        "extend": lambda c: c.extend([Thing(9), Thing(10), Thing(11)]),
        "+=": lambda c: operator.iadd(c, [Thing(9), Thing(10)]),
        "*=": lambda c: operator.imul(c, 2),
        "insert": lambda c: c.insert(1, Thing(9)),
        "index": lambda c: c.index(Thing(4)),
        "count": lambda c: c.count(Thing(4)),
        "in": lambda c: Thing(9) in c,
        "remove": lambda c: c.remove(Thing(3)),
        "==": lambda c: c == [Thing(n) for n in range(1, 5)],
        "<": lambda c: c < [Thing(n) for n in range(1, 5)],
        "[]": lambda c: (c[0], c[-1], c[1:3], c[::-1]),
        "[]=": lambda c: operator.setitem(c, 0, Thing(9)),
        "[:]=": lambda c: operator.setitem(c, slice(1, 3), [Thing(n) for n in range(9, 14)]),
        "[::]=": lambda c: operator.setitem(c, slice(0, 4, 2), [Thing(9), Thing(10)]),
        "del []": lambda c: operator.delitem(c, 0),
        "del [:]": lambda c: operator.delitem(c, slice(0, 3)),
        "pop": lambda c: (c.pop(), c.pop(0)),
        "sort": lambda c: c.sort(),
        "sort by key": lambda c: c.sort(key=lambda item: (Trap.spring("lt"), -item.n)),
        "reverse": lambda c: c.reverse(),
        "rotate": lambda c: c.rotate(1),
        "shrink": lambda c: setattr(c, "maxlen", 2),
    },
}

MOMENTS = {
    "LRUCache": ["eq", "hash", "repr", "del", "reduce", "weigher", "hook", "timer"],
    "TransferMap": ["eq", "hash", "repr", "del", "reduce", "hook", "timer"],
    "HistoryRing": ["eq", "lt", "repr", "del", "reduce", "weigher", "hook", "timer"],
}


def make(kind, moment, plain):
    """A full container of four: a plain one has only what the moment asks for, others have hooks and lifetimes."""
    Clock.now = 0.0
    settings = {}
    if not plain or moment == "timer":
        settings["timer"] = Clock() if moment == "timer" else lambda: Clock.now
    if moment == "weigher":
        settings["weigher"] = weigh
    pairs = [(Thing(n), Thing(n)) for n in range(1, 5)]
    if kind == "TransferMap":
        if moment == "hook":
            settings["on_expire"] = hook
        container = TransferMap(1000, maxsize=4, on_full="evict", **settings)
        container.update(pairs)
        return container
    if "timer" in settings:
        settings["ttl"] = 1000
    if not plain or moment == "hook":
        settings["on_evict" if kind == "LRUCache" else "on_drop"] = hook
    if kind == "LRUCache":
        return LRUCache(4, pairs, **settings)
    if moment == "weigher":
        settings["max_weight"] = 4
    return HistoryRing(4, (key for key, _ in pairs), **settings)


EXPECTED = (Boom, KeyError, IndexError, ValueError, RuntimeError, Full)


def check_map(container):
    keys = list(container)
    assert len(container) == len(keys) == len(list(reversed(container))) == len(container.items())
    assert len({key.n for key in keys}) == len(keys), "two equal keys"
    assert all(key in container for key in keys), "a key that cannot be found"
    assert [container.peek(key) for key in keys] == list(container.values())


def check(container):
    """What is true of every container at any time."""
    if repr(container).endswith("(closed)"):
        return
    if isinstance(container, HistoryRing):
        items = list(container)
        assert len(items) == len(container) == len(container[:]) == len(list(reversed(container)))
        assert container.maxlen is None or len(items) <= container.maxlen
        container.append(Thing(0))
        assert container[-1].n == 0
        return
    check_map(container)
    stats = container.stats()
    if isinstance(container, LRUCache):
        assert container.maxsize is None or container.currsize <= container.maxsize
        container.expire()
        stats = container.stats()
        gone = stats.explicit + stats.evictions + stats.expirations
        assert stats.insertions - gone == len(container), stats
    else:
        assert container.maxsize is None or len(container) <= container.maxsize
        # What waits to be handed over takes room.
        container.pop_expired()
    container[Thing(50)] = Thing(0)
    assert container.get(Thing(50)).n == 0
    check_map(container)


def play(kind, moment, plain):
    """Every operation with every act, at one kind of moment. What may be raised is raised; nothing is lost or held."""
    strange = []

    def unraisable(info):
        if not isinstance(info.exc_value, EXPECTED):
            strange.append(info.exc_value)

    sys.unraisablehook = unraisable
    fired = 0
    for act_name, act in ACTS[kind].items():
        for name, operation in OPERATIONS[kind].items():
            container = make(kind, moment, plain)
            Trap.set(moment, act, container)
            try:
                with suppress(*EXPECTED):
                    operation(container)
                fired += Trap.disarm()
                check(container)
            except BaseException as error:
                raise AssertionError(f"{kind}, {moment}, {plain}: {act_name!r} in {name!r}") from error
            assert not strange, f"{kind}, {moment}, {plain}: {act_name!r} in {name!r}: {strange}"
            walks.clear()
            del container
            if Thing.alive:
                gc.collect()
            assert Thing.alive == 0, f"{kind}, {moment}, {plain}: {act_name!r} in {name!r} holds {Thing.alive} things"
    assert fired > len(ACTS[kind]), "the trap was hardly sprung"
