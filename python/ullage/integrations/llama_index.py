"""LlamaIndex workflows whose memory and whose checkpoints stay flat, however long they run.

    from ullage.integrations import llama_index
    llama_index.install()

A run logs every tick, and keeps every published event until somebody reads it; a checkpoint replays the whole log. With
`install` both are rings. A tick that falls off is folded into the state that a replay starts from, so nothing of that
state is lost. Our containers may be values and typed fields of `ctx.store`, with every serializer of the package.

For llama-index-workflows 2.26, and for llama-index-core 0.12.10, which had a log of events and kept every context.
"""

from __future__ import annotations

import asyncio
import json
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from copy import copy
from functools import partial
from importlib import import_module, metadata
from typing import Any

from ullage import HistoryRing, LRUCache, TransferMap, _sizes
from ullage.integrations._patches import Patches

_KINDS = (HistoryRing, LRUCache, TransferMap)
_MAPS = (LRUCache, TransferMap)
# A payload that nobody needs goes at once.
_ring: Any = partial(HistoryRing, drop="inline")
_patches = Patches({"workflows": "llama-index-workflows", "llama_index": "llama-index-core"}, "docs/llama_index.md")
_runs: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()


def install(*, ticks: int | None = 64, events: int | None = 1024) -> None:
    """Bounds every run from now on, and lets `ctx.store` hold our containers. Again, with other bounds, is fine.

    Parameters
    ----------
    ticks: how many a run logs (before 0.13: events and steps taken); a checkpoint costs a replay of so many.
    events: how many published events are kept while nobody reads; beyond it the oldest go, and a reader is warned.

    None is no bound. RuntimeError, and nothing is changed, if the package is not one that is known here.
    """
    ticks, events = _sizes.count(ticks, "ticks"), _sizes.count(events, "events")
    with _patches.anew():
        if _package() == "llama-index-workflows":
            _bound_runs(ticks, events)
            _open_store()
        else:
            _bound_contexts(ticks, events)


def uninstall() -> None:
    """Puts back what `install` replaced. Runs that have begun are bounded no more."""
    _patches.put_back()
    for queues in list(_runs.values()):
        queues.ticks.maxlen = queues.publish_queue.bound = None


def clear(run: Any) -> None:
    """Frees the payloads of the events of a run, of which a handler or a context is given.

    Its log is folded, events that nobody has read are dropped, and an exception loses its traceback. The result and the
    state stay: `to_dict` and a second run give what they gave before. `await ctx.store.clear()` is for the values.
    (Before 0.13 the events that a finished run has not worked on go too.)
    """
    ctx = getattr(run, "ctx", run)
    future = _clear_context(ctx, run) if hasattr(ctx, "_broker_log") else _clear_run(run)
    finished = isinstance(future, asyncio.Future) and future.done() and not future.cancelled()
    error = future.exception() if finished else None
    # Not the frames in it: to clear that of a coroutine which caught the exception, and waits now, would close it.
    while error is not None and error.__traceback__ is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


class Bounded:
    """Stands for a container of ours in JSON: the serializer finds this class by its name, also without `install`."""

    @staticmethod
    def from_dict(plain: dict[str, Any]) -> Any:
        kind = next(kind for kind in _KINDS if kind.__name__ == plain["ullage"])
        try:
            serializers = import_module("workflows.context.serializers")
            decode = (serializers._active_serializer.get() or serializers.JsonSerializer()).deserialize_value
        except ModuleNotFoundError:
            decode = import_module("llama_index.core.workflow.context_serializers").JsonSerializer().deserialize
        return kind._from_plain(plain, decode)


_BOUNDED = f"{Bounded.__module__}.{Bounded.__name__}"


def _component(container: Any, encode: Callable[[Any], Any]) -> dict[str, Any]:
    """What LlamaIndex takes for one of its own components."""
    if type(container) not in _KINDS:
        raise TypeError(f"JSON cannot hold a {type(container).__name__}, a subclass; PickleSerializer can")
    if isinstance(container, _MAPS) and any(isinstance(key, tuple) for key in container):
        raise TypeError("JSON would make lists of keys that are tuples; PickleSerializer does not")
    return {"__is_component": True, "value": container._plain(encode), "qualified_name": _BOUNDED}


class _Published(asyncio.Queue[Any]):
    """Published events. Whoever reads gets all; while nobody does, the oldest beyond a bound are dropped.

    A later reader is told of them. `reading` is locked while somebody reads; without it the bound always holds.
    """

    def __init__(self, bound: int | None, events: Iterable[Any] = (), reading: asyncio.Lock | None = None) -> None:
        super().__init__()
        self.bound, self._reading, self._told = bound, reading, 0
        self._queue: HistoryRing[Any] = _ring(bound, events)

    def _put(self, item: Any) -> None:
        bound = None if self._reading and self._reading.locked() else self.bound
        if self._queue.maxlen != bound:
            self._queue.maxlen = bound
        self._queue.append(item)

    def _get(self) -> Any:
        lost = self._queue.dropped - self._told
        if lost:
            self._told += lost
            what = f"{lost} events of this run were dropped before they were read"
            warnings.warn(f"{what}; llama_index.install(events=...) keeps more", RuntimeWarning, stacklevel=2)
        return self._queue.popleft()


# What the package must have.


def _probe(where: str, arguments: dict[str, Any], attributes: Iterable[str]) -> None:
    """Makes an instance, to see that it has these attributes."""
    try:
        instance = _patches.find(where)[2](**arguments)
    except TypeError:
        raise _patches.moved(f"{where}({', '.join(arguments)})") from None
    for name in attributes:
        if name not in vars(instance):
            raise _patches.moved(f"{where}.{name}")


def _package() -> str:
    """The package that workflows come from: since 0.13 not llama-index-core."""
    for package in ("llama-index-workflows", "llama-index-core"):
        with suppress(metadata.PackageNotFoundError):
            metadata.version(package)
            return package
    raise ModuleNotFoundError("there are no LlamaIndex workflows here; pip install 'ullage[llama-index]'")


# Runs: ticks and published events.


def _bound_runs(ticks: int | None, events: int | None) -> None:
    basic = "workflows.plugins.basic"

    def begin(stock: Any, self: Any, *args: Any, **kwargs: Any) -> None:
        stock(self, *args, **kwargs)
        # Weakly: a ring that held its owner would leave both to the garbage collector.
        owner = weakref.ref(self)
        self.ticks = _ring(ticks, on_drop=lambda fallen: _fold(owner(), fallen))
        self.publish_queue = _Published(events, reading=self.stream_lock)
        self.first, self.readers = self.init_state.journal_seq, 0
        _runs[self.run_id] = self

    _probe(f"{basic}:AsyncioAdapterQueues", {"run_id": "", "init_state": None}, ("ticks", "init_state", "serializer"))
    _patches.find("workflows.runtime.types.internal_state:BrokerState.journal_seq")
    _patches.find("workflows.runtime.control_loop:rebuild_state_from_ticks")
    _patches.find(f"{basic}:JournalRecord")
    _patches.swap(f"{basic}:AsyncioAdapterQueues.__init__", begin)
    _patches.swap(f"{basic}:BasicRuntime.run_workflow", _run_workflow)
    _patches.swap(f"{basic}:BasicRuntime.journal", _journal)


def _run_workflow(stock: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
    adapter = stock(self, *args, **kwargs)
    queues = self._queues[adapter.run_id]
    queues.complete.add_done_callback(lambda _: _finish(queues))
    return adapter


async def _journal(stock: Any, self: Any, run_id: str) -> AsyncIterator[Any]:
    """As the one it replaces; RuntimeError if ticks have been folded before they were read."""
    queues = _runs.get(run_id)
    if queues is None:
        # One that began before `install`, or none.
        async for record in stock(self, run_id):
            yield record
        return
    record = import_module("workflows.plugins.basic").JournalRecord
    queues.readers += 1
    try:
        seq = queues.first
        while True:
            queues.ticks_changed.clear()
            while (index := seq - queues.init_state.journal_seq) < len(queues.ticks):
                if index < 0:
                    what = f"ticks {seq} to {seq - index - 1} of run '{run_id}' are folded into its state"
                    raise RuntimeError(f"{what}; read the journal sooner, or llama_index.install(ticks=...)")
                yield record(seq=seq, data=queues.serializer.serialize(queues.ticks[index]))
                seq += 1
            if queues.complete.done():
                return
            await queues.ticks_changed.wait()
    finally:
        queues.readers -= 1
        _finish(queues)


def _finish(queues: Any) -> None:
    """A finished run that somebody keeps need not keep what went through it."""
    if queues.complete.done() and not queues.readers and queues.ticks.maxlen is not None:
        _fold_all(queues)


def _fold_all(queues: Any) -> None:
    ticks = list(queues.ticks)
    queues.ticks.clear()
    _fold(queues, ticks)


def _fold(queues: Any, ticks: list[Any]) -> None:
    """What replay would do with the oldest ticks, done now."""
    rebuild = import_module("workflows.runtime.control_loop").rebuild_state_from_ticks
    try:
        queues.init_state = rebuild(queues.init_state, ticks, run_id=queues.run_id)
    except BaseException:
        # Without these ticks every later state would be wrong: rather none.
        del queues.init_state
        raise


def _clear_run(run: Any) -> Any:
    adapter = getattr(getattr(run, "_face", run), "_external_adapter", None)
    queues = _runs.get(getattr(adapter, "run_id", ""))
    if queues is None:
        raise ValueError("clear takes the handler or the context of a run that began after install()")
    _fold_all(queues)
    queues.publish_queue._queue.clear()
    return queues.complete


# The store: paths, and JSON.


def _open_store() -> None:
    store, serializers = "workflows.context.state_store", "workflows.context.serializers"
    _patches.swap(f"{store}:traverse_path_step", _traverse)
    _patches.swap(f"{store}:assign_path_step", _assign)
    _patches.swap(
        f"{store}:_shallow_copy_container", lambda stock, obj: copy(obj) if isinstance(obj, _KINDS) else stock(obj)
    )
    _patches.swap(f"{store}:_safe_eq", lambda stock, a, b: stock(a, b) and _same_bounds(a, b))
    _patches.swap(f"{store}:to_jsonable_python", _to_jsonable)
    _patches.swap(f"{serializers}:JsonSerializer.serialize_value", _serialize_value)
    _patches.find(f"{serializers}:_active_serializer")
    # A serializer with a list of allowed types allows this one too.
    names = _patches.find(f"{serializers}:_framework_types")[2]
    names[_BOUNDED] = Bounded
    _patches.undo.append(partial(names.pop, _BOUNDED))


def _traverse(stock: Any, obj: Any, segment: str) -> Any:
    return obj[segment] if isinstance(obj, _MAPS) else stock(obj, segment)


def _assign(stock: Any, obj: Any, segment: str, value: Any) -> None:
    if isinstance(obj, _MAPS):
        obj[segment] = value
    else:
        stock(obj, segment, value)


def _serialize_value(stock: Any, self: Any, value: Any) -> Any:
    return _component(value, self.serialize_value) if isinstance(value, _KINDS) else stock(self, value)


def _to_jsonable(stock: Any, value: Any) -> Any:
    return stock(value, fallback=lambda part: part._plain() if type(part) in _KINDS else stock(part))


def _same_bounds(a: Any, b: Any) -> bool:
    """Whether what is equal is so to the bounds: a patch must carry one that has changed."""
    if isinstance(a, _KINDS) or isinstance(b, _KINDS):
        return type(a) is type(b) and a._settings == b._settings
    if isinstance(a, dict):
        return all(_same_bounds(value, b[key]) for key, value in a.items())
    if isinstance(a, list | tuple):
        return all(map(_same_bounds, a, b))
    if hasattr(type(a), "model_fields"):
        return _same_bounds(a.__dict__, b.__dict__) and _same_bounds(a.__pydantic_private__, b.__pydantic_private__)
    return True


# Before 0.13: contexts.


def _bound_contexts(ticks: int | None, events: int | None) -> None:
    context, workflow = "llama_index.core.workflow.context:Context", "llama_index.core.workflow.workflow:Workflow"

    def bound(ctx: Any) -> Any:
        ctx._broker_log = _ring(ticks, ctx._broker_log)
        ctx._accepted_events = _ring(ticks, ctx._accepted_events)
        ctx._streaming_queue = _Published(events, ctx._streaming_queue._queue)
        return ctx

    def begin(stock: Any, self: Any, *args: Any, **kwargs: Any) -> None:
        stock(self, *args, **kwargs)
        bound(self)

    attributes = ("_broker_log", "_accepted_events", "_streaming_queue", "_queues", "_in_progress", "_events_buffer")
    _probe(context, {"workflow": None}, (*attributes, "_tasks", "is_running"))
    _probe(workflow, {}, ("_contexts",))
    _patches.swap(f"{context}.__init__", begin)
    _patches.swap(f"{context}.from_dict", lambda stock, *args, **kwargs: bound(stock(*args, **kwargs)))
    _patches.swap(f"{context}.to_dict", _context_to_dict)
    _patches.swap(f"{workflow}.__init__", _workflow_init)
    _patches.swap(f"{workflow}.run", _workflow_run)
    _patches.swap("llama_index.core.workflow.context_serializers:JsonSerializer.serialize", _serialize)


def _context_to_dict(stock: Any, self: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    return {**stock(self, *args, **kwargs), "accepted_events": list(self._accepted_events)}


def _workflow_init(stock: Any, self: Any, *args: Any, **kwargs: Any) -> None:
    stock(self, *args, **kwargs)
    self._contexts = weakref.WeakSet(self._contexts)


def _workflow_run(stock: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
    handler = stock(self, *args, **kwargs)
    # A finished task leads back to the context by its exception and its frames.
    handler.add_done_callback(lambda done: setattr(done.ctx, "_tasks", set()))
    return handler


def _serialize(stock: Any, self: Any, value: Any) -> Any:
    if not isinstance(value, _KINDS):
        return stock(self, value)
    return json.dumps(_component(value, partial(_serialize, stock, self)))


def _clear_context(ctx: Any, run: Any) -> Any:
    held = [ctx._broker_log, ctx._streaming_queue._queue]
    if not ctx.is_running:
        held += [ctx._in_progress, ctx._events_buffer, *(queue._queue for queue in ctx._queues.values())]
    for events in held:
        events.clear()
    return run
