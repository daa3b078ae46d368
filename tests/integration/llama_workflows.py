"""Workflows that carry payloads or go on for long, for LlamaIndex as it is and as it was before 0.13."""

import asyncio
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from pydantic import ConfigDict

try:
    from workflows import Context, Workflow, step
    from workflows.events import Event, StartEvent, StopEvent
except ModuleNotFoundError:
    from llama_index.core.workflow import Context, Event, StartEvent, StopEvent, Workflow, step

TICKS, EVENTS = 8, 16
SECONDS = 30


def run(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(main(), SECONDS))


class Payload:
    """Something big: `live` knows whether it is still there."""

    live: ClassVar["weakref.WeakSet[Payload]"] = weakref.WeakSet()

    def __init__(self) -> None:
        self.live.add(self)


class Loaded(Event):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    payload: Payload


class Turn(Event):
    number: int


class Carrier(Workflow):
    """A payload in an event, in the store, in the event stream, and on the way to an exception."""

    fails = False

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Loaded:
        await getattr(ctx, "store", ctx).set("value", Payload())
        return Loaded(payload=Payload())

    @step
    async def end(self, ctx: Context, ev: Loaded) -> StopEvent:
        ctx.write_event_to_stream(ev)
        if self.fails:
            raise ValueError("as told")
        return StopEvent(result="done")


async def nothing(number: int, ctx: Context) -> None: ...


class Loop(Workflow):
    """So many turns, and `each` after every one of them."""

    def __init__(self, each: Callable[[int, Context], Coroutine[Any, Any, None]] = nothing) -> None:
        super().__init__(timeout=None)
        self.each = each

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Turn:
        return Turn(number=ev.turns)

    @step
    async def turn(self, ctx: Context, ev: Turn) -> Turn | StopEvent:
        await self.each(ev.number, ctx)
        return Turn(number=ev.number - 1) if ev.number else StopEvent(result="done")
