"""The workflows that llama-index-core held until 0.13, at the release that the leak was reported for."""

import asyncio
import gc
import json
import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

pytest.importorskip("llama_index.core.workflow.checkpointer", reason="there is no old llama-index-core here")

from llama_index.core.workflow import Context, StopEvent
from llama_index.core.workflow.checkpointer import WorkflowCheckpointer
from llama_index.core.workflow.context_serializers import JsonPickleSerializer, JsonSerializer
from llama_index.core.workflow.errors import WorkflowRuntimeError
from llama_workflows import EVENTS, TICKS, Carrier, Loop, Payload, Turn, run
from places import held, owner_of
from ullage import HistoryRing, LRUCache, TransferMap
from ullage.integrations import llama_index

pytestmark = [
    pytest.mark.integration,
    # Of the release itself, under a newer pydantic and asyncio.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

CONTEXT = "llama_index.core.workflow.context:Context"
WORKFLOW = "llama_index.core.workflow.workflow:Workflow"
REPLACED = [
    f"{CONTEXT}.__init__",
    f"{CONTEXT}.from_dict",
    f"{CONTEXT}.to_dict",
    f"{WORKFLOW}.__init__",
    f"{WORKFLOW}.run",
    "llama_index.core.workflow.context_serializers:JsonSerializer.serialize",
]


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    llama_index.uninstall()


@pytest.fixture
def installed() -> None:
    llama_index.install(ticks=TICKS, events=EVENTS)


async def carriers(workflow: Carrier, count: int = 5) -> list[Any]:
    handlers = []
    for _ in range(count):
        handlers.append(workflow.run())
        with suppress(WorkflowRuntimeError):
            await handlers[-1]
    await asyncio.sleep(0.01)
    return handlers


def test_payloads_of_a_dropped_run_are_gone_at_once(installed: None, no_collector: None) -> None:
    async def main() -> None:
        # The workflow lives on, as that of a server does.
        workflow = Carrier(timeout=None)
        (await carriers(workflow)).clear()
        assert len(Payload.live) == 0
        assert len(workflow._contexts) == 0

    run(main)


def test_stock_keeps_them_for_as_long_as_the_workflow_lives() -> None:
    async def main() -> None:
        workflow = Carrier(timeout=None)
        (await carriers(workflow)).clear()
        gc.collect()
        assert len(Payload.live) == 10
        assert len(workflow._contexts) == 5

    run(main)
    gc.collect()
    assert len(Payload.live) == 0


@pytest.mark.parametrize("fails", [False, True])
def test_clear_frees_what_a_kept_run_holds(
    installed: None, no_collector: None, fails: bool, caplog: pytest.LogCaptureFixture
) -> None:
    # A log that pytest keeps would keep tracebacks.
    caplog.set_level(logging.CRITICAL + 1, "asyncio")

    async def main() -> None:
        workflow = Carrier(timeout=None)
        workflow.fails = fails
        handlers = await carriers(workflow)
        assert len(Payload.live) == 10
        for handler in handlers:
            handler.ctx.data.clear()
            llama_index.clear(handler)
        assert len(Payload.live) == 0
        if not fails:
            assert await handlers[0] == "done"

    run(main)


@pytest.mark.parametrize("kind", [LRUCache, HistoryRing, TransferMap])
def test_cycles_through_our_containers_are_collected(installed: None, kind: Any) -> None:
    async def main() -> None:
        for _ in range(5):
            container = kind(5)

            async def keep(number: int, ctx: Context, container: Any = container) -> None:
                holder = Payload()
                holder.ctx = ctx  # type: ignore[attr-defined]
                container.append(holder) if kind is HistoryRing else container.__setitem__("holder", holder)
                await ctx.set("container", container)

            workflow = Loop(keep)
            await workflow.run(turns=1)

    run(main)
    gc.collect()
    assert len(Payload.live) == 0


def test_logs_and_checkpoints_stay_flat(installed: None) -> None:
    async def main() -> None:
        sizes = set()

        async def checkpoint(number: int, ctx: Context) -> None:
            # Other steps look at each event as well, when they get their turn.
            await asyncio.sleep(0)
            ctx.write_event_to_stream(Turn(number=number))
            if number < 3900:
                sizes.add(len(json.dumps(ctx.to_dict())) // 500)

        workflow = Loop(checkpoint)
        handler = workflow.run(turns=4000)
        assert await handler == "done"
        assert len(handler.ctx._broker_log) == len(handler.ctx._accepted_events) == TICKS
        assert handler.ctx.streaming_queue.qsize() == EVENTS
        assert len(sizes) < 4
        with pytest.warns(RuntimeWarning, match=r"39\d\d events of this run were dropped"):
            events = [event async for event in handler.stream_events()]
        assert [event.number for event in events[:-1]] == list(range(EVENTS - 2, -1, -1))
        assert isinstance(events[-1], StopEvent)

    run(main)


def test_a_restored_context_keeps_the_bounds_and_goes_on(installed: None) -> None:
    async def main() -> None:
        saved: list[Any] = []

        async def checkpoint(number: int, ctx: Context) -> None:
            if number == 20:
                saved.append(json.loads(json.dumps(ctx.to_dict())))

        workflow = Loop(checkpoint)
        assert await workflow.run(turns=50) == "done"
        ctx = Context.from_dict(workflow, saved[0])
        assert len(ctx._broker_log) == TICKS
        assert await workflow.run(ctx=ctx) == "done"
        assert len(ctx._broker_log) == TICKS

    run(main)


def test_steps_and_checkpoints_work_as_before(installed: None) -> None:
    async def main() -> None:
        workflow = Loop()
        handler = workflow.run(stepwise=True, turns=3)
        while not handler.is_done():
            event = await handler.run_step()
            if event is not None:
                handler.ctx.send_event(event)
        assert handler.result() == "done"
        checkpointer = WorkflowCheckpointer(workflow=workflow)
        handler = checkpointer.run(turns=3)
        assert await handler == "done"
        taken = checkpointer.checkpoints[handler.run_id]
        assert len(taken) > 3
        assert await checkpointer.run_from(taken[1]) == "done"
        # The stream of a workflow, which goes by its contexts.
        handler = workflow.run(turns=3)
        assert [event async for event in workflow.stream_events()] == []
        assert await handler == "done"

    run(main)


@pytest.mark.parametrize("serializer", [JsonSerializer(), JsonPickleSerializer()], ids=["json", "pickle"])
def test_values_keep_kind_contents_and_bound(installed: None, serializer: Any) -> None:
    async def main() -> None:
        workflow = Loop()
        ctx = Context(workflow)
        await ctx.set("cache", LRUCache(2, {"a": Turn(number=1), "b": HistoryRing(3, [1])}, ttl=3600))
        await ctx.set("history", HistoryRing(2, [1, 2, 3]))
        await ctx.set("transfers", TransferMap(60, maxsize=2))
        for _ in range(3):
            assert await workflow.run(ctx=ctx, turns=1) == "done"
            ctx = Context.from_dict(workflow, json.loads(json.dumps(ctx.to_dict(serializer))), serializer)
            cache, history, transfers = [await ctx.get(name) for name in ("cache", "history", "transfers")]
            assert (type(cache), cache.maxsize, cache.ttl) == (LRUCache, 2, 3600)
            assert cache["a"] == Turn(number=1)
            assert (type(cache["b"]), cache["b"].maxlen) == (HistoryRing, 3)
            assert (type(history), history.maxlen, history) == (HistoryRing, 2, [2, 3])
            assert (type(transfers), transfers.maxsize) == (TransferMap, 2)

    run(main)


def test_what_json_would_lose_fails_in_json_and_not_in_pickle(installed: None) -> None:
    for value in ({"nested": LRUCache(3)}, LRUCache(3, {("a", 1): 1}), [HistoryRing(3)]):
        with pytest.raises(TypeError):
            JsonSerializer().serialize(value)
        serializer = JsonPickleSerializer()
        assert serializer.deserialize(serializer.serialize(value)) == value


def test_uninstall_puts_everything_back() -> None:
    before = held(REPLACED)
    llama_index.install()
    assert all(one is not other for one, other in zip(before, held(REPLACED), strict=True))
    llama_index.uninstall()
    assert held(REPLACED) == before


@pytest.mark.parametrize("where", [where for where in REPLACED if "__init__" not in where])
def test_an_interface_that_has_moved_is_named_and_nothing_is_changed(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name = owner_of(where)
    before = held(REPLACED)
    with monkeypatch.context() as moved:
        moved.delattr(owner, name)
        with pytest.raises(RuntimeError, match=rf"llama-index-core 0\.12\S* has no .*{name}"):
            llama_index.install()
    assert held(REPLACED) == before
