"""HistoryRing: the surface of a list and of a deque, the bounds, and what happens when others interfere."""

import bisect
import copy
import ctypes
import dataclasses
import gc
import json
import math
import operator
import pickle
import random
import sqlite3
import sys
import weakref
from collections import UserList, deque
from collections.abc import MutableSequence
from datetime import timedelta
from itertools import product

import pytest
from child import run
from ullage import HistoryRing, deep_sizeof
from ullage.testing import ManualClock


def shape(ring):
    """What a copy has to have in common with its original."""
    return type(ring), ring.maxlen, ring.max_weight, ring.keep_first, ring.ttl, ring.name, list(ring)


def outcome(body, *arguments):
    """What a call gives, or the class of what it raises."""
    try:
        return body(*arguments)
    except Exception as error:
        return type(error)


# Bounds.


@pytest.mark.parametrize("maxlen", [0, -1, -(2**70)])
def test_a_bound_below_one_is_a_value_error_that_says_what_to_write(maxlen):
    with pytest.raises(ValueError, match="at least 1, or None"):
        HistoryRing(maxlen)
    ring = HistoryRing(3, "abc")
    with pytest.raises(ValueError, match="at least 1, or None"):
        ring.maxlen = maxlen
    assert (ring.maxlen, ring[:]) == (3, ["a", "b", "c"])


@pytest.mark.parametrize("maxlen", [True, False, 1.0, math.nan, math.inf, "3", b"3", [3], object()])
def test_a_bound_that_is_no_integer_is_a_type_error(maxlen):
    with pytest.raises(TypeError, match="integer of at least 1, or None"):
        HistoryRing(maxlen)
    ring = HistoryRing(3, "abc")
    with pytest.raises(TypeError, match="integer of at least 1, or None"):
        ring.maxlen = maxlen
    assert (ring.maxlen, ring[:]) == (3, ["a", "b", "c"])


@pytest.mark.parametrize("maxlen", [2**20, 2**31, 2**62, 2**63, 2**64, 10**30, None])
def test_a_huge_bound_costs_nothing(maxlen):
    ring = HistoryRing(maxlen, range(5))
    assert ring == [0, 1, 2, 3, 4]
    assert sys.getsizeof(ring) < 2**25
    ring.maxlen = 2
    ring.maxlen = maxlen
    ring.append(5)
    assert ring == [3, 4, 5] and ring.maxlen == maxlen == pickle.loads(pickle.dumps(ring)).maxlen


def test_a_bound_may_be_anything_with_an_index():
    class Three:
        def __index__(self):
            return 3

    ring = HistoryRing(Three(), range(9))
    assert ring == [6, 7, 8]
    assert type(ring.maxlen) is int


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, TypeError),
        ({"weigher": len}, TypeError),
        ({"maxlen": 3, "max_weight": 3}, TypeError),
        ({"weigher": len, "max_bytes": 3}, TypeError),
        ({"weigher": len, "max_weight": 3, "max_bytes": 3}, TypeError),
        ({"weigher": len, "max_weight": 0}, ValueError),
        ({"weigher": len, "max_weight": 1.5}, TypeError),
        ({"weigher": 3, "max_weight": 3}, TypeError),
        ({"max_bytes": 0}, ValueError),
        ({"max_bytes": "much"}, ValueError),
        ({"max_bytes": True}, TypeError),
        ({"maxlen": 3, "keep_first": 3}, ValueError),
        ({"maxlen": 3, "keep_first": 4}, ValueError),
        ({"maxlen": 3, "keep_first": -1}, ValueError),
        ({"maxlen": 3, "keep_first": True}, TypeError),
        ({"maxlen": 3, "keep_first": 1.0}, TypeError),
        ({"maxlen": 3, "keep_first": None}, TypeError),
        ({"maxlen": 3, "on_drop": 3}, TypeError),
        ({"maxlen": 3, "timer": 3}, TypeError),
        ({"maxlen": 3, "ttl": 0}, ValueError),
        ({"maxlen": 3, "ttl": -1}, ValueError),
        ({"maxlen": 3, "ttl": -math.inf}, ValueError),
        ({"maxlen": 3, "ttl": math.nan}, ValueError),
        ({"maxlen": 3, "ttl": -(10**400)}, ValueError),
        ({"maxlen": 3, "ttl": timedelta(0)}, ValueError),
        ({"maxlen": 3, "ttl": True}, TypeError),
        ({"maxlen": 3, "ttl": "1"}, TypeError),
        ({"maxlen": 3, "iterable": 3}, TypeError),
        ({"maxlen": 3, "colour": 3}, TypeError),
    ],
)
def test_arguments_that_make_no_ring(arguments, error):
    with pytest.raises(error):
        HistoryRing(**arguments)


@pytest.mark.parametrize("ttl", [None, math.inf, 1e300, 10**400, 1e-12, 5, 0.5, timedelta(days=1), timedelta.max])
def test_lifetimes_that_may_be_written(ttl):
    ring = HistoryRing(3, "ab", ttl=ttl, timer=ManualClock())
    assert ring.ttl == ttl
    assert ring == ["a", "b"]


def test_append_on_a_full_ring_lets_the_oldest_fall_off():
    told = []
    ring = HistoryRing(3, range(3), on_drop=told.append)
    assert ring.append(3) is None
    assert (ring[:], told, ring.dropped, ring.offset) == ([1, 2, 3], [[0]], 1, 1)


def test_appendleft_on_a_full_ring_lets_the_newest_fall_off_as_with_a_deque():
    told = []
    ring, model = HistoryRing(3, range(3), on_drop=told.extend), deque(range(3), 3)
    for box in (ring, model):
        box.appendleft("x")
        box.extendleft("yz")
    assert (ring[:], told, ring.dropped) == (list(model), [2, 1, 0], 3)


def test_insert_on_a_full_ring_raises_as_with_a_deque():
    told = []
    ring = HistoryRing(3, range(3), on_drop=told.append)
    with pytest.raises(IndexError, match="maximum size"):
        ring.insert(1, "x")
    assert (ring[:], told, ring.dropped) == ([0, 1, 2], [], 0)


def test_the_first_items_are_pinned():
    told = []
    ring = HistoryRing(4, keep_first=2, on_drop=told.extend)
    ring.extend(range(10))
    assert (ring[:], told, ring.dropped, ring.keep_first) == ([0, 1, 8, 9], [2, 3, 4, 5, 6, 7], 6, 2)
    ring.maxlen = 3
    assert (ring[:], told[-1]) == ([0, 1, 9], 8)
    with pytest.raises(ValueError, match="more than keep_first"):
        ring.maxlen = 2
    assert ring.maxlen == 3
    # Pinned items fall off for no bound, but they may be taken away; then the next ones are the first.
    assert ring.pop(0) == 0
    ring.extend([10, 11, 12])
    assert ring == [1, 9, 12]
    with pytest.raises(AttributeError):
        ring.keep_first = 0


def test_keep_first_zero_and_with_no_bound():
    assert HistoryRing(2, range(9), keep_first=0) == [7, 8]
    assert HistoryRing(None, range(9), keep_first=100) == list(range(9))


def test_shrinking_lets_the_oldest_fall_off_at_once_and_in_one_call():
    told = []
    ring = HistoryRing(9, range(9), on_drop=told.append)
    ring.maxlen = 4
    assert (ring[:], told, ring.dropped) == ([5, 6, 7, 8], [[0, 1, 2, 3, 4]], 5)
    ring.maxlen = None
    ring.extend(range(100))
    assert (len(ring), ring.maxlen, ring.dropped) == (104, None, 5)


def test_evict_lets_the_oldest_fall_off_as_if_room_were_needed():
    told = []
    ring = HistoryRing(9, range(9), keep_first=2, on_drop=told.extend)
    assert ring.evict() == 1
    assert (ring.evict(0), ring.evict(3)) == (0, 3)
    assert (ring[:], told, ring.dropped, ring.maxlen) == ([0, 1, 6, 7, 8], [2, 3, 4, 5], 4, 9)
    assert ring.evict(2**70) == 3
    assert (ring[:], ring.dropped, ring.evict(5)) == ([0, 1], 7, 0)
    large = HistoryRing(None, range(10_000), weigher=lambda item: 2, max_weight=10**6)
    assert (large.evict(9_000), large[0], large.weight) == (9_000, 9_000, 2_000)
    for wrong, error in ((-1, ValueError), (True, TypeError), (1.5, TypeError), ("1", TypeError)):
        with pytest.raises(error, match="n must be"):
            ring.evict(wrong)
    ring.close()
    with pytest.raises(RuntimeError, match="closed"):
        ring.evict()


def test_evict_ends_though_the_hook_appends_what_fell_off():
    ring = HistoryRing(None, range(1_000))
    again = HistoryRing(None, range(1_000), on_drop=lambda items: again.extend(items))
    assert ring.evict(1_000) == again.evict(2**70) == 1_000
    assert (len(ring), sorted(again)) == (0, list(range(1_000)))


def test_a_weigher_bounds_the_sum():
    told = []
    ring = HistoryRing(None, ["aa", "bbb"], weigher=len, max_weight=6, on_drop=told.append)
    assert (ring.weight, ring.max_weight, ring.maxlen) == (5, 6, None)
    ring.append("cccc")
    assert (ring[:], told, ring.weight) == (["cccc"], [["aa", "bbb"]], 4)
    with pytest.raises(ValueError, match="weighs 7"):
        ring.append("ddddddd")
    assert (ring[:], ring.weight, ring.dropped) == (["cccc"], 4, 2)
    ring.append("")
    ring[0] = "eeeeee"
    assert (ring[:], ring.weight) == (["eeeeee", ""], 6)
    with pytest.raises(IndexError):
        ring.insert(0, "f")
    ring.max_weight = 5
    assert (ring[:], ring.weight, told[-1]) == ([""], 0, ["eeeeee"])
    ring.max_weight = None
    ring.append("x" * 99)
    assert (ring.max_weight, ring.weight) == (None, 99)


def test_both_bounds_hold_at_once():
    ring = HistoryRing(3, weigher=len, max_weight=6)
    ring.extend(["a", "b", "c", "d"])
    assert ring == ["b", "c", "d"]
    ring.append("eeeee")
    assert ring == ["d", "eeeee"]


def test_a_weight_is_taken_once_and_remembered():
    calls = []

    def weigh(item):
        calls.append(item)
        return len(item)

    item = ["a"]
    ring = HistoryRing(None, weigher=weigh, max_weight=5)
    ring.append(item)
    item.extend("bcdefgh")
    assert (ring.weight, len(calls)) == (1, 1)
    ring.reverse()
    ring.rotate(1)
    ring.sort(key=len)
    assert ring.pop() is item
    assert (ring.weight, len(calls)) == (0, 1)


@pytest.mark.parametrize(
    ("answer", "error"),
    [(-1, ValueError), (1.0, TypeError), (True, TypeError), ("1", TypeError), (None, TypeError), (2**70, ValueError)],
)
@pytest.mark.parametrize(
    "change",
    [
        lambda ring: ring.append("b"),
        lambda ring: ring.appendleft("b"),
        lambda ring: ring.insert(0, "b"),
        lambda ring: ring.extend("b"),
        lambda ring: operator.setitem(ring, 0, "b"),
        lambda ring: operator.setitem(ring, slice(0, 1), "b"),
        lambda ring: operator.setitem(ring, slice(None, None, -1), "b"),
    ],
)
def test_a_weigher_that_answers_nonsense_changes_nothing(answer, error, change):
    ring = HistoryRing(None, weigher=lambda item: 1 if item == "a" else answer, max_weight=5)
    ring.append("a")
    with pytest.raises(error):
        change(ring)
    assert (ring[:], ring.weight, ring.dropped) == (["a"], 1, 0)


def test_a_bound_in_bytes():
    ring = HistoryRing(max_bytes="10 KB")
    for i in range(100):
        ring.append(bytes(1000) + bytes([i]))
    assert 5 < len(ring) < 10
    assert ring.weight == sum(map(deep_sizeof, ring)) <= ring.max_weight == 10_000
    ring.max_weight = "3 KB"
    assert ring.weight <= 3000
    assert ring[-1][-1] == 99
    with pytest.raises(ValueError, match="weighs"):
        ring.append(bytes(4000))
    with pytest.raises(TypeError):
        ring.max_weight = None


@pytest.mark.parametrize("bound", [2**63, 2**64, 10**30])
def test_a_huge_weight_is_no_bound(bound):
    ring = HistoryRing(None, weigher=len, max_weight=bound)
    ring.append("abc")
    ring.max_weight = bound
    assert (ring.weight, ring.max_weight) == (3, None)
    assert HistoryRing(max_bytes=bound).max_weight is None
    assert HistoryRing(max_bytes="100 EB").max_weight is None
    assert HistoryRing(3, "abc").copy().copy() == ["a", "b", "c"]


def test_a_ring_without_a_weigher_takes_no_weight():
    ring = HistoryRing(3, "ab")
    assert (ring.weight, ring.max_weight) == (0, None)
    with pytest.raises(TypeError, match="no weigher"):
        ring.max_weight = 5


# Time.


def test_items_fall_off_when_their_time_is_over():
    clock, told = ManualClock(), []
    ring = HistoryRing(9, ttl=10, timer=clock, on_drop=told.append)
    ring.append("a")
    clock.advance(6)
    ring.append("b")
    clock.advance(3.999999999)
    assert len(ring) == 2
    clock.advance(0.000000001)
    assert len(ring) == 1
    assert (ring[:], ring.dropped, ring.offset, told) == (["b"], 1, 1, [["a"]])
    clock.advance(timedelta(seconds=6))
    assert (ring[:], told, ring.dropped) == ([], [["a"], ["b"]], 2)


@pytest.mark.parametrize(
    ("look", "seen"),
    [
        (len, 0),
        (list, []),
        (lambda ring: list(reversed(ring)), []),
        (lambda ring: ring[:], []),
        (lambda ring: "a" in ring, False),
        (lambda ring: ring.count("a"), 0),
        (lambda ring: ring == [], True),
        (lambda ring: bool(ring), False),
        (lambda ring: ring.weight, 0),
        (lambda ring: ring.dropped, 1),
        (lambda ring: ring.offset, 1),
        (lambda ring: ring.stats().dropped, 1),
        (lambda ring: ring.stats().entries, 0),
        (lambda ring: operator.add(ring, []), []),
        (lambda ring: list(ring.copy()), []),
        (lambda ring: list(pickle.loads(pickle.dumps(ring))), []),
        (lambda ring: outcome(ring.pop), IndexError),
        (lambda ring: outcome(ring.popleft), IndexError),
        (lambda ring: outcome(lambda: ring[0]), IndexError),
        (lambda ring: outcome(operator.setitem, ring, 0, 1), IndexError),
        (lambda ring: outcome(operator.delitem, ring, 0), IndexError),
        (lambda ring: outcome(ring.index, "a"), ValueError),
        (lambda ring: outcome(ring.remove, "a"), ValueError),
        (lambda ring: repr(ring), "HistoryRing(9, [])"),
    ],
)
def test_what_is_too_old_is_seen_by_nobody(look, seen):
    clock = ManualClock()
    ring = HistoryRing(9, "a", ttl=10, timer=clock)
    clock.advance(10)
    assert look(ring) == seen


def test_pinned_items_do_not_grow_old():
    clock = ManualClock()
    ring = HistoryRing(9, "abcd", keep_first=1, ttl=10, timer=clock)
    clock.advance(11)
    assert ring == ["a"]
    ring.append("e")
    assert ring == ["a", "e"]


def test_reordering_leaves_what_is_old_at_the_front():
    clock = ManualClock()
    ring = HistoryRing(9, "a", ttl=10, timer=clock)
    clock.advance(5)
    ring.append("b")
    ring.reverse()
    clock.advance(5)
    assert len(ring) == 1
    clock.advance(5)
    assert ring == []


@pytest.mark.parametrize("reading", [math.nan, math.inf, "1", None])
def test_a_timer_that_answers_nonsense_is_an_error_and_no_loss(reading):
    readings = [0.0]
    ring = HistoryRing(9, "ab", ttl=10, timer=lambda: readings[-1])
    readings.append(reading)
    for look in (len, list, operator.itemgetter(0), lambda ring: ring.append("c")):
        with pytest.raises((ValueError, TypeError)):
            look(ring)
    readings.append(1.0)
    assert ring == ["a", "b"]


def test_a_clock_that_is_turned_back_loses_nothing():
    readings = [100.0]
    ring = HistoryRing(9, ttl=10, timer=lambda: readings[-1])
    ring.append("a")
    readings.append(50.0)
    ring.append("b")
    assert ring == ["a", "b"]
    readings.append(120.0)
    assert ring == []


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda ring: pickle.loads(pickle.dumps(ring))])
def test_copies_keep_remaining_lifetimes(copied):
    clock = ManualClock()
    ring = HistoryRing(9, ttl=10, timer=clock, keep_first=1)
    ring.extend(["pinned", "a"])
    clock.advance(6)
    ring.append("b")
    again = copied(ring)
    # A deep copy and a pickle have a clock of their own.
    for moved in {id(clock): clock, id(again._settings["timer"]): again._settings["timer"]}.values():
        moved.advance(5)
    assert list(ring) == list(again) == ["pinned", "b"]
    # Pinned items stay, though their time is over.
    assert list(copied(ring)) == ["pinned", "b"]


# The hook.


def test_the_hook_is_told_in_order_and_each_item_once():
    told = []
    ring = HistoryRing(5, on_drop=told.extend)
    ring.extend(range(10))
    ring += range(10, 20)
    ring[2:2] = range(20, 30)
    ring *= 2
    ring.maxlen = 1
    # 15 and 16 stood before the slice, 17 to 19 behind it.
    before = [*range(17), *range(20, 30), 17, 18, 19]
    assert told + ring[:] == [*before, *before[-5:]]
    assert ring.dropped == len(told) == 34


def test_what_is_taken_away_is_not_told():
    told = []
    ring = HistoryRing(9, range(9), on_drop=told.append)
    ring.pop()
    ring.popleft()
    ring.remove(5)
    del ring[0]
    del ring[:2]
    ring[0] = "x"
    ring[:1] = []
    ring.clear()
    assert (told, ring.dropped) == ([], 0)


def test_the_hook_gets_a_list_of_its_own():
    kept = []

    def hook(items):
        kept.append(items)
        items.clear()

    ring = HistoryRing(1, on_drop=hook)
    ring.extend("abc")
    assert kept == [[], []]
    assert kept[0] is not kept[1]
    assert ring == ["c"]


def test_an_error_in_the_hook_is_reported_and_counted(monkeypatch):
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)

    def hook(items):
        raise ZeroDivisionError(items)

    ring = HistoryRing(2, on_drop=hook)
    ring.extend(range(5))
    assert (ring[:], ring.dropped) == ([3, 4], 3)
    assert [report.exc_value.args for report in unraisable] == [([0],), ([1],), ([2],)]
    assert ring.stats().callback_errors == 3


def test_the_hook_sees_the_final_state():
    seen = []
    ring = HistoryRing(3, range(3), on_drop=lambda items: seen.append((items, ring[:], len(ring), ring.dropped)))
    ring.append(3)
    ring.maxlen = 1
    assert seen == [([0], [1, 2, 3], 3, 1), ([1, 2], [3], 1, 3)]


def test_what_the_hook_itself_lets_fall_off_is_told_after_it():
    told = []

    def hook(items):
        for item in items:
            if item < 5:
                ring.append(item + 100)
        told.extend(items)

    ring = HistoryRing(3, range(3), on_drop=hook)
    ring.append(3)
    # 0 falls for 3; 1 for 100, 2 for 101, 3 for 102, 100 for 103.
    assert told == [0, 1, 2, 3, 100]
    assert (ring[:], ring.dropped) == ([101, 102, 103], 5)


@pytest.mark.parametrize(
    "interfere",
    [
        lambda ring: ring.clear(),
        lambda ring: ring.close(),
        lambda ring: setattr(ring, "maxlen", 1),
        lambda ring: ring.reverse(),
        lambda ring: ring.__init__(2),
        lambda ring: repr(ring) and copy.copy(ring) and gc.collect(),
        lambda ring: ring.pop(),
    ],
)
def test_the_hook_may_use_the_ring(interfere):
    calls = []

    def hook(items):
        if not calls:
            calls.append(items)
            interfere(ring)

    ring = HistoryRing(3, range(3), on_drop=hook)
    ring.append(3)
    assert calls == [[0]]
    assert outcome(len, ring) in (0, 1, 2, 3, RuntimeError)


def test_the_hook_is_told_in_order_by_many_threads():
    run("""
        import threading, time
        from ullage import HistoryRing

        told = []

        def hook(items):
            # Lets the other threads go first, if they can.
            time.sleep(0)
            told.extend(items)

        ring = HistoryRing(10, on_drop=hook)

        def work(mine):
            for i in range(500):
                ring.append((mine, i))

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        everything = told + ring[:]
        assert len(everything) == len(set(everything)) == 2000, len(everything)
        assert ring.dropped == len(told) == 1990
        for mine in range(4):
            assert [i for whose, i in everything if whose == mine] == list(range(500)), "out of order"
    """)


# A list's surface.

SOME = [None, 0, 1, 3, 5, 9, -1, -3, -5, -9, 10**30, -(10**30)]


@pytest.mark.parametrize("step", [None, 1, 2, 3, 7, 1 << 80, -1, -2, -3, -7, -(1 << 80)])
def test_slices_are_those_of_a_list(step):
    for start, stop in product(SOME, SOME):
        where = slice(start, stop, step)
        model, ring = list(range(5)), HistoryRing(9, range(5))
        assert type(ring[where]) is list
        assert ring[where] == model[where]
        for new in ([], ["x"], ["x", "y"], "xyz", ["w"] * len(model[where])):
            model, ring = list(range(5)), HistoryRing(None, range(5))
            expected = outcome(operator.setitem, model, where, new)
            assert outcome(operator.setitem, ring, where, new) == expected, (where, new)
            assert ring == model, (where, new)
        model, ring = list(range(5)), HistoryRing(9, range(5))
        del model[where], ring[where]
        assert ring == model, where


@pytest.mark.parametrize("size", [0, 1, 2, 5, 9])
def test_indices_are_those_of_a_list(size):
    for i in [*range(-12, 12), 10**30, -(10**30), True, None, 1.0, "1", (1,), slice]:
        for change in (
            operator.getitem,
            operator.delitem,
            lambda box, i: operator.setitem(box, i, "x"),
            lambda box, i: box.pop(i),
            lambda box, i: box.insert(i, "x"),
            lambda box, i: box.index(3, i),
            lambda box, i: box.index(3, 0, i),
        ):
            # A ring that has turned round in its memory.
            model, ring = list(range(size)), HistoryRing(10, range(-7, size))
            del ring[: -size or None]
            assert outcome(change, ring, i) == outcome(change, model, i), (i, change)
            assert ring == model


@pytest.mark.parametrize("key", ["a", 1.0, None, (1, 2), []])
def test_a_wrong_index_says_what_is_right(key):
    ring = HistoryRing(3, "abc")
    for act in (operator.getitem, operator.delitem, lambda ring, key: operator.setitem(ring, key, 1)):
        with pytest.raises(TypeError, match=f"must be integers or slices, not {type(key).__name__}"):
            act(ring, key)


@pytest.mark.parametrize(
    "change",
    [
        lambda box: box.append(9),
        lambda box: box.extend(iter([9, 8])),
        lambda box: box.extend(box),
        lambda box: box.extend(()),
        lambda box: box.pop(),
        lambda box: box.pop(0),
        lambda box: box.pop(-2),
        lambda box: box.remove(3),
        lambda box: box.remove(math.pi),
        lambda box: box.index(1),
        lambda box: box.index(1, 2),
        lambda box: box.index(1, -3, -1),
        lambda box: box.index(99),
        lambda box: box.count(1),
        lambda box: box.count(True),
        lambda box: box.reverse(),
        lambda box: box.sort(),
        lambda box: box.sort(reverse=True),
        lambda box: box.sort(key=lambda item: -item),
        lambda box: box.sort(key=lambda item: item % 2, reverse=True),
        lambda box: box.sort(key=lambda item: 1 / (item - 4)),
        lambda box: box.sort(lambda item: item),
        lambda box: box.clear(),
        lambda box: box.copy()[:],
        lambda box: box.insert(2, 9),
        lambda box: 3 in box,
        lambda box: math.nan in box,
        lambda box: box.__imul__(3)[:],
        lambda box: box.__imul__(0)[:],
        lambda box: box.__imul__(-2)[:],
        lambda box: box.__imul__(True)[:],
        lambda box: outcome(operator.imul, box, 1.5),
        lambda box: outcome(operator.imul, box, 2**63),
        lambda box: outcome(operator.mul, box, 2**63),
        lambda box: box.__iadd__("xy")[:],
        lambda box: box.__iadd__(box)[:],
        lambda box: outcome(operator.iadd, box, 3),
        lambda box: box * 2,
        lambda box: 2 * box,
        lambda box: box * -1,
        lambda box: outcome(operator.mul, box, "x"),
        lambda box: operator.add(box, [7]),
        lambda box: outcome(operator.add, box, (7,)),
        lambda box: outcome(operator.add, (7,), box),
        lambda box: outcome(operator.add, [7], box),
        lambda box: list(box),
        lambda box: list(reversed(box)),
        lambda box: sorted(box),
        lambda box: [min(box), max(box), sum(box)],
        lambda box: [*box],
        lambda box: outcome(hash, box),
        lambda box: outcome(lambda: box[0, 1]),
        lambda box: outcome(setattr, box, "colour", 1),
    ],
)
@pytest.mark.parametrize("items", [[3, 1, 4, 1, 5, 9, 2, 6], [1], [], [True, 1.0, 1]])
def test_a_method_does_what_a_list_does(items, change):
    model, ring = list(items), HistoryRing(None, items)
    assert outcome(change, ring) == outcome(change, model)
    assert ring == model
    assert [type(item) for item in ring] == [type(item) for item in model]


@pytest.mark.parametrize("n", [0, 1, 2, 7, 8, 9, 10**30, -1, -3, -8, -(10**30)])
@pytest.mark.parametrize("size", [0, 1, 8])
def test_rotate_as_a_deque(n, size):
    model, ring = deque(range(size)), HistoryRing(8, range(size))
    model.rotate(n % size if size else 0)
    assert ring.rotate(n) is None
    assert ring == list(model)


@pytest.mark.parametrize("n", ["1", 1.0, None])
def test_rotate_by_no_integer(n):
    with pytest.raises(TypeError):
        HistoryRing(3, "ab").rotate(n)


def test_a_sort_is_stable_and_gives_its_items_back_after_an_error():
    pairs = [(i % 3, i) for i in range(30)]
    for reverse in (False, True):
        ring = HistoryRing(30, pairs)
        ring.sort(key=operator.itemgetter(0), reverse=reverse)
        assert ring == sorted(pairs, key=operator.itemgetter(0), reverse=reverse)
    ring = HistoryRing(9, [3, "a", 2])
    with pytest.raises(TypeError):
        ring.sort()
    assert ring == [3, "a", 2]


def test_items_need_no_equality_with_themselves():
    ring = HistoryRing(3, [math.nan, 1])
    assert math.nan in ring
    assert (ring.index(math.nan), ring.count(math.nan)) == (0, 1)
    assert ring == [math.nan, 1]
    ring.remove(math.nan)
    assert ring == [1]


@pytest.mark.parametrize("compare", [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge])
@pytest.mark.parametrize("other", [[], [1], [1, 2], [1, 2, 3], [0, 9], [2], ["a"]])
def test_comparisons(compare, other):
    model, ring = [1, 2], HistoryRing(5, [1, 2])
    expected = outcome(compare, model, other)
    assert outcome(compare, ring, other) == expected
    assert outcome(compare, ring, HistoryRing(9, other)) == expected
    assert outcome(compare, other, ring) == outcome(compare, other, model)
    assert outcome(compare, ring, UserList(other)) == expected


@pytest.mark.parametrize("other", [(1, 2), "12", {1: 2}, deque([1, 2]), None, 3, range(1, 3)])
def test_a_ring_equals_no_other_kind(other):
    ring = HistoryRing(5, [1, 2])
    assert (operator.eq(ring, other), operator.ne(ring, other)) == (False, True)
    assert outcome(operator.lt, ring, other) is TypeError


def test_plus_gives_a_list_and_plus_equals_the_ring():
    ring = HistoryRing(3, "abc")
    for whole in (
        operator.add(ring, ["d"]),
        operator.add(["d"], ring),
        ring + ring,
        ring * 2,
        2 * ring,
        ring[:],
        ring[::2],
    ):
        assert type(whole) is list
    same = ring
    same += ["d"]
    assert same is ring == ["b", "c", "d"]
    same *= 2
    assert same is ring == ["b", "c", "d"]


def test_repeating_stays_within_the_bounds():
    told = []
    ring = HistoryRing(3, [1, 2], on_drop=told.extend)
    ring *= 4
    assert (ring[:], told, ring.dropped) == ([2, 1, 2], [1, 2, 1, 2, 1], 5)
    ring *= sys.maxsize
    assert ring == [2, 1, 2]
    boundless = HistoryRing(None, [1, 2])
    with pytest.raises(MemoryError):
        boundless *= sys.maxsize
    assert boundless == [1, 2]
    empty = HistoryRing(3)
    empty *= sys.maxsize
    assert empty == []


def test_a_slice_that_grows_the_ring_too_far_lets_the_oldest_fall_off():
    told = []
    ring = HistoryRing(4, range(4), keep_first=1, on_drop=told.append)
    ring[2:3] = "abc"
    assert (ring[:], told, ring.dropped) == ([0, "b", "c", 3], [[1, "a"]], 2)
    ring[:] = range(10)
    assert ring == [0, 7, 8, 9]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda ring: ring.extend(ring_breaks()), ZeroDivisionError),
        (lambda ring: ring.extendleft(3), TypeError),
        (lambda ring: operator.setitem(ring, slice(0, 1), 3), TypeError),
        (lambda ring: operator.setitem(ring, slice(0, 1), ring_breaks(TypeError)), TypeError),
        (lambda ring: operator.setitem(ring, slice(0, 2), ring_breaks()), ZeroDivisionError),
        (lambda ring: operator.setitem(ring, slice(0, 2, 0), "ab"), ValueError),
        (lambda ring: operator.setitem(ring, slice(0, 2, 2), "abc"), ValueError),
        (lambda ring: operator.delitem(ring, slice(0, 2, 0)), ValueError),
        (lambda ring: ring["a":], TypeError),
    ],
)
def test_a_failed_change_changes_nothing(change, error):
    ring = HistoryRing(5, "vwxyz")
    with pytest.raises(error):
        change(ring)
    assert ring == list("vwxyz")


def ring_breaks(error=ZeroDivisionError):
    raise error("broken")
    yield


def test_a_slice_is_assigned_its_own_ring():
    for where in (slice(1, -1), slice(None, None, -1), slice(2, 2)):
        model, ring = list(range(5)), HistoryRing(None, range(5))
        model[where] = model
        ring[where] = ring
        assert ring == model


def test_match():
    match HistoryRing(3, [1, 2, 3]):
        case [first, *rest]:
            assert (first, rest) == (1, [2, 3])
        case _:
            pytest.fail("no sequence")


def test_what_it_is():
    ring = HistoryRing(3)
    assert isinstance(ring, MutableSequence)
    assert not isinstance(ring, list)
    assert HistoryRing[int].__args__ == (int,)
    assert HistoryRing[int](3, [1]) == [1]
    assert weakref.ref(ring)() is ring
    assert HistoryRing(3, name="turns").name == "turns"
    assert HistoryRing(3).name is None
    # A deque of 3.10 has a truth of its own; here, as in a list, it is that of the length.
    for method in {*dir(list), *dir(deque)} - {"__class_getitem__", "__bool__"}:
        assert hasattr(HistoryRing, method), method


def test_code_in_c_takes_it_for_a_sequence():
    ring = HistoryRing(5, [3, 1, 2])
    assert operator.concat(ring, [9]) == [3, 1, 2, 9]
    assert sqlite3.connect(":memory:").execute("select ?, ?, ?", ring).fetchall() == [(3, 1, 2)]
    ring.sort()
    bisect.insort(ring, 2)
    assert ring == [1, 2, 2, 3]
    numpy = pytest.importorskip("numpy")
    assert numpy.array(ring).tolist() == [1, 2, 2, 3]
    assert numpy.sum(HistoryRing(2, [[1, 2], [3, 4]])) == 10


def sequence_function(name, result, *arguments):
    """A function of the C interface, for any object."""
    function = getattr(ctypes.pythonapi, name)
    function.restype, function.argtypes = result, arguments
    return function


def test_items_by_number_for_code_in_c():
    get = sequence_function("PySequence_GetItem", ctypes.py_object, ctypes.py_object, ctypes.c_ssize_t)
    check = sequence_function("PySequence_Check", ctypes.c_int, ctypes.py_object)
    ring = HistoryRing(5, range(-4, 3))
    assert check(ring) == 1
    for i in range(-5, 9):
        assert outcome(get, ring, i) == outcome(ring[:].__getitem__, i)


@pytest.mark.parametrize("i", range(-9, -5))
def test_items_before_the_first_for_code_in_c(i):
    get = sequence_function("PySequence_GetItem", ctypes.py_object, ctypes.py_object, ctypes.c_ssize_t)
    with pytest.raises(IndexError):
        get(HistoryRing(5, range(5)), i)


def test_items_set_by_number_by_code_in_c():
    put = sequence_function("PySequence_SetItem", ctypes.c_int, ctypes.py_object, ctypes.c_ssize_t, ctypes.py_object)
    for i in range(-9, 9):
        ring, model = HistoryRing(5, range(5)), list(range(5))
        outcome(put, ring, i, "x")
        outcome(put, model, i, "x")
        assert ring == model


def test_python_code_takes_it_for_a_list():
    ring = HistoryRing(5, [3, 1, 2])
    random.shuffle(ring)
    assert sorted(random.sample(ring, 3)) == [1, 2, 3]
    assert random.choice(ring) in (1, 2, 3)
    assert "".join(HistoryRing(3, "abc")) == "abc"
    assert dict(HistoryRing(3, [(1, 2)])) == {1: 2}
    assert bytes(HistoryRing(3, b"abc")) == b"abc"
    assert operator.indexOf(ring, 3) == ring.index(3)
    first, *rest = ring
    assert [first, *rest] == ring[:]


def test_frameworks_keep_the_bound_or_fail():
    ring = HistoryRing(3, "abcd")
    with pytest.raises(TypeError):
        json.dumps(ring)
    holder = dataclasses.make_dataclass("Holder", [("turns", HistoryRing)])(ring)
    assert shape(dataclasses.asdict(holder)["turns"]) == shape(ring)
    cloudpickle = pytest.importorskip("cloudpickle")
    assert shape(cloudpickle.loads(cloudpickle.dumps(ring))) == shape(ring)


def test_arguments_are_positional_where_a_list_s_are():
    ring = HistoryRing(3, "ab")
    for call in (
        lambda: ring.append(item=1),
        lambda: ring.extend(iterable=[]),
        lambda: ring.pop(index=0),
        lambda: ring.remove(value="a"),
        lambda: ring.append(),
        lambda: ring.append(1, 2),
        lambda: ring.clear(1),
    ):
        assert outcome(call) is TypeError


# Iteration.


@pytest.mark.parametrize("keep_first", [0, 2])
@pytest.mark.parametrize("maxlen", [5, 100])
def test_iteration_goes_on_while_items_are_appended(maxlen, keep_first):
    ring = HistoryRing(maxlen, range(5), keep_first=keep_first)
    met = []
    for item in ring:
        met.append(item)
        ring.extend([item + 100, item + 200])
        assert len(met) < 9
    # What fell off before its turn is passed over; nothing is met that came later.
    assert met == sorted(set(met))
    assert set(met) <= set(range(5))
    assert met == list(range(5)) or maxlen == 5


@pytest.mark.parametrize("keep_first", [0, 2])
def test_iteration_backwards_while_items_are_appended(keep_first):
    ring = HistoryRing(5, range(5), keep_first=keep_first)
    walk, met = reversed(ring), []
    for item in walk:
        met.append(item)
        ring.append(item + 100)
    assert met == ([4, 3, 2] if not keep_first else [4, 3, 1, 0])


@pytest.mark.parametrize(
    ("change", "rest"),
    [
        (lambda ring: ring.clear(), []),
        (lambda ring: ring.popleft(), [1, 2, 3, 4]),
        (lambda ring: ring.pop(), [1, 2, 3]),
        (lambda ring: ring.appendleft("x"), [1, 2, 3, 4]),
        (lambda ring: ring.extend("xyz"), [1, 2, 3, 4]),
        (lambda ring: (ring.clear(), ring.extend("abcdef")), []),
        (lambda ring: setattr(ring, "maxlen", 2), [3, 4]),
        (lambda ring: operator.setitem(ring, 2, "x"), [1, "x", 3, 4]),
        (lambda ring: operator.delitem(ring, slice(0, 3)), [3, 4]),
    ],
)
def test_iteration_after_a_change(change, rest):
    ring = HistoryRing(9, range(5))
    walk = iter(ring)
    assert next(walk) == 0
    change(ring)
    assert list(walk) == rest
    assert list(walk) == []


def test_an_iteration_that_has_ended_stays_ended_and_lets_the_ring_go():
    ring = HistoryRing(3, "ab")
    walk, gone = iter(ring), weakref.ref(ring)
    assert iter(walk) is walk
    assert list(walk) == ["a", "b"]
    ring.append("c")
    assert list(walk) == []
    del ring
    gc.collect()
    assert gone() is None


def test_iteration_while_threads_append():
    run("""
        import sys, threading
        from ullage import HistoryRing

        sys.setswitchinterval(1e-6)
        rings = [HistoryRing(50), HistoryRing(50, keep_first=3), HistoryRing(None)]
        done = threading.Event()
        wrong = []

        def write(ring):
            for i in range(20_000):
                ring.append(i)

        def read(ring):
            try:
                while not done.is_set():
                    for met in (list(ring), ring[:], [item for item in ring], [*reversed(ring)][::-1]):
                        if any(a >= b for a, b in zip(met, met[1:])):
                            wrong.append(met)
            except BaseException as error:
                wrong.append(error)

        writers = [threading.Thread(target=write, args=(ring,)) for ring in rings]
        readers = [threading.Thread(target=read, args=(ring,)) for ring in rings]
        [thread.start() for thread in writers + readers]
        [thread.join() for thread in writers]
        done.set()
        [thread.join() for thread in readers]
        assert not wrong, wrong[:3]
        assert [len(ring) for ring in rings] == [50, 50, 20_000]
        assert rings[1][:3] == [0, 1, 2]
    """)


def test_every_change_by_many_threads():
    run(
        """
        import random, sys, threading
        from ullage import HistoryRing

        sys.setswitchinterval(1e-6)
        told, wrong = [], []
        ring = HistoryRing(40, range(40), keep_first=2, on_drop=told.extend)

        def work(seed):
            dice = random.Random(seed)
            changes = [
                lambda: ring.append(dice.random()), lambda: ring.extend([1, 2, 3]), lambda: ring.appendleft(1),
                lambda: ring.pop(), lambda: ring.popleft(), lambda: ring.insert(3, 1), lambda: ring.remove(1),
                lambda: ring.reverse(), lambda: ring.rotate(3), lambda: ring.sort(), lambda: ring[1:3],
                lambda: ring.__setitem__(slice(2, 4), [7, 8, 9]), lambda: ring.__delitem__(slice(None, None, 3)),
                lambda: list(ring), lambda: ring.index(1), lambda: ring == [1], lambda: repr(ring),
                lambda: setattr(ring, "maxlen", dice.choice([10, 40])), lambda: sys.getsizeof(ring),
                lambda: ring.__setitem__(-1, 5), lambda: ring.stats(), lambda: ring.__imul__(2),
            ]
            for _ in range(3000):
                try:
                    dice.choice(changes)()
                except (IndexError, ValueError):
                    pass
                except BaseException as error:
                    wrong.append(error)
                if len(ring) > 40:
                    wrong.append(len(ring))

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert not wrong, wrong[:3]
        assert len(told) == ring.dropped
    """,
        timeout=60,
    )


def test_nothing_is_lost_or_met_twice_by_threads_that_pop():
    run("""
        import sys, threading
        from ullage import HistoryRing

        sys.setswitchinterval(1e-6)
        ring, taken = HistoryRing(None), [[] for _ in range(4)]

        def put(mine):
            for i in range(5000):
                ring.append((mine, i))

        def take(mine):
            while len(mine) < 5000:
                try:
                    mine.append(ring.popleft())
                except IndexError:
                    pass

        threads = [threading.Thread(target=put, args=(i,)) for i in range(4)]
        threads += [threading.Thread(target=take, args=(mine,)) for mine in taken]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        everything = [pair for mine in taken for pair in mine]
        assert len(everything) == len(set(everything)) == 20_000
        for mine in taken:
            for whose in range(4):
                order = [i for who, i in mine if who == whose]
                assert order == sorted(order)
    """)


@pytest.mark.parametrize("method", ["reverse()", "rotate(1)", "remove('x')"])
def test_methods_that_a_list_does_in_one_step_while_threads_append(method):
    run(f"""
        import sys, threading
        from ullage import HistoryRing

        sys.setswitchinterval(1e-6)
        ring, done, wrong = HistoryRing(30, range(30), keep_first=1), threading.Event(), []
        ring[0] = "x"

        def write():
            for i in range(20_000):
                ring.append(i)
            done.set()

        thread = threading.Thread(target=write)
        thread.start()
        while not done.is_set():
            try:
                ring.{method}
                if "x" not in ring:
                    ring.insert(0, "x")
            except IndexError as error:
                if "maximum size" not in str(error):
                    wrong.append(error)
            except BaseException as error:
                wrong.append(error)
        thread.join()
        assert not [error for error in wrong if "not in HistoryRing" not in str(error)], wrong[:3]
        assert len(ring) in (29, 30)
    """)


# Items, keys and hooks that interfere.


class Meddler:
    """Does something to a ring when it is compared, shown, weighed or dropped."""

    def __init__(self, act, answer=False):
        self.act, self.answer = act, answer

    def __eq__(self, other):
        self.act()
        return self.answer

    def __lt__(self, other):
        self.act()
        return False

    __hash__ = None

    def __repr__(self):
        self.act()
        return "Meddler"


MEDDLING = {
    "clear": lambda ring: ring.clear(),
    "pop": lambda ring: ring and ring.pop(),
    "append": lambda ring: ring.append(0),
    "extend": lambda ring: ring.extend(range(50)),
    "delete": lambda ring: operator.delitem(ring, slice(None)),
    "assign": lambda ring: operator.setitem(ring, slice(None), [0, 0]),
    "shrink": lambda ring: setattr(ring, "maxlen", 2),
    "collect": lambda ring: gc.collect(),
    "again": lambda ring: ring.__init__(3, "abc"),
}


@pytest.mark.parametrize("meddle", MEDDLING.values(), ids=MEDDLING)
@pytest.mark.parametrize("answer", [False, True, NotImplemented])
@pytest.mark.parametrize(
    "use",
    [
        lambda ring: 3 in ring,
        lambda ring: ring.index(3),
        lambda ring: ring.count(3),
        lambda ring: ring.remove(3),
        lambda ring: ring.sort(),
        lambda ring: ring == [9] * 5,
        lambda ring: ring < [9] * 5,
        lambda ring: repr(ring),
        lambda ring: ring == HistoryRing(9, ring),
        lambda ring: copy.deepcopy(ring),
    ],
)
def test_items_that_change_the_ring_while_they_are_compared(use, answer, meddle):
    ring = HistoryRing(8)
    ring.extend([1, Meddler(lambda: meddle(ring), answer), 2, Meddler(lambda: meddle(ring), answer), 3])
    got = outcome(use, ring)
    assert not isinstance(got, type) or got in (ValueError, IndexError, TypeError, RuntimeError)
    assert len(ring) == len(list(ring)) <= 8


def test_a_sort_notices_a_change():
    for maxlen, meddle in product((3, 9), (MEDDLING["append"], MEDDLING["pop"], MEDDLING["assign"])):
        ring = HistoryRing(maxlen, [3, 2, 1])
        calls = []

        def key(item, ring=ring, calls=calls, meddle=meddle):
            if not calls:
                calls.append(item)
                meddle(ring)
            return item

        with pytest.raises(ValueError, match="modified during sort"):
            ring.sort(key=key)
        expected = HistoryRing(maxlen, [3, 2, 1])
        meddle(expected)
        assert ring == expected


@pytest.mark.parametrize("meddle", MEDDLING.values(), ids=MEDDLING)
@pytest.mark.parametrize(
    "change",
    [
        lambda ring, item: ring.append(item),
        lambda ring, item: ring.appendleft(item),
        lambda ring, item: ring.insert(2, item),
        lambda ring, item: operator.setitem(ring, 2, item),
        lambda ring, item: operator.setitem(ring, slice(1, 3), [item, item]),
        lambda ring, item: operator.setitem(ring, slice(None, None, -2), [item] * 3),
    ],
)
def test_a_weigher_that_changes_the_ring(change, meddle):
    depth = []

    def weigh(item):
        if item == "heavy" and not depth:
            depth.append(item)
            meddle(ring)
            depth.pop()
        return 2

    ring = HistoryRing(8, weigher=weigh, max_weight=16)
    ring.extend(range(5))
    got = outcome(change, ring, "heavy")
    assert got in (None, IndexError)
    assert len(ring) <= 8
    # Begun anew it has no weigher.
    assert ring.weight in (2 * len(ring), 0)


class Index:
    """A number that does something when it is asked for."""

    def __init__(self, number, act):
        self.number, self.act = number, act

    def __index__(self):
        self.act()
        return self.number


@pytest.mark.parametrize("meddle", MEDDLING.values(), ids=MEDDLING)
@pytest.mark.parametrize(
    "use",
    [
        lambda ring, i: ring[i],
        lambda ring, i: ring[i:],
        lambda ring, i: ring[:i:-1],
        lambda ring, i: operator.setitem(ring, i, 1),
        lambda ring, i: operator.setitem(ring, slice(i, None), [1] * 9),
        lambda ring, i: operator.setitem(ring, slice(None, i, 2), [1, 1]),
        lambda ring, i: operator.delitem(ring, i),
        lambda ring, i: operator.delitem(ring, slice(i, None)),
        lambda ring, i: operator.delitem(ring, slice(None, None, i)),
        lambda ring, i: ring.pop(i),
        lambda ring, i: ring.insert(i, 1),
        lambda ring, i: ring.rotate(i),
        lambda ring, i: ring.index(1, i),
        lambda ring, i: ring * i,
        lambda ring, i: ring.__imul__(i),
    ],
)
def test_an_index_that_changes_the_ring(use, meddle):
    ring = HistoryRing(8, range(5))
    got = outcome(use, ring, Index(3, lambda: meddle(ring)))
    assert not isinstance(got, type) or got in (IndexError, ValueError)
    assert len(ring) == len(list(ring)) <= 8


def test_items_that_use_the_ring_when_they_are_freed():
    run("""
        import gc, sys
        from ullage import HistoryRing

        def note(report):
            # What a list would raise, too, and the use of a closed ring, are no fault.
            if not isinstance(report.exc_value, (TypeError, ValueError)) and "closed" not in str(report.exc_value):
                wrong.append(report.exc_value)

        wrong = []
        sys.unraisablehook = note

        class Last:
            def __init__(self, ring, act):
                self.ring, self.act = ring, act
            def __del__(self):
                freed.append(self)
                self.act(self.ring)

        acts = [
            lambda ring: ring.append(1), lambda ring: ring.clear(), lambda ring: list(ring), lambda ring: repr(ring),
            lambda ring: ring.extend(range(20)), lambda ring: ring.sort(), lambda ring: ring and ring.pop(),
            lambda ring: setattr(ring, "maxlen", 4), lambda ring: ring.__init__(5), lambda ring: gc.collect(),
        ]
        changes = [
            lambda ring: ring.append(0), lambda ring: ring.extend(range(9)), lambda ring: ring.clear(),
            lambda ring: ring.pop(), lambda ring: ring.__delitem__(0), lambda ring: ring.__setitem__(0, 1),
            lambda ring: ring.__setitem__(slice(None), []), lambda ring: ring.__delitem__(slice(None, None, 2)),
            lambda ring: setattr(ring, "maxlen", 1), lambda ring: ring.__init__(3), lambda ring: ring.close(),
            lambda ring: ring.appendleft(0), lambda ring: ring.__imul__(0),
        ]
        freed = []
        for act in acts:
            for change in changes:
                ring = HistoryRing(5)
                ring.extend(Last(ring, act) for _ in range(5))
                try:
                    change(ring)
                except (RuntimeError, TypeError):
                    pass
                try:
                    assert len(list(ring)) <= 5
                except RuntimeError as error:
                    assert "closed" in str(error)
                freed.clear()
                del ring
                gc.collect()
                freed.clear()
        assert not wrong, wrong[:3]
    """)


def test_rings_within_rings_are_freed_however_deep():
    run("""
        from ullage import HistoryRing

        ring = HistoryRing(1)
        for _ in range(200_000):
            ring = HistoryRing(1, [ring])
        del ring
    """)


def test_a_ring_used_on_both_sides_of_a_fork():
    run("""
        import os, sys, threading
        if not hasattr(os, "fork"):
            sys.exit()
        import warnings
        warnings.simplefilter("ignore")
        from ullage import HistoryRing

        ring, done = HistoryRing(100, ttl=1000, on_drop=lambda items: None), threading.Event()

        def write():
            while not done.is_set():
                ring.append(1)

        thread = threading.Thread(target=write)
        thread.start()
        for _ in range(20):
            child = os.fork()
            if not child:
                ring.extend(range(200))
                os._exit(0 if ring[-1] == 199 and len(ring) == 100 else 1)
            assert os.waitpid(child, 0)[1] == 0
        done.set()
        thread.join()
    """)


# Copies.

HOOK = print


@pytest.mark.parametrize(
    "ring",
    [
        HistoryRing(3, "abcd"),
        HistoryRing(None, "abcd", name="turns"),
        HistoryRing(5, range(9), keep_first=2, ttl=60, on_drop=HOOK),
        HistoryRing(None, ["aa", "b"], weigher=len, max_weight=4),
        HistoryRing(4, [b"abc"], max_bytes="2 KiB", ttl=timedelta(days=1)),
        HistoryRing(None, weigher=len),
    ],
    ids=repr,
)
@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, HistoryRing.copy]
    + [lambda ring, protocol=protocol: pickle.loads(pickle.dumps(ring, protocol)) for protocol in range(6)],
)
def test_copies_keep_contents_and_bounds(ring, copied):
    before = shape(ring)
    again = copied(ring)
    assert again is not ring
    assert shape(again) == before == shape(ring)
    assert again.weight == ring.weight
    assert again._settings == ring._settings
    again.extend(["x"] * 9)
    assert shape(ring) == before
    assert again.maxlen is None or len(again) <= again.maxlen
    assert again.max_weight is None or again.weight <= again.max_weight


def test_a_copy_is_shallow_and_a_deep_copy_deep():
    ring = HistoryRing(3, [[1]])
    assert copy.copy(ring)[0] is ring[0]
    assert copy.deepcopy(ring)[0] is not ring[0]


def test_copies_go_by_the_bounds_of_now():
    ring = HistoryRing(9, range(9))
    ring.maxlen = 4
    for again in (ring.copy(), copy.deepcopy(ring), pickle.loads(pickle.dumps(ring))):
        assert (again.maxlen, again[:]) == (4, [5, 6, 7, 8])


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copies_do_not_weigh_again(copied):
    item = []
    ring = HistoryRing(max_bytes=1000)
    ring.append(item)
    weight = ring.weight
    item.extend(range(1000))
    again = copied(ring)
    assert (again[:], again.weight) == ([item], weight)


def test_a_copy_tells_the_hook_nothing():
    told = []
    ring = HistoryRing(3, range(9), keep_first=1, on_drop=told.append)
    told.clear()
    again = ring.copy()
    assert (told, again.dropped) == ([], 0)
    again.append("x")
    assert told == [[7]]


def test_rings_that_contain_themselves():
    for maxlen in (None, 2):
        ring = HistoryRing(maxlen, "a")
        ring.append(ring)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            again = pickle.loads(pickle.dumps(ring, protocol))
            assert (again[0], again[1] is again, again.maxlen) == ("a", True, maxlen)
        deep = copy.deepcopy(ring)
        assert deep[1] is deep
        assert copy.copy(ring)[1] is ring


def test_a_hook_that_cannot_be_pickled_stays_behind_and_a_weigher_never_does():
    ring = HistoryRing(3, "abc", on_drop=lambda items: None)
    again = pickle.loads(pickle.dumps(ring))
    assert (again.maxlen, again[:], again._settings.get("on_drop")) == (3, ["a", "b", "c"], None)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(HistoryRing(None, weigher=lambda item: 1, max_weight=3))


class Turns(HistoryRing):
    """A subclass with arguments and attributes of its own."""

    def __init__(self, mood, items=()):
        super().__init__(4, items, keep_first=1)
        self.mood = mood


class Slotted(HistoryRing):
    """A subclass with slots."""

    __slots__ = ("mood",)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda ring: pickle.loads(pickle.dumps(ring))])
def test_subclasses(copied):
    turns = Turns("calm", range(9))
    slotted = Slotted(3, "abc")
    slotted.mood = "calm"
    for ring in (turns, slotted):
        again = copied(ring)
        assert shape(again) == shape(ring)
        assert again.mood == "calm"
    assert not hasattr(slotted, "__dict__")
    assert repr(turns) == "Turns(4, [0, 6, 7, 8])"


def test_a_subclass_may_change_methods():
    class Loud(HistoryRing):
        def append(self, item):
            super().append(f"{item}!")

        def __getitem__(self, i):
            return f"{super().__getitem__(i)}?"

    ring = Loud(3, "ab")
    ring.append("c")
    # As in a subclass of list: the other methods do not go through the ones that were changed.
    assert list(ring) == list(ring.copy()) == ["a", "b", "c!"]
    assert ring[0] == "a?"
    ring += "d"
    assert ring.pop() == "d"
    assert repr(ring).startswith("Loud(3")


def test_a_subclass_that_forgets_to_begin_is_told():
    class Lazy(HistoryRing):
        def __init__(self):
            pass

    for use in (lambda ring: ring.append(1), list, operator.itemgetter(0), lambda ring: ring.extend("a")):
        with pytest.raises(RuntimeError, match=r"super\(\).__init__"):
            use(Lazy())


def test_beginning_again_empties_it():
    told = []
    ring = HistoryRing(3, "abc", on_drop=told.append)
    ring.__init__(2, "xyz")
    assert (ring.maxlen, ring[:], ring.dropped, told) == (2, ["y", "z"], 1, [])
    with pytest.raises(ValueError, match="at least 1"):
        ring.__init__(0, "a")
    assert ring == ["y", "z"]


def test_pydantic_takes_rings_as_they_are():
    pydantic = pytest.importorskip("pydantic")

    class Chat(pydantic.BaseModel):
        turns: HistoryRing

    ring = HistoryRing(3, "abcd")
    assert Chat(turns=ring).turns is ring
    with pytest.raises(pydantic.ValidationError):
        Chat(turns=["a"])


# Ends.


def test_clear():
    told = []
    ring = HistoryRing(3, "abc", on_drop=told.append, weigher=len, max_weight=9)
    assert ring.clear() is None
    assert (ring[:], len(ring), ring.weight, told, ring.dropped) == ([], 0, 0, [], 0)
    ring.append("d")
    assert ring == ["d"]


def test_a_closed_ring_raises_and_says_so():
    class Item:
        pass

    item = Item()
    gone = weakref.ref(item)
    ring = HistoryRing(3, [item], on_drop=print)
    walk = iter(ring)
    del item
    ring.close()
    assert gone() is None
    ring.close()
    uses = [
        lambda: len(ring),
        lambda: ring.append(1),
        lambda: ring.appendleft(1),
        lambda: ring.extend([1]),
        lambda: ring.extendleft([1]),
        lambda: ring.insert(0, 1),
        lambda: ring.pop(),
        lambda: ring.popleft(),
        lambda: ring.remove(1),
        lambda: ring.index(1),
        lambda: ring.count(1),
        lambda: ring.sort(),
        lambda: ring.reverse(),
        lambda: ring.rotate(),
        lambda: ring.clear(),
        lambda: ring.copy(),
        lambda: copy.deepcopy(ring),
        lambda: pickle.dumps(ring),
        lambda: list(ring),
        lambda: list(reversed(ring)),
        lambda: ring[0],
        lambda: ring[:],
        lambda: operator.setitem(ring, 0, 1),
        lambda: operator.setitem(ring, slice(None), [1]),
        lambda: operator.delitem(ring, 0),
        lambda: 1 in ring,
        lambda: ring == [],
        lambda: operator.add(ring, []),
        lambda: ring * 2,
        lambda: operator.imul(ring, 2),
        lambda: operator.iadd(ring, [1]),
        lambda: setattr(ring, "maxlen", 5),
    ]
    for number, use in enumerate(uses):
        with pytest.raises(RuntimeError, match="closed"):
            raise AssertionError(f"use {number} gave {use()!r}")
    assert list(walk) == []
    # Reports may still ask.
    assert ring.stats().entries == 0
    assert repr(ring) == "HistoryRing(closed)"


def test_cycles_are_collected():
    class Item:
        pass

    for tie in (
        lambda ring, item: ring.append(item),
        lambda ring, item: ring.extend(["a", item]),
        lambda ring, item: setattr(item, "walk", iter(ring)),
        lambda ring, item: ring.__init__(3, on_drop=lambda items: item),
        lambda ring, item: ring.__init__(3, weigher=lambda items: item, max_weight=3),
        lambda ring, item: ring.__setitem__(slice(None), [item]),
        lambda ring, item: ring.insert(0, item),
    ):
        ring, item = HistoryRing(3), Item()
        item.ring = ring
        tie(ring, item)
        gone = weakref.ref(item), weakref.ref(ring)
        del ring, item
        gc.collect()
        assert [reference() for reference in gone] == [None, None]


def test_nothing_is_leaked():
    item = object()
    ring = HistoryRing(4, ttl=60, weigher=lambda item: 1, max_weight=4, on_drop=lambda items: None)
    before = sys.getrefcount(item)
    for _ in range(50):
        ring.extend([item] * 6)
        ring[0] = item
        ring[1:3] = [item] * 4
        ring[::2] = [item] * len(ring[::2])
        ring.appendleft(item)
        ring.pop()
        ring.insert(1, item)
        ring.remove(item)
        ring.reverse()
        ring.sort(key=id)
        ring.rotate()
        ring.index(item)
        list(ring)
        ring.copy()
        del ring[0]
        ring.maxlen = 2
        ring.maxlen = 4
        outcome(ring.insert, 99, item)
        outcome(ring.pop, 99)
    assert sys.getrefcount(item) == before + len(ring)
    ring.clear()
    assert sys.getrefcount(item) == before


# What it shows.


def test_repr():
    assert repr(HistoryRing(3, [1, "a"])) == "HistoryRing(3, [1, 'a'])"
    assert repr(HistoryRing(None)) == "HistoryRing(None, [])"
    ring = HistoryRing(3, "a")
    ring.append(ring)
    ring.append([ring])
    assert repr(ring) == "HistoryRing(3, ['a', [...], [[...]]])"
    shown = repr(HistoryRing(10**6, range(10**5)))
    assert len(shown) < 500
    assert "99999" in shown
    assert "99980 more" in shown
    assert eval(repr(HistoryRing(3, [1, "a"]))) == [1, "a"]


def test_getsizeof_tells_what_the_structure_takes():
    empty, small, large = (sys.getsizeof(HistoryRing(None, range(size))) for size in (0, 100, 100_000))
    assert empty < small < large
    assert 100_000 * 8 <= large - empty <= 2 * 100_000 * 8 + 4096
    plain, timed = HistoryRing(1000, range(1000)), HistoryRing(1000, range(1000), ttl=60)
    assert sys.getsizeof(timed) >= sys.getsizeof(plain) + 8000
    ring = HistoryRing(None, range(100_000))
    ring.clear()
    assert sys.getsizeof(ring) < 4096


def test_statistics():
    ring = HistoryRing(3, range(5), weigher=lambda item: 2, max_weight=100)
    before = ring.stats()
    assert (before.dropped, before.entries, before.weight, before.maxlen, before.max_weight) == (2, 3, 6, 3, 100)
    assert ring.stats() == before
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.dropped = 0
    ring.extend(range(4))
    since = ring.stats() - before
    assert (since.dropped, since.entries, since.callback_errors) == (4, 3, 0)
    with pytest.raises(TypeError):
        before - 1


def test_the_offset_counts_what_has_left_at_the_front():
    ring = HistoryRing(4)
    for i in range(10):
        ring.append(i)
        assert ring[0] == ring.offset
    ring.popleft()
    ring.maxlen = 2
    assert (ring[:], ring.offset) == ([8, 9], 8)
    ring.clear()
    ring.append(10)
    assert ring.offset == 10
    pinned = HistoryRing(4, range(10), keep_first=2)
    assert (pinned[2], pinned.offset + 2) == (8, 8)
