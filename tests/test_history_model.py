"""HistoryRing against a list and the rule by which it is trimmed."""

import copy
import pickle
from contextlib import suppress
from itertools import count

import hypothesis.strategies as st
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ullage import HistoryRing
from ullage.testing import ManualClock

items = st.integers(0, 9)
several = st.lists(items, max_size=6)
places = st.integers(-9, 9)
bounds = st.none() | st.integers(-9, 9)
steps = st.none() | st.sampled_from([1, 2, 3, 20, -1, -2, -3, -20])
slices = st.builds(slice, bounds, bounds, steps)


class Model:
    """A list, its bounds, and what fell off. An item weighs what it is, if weight counts."""

    def __init__(self, maxlen, keep_first, max_weight):
        self.items, self.told = [], []
        self.maxlen, self.keep_first, self.max_weight = maxlen, keep_first, max_weight

    def weight(self):
        return sum(self.items) if self.max_weight is not None else 0

    def too_heavy(self, item):
        return self.max_weight is not None and item > self.max_weight

    def over(self, item=0):
        """Whether there is no room for one more item, or without one, too much."""
        length = len(self.items) + (item is not None)
        return length > (self.maxlen or length) or (
            self.max_weight is not None and self.weight() + (item or 0) > self.max_weight
        )

    def fall(self, at=None):
        self.told.append(self.items.pop(min(self.keep_first, len(self.items) - 1) if at is None else at))

    def append(self, item):
        if self.too_heavy(item):
            raise ValueError
        while self.over(item):
            self.fall()
        self.items.append(item)

    def appendleft(self, item):
        if self.too_heavy(item):
            raise ValueError
        while self.over(item):
            self.fall(-1)
        self.items.insert(0, item)

    def insert(self, place, item):
        if self.too_heavy(item):
            raise ValueError
        if self.over(item):
            raise IndexError
        self.items.insert(place, item)

    def extend(self, new):
        for item in list(new):
            self.append(item)

    def extendleft(self, new):
        for item in list(new):
            self.appendleft(item)

    def __setitem__(self, where, new):
        if isinstance(where, slice):
            places = range(len(self.items))[where]
            if where.step not in (None, 1):
                if len(new) != len(places):
                    raise ValueError
                if self.max_weight is None:
                    self.items[where] = new
                    return
                raise NotImplementedError
            if any(map(self.too_heavy, new)):
                raise ValueError
            self.items[where] = new
            self.trim()
            return
        self.items[where]  # IndexError comes first
        if self.too_heavy(new):
            raise ValueError
        place = where % len(self.items)
        self.items[place] = 0
        while self.max_weight is not None and self.weight() + new > self.max_weight:
            # Not the item itself, but what stands before it, then behind it.
            self.fall(1 if place == 0 else 0)
            place -= place > 0
        self.items[place] = new

    def trim(self):
        while self.over(None):
            self.fall()

    def rotate(self, n):
        n = n % len(self.items) if self.items else 0
        self.items = self.items[-n:] + self.items[:-n] if n else self.items


class Machine(RuleBasedStateMachine):
    def begin(self, maxlen, keep_first, max_weight):
        self.told = []
        weigher = None if max_weight is None else int
        self.ring = HistoryRing(
            maxlen, keep_first=keep_first, max_weight=max_weight, weigher=weigher, on_drop=self.told.extend
        )
        self.model = Model(maxlen, keep_first, max_weight)

    def both(self, act):
        """Does the same to both; they agree on the error, too."""
        errors = []
        for box in (self.model, self.ring):
            try:
                act(box)
                errors.append(None)
            except (IndexError, ValueError) as error:
                errors.append(type(error))
        assert errors[0] == errors[1]

    def on_list(self, act):
        """Does the same to the ring and to the model's list: what takes away or moves needs no trimming."""
        answers = []
        for box in (self.model.items, self.ring):
            try:
                answers.append(act(box))
            except (IndexError, ValueError) as error:
                answers.append(type(error))
        assert answers[0] == answers[1]

    @rule(item=items)
    def append(self, item):
        self.both(lambda box: box.append(item))

    @rule(item=items)
    def appendleft(self, item):
        self.both(lambda box: box.appendleft(item))

    @rule(new=several)
    def extend(self, new):
        self.both(lambda box: box.extend(new))

    @rule(new=several)
    def extendleft(self, new):
        self.both(lambda box: box.extendleft(new))

    @rule(place=places, item=items)
    def insert(self, place, item):
        self.both(lambda box: box.insert(place, item))

    @rule(place=places, item=items)
    def set_item(self, place, item):
        self.both(lambda box: box.__setitem__(place, item))

    @rule(where=slices, new=several)
    def set_slice(self, where, new):
        if self.model.max_weight is None or where.step in (None, 1):
            self.both(lambda box: box.__setitem__(where, new))

    @rule(place=places)
    def delete(self, place):
        self.on_list(lambda box: box.__delitem__(place))

    @rule(where=slices)
    def delete_slice(self, where):
        self.on_list(lambda box: box.__delitem__(where))

    @rule(place=places)
    def pop(self, place):
        self.on_list(lambda box: box.pop(place))

    @rule()
    def popleft(self):
        assert (self.ring.popleft() if self.ring else None) == (self.model.items.pop(0) if self.model.items else None)

    @rule(item=items)
    def remove(self, item):
        self.on_list(lambda box: box.remove(item))

    @rule()
    def reverse(self):
        self.on_list(lambda box: box.reverse())

    @rule(reverse=st.booleans())
    def sort(self, reverse):
        self.on_list(lambda box: box.sort(reverse=reverse))

    @rule(n=places)
    def rotate(self, n):
        self.both(lambda box: box.rotate(n))

    @rule()
    def clear(self):
        self.on_list(lambda box: box.clear())

    @rule(n=st.integers(-1, 3))
    def repeat(self, n):
        same = self.ring
        same *= n
        assert same is self.ring
        if n <= 0:
            self.model.items.clear()
        self.model.extend(self.model.items * (n - 1))

    @rule(maxlen=st.none() | st.integers(1, 9))
    def resize(self, maxlen):
        if maxlen is not None and maxlen <= self.model.keep_first:
            with suppress(ValueError):
                self.ring.maxlen = maxlen
                raise AssertionError("a bound that the pinned items fill")
        else:
            self.ring.maxlen = self.model.maxlen = maxlen
            self.model.trim()

    @precondition(lambda self: self.model.max_weight is not None)
    @rule(max_weight=st.integers(1, 30))
    def reweigh(self, max_weight):
        self.ring.max_weight = self.model.max_weight = max_weight
        self.model.trim()

    @rule(place=places, where=slices, item=items)
    def look(self, place, where, item):
        self.on_list(lambda box: box[place])
        self.on_list(lambda box: box[where])
        self.on_list(lambda box: (item in box, box.count(item)))
        self.on_list(lambda box: box.index(item, place))

    @rule(again=st.sampled_from([copy.copy, copy.deepcopy, lambda ring: pickle.loads(pickle.dumps(ring))]))
    def replace_by_a_copy(self, again):
        copied = again(self.ring)
        assert (copied.maxlen, copied.keep_first, copied.weight) == (
            self.ring.maxlen,
            self.ring.keep_first,
            self.ring.weight,
        )
        assert copied == self.ring

    @invariant()
    def agree(self):
        model = self.model
        assert list(self.ring) == self.ring[:] == model.items
        assert list(reversed(self.ring)) == model.items[::-1]
        assert len(self.ring) == len(model.items)
        assert self.ring.weight == model.weight()
        assert self.told == model.told
        assert self.ring.dropped == len(model.told)
        assert model.maxlen is None or len(self.ring) <= model.maxlen
        assert model.max_weight is None or self.ring.weight <= model.max_weight


class Counted(Machine):
    """A bound on the number of items, with and without pinned ones."""

    @initialize(maxlen=st.none() | st.integers(1, 8), keep_first=st.integers(0, 3))
    def make(self, maxlen, keep_first):
        self.begin(maxlen, min(keep_first, (maxlen or 9) - 1), None)


class Weighed(Machine):
    """A bound on the weight, with and without one on the number."""

    @initialize(maxlen=st.none() | st.integers(1, 8), max_weight=st.integers(1, 30))
    def make(self, maxlen, max_weight):
        self.begin(maxlen, 0, max_weight)


for machine in (Counted, Weighed):
    machine.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)

CHANGES = {
    "append": lambda ring, new, i, where: ring.append(new()),
    "appendleft": lambda ring, new, i, where: ring.appendleft(new()),
    "extend": lambda ring, new, i, where: ring.extend([new(), new(), new()]),
    "insert": lambda ring, new, i, where: ring.insert(i, new()),
    "set": lambda ring, new, i, where: ring.__setitem__(i, new()),
    "set slice": lambda ring, new, i, where: ring.__setitem__(where, [new(), new()]),
    "delete": lambda ring, new, i, where: ring.__delitem__(i),
    "delete slice": lambda ring, new, i, where: ring.__delitem__(where),
    "pop": lambda ring, new, i, where: ring.pop(i),
    "reverse": lambda ring, new, i, where: ring.reverse(),
    "rotate": lambda ring, new, i, where: ring.rotate(i),
    "sort": lambda ring, new, i, where: ring.sort(key=lambda item: item[1]),
    "clear": lambda ring, new, i, where: ring.clear(),
    "maxlen": lambda ring, new, i, where: setattr(ring, "maxlen", 6 + i % 3),
    "max_weight": lambda ring, new, i, where: setattr(ring, "max_weight", 20 + i),
}


@settings(max_examples=300, deadline=None)
@given(
    keep_first=st.integers(0, 4),
    ttl=st.none() | st.just(5),
    weighed=st.booleans(),
    data=st.lists(st.tuples(st.sampled_from([*CHANGES, "walk", "advance"]), places, slices, items), max_size=40),
)
def test_all_bounds_at_once(keep_first, ttl, weighed, data):
    """Whatever is done: each item is in the ring once, or was told once, or was taken away; and the bounds hold."""
    told, clock, numbers = [], ManualClock(), count()
    weigher = {"weigher": lambda item: item[1], "max_weight": 25} if weighed else {}
    ring = HistoryRing(6, keep_first=keep_first, ttl=ttl, timer=clock, on_drop=told.extend, **weigher)
    for what, i, where, weight in data:

        def new(weight=weight):
            return next(numbers), weight

        with suppress(IndexError, ValueError, TypeError):
            if what == "advance":
                clock.advance(weight)
            elif what == "walk":
                met = []
                for item in ring:
                    met.append(item)
                    ring.append(new())
                assert len(met) == len(set(met))
            else:
                CHANGES[what](ring, new, i, where)
        now = list(ring)
        assert len(now) == len(ring) <= ring.maxlen
        assert len(told) == len(set(told)) == ring.dropped
        assert len({*told, *now}) == len(told) + len(now)
        if weighed:
            assert ring.weight == sum(weight for _, weight in now) <= ring.max_weight
        for again in (copy.copy(ring), copy.deepcopy(ring)):
            assert (list(again), again.weight) == (now, ring.weight)


TestCounted = Counted.TestCase
TestWeighed = Weighed.TestCase
