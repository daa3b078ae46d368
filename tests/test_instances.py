"""InstanceCache: one load a key, room made before it, leases, and one close after the last of them."""

import asyncio
import copy
import faulthandler
import gc
import pickle
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from decimal import Decimal
from textwrap import dedent
from typing import Any

import pytest
from child import run
from ullage import Full, InstanceCache, secret_key
from ullage.testing import ManualClock

WAIT = 20


class Model:
    """What is loaded: it knows how often it was closed."""

    def __init__(self, key: Any) -> None:
        self.key = key
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class Loader:
    """Loads models, remembers them in order, and can be held up."""

    def __init__(self) -> None:
        self.models: list[Model] = []
        self.begun = threading.Event()
        self.go = threading.Event()
        self.go.set()

    def __call__(self, key: Any) -> Model:
        self.begun.set()
        assert self.go.wait(WAIT)
        model = Model(key)
        self.models.append(model)
        return model

    @property
    def keys(self) -> list[Any]:
        return [model.key for model in self.models]

    @property
    def closed(self) -> list[Any]:
        assert all(model.closed <= 1 for model in self.models)
        return [model.key for model in self.models if model.closed]


@pytest.fixture
def loader() -> Loader:
    return Loader()


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """What went to `sys.unraisablehook`."""
    caught: list[BaseException] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda info: caught.append(info.exc_value))
    return caught


@pytest.fixture(autouse=True)
def _time_out() -> Iterator[None]:
    """A deadlock ends the whole run, with the stacks of all threads."""
    faulthandler.dump_traceback_later(120, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def together(*functions: Callable[[], Any]) -> list[Any]:
    """What each function returns or raises, each in a thread of its own."""
    results: list[Any] = [None] * len(functions)

    def body(n: int, function: Callable[[], Any]) -> None:
        try:
            results[n] = function()
        except Exception as error:
            results[n] = error

    threads = [threading.Thread(target=body, args=each, daemon=True) for each in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive(), "it hangs"
    return results


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.001)


def finish(coroutine: Any) -> Any:
    async def limited() -> Any:
        return await asyncio.wait_for(coroutine, WAIT)

    return asyncio.run(limited())


# One load.


def test_an_object_is_loaded_once(loader: Loader) -> None:
    cache = InstanceCache(loader)
    assert cache.get("a") is cache.get("a") is loader.models[0]
    assert "a" in cache and "b" not in cache and len(cache) == 1
    stats = cache.stats()
    assert (stats.loads, stats.hits, stats.entries) == (1, 1, 1)


def test_threads_and_tasks_that_ask_at_once_share_one_load(loader: Loader) -> None:
    cache = InstanceCache(loader)

    async def tasks() -> list[Model]:
        return await asyncio.gather(*(cache.aget("a") for _ in range(50)))

    def leased() -> Model:
        with cache.lease("a") as model:
            return model

    found = together(lambda: asyncio.run(tasks()), leased, *[lambda: cache.get("a")] * 8, lambda: asyncio.run(tasks()))
    models = [*found[0], *found[1:-1], *found[-1]]
    assert len(models) == 109 and set(models) == {loader.models[0]}
    assert loader.keys == ["a"] and cache.stats().leases == 0


def test_a_thousand_waiters_share_one_load(loader: Loader) -> None:
    cache = InstanceCache(loader)
    loader.go.clear()

    async def main() -> set[Model]:
        asked = [asyncio.create_task(cache.aget("a")) for _ in range(1000)]
        await asyncio.sleep(0)
        loader.go.set()
        return set(await asyncio.gather(*asked))

    assert finish(main()) == set(loader.models) and len(loader.models) == 1
    assert cache.stats().waits == 999


def test_a_loader_may_be_a_coroutine_function() -> None:
    loops = []

    async def load(key: str) -> Model:
        await asyncio.sleep(0)
        loops.append(asyncio.get_running_loop())
        return Model(key)

    cache = InstanceCache(load)

    async def main() -> Model:
        one, two = await asyncio.gather(cache.aget("a"), cache.aget("a"))
        assert one is two and loops == [asyncio.get_running_loop()]
        return one

    assert finish(main()) is cache.get("a")
    # From a thread without a loop: on a loop of the cache's own, which stays.
    assert cache.get("b").key == "b" and cache.get("c").key == "c"
    assert loops[1] is loops[2] and loops[1].is_running()


def test_what_a_loader_returns_may_have_to_be_awaited() -> None:
    async def load(key: str) -> Model:
        return Model(key)

    cache: InstanceCache[str, Model] = InstanceCache(lambda key: load(key))
    assert cache.get("a").key == "a"
    assert finish(cache.aget("b")).key == "b"


def test_a_loader_that_blocks_does_not_block_the_event_loop(loader: Loader) -> None:
    cache = InstanceCache(loader)
    loader.go.clear()

    async def main() -> Model:
        asked = asyncio.create_task(cache.aget("a"))
        while not loader.begun.is_set():
            await asyncio.sleep(0)
        loader.go.set()
        return await asked

    assert finish(main()) is loader.models[0]


def test_none_is_an_object_like_any_other() -> None:
    loads = []
    cache = InstanceCache(loads.append)
    assert cache.get("a") is None and cache.get("a") is None
    assert loads == ["a"] and "a" in cache
    with cache.lease("a") as nothing:
        assert nothing is None


def test_a_load_that_fails_is_tried_again_and_takes_no_room() -> None:
    errors = [OSError("no such file"), OSError("still none")]

    def load(key: str) -> str:
        if errors:
            raise errors.pop(0)
        return key

    cache = InstanceCache(load, maxsize=1)
    with pytest.raises(OSError, match="no such file"):
        cache.get("a")
    with pytest.raises(OSError, match="still none"):
        finish(cache.aget("a"))
    stats = cache.stats()
    assert (stats.load_errors, stats.loads, stats.entries, stats.leases) == (2, 0, 0, 0)
    assert cache.get("a") == "a"


def test_those_who_wait_for_a_load_that_fails_get_its_error() -> None:
    begun, go = threading.Event(), threading.Event()

    def load(key: str) -> str:
        begun.set()
        assert go.wait(WAIT)
        raise OSError("no such file")

    cache = InstanceCache(load)

    def second() -> object:
        assert begun.wait(WAIT)
        threading.Timer(0.05, go.set).start()
        return cache.get("a")

    assert [type(error) for error in together(lambda: cache.get("a"), second)] == [OSError, OSError]
    assert cache.stats().leases == 0


def test_a_task_that_is_cancelled_leaves_its_load_to_those_who_wait(loader: Loader) -> None:
    cache = InstanceCache(loader, maxsize=1)
    loader.go.clear()

    async def main() -> Model:
        first, second = asyncio.create_task(cache.aget("a")), asyncio.create_task(cache.aget("a"))
        while not loader.begun.is_set():
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        assert first.cancelled() and not second.done()
        loader.go.set()
        return await second

    assert finish(main()) is loader.models[0]
    assert loader.keys == ["a"] and cache.stats().leases == 0


def test_a_load_that_nobody_waits_for_any_more_is_kept(loader: Loader) -> None:
    cache = InstanceCache(loader)
    loader.go.clear()

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(cache.aget("a"), 0.05)
        loader.go.set()

    finish(main())
    until(lambda: "a" in cache)
    assert cache.get("a") is loader.models[0] and cache.stats().leases == 0


def test_a_coroutine_that_is_cancelled_gives_its_room_back() -> None:
    async def load(key: str) -> str:
        if key == "slow":
            await asyncio.sleep(60)
        return key

    cache = InstanceCache(load, maxsize=1)

    async def main() -> str:
        task = asyncio.create_task(cache.aget("slow"))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        return await cache.aget("a")

    assert finish(main()) == "a"


def test_a_loader_that_needs_its_own_object_is_told_so() -> None:
    cache: InstanceCache[str, str] = InstanceCache(lambda key: cache.get(key), name="models")
    with pytest.raises(RecursionError, match="models"):
        cache.get("a")
    with pytest.raises(RecursionError):
        finish(cache.aget("a"))
    assert cache.stats().leases == 0 and len(cache) == 0


def test_loads_that_need_each_other_end_with_an_error() -> None:
    barrier = threading.Barrier(2)
    other = {"a": "b", "b": "a"}

    def load(key: str) -> str:
        if not barrier.broken:
            barrier.wait(WAIT)
        return cache.get(other[key]) + key

    cache: InstanceCache[str, str] = InstanceCache(load)
    found = together(lambda: cache.get("a"), lambda: cache.get("b"))
    assert any(isinstance(error, RecursionError) for error in found)
    assert cache.stats().leases == 0


def test_a_loader_may_load_others() -> None:
    cache: InstanceCache[int, int] = InstanceCache(lambda n: cache.get(n - 1) + 1 if n else 0)
    assert cache.get(20) == 20 and cache.stats().loads == 21
    assert finish(cache.aget(30)) == 30


def test_a_loader_runs_in_the_context_of_who_asks() -> None:
    run(
        """
        import asyncio, contextvars
        from ullage import InstanceCache, secret_key
        token = contextvars.ContextVar("token")
        cache = InstanceCache(lambda key: f"client with {token.get()}")
        token.set("t0")
        assert cache.get(secret_key("t0")) == "client with t0"

        async def main():
            token.set("t1")
            assert await cache.aget(secret_key("t1")) == "client with t1"

        asyncio.run(main())
        """
    )


# Room.


def test_the_least_recently_used_is_closed_for_room_before_a_load(loader: Loader) -> None:
    events: list[str] = []

    def load(key: str) -> Model:
        events.append(f"load {key}")
        return loader(key)

    cache = InstanceCache(load, maxsize=2, close=lambda model: events.append(f"close {model.key}"))
    for key in ("a", "b", "a", "c"):
        cache.get(key)
    assert events == ["load a", "load b", "close b", "load c"]
    assert cache.stats().evictions == cache.stats().closes == 1


def test_what_is_leased_is_not_evicted(loader: Loader) -> None:
    cache = InstanceCache(loader, maxsize=2, close=Model.close)
    with cache.lease("a") as model:
        for key in "bcdb":
            cache.get(key)
        assert not model.closed and "a" in cache
    cache.get("e")
    assert model.closed == 1


def test_a_full_cache_says_who_holds_what(loader: Loader) -> None:
    cache = InstanceCache(loader, maxsize=1, name="models")
    with cache.lease("a"), pytest.raises(Full, match=r"'models'.*'b'.*1 leases.*test_instances\.py"):
        cache.get("b")
    assert cache.get("b").key == "b" and loader.keys == ["a", "b"]


def test_room_is_made_by_the_hint_before_and_by_the_weight_after() -> None:
    peak = 0
    costs = {"a": 4, "b": 3, "c": 5, "d": 2}

    def load(key: str) -> str:
        nonlocal peak
        peak = max(peak, cache.stats().cost["bytes"])
        return key

    cache = InstanceCache(load, budget=8, weigher=lambda key, _: costs[key], cost_hint=costs.get)
    for key in "abcdacbd":
        cache.get(key)
    assert peak <= 8 and cache.stats().peak["bytes"] <= 8

    blind = InstanceCache(str, budget={"bytes": 8}, weigher=lambda key, _: costs[key])
    for key in "abc":
        blind.get(key)
    assert blind.stats().cost == {"bytes": 8} and "a" not in blind and blind.stats().peak["bytes"] == 12


def test_who_only_gets_is_not_told_that_the_cache_is_full_while_another_loads(loader: Loader) -> None:
    cache = InstanceCache(loader, maxsize=1)

    async def task() -> None:
        for key in "cd" * 20:
            await cache.aget(key)

    def thread() -> None:
        for key in "ab" * 20:
            assert cache.get(key).key == key

    assert together(thread, thread, lambda: asyncio.run(task()), lambda: asyncio.run(task())) == [None] * 4


def test_currencies_are_counted_apart_and_only_what_helps_leaves() -> None:
    costs = {"cpu": {"bytes": 6}, "gpu": {"vram": "8 GiB"}, "both": {"bytes": 2, "vram": 2**33}}
    cache = InstanceCache(str, budget={"bytes": 8, "vram": "12 GiB"}, cost_hint=costs.__getitem__)
    cache.get("cpu")
    cache.get("gpu")
    cache.get("both")
    assert "cpu" in cache and "gpu" not in cache
    assert cache.stats().cost == {"bytes": 8, "vram": 8 << 30}
    assert cache.stats().budget == {"bytes": 8, "vram": 12 << 30}


def test_what_can_never_fit_is_an_error_that_costs_nobody_anything(loader: Loader) -> None:
    costs = {"a": 5, "huge": 9, "liar": 1}
    cache = InstanceCache(
        loader,
        budget=8,
        cost_hint=costs.__getitem__,
        weigher=lambda key, _: 10 if key == "liar" else costs[key],
        close=Model.close,
    )
    cache.get("a")
    with pytest.raises(ValueError, match="9 bytes, more than the whole budget of 8"):
        cache.get("huge")
    assert loader.keys == ["a"]
    with pytest.raises(ValueError, match="10 bytes"):
        cache.get("liar")
    with pytest.raises(ValueError, match="10 bytes"):
        finish(cache.aget("liar"))
    assert "a" in cache and loader.closed == ["liar", "liar"] and cache.stats().cost == {"bytes": 5}


def test_what_turns_out_too_heavy_for_the_room_there_is_is_closed(loader: Loader) -> None:
    cache = InstanceCache(loader, budget=8, weigher=lambda key, _: 5, close=Model.close)
    with cache.lease("a"):
        with pytest.raises(Full, match=r"lacks \{'bytes': 2\} for 'b': 1 leases"):
            cache.get("b")
        assert loader.closed == ["b"] and cache.stats().cost == {"bytes": 5}


def test_what_turns_out_too_heavy_is_loaded_again_when_there_is_room(loader: Loader) -> None:
    cache = InstanceCache(loader, budget=8, weigher=lambda key, _: 5, close=Model.close, on_full="wait")
    lease = cache.lease("a")
    lease.__enter__()

    def end() -> None:
        until(lambda: loader.closed == ["b"])
        lease.__exit__()

    model, _ = together(lambda: cache.get("b"), end)
    assert model.key == "b" and not model.closed
    assert loader.keys == ["a", "b", "b"] and loader.closed == ["a", "b"] and cache.stats().cost == {"bytes": 5}


def test_what_turns_out_too_heavy_is_closed_though_nobody_waits_any_more(loader: Loader) -> None:
    cache = InstanceCache(loader, budget=8, weigher=lambda key, _: 5, close=Model.close)

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(cache.aget("b"), 0.05)

    with cache.lease("a"):
        loader.go.clear()
        finish(main())
        loader.go.set()
        until(lambda: loader.closed == ["b"] and not cache.stats().retired)


def test_what_waits_for_its_close_counts(loader: Loader) -> None:
    cache = InstanceCache(loader, budget=8, cost_hint=lambda key: 5, close=Model.close)
    with cache.lease("a") as old:
        assert cache.invalidate("a") and not old.closed and "a" not in cache
        assert cache.stats().cost == {"bytes": 5} and cache.stats().retired == 1
        with pytest.raises(Full):
            cache.get("b")
    assert old.closed == 1 and cache.stats().cost == {"bytes": 0}


def test_threads_and_tasks_wait_for_room(loader: Loader) -> None:
    cache = InstanceCache(loader, maxsize=1, on_full="wait")
    lease = cache.lease("a")
    lease.__enter__()

    async def task() -> Model:
        return await cache.aget("c")

    def end() -> None:
        until(lambda: cache.stats().waits == 2)
        lease.__exit__()

    found = together(lambda: cache.get("b"), lambda: asyncio.run(task()), end)
    assert {model.key for model in found[:2]} == {"b", "c"}


def test_waiting_for_room_ends_with_an_error(loader: Loader) -> None:
    cache = InstanceCache(loader, maxsize=1, on_full="wait", timeout=0.05)
    cache.pin("a")
    cache.get("a")
    with pytest.raises(Full, match=r"waited for 0\.05 seconds.*1 pinned"):
        cache.get("b")
    with pytest.raises(Full, match="waited"):
        finish(cache.aget("b"))


def test_who_holds_all_there_is_does_not_wait_for_itself(loader: Loader) -> None:
    cache = InstanceCache(loader, maxsize=1, on_full="wait", timeout=None)

    def thread() -> None:
        with cache.lease("a"):
            cache.get("b")

    async def task() -> None:
        async with cache.alease("a"):
            await cache.aget("b")

    for error in together(thread, lambda: asyncio.run(task())):
        assert isinstance(error, Full) and "circle" in str(error)
    assert cache.get("b").key == "b"


def test_waits_in_a_circle_end(loader: Loader) -> None:
    cache = InstanceCache(loader, maxsize=2, on_full="wait", timeout=None)
    barrier = threading.Barrier(2)

    def hold(one: str, two: str) -> str:
        with cache.lease(one):
            barrier.wait(WAIT)
            with cache.lease(two) as model:
                return model.key

    found = together(lambda: hold("a", "c"), lambda: hold("b", "d"))
    errors = [error for error in found if isinstance(error, Exception)]
    assert [type(error) for error in errors] == [Full] and "circle" in str(errors[0])


def test_a_circle_through_a_load_that_waits_for_room_ends(loader: Loader) -> None:
    cache = InstanceCache(loader, maxsize=1, on_full="wait", timeout=None)
    leased = threading.Event()

    def first() -> str:
        with cache.lease("a"):
            leased.set()
            until(lambda: cache.stats().waits)
            return cache.get("b").key

    def second() -> str:
        assert leased.wait(WAIT)
        return cache.get("b").key

    found = together(first, second)
    assert any(isinstance(error, Full) for error in found)
    assert cache.get("c").key == "c"


def test_a_load_that_needs_its_own_room_ends() -> None:
    cache: InstanceCache[str, str] = InstanceCache(lambda key: key + cache.get("b") if key == "a" else key, maxsize=1)
    for error in together(lambda: cache.get("a"), lambda: finish(cache.aget("a"))):
        assert isinstance(error, Full) and "circle" in str(error)
    assert cache.get("b") == "b" and cache.stats().leases == 0


def test_pins_hold_through_reloads_and_until_they_end(loader: Loader) -> None:
    cache = InstanceCache(loader, maxsize=1, close=Model.close)
    cache.pin("a")
    cache.get("a")
    with pytest.raises(Full, match="1 pinned"):
        cache.get("b")
    cache.reload("a")
    assert loader.closed == ["a"]
    with pytest.raises(Full):
        cache.get("b")
    cache.unpin("a")
    cache.unpin("never pinned")
    assert cache.get("b").key == "b"


def test_unpinning_makes_room_for_who_waits(loader: Loader) -> None:
    cache = InstanceCache(loader, maxsize=1, on_full="wait")
    cache.get("a")
    cache.pin("a")

    def unpin() -> None:
        until(lambda: cache.stats().waits)
        cache.unpin("a")

    assert together(lambda: cache.get("b"), unpin)[0].key == "b"


# Leases.


def test_a_lease_lasts_as_long_as_a_stream(loader: Loader) -> None:
    cache = InstanceCache(loader, maxsize=1, close=Model.close)

    def stream(count: int):
        with cache.lease("a") as model:
            for n in range(count):
                assert not model.closed
                yield n

    words = stream(5)
    assert next(words) == 0
    assert cache.invalidate("a")
    assert list(words) == [1, 2, 3, 4]
    assert loader.closed == ["a"]

    left = stream(5)
    next(left)
    del left
    gc.collect()
    assert cache.stats().leases == 0 and cache.get("b").key == "b"


def test_an_asynchronous_stream_holds_its_lease(loader: Loader) -> None:
    cache = InstanceCache(loader, close=Model.close)

    async def stream():
        async with cache.alease("a") as model:
            for n in range(3):
                yield n, model.closed

    async def main() -> None:
        seen = []
        async for word in stream():
            cache.invalidate("a")
            seen.append(word)
        assert seen == [(0, 0), (1, 0), (2, 0)] and loader.closed == ["a"]

    finish(main())


def test_an_object_is_closed_after_the_last_of_its_leases_and_once(loader: Loader) -> None:
    cache = InstanceCache(loader, close=Model.close)
    with cache.lease("a") as one:
        with cache.lease("a") as two:
            assert one is two
            assert cache.invalidate("a") and not cache.invalidate("a")
            assert cache.get("a") is not one
        assert not one.closed
    assert one.closed == 1 and loader.keys == ["a", "a"] and loader.closed == ["a"]


def test_an_object_that_is_put_in_again_is_not_closed() -> None:
    model = Model("only one")
    cache = InstanceCache(lambda key: model, close=Model.close)
    assert cache.get("a") is cache.get("b") is cache.reload("a")
    cache.invalidate("a")
    assert not model.closed
    with cache.lease("a"):
        cache.clear()
        assert not model.closed
        cache.reload("b")
    assert not model.closed
    cache.close()
    assert model.closed == 1


def test_a_lease_ends_with_an_exception(loader: Loader) -> None:
    cache = InstanceCache(loader)
    with pytest.raises(ZeroDivisionError), cache.lease("a"):
        raise ZeroDivisionError
    assert cache.stats().leases == 0


def test_a_lease_is_taken_once_and_in_its_own_way(loader: Loader) -> None:
    cache = InstanceCache(loader)
    lease = cache.lease("a")
    with lease, pytest.raises(RuntimeError, match="taken once"):
        lease.__enter__()
    with pytest.raises(RuntimeError, match="taken once"):
        lease.__enter__()
    with pytest.raises(TypeError, match=r"async with cache\.alease"), cache.alease("a"):
        pass

    async def main() -> None:
        with pytest.raises(TypeError, match=r"with cache\.lease"):
            async with cache.lease("a"):
                pass

    finish(main())
    assert cache.stats().leases == 0


def test_long_leases_are_warned_about_once_with_their_place(loader: Loader) -> None:
    clock = ManualClock()
    cache = InstanceCache(loader, lease_warning=60, timer=clock, name="models")
    with cache.lease("a"):
        place = sys._getframe().f_lineno - 1
        clock.advance(59)
        cache.get("b")
        clock.advance(2)
        with pytest.warns(RuntimeWarning, match=r"'models'.*'a'.*held for 61\.0 seconds") as caught:
            cache.get("b")
        assert (caught[0].filename, caught[0].lineno) == (__file__, place)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            clock.advance(100)
            cache.expire()


def test_a_lease_is_held_from_when_its_object_is_there() -> None:
    clock = ManualClock()

    def load(key: str) -> str:
        clock.advance(100)
        cache.expire()
        return key

    cache = InstanceCache(load, lease_warning=60, timer=clock)
    with warnings.catch_warnings(), cache.lease("a"):
        warnings.simplefilter("error")
        clock.advance(59)
        cache.expire()
        warnings.simplefilter("default")
        clock.advance(1)
        with pytest.warns(RuntimeWarning, match=r"held for 60\.0 seconds"):
            cache.expire()


def test_a_warning_that_is_an_error_stops_nothing(loader: Loader, unraisable: list[BaseException]) -> None:
    clock = ManualClock()
    cache = InstanceCache(loader, lease_warning=60, timer=clock)
    with cache.lease("a"), warnings.catch_warnings():
        warnings.simplefilter("error")
        clock.advance(61)
        assert cache.get("b").key == "b"
    assert [type(error) for error in unraisable] == [RuntimeWarning]


def test_a_long_lease_is_warned_about_when_nobody_calls() -> None:
    done = run(
        """
        import time
        from ullage import InstanceCache
        cache = InstanceCache(str, lease_warning=0.05)
        with cache.lease("a"):
            time.sleep(1)
        """
    )
    assert done.stderr.count("RuntimeWarning") == 1 and "'a'" in done.stderr


# Time.


def test_what_is_idle_leaves_unless_it_is_leased_or_pinned(loader: Loader) -> None:
    clock = ManualClock()
    cache = InstanceCache(loader, idle=60, timer=clock, close=Model.close)
    for key in "abc":
        cache.get(key)
    cache.pin("b")
    with cache.lease("c"):
        clock.advance(30)
        cache.get("a")
        clock.advance(31)
        assert cache.expire() == 0 and len(cache) == 3
        clock.advance(30)
        assert cache.expire() == 1 and loader.closed == ["a"]
    clock.advance(59)
    assert cache.expire() == 0
    clock.advance(1)
    assert cache.get("c") is not loader.models[2] and loader.closed == ["a", "c"]
    assert cache.stats().expirations == 2 and "b" in cache


def test_what_is_idle_leaves_without_a_call_and_the_thread_ends() -> None:
    run(
        """
        import threading, time
        from ullage import InstanceCache
        closed = []
        cache = InstanceCache(str, idle=0.05, close=closed.append)
        assert threading.active_count() == 1
        for _ in range(2):
            cache.get("a"), cache.get("b")
            end = time.monotonic() + 20
            while len(closed) < 2 or threading.active_count() > 1:
                assert time.monotonic() < end, (closed, threading.enumerate())
                time.sleep(0.01)
            assert closed == ["a", "b"] and len(cache) == 0
            closed.clear()
        """
    )


def test_a_thread_that_looks_for_idle_objects_keeps_no_cache_alive() -> None:
    run(
        """
        import gc, threading, time, weakref
        from ullage import InstanceCache
        closed = []
        cache = InstanceCache(str, idle=3600, close=closed.append)
        cache.get("a")
        assert threading.active_count() == 2
        gone = weakref.ref(cache)
        del cache
        end = time.monotonic() + 20
        while gone() is not None or threading.active_count() > 1:
            gc.collect()
            assert time.monotonic() < end
            time.sleep(0.01)
        assert closed == ["a"]
        """
    )


# What leaves.


def test_what_is_invalidated_while_it_is_loaded_is_loaded_again(loader: Loader) -> None:
    cache = InstanceCache(loader, close=Model.close)
    loader.go.clear()

    def invalidate() -> bool:
        assert loader.begun.wait(WAIT)
        found = cache.invalidate("a")
        loader.go.set()
        return found

    def asynchronous() -> Model:
        return finish(cache.aget("a"))

    for ask in (lambda: cache.get("a"), asynchronous):
        loader.begun.clear()
        loader.go.clear()
        model, found = together(ask, invalidate)
        assert found and model is loader.models[-1] and not model.closed
        cache.clear()
    assert loader.keys == ["a"] * 4 == loader.closed


def test_a_closed_cache_says_so_and_closes_what_is_leased_later(loader: Loader) -> None:
    with InstanceCache(loader, close=Model.close, name="models") as cache:
        cache.get("b")
        lease = cache.lease("a")
        model = lease.__enter__()
    assert loader.closed == ["b"] and "closed" in repr(cache)
    for use in (lambda: cache.get("a"), lambda: finish(cache.aget("c")), lambda: cache.lease("a").__enter__()):
        with pytest.raises(RuntimeError, match="'models': closed> is closed"):
            use()
    lease.__exit__(None, None, None)
    assert model.closed == 1
    cache.close()


def test_closing_wakes_those_who_wait_for_room_or_for_a_load(loader: Loader) -> None:
    cache = InstanceCache(loader, maxsize=1, on_full="wait", close=Model.close)
    lease = cache.lease("a")
    lease.__enter__()

    def close() -> None:
        until(lambda: cache.stats().waits == 1)
        cache.close()

    found = together(lambda: cache.get("b"), lambda: finish(cache.aget("b")), close)
    assert [type(error) for error in found[:2]] == [RuntimeError, RuntimeError]
    lease.__exit__()
    assert loader.closed == ["a"]


def test_an_object_that_comes_after_the_close_is_closed(loader: Loader) -> None:
    cache = InstanceCache(loader, close=Model.close)
    loader.go.clear()

    def close() -> None:
        assert loader.begun.wait(WAIT)
        cache.close()
        loader.go.set()

    assert isinstance(together(lambda: cache.get("a"), close)[0], RuntimeError)
    assert loader.closed == ["a"] and cache.stats().retired == 0


def test_a_cache_that_nobody_holds_closes_what_it_has(loader: Loader) -> None:
    cache = InstanceCache(loader, close=Model.close)
    cache.get("a")
    gone = weakref.ref(cache)
    del cache
    gc.collect()
    assert gone() is None and loader.closed == ["a"]


# Closes.


def test_a_close_that_raises_is_reported_and_stops_nothing(loader: Loader, unraisable: list[BaseException]) -> None:
    def close(model: Model) -> None:
        model.close()
        raise OSError(model.key)

    cache = InstanceCache(loader, maxsize=1, close=close)
    for key in "abc":
        cache.get(key)
    cache.close()
    assert loader.closed == ["a", "b", "c"] and [str(error) for error in unraisable] == ["a", "b", "c"]
    assert cache.stats().close_errors == cache.stats().closes == 3


def test_an_asynchronous_close_runs_on_the_loop_that_loaded() -> None:
    closed = []

    async def load(key: str) -> Model:
        return Model(key)

    async def close(model: Model) -> None:
        await asyncio.sleep(0)
        closed.append((model.key, asyncio.get_running_loop()))

    cache = InstanceCache(load, close=close, maxsize=1)

    async def main() -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        await cache.aget("a")
        await cache.aget("b")
        assert closed == [("a", loop)]
        async with cache.alease("b"):
            cache.invalidate("b")
        assert closed == [("a", loop), ("b", loop)]
        await cache.aget("c")
        # Another thread asks, and waits for this loop to close what it loaded.
        await asyncio.to_thread(cache.invalidate, "c")
        assert closed[2:] == [("c", loop)]
        await cache.aget("d")
        cache.invalidate("d")
        while len(closed) < 4:
            await asyncio.sleep(0)
        assert closed[3] == ("d", loop)
        await cache.aget("e")
        return loop

    ended = finish(main())
    # That loop is over: a loop of the cache's own has to do.
    cache.close()
    assert closed[4][0] == "e" and closed[4][1] is not ended


def test_an_asynchronous_close_that_raises_is_reported(unraisable: list[BaseException]) -> None:
    async def close(key: str) -> None:
        raise OSError(key)

    cache = InstanceCache(str, close=close, maxsize=1)
    cache.get("a")
    cache.get("b")
    assert [str(error) for error in unraisable] == ["a"] and cache.stats().close_errors == 1
    cache.close()
    assert [str(error) for error in unraisable] == ["a", "b"]


def test_a_close_that_blocks_holds_up_nobody_but_who_needs_its_room(loader: Loader) -> None:
    go, closing = threading.Event(), threading.Event()

    def close(model: Model) -> None:
        closing.set()
        assert go.wait(WAIT)

    cache = InstanceCache(loader, maxsize=3, close=close)
    cache.get("a")
    cache.get("b")

    def others() -> list[str]:
        assert closing.wait(WAIT)
        keys = [cache.get("b").key, finish(cache.aget("c")).key]
        assert cache.stats().retired == 1
        # The next would need the room of what is being closed, so it waits.
        threading.Timer(0.05, go.set).start()
        with cache.lease("b"), cache.lease("c"):
            keys.append(cache.get("d").key)
        return keys

    assert together(lambda: cache.invalidate("a"), others) == [True, ["b", "c", "d"]]


def test_a_close_does_not_block_the_event_loop(loader: Loader) -> None:
    go, closing = threading.Event(), threading.Event()

    def close(model: Model) -> None:
        closing.set()
        assert go.wait(WAIT)
        model.close()

    cache = InstanceCache(loader, maxsize=1, close=close)

    async def main() -> None:
        await cache.aget("a")
        asked = asyncio.create_task(cache.aget("b"))
        while not closing.is_set():
            await asyncio.sleep(0)
        go.set()
        assert (await asked).key == "b" and loader.closed == ["a"]

    finish(main())


def test_hooks_may_use_the_cache(loader: Loader) -> None:
    def close(model: Model) -> None:
        model.close()
        if model.key != "log":
            cache.get("log")
            cache.invalidate("log")

    cache: InstanceCache[str, Model] = InstanceCache(
        loader,
        maxsize=3,
        budget=8,
        weigher=lambda key, model: cache.stats().entries * 0,
        cost_hint=lambda key: len(cache) * 0,
        close=close,
    )
    for key in "abcd":
        cache.get(key)
        cache.invalidate(key)
    assert loader.closed == ["a", "log", "b", "log", "c", "log", "d", "log"]


def test_a_close_that_waits_for_the_room_that_it_makes_is_told_so(
    loader: Loader, unraisable: list[BaseException]
) -> None:
    cache: InstanceCache[str, Model] = InstanceCache(loader, maxsize=1, close=lambda model: cache.get("log"))
    cache.get("a")
    assert cache.get("b").key == "b"
    assert [type(error) for error in unraisable] == [Full] and "circle" in str(unraisable[0])
    cache.close()


# Hostile input.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"maxsize": 0}, "maxsize must be at least 1"),
        ({"maxsize": -1}, "maxsize must be at least 1"),
        ({"maxsize": True}, "maxsize must be an integer"),
        ({"maxsize": 1.5}, "maxsize must be an integer"),
        ({"budget": 8}, "a budget needs a weigher or a cost_hint"),
        ({"weigher": len}, "a budget needs a weigher or a cost_hint"),
        ({"budget": 0, "weigher": len}, "budget of bytes must be at least 1"),
        ({"budget": "much", "weigher": len}, "budget of bytes must be a number of bytes"),
        ({"budget": {}, "weigher": len}, "names at least one"),
        ({"budget": {"vram": -1}, "weigher": len}, "budget of vram must be at least 1"),
        ({"budget": {1: 1}, "weigher": len}, "a currency of a budget is a name"),
        ({"budget": float("nan"), "weigher": len}, "budget of bytes must be an integer"),
        ({"close": 5}, "close must be callable, or None; got int"),
        ({"timer": 5}, "timer must be callable"),
        ({"idle": 0}, "idle must be more than 0 seconds"),
        ({"idle": float("nan")}, "idle must be more than 0 seconds"),
        ({"lease_warning": -1}, "lease_warning must be more than 0 seconds"),
        ({"timeout": "1"}, "timeout must be a number of seconds"),
        ({"on_full": "evict"}, "on_full must be 'raise' or 'wait'; got 'evict'"),
    ],
)
def test_settings_that_make_no_sense_are_errors_that_teach(settings: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        InstanceCache(str, **settings)


def test_a_loader_must_be_callable() -> None:
    with pytest.raises(TypeError, match="loader must be callable; got str"):
        InstanceCache("model.onnx")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cost", "error", "message"),
    [
        (-1, ValueError, "at least 0"),
        (float("nan"), ValueError, "at least 0"),
        (float("inf"), ValueError, "at least 0"),
        (2**63, ValueError, "more than the whole budget"),
        (True, TypeError, "integer"),
        (Decimal(1), TypeError, "integer"),
        ({"vram": 1}, ValueError, "'vram'; the budget knows bytes"),
        ({"bytes": None}, TypeError, "integer"),
        ("lots", ValueError, "number of bytes"),
    ],
)
def test_costs_that_make_no_sense_lose_nothing(loader: Loader, cost: Any, error: type[Exception], message: str) -> None:
    costs = {"a": 5, "b": cost}
    cache = InstanceCache(loader, budget=8, weigher=lambda key, _: costs[key], close=Model.close)
    cache.get("a")
    with pytest.raises(error, match=message):
        cache.get("b")
    hinted = InstanceCache(loader, budget=8, cost_hint=lambda key: costs[key])
    with pytest.raises(error, match=message):
        hinted.get("b")
    assert cache.stats().cost == {"bytes": 5} and loader.closed == ["b"] and loader.keys == ["a", "b"]


def test_costs_may_be_sizes_and_fractions() -> None:
    costs = {"a": "1 KiB", "b": 0.5, "c": {}, "d": 0}
    cache = InstanceCache(str, budget={"bytes": "2 KiB"}, cost_hint=costs.get)
    for key, total in [("a", 1024), ("b", 1025), ("c", 1025), ("d", 1025), ("unknown", 1025)]:
        cache.get(key)
        assert cache.stats().cost == {"bytes": total}
    two = InstanceCache(str, budget={"bytes": 8, "vram": 8}, cost_hint=lambda key: 1)
    with pytest.raises(TypeError, match="mapping of bytes, vram to numbers; got 1"):
        two.get("a")


def test_hooks_that_raise_lose_nothing(loader: Loader) -> None:
    def fail(*arguments: object) -> int:
        raise ZeroDivisionError

    for settings in ({"weigher": fail}, {"cost_hint": fail}):
        cache = InstanceCache(loader, budget=8, close=Model.close, **settings)
        for ask in (lambda cache=cache: cache.get("a"), lambda cache=cache: finish(cache.aget("a"))):
            with pytest.raises(ZeroDivisionError):
                ask()
        assert cache.stats().cost == {"bytes": 0} and cache.stats().leases == cache.stats().retired == 0
    assert loader.closed == loader.keys == ["a", "a"]


def test_keys_that_cannot_be_hashed_lose_nothing(loader: Loader) -> None:
    cache = InstanceCache(loader)
    for use in (cache.get, cache.invalidate, cache.pin, cache.reload, lambda key: cache.lease(key).__enter__()):
        with pytest.raises(TypeError, match="unhashable"):
            use([])
    with pytest.raises(TypeError, match="unhashable"):
        finish(cache.aget([]))
    assert cache.get("a").key == "a" and cache.stats().leases == 0


def test_keys_that_use_the_cache_when_they_are_compared() -> None:
    run(
        """
        import threading
        from ullage import InstanceCache

        class Key:
            act = None
            def __init__(self, n): self.n = n
            def __hash__(self): return self.n % 2
            def __eq__(self, other):
                act, Key.act = Key.act, None
                if act:
                    act()
                return self.n == other.n

        def elsewhere(function):
            def act():
                thread = threading.Thread(target=function, daemon=True)
                thread.start()
                thread.join(10)
                assert not thread.is_alive(), "deadlock"
            return act

        closed = []
        acts = [
            lambda: cache.get(Key(1)),
            lambda: cache.get(Key(3)),
            lambda: cache.invalidate(Key(1)),
            lambda: cache.clear(),
            lambda: 1 / 0,
            elsewhere(lambda: cache.get(Key(3))),
            elsewhere(lambda: cache.invalidate(Key(1))),
        ]
        for act in acts:
            for use in (lambda: cache.get(Key(1)), lambda: cache.invalidate(Key(3)), lambda: cache.reload(Key(3)),
                        lambda: Key(5) in cache, lambda: cache.get(Key(7)), lambda: cache.pin(Key(9))):
                cache = InstanceCache(lambda key: [key.n], maxsize=3, close=closed.append)
                for n in (1, 3, 5):
                    cache.get(Key(n))
                Key.act = act
                try:
                    use()
                except ZeroDivisionError:
                    pass
                Key.act = None
                assert len(cache) <= 3 and cache.get(Key(11)) == [11]
                stats = cache.stats()
                assert stats.leases == stats.retired == 0 and stats.loads == stats.closes + len(cache), stats
                cache.close()
                assert cache.stats().loads == cache.stats().closes
        """
    )


def test_finalizers_may_use_the_cache_at_any_moment() -> None:
    run(
        """
        import gc, itertools
        from ullage import Full, InstanceCache

        # Garbage in a cycle: it is collected in the middle of something else.
        class Node:
            def __init__(self):
                self.self = self
            def __del__(self):
                global used, busy
                if busy:
                    return
                busy = True
                try:
                    for act in acts:
                        act()
                        used += 1
                except (Full, RuntimeError):
                    pass
                finally:
                    busy = False

        def leased():
            with cache.lease(next(keys) % 7):
                pass

        used, busy, closed = 0, False, []
        keys = itertools.count()
        cache = InstanceCache(lambda key: [key], maxsize=4, close=closed.append, idle=1000, lease_warning=1000)
        left = cache.lease(3)
        left.__enter__()
        acts = [
            lambda: cache.get(next(keys) % 7),
            leased,
            lambda: cache.invalidate(next(keys) % 7),
            lambda: cache.stats(),
            lambda: cache.unpin(1),
        ]
        gc.set_threshold(1)
        for n in range(2000):
            Node()
            key = n % 5
            try:
                with cache.lease(key) as found:
                    assert found == [key]
                cache.get(key + 1), cache.stats(), cache.invalidate(key)
            except Full:
                pass
            assert len(cache) <= 4
        gc.set_threshold(700)
        left.__exit__()
        cache.close()
        stats = cache.stats()
        assert used > 1000 and stats.leases == stats.retired == 0 and stats.loads == stats.closes == len(closed), stats
        """,
        timeout=60,
    )


def test_an_instance_cache_is_neither_copied_nor_pickled(loader: Loader) -> None:
    cache = InstanceCache(loader)
    for use in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            use(cache)


def test_statistics_are_frozen_and_can_be_subtracted(loader: Loader) -> None:
    cache = InstanceCache(loader, maxsize=3)
    before = cache.stats()
    cache.get("a")
    cache.get("a")
    done = cache.stats() - before
    assert (done.loads, done.hits, done.entries, done.maxsize) == (1, 1, 1, 3)
    with pytest.raises(AttributeError):
        done.loads = 5  # type: ignore[misc]


# Keys that hold credentials.


def test_a_secret_key_is_equal_for_equal_parts_and_shows_nothing() -> None:
    key = secret_key("https://api.example", "token-1234567890")
    assert key == secret_key("https://api.example", "token-1234567890") and hash(key) == hash(str(key))
    assert "token" not in key and "example" not in key
    alike = ["token-1234567890A", "token-1234567890B"]
    assert secret_key(alike[0]) != secret_key(alike[1])


def test_secret_keys_tell_parts_and_types_apart() -> None:
    parts: list[tuple[Any, ...]] = [
        ("ab", "c"),
        ("a", "bc"),
        ("abc",),
        (b"abc",),
        ("abc", ""),
        (("ab", "c"),),
        ((("ab",), "c"),),
        (("ab",), ("c",)),
        (1,),
        (1.0,),
        (True,),
        ("1",),
        (None,),
        ("None",),
        ((),),
        ("\udcff",),
    ]
    assert len({secret_key(*each) for each in parts}) == len(parts)


def test_secret_keys_refuse_what_has_no_fixed_bytes() -> None:
    for part in ([], {}, object(), Decimal(1)):
        with pytest.raises(TypeError, match="give its fields"):
            secret_key("a", part)
    with pytest.raises(TypeError, match="at least one part"):
        secret_key()


def test_secret_keys_of_two_processes_differ() -> None:
    code = "from ullage import secret_key; print(secret_key('token'))"
    assert run(code).stdout != run(code).stdout


# Ends of processes and of event loops: each in an interpreter of its own.

PREAMBLE = """
import asyncio, os, sys, threading, time, warnings
from ullage import Full, InstanceCache

def forked(child):
    '''Runs `child` in a fork; its exit code must be 0.'''
    pid = os.fork()
    if not pid:
        try:
            child()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    end = time.monotonic() + 15
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            assert status == 0, status
            return
        if time.monotonic() > end:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            raise AssertionError("the child hangs")
        time.sleep(0.01)
"""

ENDS = {
    "full": """
        cache = InstanceCache(str, close=lambda key: print("closed", key))
        cache.get("a"), cache.get("b")
        print("end")
    """,
    "with an asynchronous close": """
        async def load(key):
            return key
        async def close(key):
            await asyncio.sleep(0.01)
            print("closed", key)
        cache = InstanceCache(load, close=close)
        asyncio.run(cache.aget("a"))
        cache.get("b")
        print("end")
    """,
    "with a loop that is needed at exit only": """
        async def close(key):
            await asyncio.sleep(0.01)
            print("closed", key)
        cache = InstanceCache(str, close=close)
        cache.get("a"), cache.get("b")
        print("end")
    """,
}


@pytest.mark.parametrize("code", ENDS.values(), ids=ENDS)
def test_everything_is_closed_at_exit(code: str) -> None:
    done = run(f"{PREAMBLE}{dedent(code)}")
    assert done.stdout.split("\n") == ["end", "closed a", "closed b", ""] and not done.stderr


def test_what_is_leased_at_exit_is_left_open_aloud() -> None:
    done = run(
        PREAMBLE
        + dedent("""
        cache = InstanceCache(str, close=lambda key: print("closed", key), idle=60, lease_warning=60)
        cache.get("b")
        lease = cache.lease("a")
        lease.__enter__()
        """)
    )
    assert done.stdout == "closed b\n" and done.stderr.count("'a' is not closed at exit") == 1


def test_a_daemon_thread_in_a_load_does_not_hang_the_exit() -> None:
    run(
        PREAMBLE
        + dedent("""
        begun = threading.Event()
        def load(key):
            begun.set()
            time.sleep(60)
        cache = InstanceCache(load)
        threading.Thread(target=cache.get, args=("a",), daemon=True).start()
        assert begun.wait(10)
        """)
    )


FORKS = {
    "a filled cache": """
        cache = InstanceCache(str, maxsize=2, close=lambda key: closed.append(key), idle=60)
        closed = []
        cache.get("a"), cache.get("b")
        def child():
            assert cache.get("a") == "a" and cache.stats().entries == 2
            assert cache.get("c") == "c" and "b" not in cache
            cache.close()
            assert closed == ["c"], closed
        forked(child)
        assert closed == [] and len(cache) == 2
        cache.close()
        assert closed == ["a", "b"]
    """,
    "a load in flight": """
        begun, go = threading.Event(), threading.Event()
        def load(key):
            if key == "slow":
                begun.set()
                go.wait(10)
            return key
        cache = InstanceCache(load, maxsize=1)
        thread = threading.Thread(target=cache.get, args=("slow",))
        thread.start()
        assert begun.wait(10)
        def child():
            go.set()
            assert cache.stats().leases == 0
            assert cache.get("slow") == "slow" and cache.get("a") == "a"
            assert asyncio.run(cache.aget("slow")) == "slow"
        forked(child)
        go.set()
        thread.join()
        assert "slow" in cache
    """,
    "leases of other threads": """
        cache = InstanceCache(str, maxsize=2, on_full="wait", timeout=5)
        taken, go = threading.Event(), threading.Event()
        def hold():
            with cache.lease("a"):
                taken.set()
                go.wait(10)
        thread = threading.Thread(target=hold)
        thread.start()
        assert taken.wait(10)
        def child():
            with cache.lease("b"):
                assert cache.get("c") == "c" and "a" not in cache
        with cache.lease("b"):
            forked(child)
            assert cache.stats().leases == 2
        go.set()
        thread.join()
        assert cache.stats().leases == 0
    """,
    "a lease of the thread that forks": """
        closed = []
        cache = InstanceCache(str, maxsize=1, close=closed.append)
        lease = cache.lease("a")
        lease.__enter__()
        def child():
            try:
                cache.get("b")
            except Full:
                pass
            else:
                raise AssertionError
            lease.__exit__()
            assert cache.get("b") == "b" and closed == []
        forked(child)
        cache.close()
        lease.__exit__()
        assert closed == ["a"]
    """,
    "a lock that is held": """
        cache = InstanceCache(str)
        cache.get("a")
        held, go = threading.Event(), threading.Event()
        class Key:
            def __hash__(self):
                return hash("a")
            def __eq__(self, other):
                held.set()
                go.wait(10)
                return other == "a"
        def hold():
            with cache._lock:
                held.set()
                go.wait(10)
        threads = [threading.Thread(target=hold), threading.Thread(target=cache.get, args=(Key(),))]
        for thread in threads:
            held.clear()
            thread.start()
            assert held.wait(10)
        def child():
            go.set()
            assert cache.get("a") == "a" and cache.get("b") == "b"
            cache.close()
        forked(child)
        go.set()
        for thread in threads:
            thread.join()
    """,
    "a close that runs and loops of its own": """
        async def load(key):
            return key
        async def close(key):
            closed.append(key)
        closed = []
        cache = InstanceCache(load, close=close, maxsize=1, idle=60)
        cache.get("a"), cache.get("b")
        assert closed == ["a"]
        def child():
            assert cache.get("c") == "c" and cache.get("d") == "d"
            assert closed == ["a", "c"], closed
        forked(child)
    """,
}


@pytest.mark.parametrize("code", FORKS.values(), ids=FORKS)
def test_a_fork_breaks_neither_parent_nor_child(code: str) -> None:
    done = run(f"{PREAMBLE}warnings.simplefilter('ignore', DeprecationWarning)\n{dedent(code)}")
    assert not done.stderr


LOOPS = {
    "a load is killed with its event loop": """
        async def load(key):
            if asyncio.get_running_loop() is doomed:
                await asyncio.sleep(60)
            return key
        cache = InstanceCache(load, maxsize=1)
        doomed = asyncio.new_event_loop()
        task = doomed.create_task(cache.aget("a"))
        doomed.run_until_complete(asyncio.sleep(0.01))
        waiting = threading.Thread(target=lambda: found.append(cache.get("a")), daemon=True)
        found = []
        waiting.start()
        time.sleep(0.05)
        doomed.close()
        del task
        waiting.join(10)
        assert found == ["a"], found
        assert asyncio.run(cache.aget("b")) == "b"
    """,
    "an event loop is closed while waiters of another wait": """
        begun, go = threading.Event(), threading.Event()
        def load(key):
            begun.set()
            go.wait(10)
            return key
        cache = InstanceCache(load, maxsize=1)
        async def impatient():
            await asyncio.wait_for(cache.aget("a"), 0.1)
        def first():
            try:
                asyncio.run(impatient())
            except asyncio.TimeoutError:
                go.set()
        threads = [threading.Thread(target=first, daemon=True)]
        threads[0].start()
        assert begun.wait(10)
        found = []
        threads += [threading.Thread(target=lambda: found.append(asyncio.run(cache.aget("a"))), daemon=True)]
        threads += [threading.Thread(target=lambda: found.append(cache.get("a")), daemon=True)]
        for thread in threads[1:]:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert found == ["a", "a"], found
        assert cache.stats().loads == 1 and cache.stats().leases == 0
    """,
    "an event loop is closed with a lease": """
        cache = InstanceCache(str, maxsize=1)
        async def main():
            await cache.alease("a").__aenter__()
        asyncio.run(main())
        assert cache.stats().leases == 1
        assert cache.get("b") == "b" and cache.stats().leases == 0
    """,
    "a loop is closed while a task waits for room": """
        cache = InstanceCache(str, maxsize=1, on_full="wait")
        with cache.lease("a"):
            loop = asyncio.new_event_loop()
            task = loop.create_task(cache.aget("b"))
            loop.run_until_complete(asyncio.sleep(0.05))
            loop.close()
            del task
        assert cache.get("b") == "b" and cache.stats().leases == 0
    """,
    "an interrupt reaches a thread that waits for room": """
        import _thread
        cache = InstanceCache(str, maxsize=1, on_full="wait")
        cache.get("a")
        cache.pin("a")
        def interrupt():
            while not cache.stats().waits:
                time.sleep(0.001)
            _thread.interrupt_main()
        threading.Thread(target=interrupt).start()
        try:
            cache.get("b")
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError
        cache.unpin("a")
        assert cache.get("b") == "b"
    """,
    "an interrupt ends a load": """
        import _thread
        def load(key):
            if not seen:
                seen.append(key)
                _thread.interrupt_main()
                time.sleep(10)
            return key
        seen = []
        cache = InstanceCache(load, maxsize=1)
        try:
            cache.get("a")
        except KeyboardInterrupt:
            pass
        assert seen == ["a"] and cache.get("b") == "b"
    """,
}


@pytest.mark.parametrize("code", LOOPS.values(), ids=LOOPS)
def test_ends_of_loops_and_interrupts_leave_the_cache_usable(code: str) -> None:
    run(f"{PREAMBLE}{dedent(code)}")


def test_eight_threads_and_a_loop_keep_every_promise() -> None:
    run(
        PREAMBLE
        + dedent("""
        import random
        sys.setswitchinterval(1e-6)
        class Model:
            users = closed = 0
            def __init__(self, key):
                self.key = key
        models = []
        def load(key):
            # What is there, in use or not, with this one.
            assert cache.stats().cost["bytes"] <= 8
            model = Model(key)
            models.append(model)
            return model
        def close(model):
            assert model.users == 0
            model.closed += 1
        cache = InstanceCache(load, budget=8, maxsize=5, cost_hint=lambda key: key % 3 + 1, close=close, on_full="wait")
        locks = [threading.Lock() for _ in range(10)]
        def use(model, key, by):
            with locks[key]:
                model.users += by
            assert model.key == key and not model.closed
        def thread(seed):
            dice = random.Random(seed)
            for _ in range(150):
                key = dice.randrange(10)
                if dice.random() < 0.1:
                    cache.invalidate(key)
                assert cache.get(key).key == key
                with cache.lease(key) as model:
                    use(model, key, 1)
                    time.sleep(0)
                    use(model, key, -1)
        async def task(seed):
            dice = random.Random(seed)
            for _ in range(40):
                key = dice.randrange(10)
                async with cache.alease(key) as model:
                    use(model, key, 1)
                    await asyncio.sleep(0)
                    use(model, key, -1)
        async def tasks():
            await asyncio.gather(*map(task, range(10)))
        errors = []
        def guarded(function, *arguments):
            try:
                function(*arguments)
            except BaseException as error:
                errors.append(error)
        threads = [threading.Thread(target=guarded, args=(thread, n)) for n in range(8)]
        threads.append(threading.Thread(target=guarded, args=(lambda: asyncio.run(tasks()),)))
        for each in threads:
            each.start()
        for each in threads:
            each.join(100)
            assert not each.is_alive()
        assert not errors, errors
        cache.close()
        stats = cache.stats()
        assert all(model.closed == 1 and model.users == 0 for model in models)
        assert stats.closes == stats.loads == len(models) and stats.cost["bytes"] == stats.leases == 0
        assert stats.peak["bytes"] <= 8, stats
        """),
        timeout=120,
    )


def test_what_interrupts_a_waiting_thread_may_end_its_wait_at_any_point() -> None:
    # A finalizer may run at each call and return.
    run(
        """
        import sys
        from ullage._signal import Signal
        signal = Signal()
        sys.setprofile(lambda *_: signal.set())
        waited = signal.wait(10)
        sys.setprofile(None)
        assert waited and signal.wait(0) in (True, False) and not signal.wait(0)
        """
    )


def test_a_cache_that_is_collected_at_exit_waits_for_no_thread() -> None:
    for _ in range(5):
        run(
            """
            import ullage
            caches = [ullage.InstanceCache(str, idle=0.001) for _ in range(20)]
            for i, cache in enumerate(caches):
                for j in range(20):
                    with cache.lease((i, j)):
                        pass
                cache.itself = cache
            """
        )
