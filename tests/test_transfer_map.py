"""TransferMap: things in flight, their deadlines, and what becomes of them."""

import asyncio
import copy
import gc
import pickle
import sys
import weakref
from collections.abc import Callable, MutableMapping
from datetime import timedelta
from typing import Any

import pytest
import ullage
from child import run
from ullage import Full, LRUCache, TransferMap
from ullage.testing import ManualClock

INF = float("inf")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1000.0)


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """What went to `sys.unraisablehook`."""
    caught: list[BaseException] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda info: caught.append(info.exc_value))
    return caught


class Handle:
    """Something that can be watched."""


# One transfer.


def test_begin_and_complete() -> None:
    transfers = TransferMap(60)
    handle = Handle()
    assert transfers.begin("a", handle) is True
    assert transfers["a"] is handle
    assert transfers.state("a") == "live"
    assert transfers.complete("a") is handle
    assert transfers.state("a") == "completed"
    assert "a" not in transfers
    assert len(transfers) == 0


@pytest.mark.parametrize(
    ("end", "state"),
    [
        (lambda transfers: transfers.complete("a"), "completed"),
        (lambda transfers: transfers.complete("a", "default"), "completed"),
        (lambda transfers: transfers.complete(key="a", default="default"), "completed"),
        (lambda transfers: transfers.pop("a"), "completed"),
        (lambda transfers: transfers.pop("a", "default"), "completed"),
        (lambda transfers: transfers.popitem()[1], "completed"),
        (lambda transfers: transfers.fail("a"), "failed"),
    ],
)
def test_every_end_gives_the_handle_and_is_remembered(end: Callable[..., object], state: str) -> None:
    transfers = TransferMap(60)
    transfers["a"] = handle = Handle()
    assert end(transfers) is handle
    assert transfers.state("a") == state
    assert getattr(transfers.stats(), state) == 1
    with pytest.raises(KeyError):
        transfers["a"]


def test_del_counts_as_a_completion() -> None:
    transfers = TransferMap(60)
    transfers["a"] = 1
    del transfers["a"]
    assert transfers.state("a") == "completed"
    with pytest.raises(KeyError) as caught:
        del transfers["a"]
    assert caught.value.args == ("a",)


@pytest.mark.parametrize("key", ["a", ("a", "tuple"), (), None, 1.5, frozenset({1})])
@pytest.mark.parametrize(
    "look",
    [
        lambda transfers, key: transfers[key],
        lambda transfers, key: transfers.complete(key),
        lambda transfers, key: transfers.fail(key),
        lambda transfers, key: transfers.pop(key),
        lambda transfers, key: transfers.remaining(key),
        lambda transfers, key: transfers.deadline(key),
        lambda transfers, key: transfers.claim(key).__enter__(),
        lambda transfers, key: transfers.__delitem__(key),
    ],
)
def test_a_missing_key_is_a_key_error_with_the_key(look: Callable[..., object], key: object) -> None:
    with pytest.raises(KeyError) as caught:
        look(TransferMap(60), key)
    assert caught.value.args == (key,)


def test_defaults() -> None:
    transfers = TransferMap(60)
    default = object()
    assert transfers.get("a") is None
    assert transfers.get("a", default) is default
    assert transfers.peek("a", default) is default
    assert transfers.pop("a", None) is None
    assert transfers.pop("a", default) is default
    assert transfers.complete("b", None) is None
    assert transfers.renew("a") is False
    assert transfers.state("a") == "unknown"


@pytest.mark.parametrize(
    "call",
    [
        "begin",
        "complete",
        "renew",
        "remaining",
        "get",
        "peek",
        "pop",
        "fail",
        "claim",
        "state",
        "deadline",
    ],
)
def test_the_key_may_be_named(call: str) -> None:
    transfers = TransferMap(60)
    transfers["a"] = 1
    getattr(transfers, call)(key="a", **({"handle": 2} if call == "begin" else {}))


def test_begin_again_replaces() -> None:
    transfers = TransferMap(60)
    old = Handle()
    gone = weakref.ref(old)
    transfers.begin("a", old)
    del old
    assert transfers.begin("a", "new") is True
    assert transfers["a"] == "new"
    assert gone() is None
    assert len(transfers) == 1
    stats = transfers.stats()
    assert (stats.begun, stats.replaced, stats.live) == (2, 1, 1)


def test_begin_again_gives_a_new_deadline_even_a_nearer_one(clock: ManualClock) -> None:
    transfers = TransferMap(60, timer=clock)
    transfers.begin("a", 1)
    transfers.begin("a", 2, ttl=5)
    assert transfers.remaining("a") == 5
    clock.advance(5)
    assert "a" not in transfers


@pytest.mark.parametrize("key", [-1, -2, 1, 1.0, True, "a", ("a", 1), None, float("nan"), 2**70, b"x", frozenset()])
def test_keys_as_in_a_dict(key: object) -> None:
    transfers = TransferMap(60)
    plain: dict[object, int] = {}
    for other in (-1, -2, 1, "a", key):
        transfers[other] = plain[other] = len(plain)
    assert list(transfers.items()) == list(plain.items())
    assert transfers[key] == plain[key]


# Deadlines.


@pytest.mark.parametrize("ttl", [10, 10.0, timedelta(seconds=10)])
def test_a_lifetime_in_every_spelling(ttl: Any, clock: ManualClock) -> None:
    transfers = TransferMap(ttl, timer=clock)
    own = TransferMap(None, timer=clock)
    transfers["a"] = 1
    own.begin("a", 1, ttl=ttl)
    for each in (transfers, own):
        assert each.remaining("a") == 10
        assert each.deadline("a") == 1010
        assert each.next_deadline() == 1010
    clock.advance(9.999999999)
    assert transfers["a"] == own["a"] == 1
    clock.advance(0.000000001)
    assert "a" not in transfers
    assert "a" not in own
    assert transfers.ttl == ttl


@pytest.mark.parametrize("ttl", [None, INF, 1e300, 10**400, timedelta.max])
def test_for_ever(ttl: Any, clock: ManualClock) -> None:
    transfers = TransferMap(ttl, timer=clock)
    transfers["a"] = 1
    assert transfers.remaining("a") is None
    assert transfers.deadline("a") is None
    assert transfers.next_deadline() is None
    clock.advance(1e9)
    assert transfers["a"] == 1
    finite = TransferMap(10, timer=clock)
    finite.begin("a", 1, ttl=ttl)
    assert finite.remaining("a") == (10 if ttl is None else None)


def test_an_expired_entry_is_invisible_at_once(clock: ManualClock) -> None:
    transfers = TransferMap(10, timer=clock)
    transfers["a"] = 1
    clock.advance(4)
    transfers["b"] = 2
    clock.advance(6)
    assert transfers.state("a") == "expired"
    assert "a" not in transfers
    assert transfers.get("a") is None
    assert len(transfers) == 1
    assert list(transfers) == ["b"]
    assert list(reversed(transfers)) == ["b"]
    assert transfers == {"b": 2}
    assert repr(transfers) == "TransferMap(10, {'b': 2})"
    assert transfers.renew("a") is False
    for look in (transfers.remaining, transfers.deadline, transfers.complete, transfers.fail, transfers.__getitem__):
        with pytest.raises(KeyError):
            look("a")
    assert transfers.stats().expired == 1
    assert transfers.pop_expired() == [("a", 1)]
    assert transfers.state("a") == "expired"


def test_an_expired_key_begins_anew_and_its_old_handle_still_waits(clock: ManualClock) -> None:
    transfers = TransferMap(10, timer=clock)
    transfers["a"] = "old"
    clock.advance(10)
    transfers["a"] = "new"
    assert transfers["a"] == "new"
    clock.advance(1)
    assert transfers.pop_expired() == [("a", "old")]
    assert transfers.state("a") == "live"
    clock.advance(9)
    assert transfers.pop_expired() == [("a", "new")]
    assert transfers.pop_expired() == []


def test_renew_never_shortens(clock: ManualClock) -> None:
    transfers = TransferMap(10, timer=clock)
    transfers["a"] = 1
    for ttl, left in [(5, 10), (20, 20), (None, 20), (timedelta(seconds=30), 30), (INF, None), (1, None), (None, None)]:
        assert transfers.renew("a", ttl) is True
        assert transfers.remaining("a") == left
    assert transfers.stats().renewed == 7


def test_renewals_in_any_order_with_mixed_lifetimes(clock: ManualClock) -> None:
    transfers = TransferMap(10, timer=clock)
    for key in range(100):
        transfers.begin(key, key, ttl=1 + (key * 37) % 100)
    for key in range(99, -1, -3):
        transfers.renew(key, ttl=200 + (key * 11) % 50)
    expected = sorted(range(100), key=lambda key: transfers.deadline(key) or 0)
    clock.advance(300)
    assert [key for key, _ in transfers.pop_expired()] == expected


def test_renew_by_the_maps_own_lifetime_counts_from_now(clock: ManualClock) -> None:
    transfers = TransferMap(10, timer=clock)
    transfers["a"] = 1
    clock.advance(9)
    assert transfers.renew("a")
    assert transfers.deadline("a") == 1019


def test_next_deadline_follows_what_comes_and_goes(clock: ManualClock) -> None:
    transfers = TransferMap(10, timer=clock)
    assert transfers.next_deadline() is None
    transfers.begin("far", 1, ttl=50)
    assert transfers.next_deadline() == 1050
    transfers.begin("near", 1, ttl=5)
    assert transfers.next_deadline() == 1005
    transfers.renew("near", 7)
    assert transfers.next_deadline() == 1007
    transfers.complete("near")
    assert transfers.next_deadline() == 1050
    clock.advance(60)
    assert transfers.next_deadline() <= 1060  # What waits is due now.
    transfers.pop_expired()
    assert transfers.next_deadline() is None


def test_an_event_loop_that_sleeps_until_the_next_deadline_finds_everything() -> None:
    async def main() -> list[Any]:
        transfers = TransferMap(0.02)
        for key in range(5):
            transfers.begin(key, key, ttl=0.01 + key / 1000)
        found: list[Any] = []
        while (at := transfers.next_deadline()) is not None:
            await asyncio.sleep(max(at - asyncio.get_running_loop().time(), 0))
            found += transfers.pop_expired()
        return found

    assert asyncio.run(asyncio.wait_for(main(), 20)) == [(key, key) for key in range(5)]


def test_deadlines_are_on_time_monotonic_by_default() -> None:
    from time import monotonic

    transfers = TransferMap(100)
    before = monotonic()
    transfers["a"] = 1
    assert before + 100 <= (transfers.deadline("a") or 0) <= monotonic() + 100
    assert before + 100 <= (transfers.next_deadline() or 0) <= monotonic() + 100
    assert 0 < (transfers.remaining("a") or 0) <= 100


def test_a_deadline_stays_what_it_is() -> None:
    transfers = TransferMap(100)
    transfers["a"] = 1
    assert len({transfers.deadline("a") for _ in range(100)}) == 1


def test_the_deadline_of_a_claimed_entry_is_its_own_though_it_is_over(clock: ManualClock) -> None:
    transfers = TransferMap(10, timer=clock)
    transfers["a"] = 1
    with transfers.claim("a"):
        clock.advance(100)
        assert transfers.deadline("a") == 1010
        assert transfers.remaining("a") == 0


@pytest.mark.parametrize("now", [1e300, 1e18, 2e10, 1.0, -1e300])
def test_a_clock_may_read_anything(now: float) -> None:
    clock = [0.0]
    transfers = TransferMap(None, timer=lambda: clock[0])
    transfers["a"] = 1
    clock[0] = now
    assert transfers.state("a") == "live"
    assert (len(transfers), transfers.get("a"), list(transfers), transfers.pop_expired()) == (1, 1, ["a"], [])
    transfers["b"] = 2
    assert transfers == {"a": 1, "b": 2}


def test_a_clock_that_is_turned_back_loses_nothing() -> None:
    clock = [1000.0]
    transfers = TransferMap(10, timer=lambda: clock[0])
    transfers["a"] = 1
    clock[0] = 5.0
    transfers["b"] = 2
    assert transfers == {"a": 1, "b": 2}
    clock[0] = 2000.0
    assert sorted(transfers.pop_expired()) == [("a", 1), ("b", 2)]


@pytest.mark.parametrize("start", [0.0, -5e8, 1.7e9, 1e15])
def test_a_clock_may_start_anywhere(start: float) -> None:
    clock = ManualClock(start)
    transfers = TransferMap(16, timer=clock)
    transfers["a"] = 1
    assert transfers.deadline("a") == start + 16
    clock.advance(15.5)
    assert "a" in transfers
    clock.advance(0.5)
    assert "a" not in transfers


# What has expired.


def test_pop_expired_in_the_order_of_deadlines_each_once(clock: ManualClock) -> None:
    transfers = TransferMap(1, timer=clock)
    lifetimes = {key: 1 + (key * 7919) % 1000 / 1000 for key in range(1000)}
    for key, ttl in lifetimes.items():
        transfers.begin(key, str(key), ttl=ttl)
    clock.advance(1.5)
    early = transfers.pop_expired()
    clock.advance(1)
    late = transfers.pop_expired()
    assert [key for key, _ in early + late] == sorted(lifetimes, key=lambda key: (lifetimes[key], key))
    assert all(handle == str(key) for key, handle in early + late)
    assert all(lifetimes[key] <= 1.5 for key, _ in early)
    assert transfers.pop_expired() == []
    assert transfers.stats().expired == 1000


@pytest.mark.parametrize("limit", [0, 1, 7, 255, 256, 257, 1000, 2**62, 2**63, 2**64, 10**30])
def test_pop_expired_with_a_limit(limit: int, clock: ManualClock) -> None:
    transfers = TransferMap(10, timer=clock)
    for key in range(600):
        transfers[key] = key
    clock.advance(10)
    first = transfers.pop_expired(limit)
    assert first == [(key, key) for key in range(min(limit, 600))]
    assert transfers.stats().waiting == 600 - len(first)
    assert first + transfers.pop_expired() == [(key, key) for key in range(600)]


def test_other_calls_on_expired_entries_do_not_upset_the_order(clock: ManualClock) -> None:
    transfers = TransferMap(10, timer=clock)
    for key in range(40):
        transfers.begin(key, key, ttl=10 + key / 100)
    clock.advance(20)
    transfers[39] = "new"
    transfers.pop(20, None)
    transfers["more"] = 1
    transfers.fail("more")
    assert transfers.popitem() == (39, "new")
    with pytest.raises(KeyError):
        transfers.popitem()
    assert [key for key, _ in transfers.pop_expired()] == list(range(40))


def test_a_claim_that_ends_late_does_not_upset_the_order(clock: ManualClock) -> None:
    transfers = TransferMap(10, timer=clock)
    transfers["late"] = 1
    transfers.begin("early", 2, ttl=5)
    with transfers.claim("late"):
        clock.advance(20)
    assert transfers.pop_expired() == [("early", 2), ("late", 1)]


def test_the_handle_is_handed_over_not_kept(clock: ManualClock) -> None:
    transfers = TransferMap(10, timer=clock)
    transfers["a"] = Handle()
    gone = weakref.ref(transfers["a"])
    clock.advance(10)
    popped = transfers.pop_expired()
    assert popped[0][1] is gone()
    del popped
    assert gone() is None


def test_nothing_expires_unseen_once_pop_expired_is_used(clock: ManualClock) -> None:
    transfers = TransferMap(10, timer=clock)
    assert transfers.pop_expired() == []
    for key in range(70_000):
        transfers[key] = key
    clock.advance(10)
    for key in range(100):
        transfers[("more", key)] = key
    assert transfers.stats().unseen == 0
    assert len(transfers.pop_expired()) == 70_000


def test_without_anyone_asking_only_so_many_wait(clock: ManualClock) -> None:
    transfers = TransferMap(1, maxsize=10, timer=clock)
    for key in range(1000):
        transfers[key] = Handle()
        clock.advance(0.1)
    stats = transfers.stats()
    assert stats.live <= 10
    assert stats.waiting <= 20
    assert stats.unseen + stats.waiting + stats.live == 1000
    assert gc.collect() is not None
    assert sum(isinstance(each, Handle) for each in gc.get_objects()) <= 30


def test_a_bounded_map_whose_expired_are_asked_for_is_full_of_them_too(clock: ManualClock) -> None:
    transfers = TransferMap(1, maxsize=3, timer=clock)
    transfers.pop_expired()
    for key in range(3):
        transfers[key] = key
    clock.advance(1)
    with pytest.raises(Full, match="pop_expired"):
        transfers[3] = 3
    assert transfers.pop_expired(1) == [(0, 0)]
    transfers[3] = 3
    assert transfers == {3: 3}
    assert transfers.pop_expired() == [(1, 1), (2, 2)]


# on_expire.


def test_on_expire_gets_batches_in_order(clock: ManualClock) -> None:
    batches: list[list[Any]] = []
    transfers = TransferMap(10, timer=clock, on_expire=batches.append)
    for key in range(1000):
        transfers.begin(key, str(key), ttl=10 - key / 1000)
    clock.advance(20)
    assert transfers.get("anything") is None
    assert [pair for batch in batches for pair in batch] == [(key, str(key)) for key in range(999, -1, -1)]
    assert len(batches) < 20
    assert transfers.pop_expired() == []
    assert transfers.state(5) == "expired"


@pytest.mark.parametrize(
    "use",
    [
        lambda transfers: transfers.get("x"),
        lambda transfers: "x" in transfers,
        len,
        list,
        lambda transfers: list(transfers.items()),
        lambda transfers: transfers.begin("new", 1),
        lambda transfers: transfers.__setitem__("new", 1),
        lambda transfers: transfers.setdefault("new", 1),
        lambda transfers: transfers.pop("x", None),
        lambda transfers: transfers.complete("x", None),
        lambda transfers: transfers.renew("x"),
        lambda transfers: transfers.state("x"),
        lambda transfers: transfers.expire(),
    ],
)
def test_on_expire_is_called_when_the_map_is_next_used(use: Callable[..., object], clock: ManualClock) -> None:
    batches: list[list[Any]] = []
    transfers = TransferMap(10, timer=clock, on_expire=batches.append)
    transfers["a"] = 1
    clock.advance(10)
    use(transfers)
    assert batches == [[("a", 1)]]


def test_what_on_expire_returns_is_kept(clock: ManualClock) -> None:
    batches: list[list[Any]] = []

    def on_expire(batch: list[tuple[str, int]]) -> dict[str, Any]:
        batches.append(batch)
        return {"b": 5, "for ever": INF, "never heard of": 3}

    transfers = TransferMap(10, timer=clock, on_expire=on_expire)
    for key in ("a", "b", "for ever"):
        transfers[key] = key.upper()
    clock.advance(10)
    transfers.expire()
    assert dict(transfers) == {"b": "B", "for ever": "FOR EVER"}
    assert transfers.remaining("b") == 5
    assert transfers.remaining("for ever") is None
    assert transfers.state("a") == "expired"
    assert transfers.state("b") == "live"
    assert transfers.stats().kept == 2
    assert transfers.complete("b") == "B"
    assert batches == [[("a", "A"), ("b", "B"), ("for ever", "FOR EVER")]]


def test_what_is_kept_expires_again(clock: ManualClock) -> None:
    rounds: list[int] = []

    def on_expire(batch: list[Any]) -> dict[str, int] | None:
        rounds.append(len(batch))
        return {"a": 5} if len(rounds) < 3 else None

    transfers = TransferMap(10, timer=clock, on_expire=on_expire)
    transfers["a"] = 1
    for _ in range(5):
        clock.advance(10)
        transfers.expire()
    assert rounds == [1, 1, 1]
    assert "a" not in transfers


def test_on_expire_may_use_the_map(clock: ManualClock) -> None:
    seen: list[Any] = []

    def on_expire(batch: list[tuple[str, int]]) -> None:
        for key, handle in batch:
            seen.append((key, transfers.state(key), key in transfers, len(transfers)))
            transfers.begin(key, handle + 1)
            transfers.pop_expired()
            transfers.expire()

    transfers = TransferMap(10, maxsize=2, timer=clock, on_expire=on_expire)
    transfers["a"] = 1
    transfers["b"] = 1
    clock.advance(10)
    transfers.expire()
    assert seen == [("a", "expired", False, 0), ("b", "expired", False, 1)]
    assert transfers == {"a": 2, "b": 2}


def test_a_key_that_began_anew_meanwhile_is_kept_behind_it(clock: ManualClock) -> None:
    def on_expire(batch: list[tuple[str, str]]) -> dict[str, int]:
        if batch[0][1] == "old":
            transfers["a"] = "new"
            return {"a": 5}
        return {}

    transfers = TransferMap(10, timer=clock, on_expire=on_expire)
    transfers["a"] = "old"
    clock.advance(10)
    transfers.expire()
    assert transfers["a"] == "new"
    # The old handle was not lost: it waits to be handed over once more.
    assert transfers.stats().waiting == 1


@pytest.mark.parametrize("exception", [ValueError, KeyError, SystemExit, KeyboardInterrupt])
def test_an_exception_of_on_expire_goes_to_the_hook(
    exception: type[BaseException], clock: ManualClock, unraisable: list[BaseException]
) -> None:
    def on_expire(batch: list[Any]) -> None:
        raise exception("from the callback")

    transfers = TransferMap(10, timer=clock, on_expire=on_expire)
    transfers["a"] = 1
    clock.advance(10)
    transfers["b"] = 2
    assert [type(error) for error in unraisable] == [exception]
    assert transfers.stats().callback_errors == 1
    assert transfers == {"b": 2}
    assert transfers.pop_expired() == []


@pytest.mark.parametrize("ttl", [-1, 0, float("nan"), "soon", True])
def test_a_wrong_lifetime_from_on_expire_is_reported_and_asked_for_again(
    ttl: Any, clock: ManualClock, unraisable: list[BaseException]
) -> None:
    batches: list[list[Any]] = []

    def on_expire(batch: list[Any]) -> dict[str, Any]:
        batches.append(batch)
        return {"a": ttl} if len(batches) == 1 else {"a": 5}

    transfers = TransferMap(10, timer=clock, on_expire=on_expire)
    transfers["a"] = "handle"
    clock.advance(10)
    transfers.expire()
    assert [type(error) for error in unraisable] in ([TypeError], [ValueError])
    assert transfers.stats().callback_errors == 1
    # Somebody wanted to keep it: it is handed over once more rather than freed too soon.
    transfers.expire()
    assert batches == [[("a", "handle")]] * 2
    assert transfers.remaining("a") == 5


@pytest.mark.parametrize("answer", ["text", [1], (), ["a"], 5, True, object()])
def test_an_answer_of_on_expire_that_is_no_mapping_keeps_nothing(
    answer: Any, clock: ManualClock, unraisable: list[BaseException]
) -> None:
    batches: list[list[Any]] = []
    transfers = TransferMap(10, timer=clock, on_expire=lambda batch: batches.append(batch) or answer)
    transfers["a"] = "handle"
    clock.advance(10)
    for _ in range(5):
        transfers.expire()
    assert batches == [[("a", "handle")]]
    assert transfers.pop_expired() == []
    assert len(unraisable) == transfers.stats().callback_errors <= 1


def test_one_entry_that_cannot_be_kept_does_not_take_the_others_along(
    clock: ManualClock, unraisable: list[BaseException]
) -> None:
    class Key:
        failures = 0

        def __init__(self, name: str) -> None:
            self.name = name

        def __hash__(self) -> int:
            if self.name == "b" and Key.failures:
                Key.failures -= 1
                raise ValueError("no hash now")
            return hash(self.name)

    a, _, c = keys = [Key(name) for name in "abc"]

    def on_expire(batch: list[Any]) -> dict[Key, int]:
        kept = dict.fromkeys(keys, 5)
        Key.failures = 1
        return kept

    transfers = TransferMap(10, timer=clock, on_expire=on_expire)
    for key in keys:
        transfers[key] = key.name
    clock.advance(10)
    transfers.expire()
    assert len(unraisable) == 1
    assert transfers[a] == "a"
    assert transfers[c] == "c"


def test_what_is_kept_survives_a_clock_that_fails(clock: ManualClock, unraisable: list[BaseException]) -> None:
    broken = False

    def timer() -> float:
        if broken:
            raise ZeroDivisionError
        return clock()

    def on_expire(batch: list[Any]) -> dict[str, int]:
        nonlocal broken
        broken = True
        return {"a": 5}

    transfers = TransferMap(10, timer=timer, on_expire=on_expire)
    transfers["a"] = "handle"
    clock.advance(10)
    transfers.expire()
    broken = False
    found = [handle for _, handle in transfers.pop_expired()] + list(transfers.values())
    assert found == ["handle"]


def test_keeping_in_a_full_map_does_not_break_the_bound(clock: ManualClock) -> None:
    def on_expire(batch: list[tuple[Any, Any]]) -> dict[Any, int]:
        for key in range(3):
            transfers["new", key] = key
        return {key: 5 for key, _ in batch}

    transfers = TransferMap(10, maxsize=3, timer=clock, on_expire=on_expire)
    for key in range(3):
        transfers[key] = key
    clock.advance(10)
    transfers.expire()
    assert len(transfers) == 3
    assert transfers.stats().waiting == 3


@pytest.mark.parametrize("end", ["clear", "close"])
def test_clear_and_close_within_on_expire(end: str, clock: ManualClock, unraisable: list[BaseException]) -> None:
    calls: list[int] = []

    def on_expire(batch: list[Any]) -> dict[Any, int]:
        calls.append(len(batch))
        getattr(transfers, end)()
        return {key: 5 for key, _ in batch}

    transfers = TransferMap(10, timer=clock, on_expire=on_expire)
    for key in range(600):
        transfers[key] = key
    clock.advance(10)
    if end == "clear":
        assert transfers.expire() == 0
        assert len(transfers) == calls[0]
        assert unraisable == []
    else:
        with pytest.raises(RuntimeError, match="closed"):
            transfers["x"] = 1
        assert {type(error) for error in unraisable} == {RuntimeError}
    assert len(calls) == 1


# Claims.


def test_what_is_claimed_does_not_expire(clock: ManualClock) -> None:
    transfers = TransferMap(10, timer=clock)
    transfers["a"] = handle = Handle()
    with transfers.claim("a") as claimed:
        assert claimed is handle
        clock.advance(100)
        assert transfers.state("a") == "claimed"
        assert transfers["a"] is handle
        assert len(transfers) == 1
        assert transfers.pop_expired() == []
        assert transfers.next_deadline() is None
    assert transfers.state("a") == "expired"
    assert transfers.pop_expired() == [("a", handle)]


def test_a_claim_within_the_deadline_changes_nothing(clock: ManualClock) -> None:
    transfers = TransferMap(10, timer=clock)
    transfers["a"] = 1
    with transfers.claim("a"):
        clock.advance(4)
        assert transfers.remaining("a") == 6
    assert transfers.state("a") == "live"
    assert transfers.deadline("a") == transfers.next_deadline() == 1010


def test_nested_claims(clock: ManualClock) -> None:
    transfers = TransferMap(10, timer=clock)
    transfers["a"] = 1
    again = transfers.claim("a")
    with transfers.claim("a"), again, again:
        clock.advance(20)
    assert transfers.state("a") == "expired"
    transfers["b"] = 1
    outer, inner = transfers.claim("b"), transfers.claim("b")
    outer.__enter__()
    inner.__enter__()
    clock.advance(20)
    outer.__exit__(None, None, None)
    assert transfers.state("b") == "claimed"
    outer.__exit__(None, None, None)  # One exit too many gives back nothing of another's.
    assert transfers.state("b") == "claimed"
    inner.__exit__(None, None, None)
    assert transfers.state("b") == "expired"


def test_a_renewal_during_a_claim_counts_after_it(clock: ManualClock) -> None:
    transfers = TransferMap(10, timer=clock)
    transfers["a"] = 1
    with transfers.claim("a"):
        clock.advance(20)
        assert transfers.renew("a", 50)
        assert transfers.renew("a", 1)
        assert transfers.remaining("a") == 50
    assert transfers.remaining("a") == 50
    clock.advance(50)
    assert transfers.state("a") == "expired"


def test_an_exception_in_a_claim_passes_and_gives_it_back(clock: ManualClock) -> None:
    transfers = TransferMap(10, timer=clock)
    transfers["a"] = 1
    with pytest.raises(ZeroDivisionError), transfers.claim("a"):
        raise ZeroDivisionError
    assert transfers.state("a") == "live"


@pytest.mark.parametrize(
    ("end", "state"),
    [
        (lambda transfers: transfers.complete("a"), "completed"),
        (lambda transfers: transfers.fail("a"), "failed"),
        (lambda transfers: transfers.clear(), "unknown"),
    ],
)
def test_what_ends_during_a_claim_has_ended(end: Callable[..., object], state: str, clock: ManualClock) -> None:
    transfers = TransferMap(10, timer=clock)
    transfers["a"] = 1
    with transfers.claim("a"):
        end(transfers)
        assert transfers.state("a") == state
        transfers["a"] = "anew"
        assert transfers.state("a") == "live"
    assert transfers.state("a") == "live"
    assert transfers.remaining("a") == 10


def test_what_is_replaced_during_a_claim_is_claimed_no_more(clock: ManualClock) -> None:
    transfers = TransferMap(10, timer=clock)
    transfers["a"] = "old"
    with transfers.claim("a") as handle:
        transfers["a"] = "new"
        assert handle == "old"
        with transfers.claim("a"):
            pass
        assert transfers.state("a") == "live"
    clock.advance(10)
    assert transfers.state("a") == "expired"


def test_a_claim_outlives_a_closed_map() -> None:
    transfers = TransferMap(10)
    transfers["a"] = 1
    with transfers.claim("a") as handle:
        transfers.close()
        assert handle == 1


def test_a_claim_of_an_expired_entry_is_a_key_error(clock: ManualClock) -> None:
    transfers = TransferMap(10, timer=clock)
    transfers["a"] = 1
    claim = transfers.claim("a")
    clock.advance(10)
    with pytest.raises(KeyError), claim:
        raise AssertionError("not reached")
    assert claim.__exit__(None, None, None) is False


def test_on_expire_hears_of_what_expires_when_its_claim_ends(clock: ManualClock) -> None:
    batches: list[list[Any]] = []
    transfers = TransferMap(10, timer=clock, on_expire=batches.append)
    transfers["a"] = 1
    with transfers.claim("a"):
        clock.advance(20)
        transfers.expire()
        assert batches == []
    assert batches == [[("a", 1)]]


def test_a_claim_is_given_back_though_the_clock_fails() -> None:
    broken = False

    def timer() -> float:
        if broken:
            raise ZeroDivisionError
        return 0.0

    transfers = TransferMap(10, timer=timer)
    transfers["a"] = 1
    with pytest.raises(ZeroDivisionError), transfers.claim("a"):
        broken = True
        transfers.get("a")
    broken = False
    assert transfers.state("a") == "live"


def test_a_claim_that_is_forgotten_is_given_back() -> None:
    transfers = TransferMap(10)
    transfers["a"] = 1
    claim = transfers.claim("a")
    claim.__enter__()
    del claim
    gc.collect()
    assert transfers.state("a") == "live"


# What is remembered.


def test_late_early_and_unknown_completions(clock: ManualClock) -> None:
    transfers = TransferMap(10, timer=clock)
    transfers["late"] = 1
    clock.advance(10)
    assert transfers.complete("late", None) is None
    transfers.pop_expired()
    assert transfers.complete("late", None) is None
    assert transfers.complete("early", None) is None
    assert transfers.complete("early", None) is None
    stats = transfers.stats()
    assert (stats.late, stats.early, stats.completed) == (2, 1, 0)
    assert transfers.state("late") == "expired"
    assert transfers.state("early") == "completed"
    assert transfers.state("unknown") == "unknown"


def test_a_completion_that_came_first_meets_its_begin() -> None:
    transfers = TransferMap(10)
    with pytest.raises(KeyError):
        transfers.complete("a")
    handle = Handle()
    gone = weakref.ref(handle)
    assert transfers.begin("a", handle) is False
    del handle
    assert gone() is None
    assert "a" not in transfers
    stats = transfers.stats()
    assert (stats.begun, stats.completed, stats.early, stats.live) == (1, 1, 1, 0)
    # The inbox held it once.
    assert transfers.begin("a", "again") is True
    assert transfers["a"] == "again"


def test_fail_pop_and_del_of_the_unknown_do_not_wait_for_a_begin() -> None:
    transfers = TransferMap(10)
    for end in (transfers.fail, transfers.pop, transfers.__delitem__):
        with pytest.raises(KeyError):
            end("a")
    assert transfers.pop("a", None) is None
    assert transfers.begin("a", 1) is True


@pytest.mark.parametrize("end", ["complete", "fail", "expire", "early"])
def test_the_memory_of_what_has_gone_is_bounded(end: str, clock: ManualClock) -> None:
    transfers = TransferMap(10, timer=clock)
    keys = [str(key) for key in range(10_000)]
    for key in keys:
        if end == "early":
            transfers.complete(key, None)
            continue
        transfers[key] = 1
        if end != "expire":
            getattr(transfers, end)(key)
    clock.advance(10)
    transfers.pop_expired()
    states = [transfers.state(key) for key in keys]
    ended = {"complete": "completed", "fail": "failed", "expire": "expired", "early": "completed"}[end]
    assert states == ["unknown"] * (10_000 - 4096) + [ended] * 4096
    assert len(transfers) == 0
    size = sys.getsizeof(transfers)
    for key in range(20_000):
        transfers.complete(key, None)
    assert sys.getsizeof(transfers) <= size + 4096


def test_keys_that_are_forgotten_are_let_go_of() -> None:
    class Key:
        pass

    transfers = TransferMap(10)
    keys = [Key() for _ in range(5000)]
    watched = [weakref.ref(key) for key in keys]
    for key in keys:
        transfers[key] = 1
        transfers.complete(key)
    del keys, key
    gc.collect()
    assert sum(ref() is not None for ref in watched) == 4096
    transfers.clear()
    ullage.flush()
    assert sum(ref() is not None for ref in watched) == 0


# The bound.


def test_a_full_map_raises() -> None:
    transfers = TransferMap(60, maxsize=2)
    transfers["a"] = transfers["b"] = 1
    with pytest.raises(Full, match="2"):
        transfers["c"] = 1
    with pytest.raises(Full):
        transfers.begin("c", 1)
    with pytest.raises(Full):
        transfers.setdefault("c", 1)
    with pytest.raises(Full):
        transfers.update({"c": 1})
    assert transfers == {"a": 1, "b": 1}
    assert transfers.state("c") == "unknown"
    transfers["a"] = 2  # Replacing needs no room.
    assert transfers.setdefault("b", 5) == 1
    transfers.complete("a")
    transfers["c"] = 3
    assert transfers == {"b": 1, "c": 3}


def test_what_has_expired_makes_room(clock: ManualClock) -> None:
    transfers = TransferMap(10, maxsize=2, timer=clock)
    transfers["a"] = transfers["b"] = 1
    clock.advance(10)
    transfers["c"] = transfers["d"] = 1
    assert transfers == {"c": 1, "d": 1}
    assert transfers.pop_expired() == [("a", 1), ("b", 1)]


def test_a_full_map_may_evict_the_nearest_deadline(clock: ManualClock) -> None:
    transfers = TransferMap(10, maxsize=3, on_full="evict", timer=clock)
    transfers.begin("far", 1, ttl=100)
    transfers.begin("near", 2, ttl=5)
    transfers.begin("for ever", 3, ttl=INF)
    transfers["new"] = 4
    assert list(transfers) == ["far", "for ever", "new"]
    assert transfers.state("near") == "expired"
    transfers["newer"] = 5
    assert list(transfers) == ["far", "for ever", "newer"]
    assert transfers.pop_expired() == [("near", 2), ("new", 4)]
    stats = transfers.stats()
    assert (stats.evicted, stats.expired, stats.high_water) == (2, 2, 3)


def test_only_what_never_expires_is_left_to_evict(clock: ManualClock) -> None:
    transfers = TransferMap(None, maxsize=2, on_full="evict", timer=clock)
    for key in "abcd":
        transfers[key] = key
    assert list(transfers) == ["c", "d"]
    assert transfers.pop_expired() == [("a", "a"), ("b", "b")]


@pytest.mark.parametrize("ttl", [10, None])
def test_what_is_claimed_is_not_evicted(ttl: float | None, clock: ManualClock) -> None:
    transfers = TransferMap(ttl, maxsize=2, on_full="evict", timer=clock)
    transfers["a"] = transfers["b"] = 1
    with transfers.claim("a"):
        transfers["c"] = 1
        assert transfers.state("a") == "claimed"
        assert transfers.state("b") == "expired"
        with transfers.claim("c"):
            with pytest.raises(Full):
                transfers["d"] = 1
            assert list(transfers) == ["a", "c"]
    transfers.pop_expired()
    transfers["d"] = 1
    assert len(transfers) == 2


def test_maxsize_can_be_set(clock: ManualClock) -> None:
    transfers = TransferMap(10, maxsize=4, timer=clock)
    for key in range(4):
        transfers.begin(key, key, ttl=10 - key)
    assert transfers.maxsize == 4
    transfers.maxsize = 2
    assert transfers.maxsize == 2
    assert transfers == {0: 0, 1: 1}
    assert transfers.pop_expired() == [(3, 3), (2, 2)]
    with pytest.raises(Full):
        transfers["x"] = 1
    assert copy.copy(transfers).maxsize == 2
    transfers.maxsize = None
    transfers.update(dict.fromkeys("abc", 1))
    assert len(transfers) == 5
    for wrong in (0, -1, True, 1.5, "3", float("nan")):
        with pytest.raises((ValueError, TypeError), match="maxsize"):
            transfers.maxsize = wrong
    assert transfers.maxsize is None
    for huge in (2**63 - 1, 2**63, 2**64, 10**30):
        transfers.maxsize = huge
        assert transfers.maxsize == copy.copy(transfers).maxsize == huge


# A mapping's surface.


def test_it_is_a_mutable_mapping() -> None:
    assert issubclass(TransferMap, MutableMapping)
    assert isinstance(TransferMap(1), MutableMapping)
    assert TransferMap[str, bytes]
    with pytest.raises(TypeError):
        hash(TransferMap(1))
    for name in dir(MutableMapping):
        assert name.startswith("_") or hasattr(TransferMap, name)


def test_setdefault() -> None:
    transfers = TransferMap(60)
    transfers.setdefault("a", []).append(1)
    transfers.setdefault("a", []).append(2)
    assert transfers["a"] == [1, 2]
    assert transfers.setdefault("b") is None
    assert transfers == {"a": [1, 2], "b": None}


def test_setdefault_of_an_expired_entry_begins_anew(clock: ManualClock) -> None:
    transfers = TransferMap(10, timer=clock)
    transfers.setdefault("a", []).append(1)
    clock.advance(10)
    transfers.setdefault("a", []).append(2)
    assert transfers["a"] == [2]
    assert transfers.pop_expired() == [("a", [1])]


@pytest.mark.parametrize(
    "more", [{"b": 2}, [("b", 2)], iter([("b", 2)]), LRUCache(2, {"b": 2}), {"b": 2}.items(), ["b2"], ()]
)
def test_update(more: Any) -> None:
    transfers = TransferMap(60)
    transfers["a"] = 1
    transfers.update(more, c=3)
    assert transfers["a"] == 1
    assert transfers["c"] == 3
    assert len(transfers) == (2 if more == () else 3)
    transfers.update(transfers)
    transfers.update(self=4, other=5)
    assert transfers["self"] == 4
    assert transfers["other"] == 5


def test_order_is_that_of_begin(clock: ManualClock) -> None:
    transfers = TransferMap(10, timer=clock)
    for key in "abc":
        transfers[key] = key
    transfers.renew("a")
    transfers["b"] = "again"
    transfers.get("a")
    assert list(transfers) == ["a", "b", "c"]
    assert list(reversed(transfers)) == ["c", "b", "a"]
    assert transfers.popitem() == ("c", "c")
    transfers.complete("a")
    transfers["a"] = 1
    assert list(transfers) == ["b", "a"]


@pytest.mark.parametrize("walk", [iter, reversed, lambda t: iter(t.items()), lambda t: iter(t.keys())])
def test_iteration_survives_every_removal(walk: Callable[..., Any]) -> None:
    transfers = TransferMap(60)
    for key in range(100):
        transfers[key] = key
    met = []
    for each in walk(transfers):
        key = each[0] if isinstance(each, tuple) else each
        met.append(key)
        transfers.complete(key)
        transfers.pop((key * 7) % 100, None)
    assert len(met) == len(set(met))
    assert len(transfers) == 0


def test_iteration_meets_everything_that_stays() -> None:
    transfers = TransferMap(60)
    for key in range(100):
        transfers[key] = key
    met = []
    for key in transfers:
        met.append(key)
        for gone in (key, 99 - key):
            if gone % 3:
                transfers.pop(gone, None)
    assert [key for key in met if key % 3 == 0] == list(range(0, 100, 3))
    assert met == sorted(set(met))


@pytest.mark.parametrize("end", ["clear", "pop", "replace", "close"])
def test_iteration_over_what_was_swept_away(end: str) -> None:
    transfers = TransferMap(60)
    for key in range(10):
        transfers[key] = key
    walk = iter(transfers)
    assert next(walk) == 0
    if end == "pop":
        for key in range(10):
            transfers.pop(key)
    elif end == "replace":
        for key in range(10):
            transfers[key] = "new"
        assert list(walk) == list(range(1, 10))
        return
    else:
        getattr(transfers, end)()
    assert list(walk) == []
    assert list(walk) == []


def test_iteration_skips_what_expires_meanwhile(clock: ManualClock) -> None:
    transfers = TransferMap(10, timer=clock)
    for key in range(4):
        transfers.begin(key, key, ttl=10 + key)
    walk = iter(transfers)
    assert next(walk) == 0
    clock.advance(12)
    assert list(walk) == [3]


def test_iteration_that_begins_entries_comes_to_an_end() -> None:
    run("""
        from ullage import TransferMap
        for walk in (iter, lambda t: iter(t.items()), lambda t: iter(t.values())):
            transfers = TransferMap(60)
            transfers[0] = transfers[1] = 1
            for steps, _ in enumerate(walk(transfers)):
                transfers[steps + 2] = 1
                assert steps < 10
    """)


def test_views() -> None:
    transfers = TransferMap(60)
    keys, values, items = transfers.keys(), transfers.values(), transfers.items()
    transfers["a"] = 1
    transfers["b"] = 2
    assert (list(keys), list(values), list(items)) == (["a", "b"], [1, 2], [("a", 1), ("b", 2)])
    assert (list(reversed(keys)), list(reversed(values))) == (["b", "a"], [2, 1])
    assert (len(keys), len(values), len(items)) == (2, 2, 2)
    assert keys & {"a", "x"} == {"a"}
    assert keys | {"x"} == {"a", "b", "x"}
    assert keys - {"a"} == {"b"}
    assert keys ^ {"a", "x"} == {"b", "x"}
    assert keys == {"a", "b"} == transfers.keys()
    assert items == {("a", 1), ("b", 2)}
    assert keys.isdisjoint({"x"})
    assert keys <= {"a", "b", "c"}
    assert "a" in keys
    assert 2 in values
    assert 3 not in values
    assert ("a", 1) in items
    assert ("a", 2) not in items
    assert "a" not in items
    assert (repr(keys), repr(items)) == ("Keys(['a', 'b'])", "Items([('a', 1), ('b', 2)])")


@pytest.mark.parametrize("other", [{"a": 1}, LRUCache(3, {"a": 1})])
def test_equality_with_any_mapping(other: Any) -> None:
    transfers = TransferMap(60)
    transfers["a"] = 1
    assert transfers == other
    assert other == transfers
    same = TransferMap(5, maxsize=9)
    same["a"] = 1
    assert transfers == same
    same["b"] = 1
    assert transfers != same
    assert transfers != {"a": 2}
    assert transfers != [("a", 1)]
    assert (transfers == 5) is False
    assert TransferMap(1) == {}


def test_repr_is_short_and_survives_itself() -> None:
    transfers = TransferMap(60)
    transfers["self"] = transfers
    assert repr(transfers) == "TransferMap(60, {'self': ...})"
    for key in range(10_000):
        transfers[key] = key
    assert len(repr(transfers)) < 1000
    assert repr(transfers).endswith("... 9981 more})")


def test_subclasses() -> None:
    class Requests(TransferMap):
        def __init__(self, extra: str) -> None:
            super().__init__(60, maxsize=5)
            self.extra = extra

    requests = Requests("more")
    requests["a"] = [1]
    for twin in (copy.copy(requests), copy.deepcopy(requests), requests.copy()):
        assert type(twin) is Requests
        assert (twin.extra, twin.maxsize, twin) == ("more", 5, requests)
    assert repr(requests) == "Requests(60, {'a': [1]})"


def test_a_subclass_that_forgets_init_is_told() -> None:
    class Forgetful(TransferMap):
        def __init__(self) -> None:
            pass

    with pytest.raises(RuntimeError, match="super"):
        Forgetful()["a"] = 1


def test_initialised_again_it_starts_again() -> None:
    transfers = TransferMap(60)
    transfers["a"] = 1
    transfers.__init__(5, maxsize=2)  # type: ignore[misc]
    assert transfers == {}
    assert (transfers.ttl, transfers.maxsize) == (5, 2)


# Copies.


def duplicates() -> list[Any]:
    protocols = range(pickle.HIGHEST_PROTOCOL + 1)
    pickled = [lambda each, n=n: pickle.loads(pickle.dumps(each, n)) for n in protocols]
    return [copy.copy, copy.deepcopy, TransferMap.copy, *pickled]


@pytest.mark.parametrize("duplicate", duplicates())
def test_copies_keep_contents_order_bound_and_remaining_lifetimes(duplicate: Callable[..., Any]) -> None:
    clock = ManualClock(1000.0)
    transfers = TransferMap(10, maxsize=5, on_full="evict", timer=clock, name="requests")
    transfers.begin("c", [3], ttl=100)
    transfers["a"] = [1]
    transfers.begin("b", [2], ttl=INF)
    transfers.begin("gone", 0, ttl=2)
    clock.advance(3)
    twin = duplicate(transfers)
    assert type(twin) is TransferMap
    assert list(twin.items()) == [("c", [3]), ("a", [1]), ("b", [2])]
    assert [twin.remaining(key) for key in "cab"] == [97, 7, None]
    assert (twin.maxsize, twin.ttl, twin.name) == (5, 10, "requests")
    assert twin.pop_expired() == []
    assert transfers.pop_expired() == [("gone", 0)]
    for key in range(5):
        twin[key] = key
    assert len(twin) == 5
    assert list(transfers) == ["c", "a", "b"]


def test_a_copy_shares_handles_and_a_deep_copy_does_not() -> None:
    transfers = TransferMap(60)
    transfers["a"] = [1]
    transfers["self"] = transfers
    shallow, deep = copy.copy(transfers), copy.deepcopy(transfers)
    assert shallow["a"] is transfers["a"]
    assert deep["a"] == [1]
    assert deep["a"] is not transfers["a"]
    assert deep["self"] is deep
    again = pickle.loads(pickle.dumps(transfers))
    assert again["self"] is again


def test_hooks_that_cannot_be_pickled_stay_behind() -> None:
    transfers = TransferMap(60, maxsize=2, on_expire=lambda batch: None)
    transfers["a"] = 1
    twin = pickle.loads(pickle.dumps(transfers))
    assert twin == transfers
    assert twin.maxsize == 2
    assert 59 < (twin.remaining("a") or 0) <= 60


def test_a_copy_of_what_is_claimed_is_not_claimed(clock: ManualClock) -> None:
    transfers = TransferMap(10, timer=clock)
    transfers["a"] = 1
    with transfers.claim("a"):
        twin = copy.copy(transfers)
        assert twin.state("a") == "live"
        assert twin.remaining("a") == 10
    with pytest.raises(TypeError):
        copy.copy(transfers.claim("a"))


# The end.


def test_clear_lets_go_of_everything(clock: ManualClock) -> None:
    transfers = TransferMap(10, timer=clock)
    watched = []
    for key in ("live", "waiting", "gone"):
        transfers.begin(key, Handle(), ttl=20 if key == "live" else 10)
        watched.append(weakref.ref(transfers[key]))
    transfers.complete("gone")
    clock.advance(10)
    transfers["claimed"] = 1
    with transfers.claim("claimed"):
        transfers.clear()
    assert [ref() for ref in watched] == [None] * 3
    assert len(transfers) == 0
    assert transfers.pop_expired() == []
    assert [transfers.state(key) for key in ("live", "waiting", "gone", "claimed")] == ["unknown"] * 4
    assert transfers.next_deadline() is None
    transfers["a"] = 1
    assert transfers == {"a": 1}
    assert transfers.stats().begun == 5


USES: dict[str, Callable[[TransferMap], object]] = {
    "begin": lambda transfers: transfers.begin("a", 1),
    "complete": lambda transfers: transfers.complete("a"),
    "complete with default": lambda transfers: transfers.complete("a", None),
    "fail": lambda transfers: transfers.fail("a"),
    "renew": lambda transfers: transfers.renew("a"),
    "claim": lambda transfers: transfers.claim("a"),
    "state": lambda transfers: transfers.state("a"),
    "remaining": lambda transfers: transfers.remaining("a"),
    "deadline": lambda transfers: transfers.deadline("a"),
    "next_deadline": lambda transfers: transfers.next_deadline(),
    "pop_expired": lambda transfers: transfers.pop_expired(),
    "expire": lambda transfers: transfers.expire(),
    "[]": lambda transfers: transfers["a"],
    "[] =": lambda transfers: transfers.__setitem__("a", 1),
    "del": lambda transfers: transfers.__delitem__("a"),
    "get": lambda transfers: transfers.get("a"),
    "peek": lambda transfers: transfers.peek("a"),
    "in": lambda transfers: "a" in transfers,
    "pop": lambda transfers: transfers.pop("a", None),
    "popitem": lambda transfers: transfers.popitem(),
    "setdefault": lambda transfers: transfers.setdefault("a"),
    "update": lambda transfers: transfers.update(a=1),
    "len": len,
    "iter": iter,
    "reversed": reversed,
    "items": lambda transfers: list(transfers.items()),
    "==": lambda transfers: transfers == {},
    "copy": lambda transfers: transfers.copy(),
    "pickle": pickle.dumps,
    "clear": lambda transfers: transfers.clear(),
}


@pytest.mark.parametrize("use", USES)
def test_a_closed_map_says_so(use: str) -> None:
    transfers = TransferMap(60)
    transfers["a"] = 1
    transfers.close()
    with pytest.raises(RuntimeError, match="closed"):
        USES[use](transfers)


def test_what_cannot_be_kept_in_a_closed_map_is_let_go_of(clock: ManualClock, unraisable: list[BaseException]) -> None:
    def on_expire(batch: list[Any]) -> dict[str, int]:
        transfers.close()
        return {"a": -1}

    transfers = TransferMap(10, timer=clock, on_expire=on_expire)
    transfers["a"] = Handle()
    gone = weakref.ref(transfers["a"])
    clock.advance(10)
    with pytest.raises(RuntimeError, match="closed"):
        transfers.expire()
    unraisable.clear()
    assert gone() is None


def test_close_lets_go_of_everything_the_hooks_too() -> None:
    class Hook:
        def __call__(self, batch: object = None) -> float:
            return 0.0

    timer, on_expire = Hook(), Hook()
    transfers = TransferMap(60, timer=timer, on_expire=on_expire)
    transfers["a"] = Handle()
    watched = [weakref.ref(each) for each in (timer, on_expire, transfers["a"])]
    del timer, on_expire
    transfers.close()
    transfers.close()
    assert [ref() for ref in watched] == [None] * 3
    assert repr(transfers) == "TransferMap(closed)"
    assert transfers.stats().begun == 1


# Statistics.


def test_statistics(clock: ManualClock) -> None:
    transfers = TransferMap(10, timer=clock, name="requests")
    before = transfers.stats()
    transfers["a"] = 1
    clock.advance(1)
    transfers["b"] = 1
    transfers["c"] = 1
    transfers["c"] = 2
    transfers.complete("b")
    transfers.fail("c")
    transfers.renew("a", 3)
    stats = transfers.stats()
    assert stats == transfers.stats()
    assert (stats.begun, stats.completed, stats.failed, stats.renewed, stats.replaced) == (4, 1, 1, 1, 1)
    assert (stats.live, stats.high_water, stats.waiting, stats.oldest_age) == (1, 3, 0, 1.0)
    clock.advance(10)
    stats = transfers.stats()
    assert (stats.expired, stats.live, stats.waiting, stats.oldest_age) == (1, 0, 1, None)
    clock.advance(1)
    transfers.pop_expired()
    stats = transfers.stats()
    assert (stats.expired, stats.waiting, stats.max_lag) == (1, 0, 2.0)
    since = stats - before
    assert (since.begun, since.live) == (4, 0)
    with pytest.raises(AttributeError):
        stats.begun = 5  # type: ignore[misc]
    assert transfers.name == "requests"


def test_reading_changes_no_statistics(clock: ManualClock) -> None:
    transfers = TransferMap(10, timer=clock)
    transfers["a"] = 1
    before = transfers.stats()
    for look in (len, list, repr, copy.copy, pickle.dumps, sys.getsizeof, lambda t: t == {}, lambda t: t.state("a")):
        look(transfers)
    transfers.get("a"), transfers.get("b"), transfers.remaining("a"), transfers.next_deadline(), transfers.pop_expired()
    assert transfers.stats() == before


@pytest.mark.parametrize("end", ["clear", "close"])
def test_counts_never_go_back(end: str, clock: ManualClock) -> None:
    transfers = TransferMap(10, timer=clock)
    transfers["a"] = 1
    clock.advance(10)
    before = transfers.stats()
    getattr(transfers, end)()
    assert (transfers.stats() - before).expired == 0


def test_the_size_is_that_of_the_structure() -> None:
    transfers = TransferMap(60)
    empty = sys.getsizeof(transfers)
    for key in range(10_000):
        transfers[key] = None
    full = sys.getsizeof(transfers)
    assert full - empty >= 10_000 * 32
    transfers.clear()
    assert sys.getsizeof(transfers) < full / 10


# Keys that misbehave.


class Hostile:
    """A key whose comparison does something; all have one hash."""

    def __init__(self, name: str, does: Callable[[], object]) -> None:
        self.name, self.does = name, does

    def __hash__(self) -> int:
        return 7

    def __eq__(self, other: object) -> bool:
        self.does()
        return isinstance(other, Hostile) and self.name == other.name


@pytest.mark.parametrize("does", ["clear", "pop", "begin", "pop_expired", "expire", "popitem", "repr", "copy"])
def test_a_comparison_may_use_the_map(does: str) -> None:
    run(f"""
        from ullage import TransferMap
        from ullage.testing import ManualClock
        clock = ManualClock()
        busy = False
        transfers = TransferMap(10, maxsize=100, timer=clock)
        class Key:
            def __init__(self, name):
                self.name = name
            def __hash__(self):
                return 7
            def __repr__(self):
                return self.name
            def __eq__(self, other):
                global busy
                if not busy:
                    busy = True
                    try:
                        match {does!r}:
                            case "pop": transfers.pop(Key("a"), None)
                            case "begin": transfers.begin(Key("c"), 3)
                            case "repr": repr(transfers)
                            case "popitem":
                                if transfers: transfers.popitem()
                            case name: getattr(transfers, name)()
                    finally:
                        busy = False
                return self.name == other.name
        for _ in range(50):
            for name in "abab":
                transfers[Key(name)] = name
                assert len(transfers) <= 3
                transfers.get(Key(name))
                transfers.renew(Key(name))
                transfers.state(Key(name))
                transfers.setdefault(Key(name), name)
                transfers.complete(Key(name), None)
                transfers.setdefault(Key(name), name)
                transfers.pop(Key("b"), None)
                clock.advance(3)
        transfers.clear()
        transfers["fine"] = 1
        assert transfers == {{"fine": 1}}
    """)


@pytest.mark.parametrize(
    "use",
    [
        lambda transfers, key: transfers.begin(key, 1),
        lambda transfers, key: transfers[key],
        lambda transfers, key: transfers.get(key),
        lambda transfers, key: key in transfers,
        lambda transfers, key: transfers.renew(key),
        lambda transfers, key: transfers.complete(key, None),
        lambda transfers, key: transfers.fail(key),
        lambda transfers, key: transfers.pop(key, None),
        lambda transfers, key: transfers.setdefault(key),
        lambda transfers, key: transfers.state(key),
        lambda transfers, key: transfers.claim(key).__enter__(),
        lambda transfers, key: transfers.remaining(key),
    ],
)
def test_a_comparison_that_raises_is_heard_and_changes_nothing(use: Callable[..., object]) -> None:
    def fail() -> None:
        if armed:
            raise ZeroDivisionError

    armed = False
    transfers = TransferMap(60)
    transfers[Hostile("a", fail)] = 1
    before = transfers.stats()
    armed = True
    with pytest.raises(ZeroDivisionError):
        use(transfers, Hostile("a", fail))
    armed = False
    assert transfers.get(Hostile("a", fail)) == 1
    assert len(transfers) == 1
    stats = transfers.stats()
    assert (stats.begun, stats.completed, stats.late) == (before.begun, before.completed, before.late)


def test_a_key_whose_hash_changes_still_expires(clock: ManualClock) -> None:
    class Fickle:
        value = 1

        def __hash__(self) -> int:
            return self.value

    transfers = TransferMap(10, maxsize=2, on_full="evict", timer=clock)
    key = Fickle()
    transfers[key] = "handle"
    key.value = 2
    assert key not in transfers
    transfers["a"] = transfers["b"] = 1
    assert len(transfers) == 2
    clock.advance(10)
    assert [handle for _, handle in transfers.pop_expired()] == ["handle", 1, 1]


def test_a_handle_that_uses_the_map_when_it_dies() -> None:
    run("""
        from ullage import TransferMap
        from ullage.testing import ManualClock
        clock = ManualClock()
        transfers = TransferMap(10, maxsize=5, on_full="evict", timer=clock)
        class Handle:
            def __del__(self):
                global died
                died += 1
                transfers.get("a")
                transfers.pop_expired()
                transfers.begin(("from the grave", died), 1)
        died = 0
        for key in range(100):
            transfers[key] = Handle()
            transfers[key] = Handle()
            transfers.complete(key, None)
            transfers[key, "again"] = Handle()
            transfers.pop_expired()
            clock.advance(1)
            assert len(transfers) <= 5
        transfers.clear()
        assert died == 300, died
        assert len(transfers) <= 5
        transfers.clear()
        transfers["fine"] = 1
        assert transfers == {"fine": 1}
    """)


@pytest.mark.parametrize("n", [1000, 20_000])
def test_each_call_looks_at_a_handful_of_entries(n: int) -> None:
    """O(1): comparisons counted, not time."""

    class Key:
        compared = 0

        def __init__(self, n: int) -> None:
            self.n = n

        def __hash__(self) -> int:
            return hash(self.n)

        def __eq__(self, other: object) -> bool:
            Key.compared += 1
            return isinstance(other, Key) and self.n == other.n

    transfers = TransferMap(60)
    for key in range(n):
        transfers[Key(key)] = key
    Key.compared = 0
    for key in range(0, n, n // 100):
        transfers.renew(Key(key))
        transfers.get(Key(key))
        transfers.complete(Key(key))
    assert Key.compared <= 100 * 3 * 3
