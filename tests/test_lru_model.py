"""LRUCache against a model: an OrderedDict of weights and deadlines, walked from end to end at every question."""

import copy
import pickle
from collections import Counter, OrderedDict
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ullage import LRUCache
from ullage.testing import ManualClock

KEYS = st.one_of(st.integers(0, 9), st.sampled_from([float(1), True, "a", "b", ("a", 1), None]))
WEIGHTS = st.integers(0, 6)
LIFETIMES = st.none() | st.integers(1, 9)
BOUNDS = st.none() | st.integers(1, 12)


@dataclass
class Entry:
    value: int
    weight: int
    end: float
    idle_end: float


def weigh(key, value):
    return value % 7


class Model:
    """What the cache ought to do, said as simply as possible. Times are whole seconds."""

    def __init__(self, bound, weighed, ttl, idle):
        self.bound, self.weighed, self.ttl, self.idle = bound, weighed, ttl, idle
        self.now = 0
        self.entries = OrderedDict()
        self.gone = []

    def after(self, span):
        return float("inf") if span is None else self.now + span

    def dead(self, entry):
        return min(entry.end, entry.idle_end) <= self.now

    def live(self):
        return OrderedDict((key, entry) for key, entry in self.entries.items() if not self.dead(entry))

    def bury(self):
        """The dead leave, in whatever order."""
        for key, entry in list(self.entries.items()):
            if self.dead(entry):
                self.leave(key, "expired")

    def leave(self, key, cause):
        self.gone.append((key, self.entries.pop(key).value, cause))

    def total(self):
        return sum(entry.weight for entry in self.entries.values())

    def make_room(self, weight=0):
        while self.bound is not None and self.total() + weight > self.bound:
            self.leave(next(iter(self.entries)), "size")

    def use(self, key):
        self.entries.move_to_end(key)
        self.entries[key].idle_end = self.after(self.idle)

    def put(self, key, value, ttl=None):
        """False if it is too heavy."""
        self.bury()
        weight = weigh(key, value) if self.weighed else 1
        if self.bound is not None and weight > self.bound:
            return False
        if key in self.entries:
            # The first of equal keys stays.
            key = next(held for held in self.entries if held == key)
            self.leave(key, "replaced")
        self.make_room(weight)
        end = self.after(self.ttl if ttl is None else ttl)
        self.entries[key] = Entry(value, weight, end, self.after(self.idle))
        return True


class LRUMachine(RuleBasedStateMachine):
    @initialize(bound=BOUNDS, weighed=st.booleans(), ttl=LIFETIMES, idle=LIFETIMES)
    def make(self, bound, weighed, ttl, idle):
        self.clock = ManualClock()
        self.told = []
        self.cache = LRUCache(
            bound,
            weigher=weigh if weighed else None,
            ttl=ttl,
            idle=idle,
            timer=self.clock,
            on_evict=lambda key, value, cause: self.told.append((key, value, str(cause))),
        )
        self.model = Model(bound, weighed, ttl, idle)

    def live(self):
        return self.model.live()

    @rule(key=KEYS, value=WEIGHTS, ttl=LIFETIMES, way=st.sampled_from(["[]", "set", "update", "|="]))
    def store(self, key, value, ttl, way):
        ttl = ttl if way == "set" else None
        fits = self.model.put(key, value, ttl)
        try:
            if way == "[]":
                self.cache[key] = value
            elif way == "set":
                self.cache.set(key, value, ttl=ttl)
            elif way == "update":
                self.cache.update({key: value})
            else:
                self.cache |= [(key, value)]
        except ValueError:
            assert not fits
        else:
            assert fits

    @rule(key=KEYS, value=WEIGHTS, way=st.sampled_from(["setdefault", "get_or_set"]))
    def store_if_absent(self, key, value, way):
        live = self.live()
        ask = {
            "setdefault": self.cache.setdefault,
            "get_or_set": lambda key, value: self.cache.get_or_set(key, lambda: value),
        }[way]
        if key in live:
            self.model.use(key)
            assert ask(key, value) == live[key].value
        elif self.model.put(key, value):
            assert ask(key, value) == value
        else:
            with pytest.raises(ValueError):
                ask(key, value)

    @rule(key=KEYS, way=st.sampled_from(["[]", "get", "touch"]))
    def use(self, key, way):
        live = self.live()
        if key in live:
            self.model.use(key)
            got = {"[]": self.cache.__getitem__, "get": self.cache.get, "touch": self.cache.touch}[way](key)
            assert got == (True if way == "touch" else live[key].value)
        elif way == "[]":
            with pytest.raises(KeyError):
                self.cache[key]
        else:
            assert not (self.cache.get(key) if way == "get" else self.cache.touch(key))

    @rule(key=KEYS, ttl=st.integers(1, 9))
    def touch_with_ttl(self, key, ttl):
        assert self.cache.touch(key, ttl=ttl) is (key in self.live())
        if key in self.live():
            self.model.use(key)
            self.model.entries[key].end = self.model.after(ttl)

    @rule(key=KEYS, last=st.booleans())
    def move_to_end(self, key, last):
        if key in self.live():
            self.model.entries.move_to_end(key, last)
            self.cache.move_to_end(key, last=last)
        else:
            with pytest.raises(KeyError):
                self.cache.move_to_end(key, last=last)

    @rule(key=KEYS)
    def look(self, key):
        live = self.live()
        assert (key in self.cache) is (key in live)
        assert self.cache.peek(key, "none") == (live[key].value if key in live else "none")
        if key in live:
            left = min(live[key].end, live[key].idle_end) - self.model.now
            assert self.cache.expires_in(key) == (None if left == float("inf") else left)

    @rule(key=KEYS, way=st.sampled_from(["pop", "del"]))
    def remove(self, key, way):
        if key in self.live():
            value = self.model.entries[key].value
            self.model.leave(key, "explicit")
            if way == "pop":
                assert self.cache.pop(key) == value
            else:
                del self.cache[key]
        else:
            with pytest.raises(KeyError):
                self.cache.pop(key) if way == "pop" else self.cache.__delitem__(key)

    @rule(last=st.booleans())
    def popitem(self, last):
        self.model.bury()
        if self.model.entries:
            key = next(reversed(self.model.entries) if last else iter(self.model.entries))
            item = key, self.model.entries[key].value
            self.model.leave(key, "explicit")
            assert self.cache.popitem(last=last) == item
        else:
            with pytest.raises(KeyError):
                self.cache.popitem(last=last)
        self.cache.expire()

    @rule(n=st.integers(0, 3))
    def evict(self, n):
        self.model.bury()
        keys = list(self.model.entries)[:n]
        want = [(key, self.model.entries[key].value) for key in keys]
        for key in keys:
            self.model.leave(key, "size")
        assert self.cache.evict(n) == want
        self.cache.expire()

    @rule()
    def expire(self):
        dead = len(self.model.entries) - len(self.live())
        self.model.bury()
        # Some of them may have left before, with writes.
        assert self.cache.expire() <= dead

    @rule(seconds=st.integers(1, 5))
    def wait(self, seconds):
        self.clock.advance(seconds)
        self.model.now += seconds

    @rule(bound=BOUNDS)
    def resize(self, bound):
        self.model.bury()
        self.model.bound = bound
        self.model.make_room()
        self.cache.maxsize = bound

    @precondition(lambda self: len(self.model.entries) > 8)
    @rule()
    def clear(self):
        self.model.bury()
        self.cache.expire()
        for key in list(self.model.entries):
            self.model.leave(key, "explicit")
        self.cache.clear()

    @rule(way=st.sampled_from([copy.copy, LRUCache.copy]))
    def go_on_with_a_copy(self, way):
        # Idle time starts again in a copy, weights are kept, and the dead stay behind.
        self.cache.expire()
        self.model.bury()
        for entry in self.model.entries.values():
            entry.idle_end = self.model.after(self.model.idle)
        self.cache = way(self.cache)

    @rule(protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
    def pickle(self, protocol):
        twin = pickle.loads(pickle.dumps(self.cache, protocol))
        assert list(twin.items()) == [(key, entry.value) for key, entry in self.live().items()]
        assert twin.maxsize == self.model.bound

    @invariant()
    def agree(self):
        live = self.live()
        pairs = [(key, entry.value) for key, entry in live.items()]
        assert list(self.cache.items()) == pairs
        assert list(reversed(self.cache)) == [key for key, _ in reversed(pairs)]
        assert self.cache.coldest(3) == pairs[:3] and self.cache.hottest(3) == pairs[::-1][:3]
        assert len(self.cache) == len(pairs) and bool(self.cache) is bool(pairs) and self.cache == dict(pairs)
        assert self.cache.maxsize == self.model.bound
        assert self.cache.currsize == sum(entry.weight for entry in live.values())
        assert self.model.bound is None or self.cache.currsize <= self.model.bound

    @invariant()
    def each_exit_was_told_once(self):
        self.cache.expire()
        self.model.bury()
        # The dead leave in the order of their deadlines, which says nothing of ties; so the order is left out.
        assert Counter(self.told) == Counter(self.model.gone)
        self.told.clear()
        self.model.gone.clear()


TestLRUMachine = LRUMachine.TestCase
TestLRUMachine.settings = settings(
    max_examples=100, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)


class LazyMachine(LRUMachine):
    """The same without the questions that move the dead out: they stay until something else does it."""

    @invariant()
    def agree(self):
        pairs = [(key, entry.value) for key, entry in self.live().items()]
        assert list(self.cache.items()) == pairs and len(self.cache) == len(pairs)

    @invariant()
    def each_exit_was_told_once(self):
        pass

    def teardown(self):
        if hasattr(self, "cache"):
            LRUMachine.each_exit_was_told_once(self)


TestLazyMachine = LazyMachine.TestCase
TestLazyMachine.settings = TestLRUMachine.settings
