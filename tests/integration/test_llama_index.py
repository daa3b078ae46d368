"""The real LlamaIndex workflows, with bounded runs and with our containers in `ctx.store`."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("workflows.plugins.basic", reason="LlamaIndex workflows are not installed: ullage[llama-index]")

from llama_workflows import EVENTS, SECONDS, TICKS, Carrier, Loop, Payload, Turn, run
from places import held, owner_of
from pydantic import BaseModel
from ullage import HistoryRing, LRUCache, TransferMap
from ullage.integrations import llama_index
from workflows import Context, Workflow, step
from workflows.context import serializers, state_store
from workflows.context.serializers import JsonSerializer, PickleSerializer
from workflows.context.state_store import apply_state_patch
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.plugins import basic
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed
from workflows.runtime.control_loop import rebuild_state_from_ticks, reduce

pytestmark = pytest.mark.integration

REPLACED = [
    "workflows.plugins.basic:AsyncioAdapterQueues.__init__",
    "workflows.plugins.basic:BasicRuntime.run_workflow",
    "workflows.plugins.basic:BasicRuntime.journal",
    "workflows.context.state_store:traverse_path_step",
    "workflows.context.state_store:assign_path_step",
    "workflows.context.state_store:_shallow_copy_container",
    "workflows.context.state_store:_safe_eq",
    "workflows.context.state_store:to_jsonable_python",
    "workflows.context.serializers:JsonSerializer.serialize_value",
]
BUILT_ON = [
    "workflows.plugins.basic:AsyncioAdapterQueues",
    "workflows.plugins.basic:JournalRecord",
    "workflows.runtime.control_loop:rebuild_state_from_ticks",
    "workflows.runtime.types.internal_state:BrokerState.journal_seq",
    "workflows.context.serializers:_framework_types",
    "workflows.context.serializers:_active_serializer",
]


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    llama_index.uninstall()


@pytest.fixture
def installed() -> None:
    llama_index.install(ticks=TICKS, events=EVENTS)


class Item(Event):
    number: int


class Done(Event):
    number: int


class Ask(Event):
    pass


class Busy(Workflow):
    """Fan-out to several workers, some of which fail at first, a join, a question to a person, and the same again."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent | Turn) -> Item | None:
        for number in range(6):
            ctx.send_event(Item(number=number))
        return None

    @step(num_workers=3, retry_policy=retry_policy(wait=wait_fixed(0), stop=stop_after_attempt(3)))
    async def work(self, ctx: Context, ev: Item) -> Done:
        tries = await ctx.store.get(f"tries{ev.number}", 0)
        await ctx.store.set(f"tries{ev.number}", tries + 1)
        if ev.number % 2 and tries % 2 == 0:
            raise ValueError("the first try fails")
        await asyncio.sleep(0)
        return Done(number=ev.number)

    @step
    async def join(self, ctx: Context, ev: Done) -> Turn | Ask | None:
        done = ctx.collect_events(ev, [Done] * 6)
        if done is None:
            return None
        rounds = await ctx.store.get("rounds", 0) + 1
        await ctx.store.set("rounds", rounds)
        return Turn(number=rounds) if rounds < 3 else Ask()

    @step
    async def ask(self, ctx: Context, ev: Ask) -> StopEvent:
        # This step begins again when the answer comes.
        answer = await ctx.wait_for_event(HumanResponseEvent, waiter_event=InputRequiredEvent(prefix="on?"))
        return StopEvent(result=answer.response)


# Payloads.


async def carriers(count: int = 5, fails: bool = False) -> list[Any]:
    workflow = Carrier(timeout=None)
    workflow.fails = fails
    handlers = []
    for _ in range(count):
        handlers.append(workflow.run())
        with suppress(ValueError):
            await handlers[-1]
    # What else ends with a run does so in the next turns of the event loop.
    await asyncio.sleep(0.01)
    return handlers


def test_a_kept_handler_keeps_only_what_is_in_the_store_and_the_stream(installed: None, no_collector: None) -> None:
    async def main() -> None:
        handlers = await carriers()
        # One in the store, one in the unread event stream.
        assert len(Payload.live) == 10
        for handler in handlers:
            await handler.ctx.store.clear()
        assert len(Payload.live) == 5
        for handler in handlers:
            llama_index.clear(handler)
        assert len(Payload.live) == 0

    run(main)


def test_stock_keeps_them_whatever_is_cleared(no_collector: None) -> None:
    async def main() -> None:
        handlers = await carriers()
        for handler in handlers:
            await handler.ctx.store.clear()
        gc.collect()
        assert len(Payload.live) == 5
        with pytest.raises(ValueError, match=r"after install\(\)"):
            llama_index.clear(handlers[0])

    run(main)
    gc.collect()


def test_payloads_of_a_dropped_run_are_gone_at_once(installed: None, no_collector: None) -> None:
    async def main() -> None:
        handlers = await carriers()
        handlers.clear()
        assert len(Payload.live) == 0

    run(main)


def test_clear_frees_what_a_failed_run_holds(installed: None, no_collector: None) -> None:
    async def main() -> None:
        handlers = await carriers(fails=True)
        for handler in handlers:
            llama_index.clear(handler.ctx)
            await handler.ctx.store.clear()
        assert len(Payload.live) == 0

    run(main)


def test_clear_does_not_disturb_who_waited_for_a_failed_run(installed: None) -> None:
    async def main() -> None:
        workflow = Carrier(timeout=None)
        workflow.fails = True
        handler = workflow.run()
        caught, go_on = asyncio.Event(), asyncio.Event()

        async def caller() -> str:
            with suppress(ValueError):
                await handler
            caught.set()
            await go_on.wait()
            return "went on"

        task = asyncio.create_task(caller())
        await caught.wait()
        llama_index.clear(handler)
        go_on.set()
        assert await task == "went on"
        with pytest.raises(ValueError, match="as told"):
            await handler

    run(main)


def test_clear_changes_neither_state_nor_result(installed: None) -> None:
    async def main() -> None:
        workflow = Carrier(timeout=None)
        handler = workflow.run()
        assert await handler == "done"
        await handler.ctx.store.set("value", 1)
        before = handler.ctx.to_dict()
        llama_index.clear(handler)
        assert handler.ctx.to_dict() == before
        assert await handler == "done"

    run(main)


@pytest.mark.parametrize("run_of", [None, 3, object()])
def test_clear_says_what_it_takes(installed: None, run_of: object) -> None:
    with pytest.raises(ValueError, match="takes the handler or the context"):
        llama_index.clear(run_of)


@pytest.mark.parametrize("kind", [LRUCache, HistoryRing, TransferMap])
def test_cycles_through_our_containers_are_collected(installed: None, kind: type) -> None:
    class Holder(Payload):
        ctx: Any

    async def main() -> None:
        for _ in range(5):
            holder = Holder()
            container = kind(5)

            async def keep(number: int, ctx: Context, container: Any = container, holder: Any = holder) -> None:
                holder.ctx = ctx
                container.append(holder) if kind is HistoryRing else container.__setitem__("holder", holder)
                await ctx.store.set("container", container)

            workflow = Loop(keep)
            await workflow.run(turns=1)

    run(main)
    gc.collect()
    assert len(Payload.live) == 0


# Runs.


def test_log_and_queue_keep_to_their_bounds_and_checkpoints_cost_the_same(
    installed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    reduced = 0
    stock = reduce._reduce_tick

    def counting(*args: Any, **kwargs: Any) -> Any:
        nonlocal reduced
        reduced += 1
        return stock(*args, **kwargs)

    async def main() -> None:
        costs, sizes = set(), set()

        async def checkpoint(number: int, ctx: Context) -> None:
            before = reduced
            saved = handler.ctx.to_dict()
            costs.add(reduced - before)
            if number % 100 == 0:
                sizes.add(len(json.dumps(saved)) // 50)
                assert await handler.ctx.running_steps() == ["turn"]

        workflow = Loop(checkpoint)
        handler = workflow.run(turns=4000)
        assert await handler == "done"
        queues = handler._external_adapter._queues
        assert max(costs) <= TICKS
        assert len(sizes) < 5
        assert len(queues.publish_queue._queue) == EVENTS
        assert queues.init_state.journal_seq > 8000

    monkeypatch.setattr(reduce, "_reduce_tick", counting)
    run(main)


def plain(state: Any) -> Any:
    return state.to_serialized(JsonSerializer()).model_dump()


async def answered(handler: Any) -> Any:
    async for event in handler.stream_events():
        if isinstance(event, InputRequiredEvent):
            handler.ctx.send_event(HumanResponseEvent(response="yes"))
    return await handler


@pytest.mark.parametrize("bound", [1, 2, 7, 50])
def test_the_folded_state_is_that_of_the_whole_log(bound: int, monkeypatch: pytest.MonkeyPatch) -> None:
    llama_index.install(ticks=bound, events=10_000)
    logs: dict[str, Any] = {}
    compared = 0
    stock = basic.InternalAsyncioAdapter.on_tick

    async def on_tick(self: Any, tick: Any) -> None:
        nonlocal compared
        queues = self._queues
        start, log = logs.setdefault(queues.run_id, (queues.init_state, []))
        log.append(tick)
        await stock(self, tick)
        whole = rebuild_state_from_ticks(start, log, run_id=queues.run_id)
        folded = rebuild_state_from_ticks(queues.init_state, queues.ticks, run_id=queues.run_id)
        assert plain(folded) == plain(whole)
        assert len(queues.ticks) <= bound
        compared += 1

    monkeypatch.setattr(basic.InternalAsyncioAdapter, "on_tick", on_tick)

    async def main() -> None:
        workflow = Busy(timeout=None)
        handler = workflow.run()
        assert await answered(handler) == "yes"
        assert handler.ctx.to_dict()["journal_seq"] == compared

    run(main)
    assert compared > 80


def test_a_run_goes_on_from_a_checkpoint(installed: None) -> None:
    async def main() -> None:
        workflow = Busy(timeout=None)
        handler = workflow.run()
        async for event in handler.stream_events():
            if isinstance(event, InputRequiredEvent):
                break
        saved = json.loads(json.dumps(handler.ctx.to_dict()))
        await handler.cancel_run()
        again = workflow.run(ctx=Context.from_dict(workflow, saved))
        again.ctx.send_event(HumanResponseEvent(response="later"))
        assert await again == "later"
        assert await again.ctx.store.get("rounds") == 3
        # And a second run in the same context.
        await again.ctx.store.set("rounds", 2)
        assert await answered(workflow.run(ctx=again.ctx)) == "yes"

    run(main)


def test_the_journal_is_that_of_stock_and_restores_the_run(installed: None) -> None:
    async def main() -> None:
        workflow = Busy(timeout=None)
        handler = workflow.run()

        async def read() -> list[Any]:
            return [record async for record in basic.basic_runtime.journal(handler.run_id)]

        reader = asyncio.create_task(read())
        assert await answered(handler) == "yes"
        records = await reader
        assert [record.seq for record in records] == list(range(len(records)))
        assert len(records) > 80
        restored = basic.basic_runtime.restore(workflow, None, records)
        expected = handler.ctx.to_dict(include_state=False)
        assert restored.to_dict(include_state=False) == expected
        # Nobody reads any more: now the log is folded.
        assert len(handler._external_adapter._queues.ticks) == 0

    run(main)


def test_a_journal_that_comes_too_late_says_so(installed: None) -> None:
    async def main() -> None:
        workflow = Loop()
        handler = workflow.run(turns=50)
        await handler
        with pytest.raises(RuntimeError, match=r"ticks 0 to \d+ .* are folded into its state"):
            await anext(basic.basic_runtime.journal(handler.run_id))
        with pytest.raises(RuntimeError, match="No active workflow"):
            await anext(basic.basic_runtime.journal("unheard of"))

    run(main)


def test_without_a_bound_on_ticks_the_log_stays_whole() -> None:
    llama_index.install(ticks=None)

    async def main() -> None:
        workflow = Loop()
        handler = workflow.run(turns=50)
        await handler
        records = [record.seq async for record in basic.basic_runtime.journal(handler.run_id)]
        assert records == list(range(len(records)))
        assert len(records) > 100

    run(main)


async def write(number: int, ctx: Context) -> None:
    ctx.write_event_to_stream(Item(number=number))


def test_events_that_fit_are_all_read_in_order(installed: None) -> None:
    async def main() -> None:
        workflow = Loop(write)
        handler = workflow.run(turns=2)
        await handler
        seen = [event.number async for event in handler.stream_events() if isinstance(event, Item)]
        assert seen == [2, 1, 0]

    run(main)


def test_a_slow_reader_gets_every_event_and_the_bound_is_back_when_it_leaves(installed: None) -> None:
    async def main() -> None:
        async def write(number: int, ctx: Context) -> None:
            ctx.write_event_to_stream(Item(number=number))
            if number == 400:
                begun.set()
                await leave.wait()

        begun, leave = asyncio.Event(), asyncio.Event()
        workflow = Loop(write)
        handler = workflow.run(turns=500)
        queue = handler._external_adapter._queues.publish_queue
        seen = []
        async for event in handler.stream_events():
            # The run gets far ahead before the second event is asked for.
            await begun.wait()
            assert queue._queue.dropped == 0
            leave.set() if queue.empty() else seen.append(event.number)
            if queue.empty():
                break
        assert seen == list(range(500, 400, -1))
        assert await handler == "done"
        assert queue.qsize() == EVENTS

    run(main)


def test_a_reader_is_told_of_events_that_were_dropped(installed: None) -> None:
    async def main() -> None:
        workflow = Loop(write)
        handler = workflow.run(turns=100)
        await handler
        with pytest.warns(RuntimeWarning, match=r"\d+ events of this run were dropped") as warned:
            events = [event async for event in handler.stream_events(expose_internal=True)]
        assert len(warned) == 1
        assert len(events) == EVENTS
        assert isinstance(events[-1], StopEvent)

    run(main)


def test_a_fold_that_fails_leaves_no_wrong_state(
    installed: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ArithmeticError("no fold today")

    async def main() -> None:
        async def breaks(number: int, ctx: Context) -> None:
            if number == 10:
                monkeypatch.setattr(import_module("workflows.runtime.control_loop"), "rebuild_state_from_ticks", broken)

        workflow = Loop(breaks)
        handler = workflow.run(turns=20)
        assert await handler == "done"
        with pytest.raises(AttributeError, match="init_state"):
            handler.ctx.to_dict()

    monkeypatch.setattr(sys, "unraisablehook", lambda info: None)
    run(main)


# The store.


class Settings(BaseModel):
    cache: LRUCache[str, Any] = LRUCache(3)
    history: HistoryRing[Turn] = HistoryRing(2)


class Typed(Workflow):
    @step
    async def only(self, ctx: Context[Settings], ev: StartEvent) -> StopEvent:
        async with ctx.store.edit_state() as state:
            for number in range(9):
                state.cache[f"k{number}"] = number
                state.history.append(Turn(number=number))
        await ctx.store.set("cache.path", "by path")
        return StopEvent(result=None)


class Untyped(Workflow):
    @step
    async def only(self, ctx: Context, ev: StartEvent) -> StopEvent:
        if await ctx.store.get("cache", None) is None:
            await ctx.store.set("cache", LRUCache(3, ttl=3600, name="answers"))
            await ctx.store.set("history", HistoryRing(2))
            await ctx.store.set("deep", {"transfers": [TransferMap(60, maxsize=2)]})
        for number in range(9):
            await ctx.store.set(f"cache.k{number}", number)
        async with ctx.store.edit_state() as state:
            state["history"].extend([Turn(number=1), Turn(number=2), Turn(number=3)])
        return StopEvent(result=await ctx.store.get("cache.k8"))


SERIALIZERS = [JsonSerializer(), PickleSerializer(), JsonSerializer(allowed_types=[Turn, Settings])]


@pytest.mark.parametrize("serializer", SERIALIZERS, ids=["json", "pickle", "allowed types"])
def test_values_keep_kind_contents_and_bound(installed: None, serializer: Any) -> None:
    async def main() -> None:
        workflow = Untyped(timeout=None)
        ctx = Context(workflow, serializer=serializer)
        for _ in range(3):
            assert await workflow.run(ctx=ctx) == 8
            cache = await ctx.store.get("cache")
            assert type(cache) is LRUCache
            assert list(cache.items()) == [("k6", 6), ("k7", 7), ("k8", 8)]
            assert (cache.maxsize, cache.ttl, cache.name) == (3, 3600, "answers")
            history = await ctx.store.get("history")
            assert type(history) is HistoryRing
            assert history == [Turn(number=2), Turn(number=3)]
            assert history.maxlen == 2
            transfers = await ctx.store.get("deep.transfers.0")
            assert type(transfers) is TransferMap
            assert (transfers.ttl, transfers.maxsize) == (60, 2)
            ctx = Context.from_dict(workflow, json.loads(json.dumps(ctx.to_dict())), serializer=serializer)

    run(main)


@pytest.mark.parametrize("serializer", SERIALIZERS, ids=["json", "pickle", "allowed types"])
def test_typed_fields_keep_kind_contents_and_bound(installed: None, serializer: Any) -> None:
    async def main() -> None:
        workflow = Typed(timeout=None)
        ctx = Context(workflow, serializer=serializer)
        for _ in range(3):
            await workflow.run(ctx=ctx)
            state = await ctx.store.get_state()
            assert type(state.cache) is LRUCache
            assert list(state.cache.items()) == [("k7", 7), ("k8", 8), ("path", "by path")]
            assert state.cache.maxsize == 3
            assert type(state.history) is HistoryRing
            assert state.history == [Turn(number=7), Turn(number=8)]
            assert state.history.maxlen == 2
            ctx = Context.from_dict(workflow, json.loads(json.dumps(ctx.to_dict())), serializer=serializer)

    run(main)


def test_paths_read_and_write_keys(installed: None) -> None:
    async def main() -> None:
        store = state_store.InMemoryStateStore(state_store.DictState())
        await store.set("cache", LRUCache(2, {"7": "text", "maxsize": "a key"}))
        cache = await store.get("cache")
        assert await store.get("cache.7") == "text"
        assert await store.get("cache.maxsize") == "a key"
        assert await store.get("cache.missing", None) is None
        with pytest.raises(ValueError, match="not found"):
            await store.get("cache.missing")
        await store.set("cache.9", "new")
        await store.set("cache.9", "newer")
        after = await store.get("cache")
        assert list(after.items()) == [("maxsize", "a key"), ("9", "newer")]
        assert after.maxsize == 2
        # What readers hold is not changed under their hands.
        assert after is not cache
        assert len(cache) == 2
        assert "7" in cache
        await store.set("ring", HistoryRing(2, ["a", "b"]))
        await store.set("ring.1", "c")
        assert await store.get("ring") == ["a", "c"]
        assert await store.get("ring.-1") == "c"

    run(main)


def test_edits_are_isolated_until_they_are_committed(installed: None) -> None:
    async def main() -> None:
        store = state_store.InMemoryStateStore(state_store.DictState())
        await store.set("cache", LRUCache(2, {"a": ["x"]}))
        async with store.edit_state() as state:
            state["cache"]["a"].append("y")
            state["cache"]["b"] = 1
            state["cache"]["c"] = 2
            assert await store.get("cache") == {"a": ["x"]}
        after = await store.get("cache")
        assert (after, after.maxsize) == ({"b": 1, "c": 2}, 2)

    run(main)


def test_containers_in_containers(installed: None) -> None:
    serializer = JsonSerializer()
    inner = LRUCache(2, {1: HistoryRing(3, [Turn(number=1)])})
    back = serializer.deserialize(serializer.serialize(LRUCache(5, {"inner": inner})))
    assert back["inner"].maxsize == 2
    assert back["inner"][1].maxlen == 3
    assert back["inner"][1] == [Turn(number=1)]


class Named(LRUCache[str, Any]):
    pass


def length(key: Any, value: Any) -> int:
    return len(value)


LOSSY = [
    Named(3, {"a": "1"}),
    LRUCache(3, {"a": "1"}, weigher=length),
    LRUCache(3, {("a", 1): 1}),
    LRUCache(3, {"a": b""}),
]
LOSSY_IDS = ["subclass", "weigher", "tuple key", "bytes"]


@pytest.mark.parametrize("container", LOSSY, ids=LOSSY_IDS)
def test_what_json_would_lose_fails_in_json_and_not_in_pickle(installed: None, container: LRUCache[Any, Any]) -> None:
    with pytest.raises(ValueError, match="Failed to serialize"):
        JsonSerializer().serialize(container)
    serializer = PickleSerializer()
    back = serializer.deserialize(serializer.serialize(container))
    assert type(back) is type(container)
    assert (back, back.maxsize) == (container, 3)


@pytest.mark.parametrize("container", [LRUCache(3), HistoryRing(3), TransferMap(3)], ids=lambda it: type(it).__name__)
def test_without_install_json_fails_and_pickle_keeps_the_bound(container: Any) -> None:
    with pytest.raises(ValueError, match="Failed to serialize"):
        JsonSerializer().serialize(container)
    serializer = PickleSerializer()
    assert type(serializer.deserialize(serializer.serialize(container))) is type(container)


def test_a_process_that_did_not_install_reads_what_one_that_did_has_saved(installed: None) -> None:
    saved = JsonSerializer().serialize(LRUCache(3, {"a": 1}))
    code = """
import sys
from workflows.context.serializers import JsonSerializer
back = JsonSerializer().deserialize(sys.argv[1])
print(type(back).__name__, back.maxsize, dict(back.items()))
"""
    done = subprocess.run([sys.executable, "-c", code, saved], capture_output=True, text=True, timeout=SECONDS)
    assert done.stdout == "LRUCache 3 {'a': 1}\n", done.stderr


@pytest.mark.parametrize("state", [state_store.DictState(cache=LRUCache(3)), Settings()], ids=["untyped", "typed"])
def test_patches_carry_contents_and_bounds(installed: None, state: Any) -> None:
    async def main() -> None:
        store = state_store.InMemoryStateStore(state)
        first = store.checkpoint()
        base = first.to_dict()
        async with store.edit_state() as edited:
            edited.cache.maxsize = 5
        second = store.checkpoint()
        await store.set("cache.a", 1)
        patches = [second.diff(first), store.checkpoint().diff(second)]
        assert [len(patch) for patch in patches] == [1, 1]
        for patch in patches:
            base = apply_state_patch(base, json.loads(json.dumps(patch)))
        back = state_store.InMemoryStateStore.from_dict(base, JsonSerializer())
        cache = await back.get("cache")
        assert (type(cache), cache.maxsize, cache) == (LRUCache, 5, {"a": 1})

    run(main)


# install and uninstall.


def everything() -> list[Any]:
    return [*held(REPLACED), dict(serializers._framework_types)]


def test_uninstall_puts_everything_back() -> None:
    before = everything()
    llama_index.install()
    llama_index.install(ticks=3)
    assert all(one is not other for one, other in zip(before, everything(), strict=True))
    llama_index.uninstall()
    assert everything() == before
    llama_index.uninstall()
    assert everything() == before


@pytest.mark.parametrize("where", REPLACED + BUILT_ON)
def test_an_interface_that_has_moved_is_named_and_nothing_is_changed(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name = owner_of(where)
    with monkeypatch.context() as moved:
        moved.delattr(owner, name)
        with pytest.raises(RuntimeError, match=rf"llama-index-workflows \d+\.\d+\S* has no .*{name.strip('_')}"):
            llama_index.install()
    before = everything()
    llama_index.uninstall()
    assert everything() == before


@pytest.mark.parametrize("bound", [0, -1, True, 2.5, "8", float("nan")])
def test_bounds_are_checked_before_anything_is_changed(bound: Any) -> None:
    before = everything()
    for name in ("ticks", "events"):
        with pytest.raises((TypeError, ValueError), match=f"{name} must be"):
            llama_index.install(**{name: bound})
    assert everything() == before


def test_runs_go_on_over_install_and_uninstall() -> None:
    async def main() -> None:
        async def change(number: int, ctx: Context) -> None:
            llama_index.uninstall() if number % 2 else llama_index.install(ticks=2, events=2)

        workflow = Loop(change)
        for _ in range(3):
            handler = workflow.run(turns=20)
            assert await handler == "done"
            assert handler.ctx.to_dict()["is_running"] is False

    run(main)


@pytest.mark.parametrize("bounded_at_first", [True, False])
def test_a_run_that_outlives_install_or_uninstall_has_an_exact_journal(bounded_at_first: bool) -> None:
    def switch(bounded: bool) -> None:
        llama_index.install(ticks=4) if bounded else llama_index.uninstall()

    async def main() -> None:
        async def half_way(number: int, ctx: Context) -> None:
            if number == 10:
                switch(not bounded_at_first)

        workflow = Loop(half_way)
        switch(bounded_at_first)
        handler = workflow.run(turns=20)
        await handler
        seqs = [record.seq async for record in basic.basic_runtime.journal(handler.run_id)]
        total = handler.ctx.to_dict()["journal_seq"]
        assert seqs == list(range(total - len(seqs), total))
        assert len(seqs) > 20

    run(main)


PAGE = Path(__file__).parents[2] / "docs" / "llama_index.md"


def test_the_code_on_the_page_runs() -> None:
    blocks = re.findall(r"^```py\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec", dont_inherit=True), names)

    async def main() -> None:
        assert await names["Assistant"]().run(question="why") == "an answer"

    run(main)
