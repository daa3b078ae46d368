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
import traceback
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Iterable
from copy import copy
from functools import cache, partial
from importlib import import_module, metadata
from typing import Any, cast

from ullage import HistoryRing, LRUCache, TransferMap

_MAPS = (LRUCache, TransferMap)
_KINDS = {kind.__name__: kind for kind in (HistoryRing, *_MAPS)}
_undo: list[Callable[[], object]] = []
_runs: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()


def install(*, ticks: int | None = 64, events: int | None = 1024) -> None:
    """Bounds every run from now on, and lets `ctx.store` hold our containers. Again, with other bounds, is fine.

    Parameters
    ----------
    ticks: how many a run logs (before 0.13: events and steps taken); a checkpoint costs a replay of so many.
    events: how many published events are kept while nobody reads; beyond it the oldest go, and a reader is warned.

    None is no bound. RuntimeError, and nothing is changed, if the package is not one that is known here.
    """
    for bound in (ticks, events):
        HistoryRing(bound)
    uninstall()
    try:
        if _package() == "llama-index-workflows":
            _bound_runs(ticks, events)
            _open_store()
        else:
            _bound_contexts(ticks, events)
    except BaseException:
        uninstall()
        raise


def uninstall() -> None:
    """Puts back what `install` replaced. Runs that have begun keep their bounds."""
    while _undo:
        _undo.pop()()


def clear(run: Any) -> None:
    """Frees the payloads of the events of a run, of which a handler or a context is given.

    Its log is folded, events that nobody has read are dropped, and of an exception only the lines stay. The result and
    the state stay: `to_dict` and a second run give what they gave before. `await ctx.store.clear()` is for the values.
    """
    error = None
    if hasattr(run, "_broker_log") or hasattr(getattr(run, "ctx", None), "_broker_log"):
        ctx = getattr(run, "ctx", run)
        for log in (ctx._broker_log, ctx._streaming_queue._queue):
            log.clear()
        if not ctx.is_running:
            for queue in ctx._queues.values():
                queue._queue.clear()
            for waiting in (ctx._in_progress, ctx._events_buffer):
                waiting.clear()
        if run is not ctx and run.done() and not run.cancelled():
            error = run.exception()
    else:
        adapter = getattr(getattr(run, "_face", run), "_external_adapter", None)
        queues = _runs.get(getattr(adapter, "run_id", ""))
        if queues is None:
            raise ValueError("clear takes the handler or the context of a run that began after install()")
        _fold_all(queues)
        queues.publish_queue._queue.clear()
        if queues.complete.done() and not queues.complete.cancelled():
            error = queues.complete.exception()
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


class Bounded:
    """Stands for a container of ours in JSON: the serializer finds this class by its name, also without `install`."""

    @staticmethod
    def from_dict(plain: dict[str, Any]) -> Any:
        if _package() == "llama-index-workflows":
            serializers = import_module("workflows.context.serializers")
            decode = (serializers._active_serializer.get() or serializers.JsonSerializer()).deserialize_value
        else:
            decode = import_module("llama_index.core.workflow.context_serializers").JsonSerializer().deserialize
        return _KINDS[plain["ullage"]]._from_plain(plain, decode)


def _component(container: Any, encode: Callable[[Any], Any]) -> dict[str, Any]:
    """What LlamaIndex takes for one of its own components."""
    if type(container) not in _KINDS.values():
        raise TypeError(f"JSON cannot hold a {type(container).__name__}, a subclass; PickleSerializer can")
    if isinstance(container, _MAPS) and any(isinstance(key, tuple) for key in container):
        raise TypeError("JSON would make lists of keys that are tuples; PickleSerializer does not")
    name = f"{Bounded.__module__}.{Bounded.__name__}"
    return {"__is_component": True, "value": container._plain(encode), "qualified_name": name}


class _Published(asyncio.Queue[Any]):
    """Published events. Whoever reads gets all; while nobody does, the oldest beyond a bound are dropped.

    A later reader is told of them. `reading` is locked while somebody reads; without it the bound always holds.
    """

    def __init__(self, bound: int | None, events: Iterable[Any] = (), reading: asyncio.Lock | None = None) -> None:
        super().__init__()
        self._bound, self._reading, self._told = bound, reading, 0
        self._queue: HistoryRing[Any] = HistoryRing(bound, events)

    def _put(self, item: Any) -> None:
        bound = None if self._reading and self._reading.locked() else self._bound
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


# Putting ours in the place of theirs.


def _swap(where: str, make: Callable[[Any], Any]) -> None:
    """Puts what `make` makes of an attribute in its place. `where` is `module:Class.attribute` or `module:name`."""
    owner, stock = _find(where)
    name = where.rpartition(":")[2].rpartition(".")[2]
    setattr(owner, name, make(stock))
    _undo.append(partial(setattr, owner, name, stock))


def _find(where: str) -> tuple[Any, Any]:
    """The owner of an attribute and its value, as it stands there: a classmethod, not a method."""
    module, _, path = where.partition(":")
    try:
        owner = import_module(module)
        *outer, name = path.split(".")
        for part in outer:
            owner = getattr(owner, part)
        return owner, vars(owner)[name]
    except (ImportError, AttributeError, KeyError):
        raise _moved(where.replace(":", ".")) from None


def _check(what: str, instance: Any, *names: str) -> None:
    for name in names:
        if name not in vars(instance):
            raise _moved(f"{what}.{name}")


def _moved(what: str) -> RuntimeError:
    package = _package()
    version = metadata.version(package)
    return RuntimeError(
        f"{package} {version} has no {what}, which ullage builds on; see docs/llama_index.md for versions"
    )


@cache
def _package() -> str:
    """The package that workflows come from: since 0.13 not llama-index-core."""
    installed = {name.lower().replace("_", "-") for found in metadata.distributions() if (name := found.name)}
    for package in ("llama-index-workflows", "llama-index-core"):
        if package in installed:
            return package
    raise ModuleNotFoundError("there are no LlamaIndex workflows here; pip install 'ullage[llama-index]'")


# Runs: ticks and published events.


def _bound_runs(ticks: int | None, events: int | None) -> None:
    basic = "workflows.plugins.basic"
    try:
        probe = _find(f"{basic}:AsyncioAdapterQueues")[1](run_id="", init_state=None)
    except TypeError:
        raise _moved(f"{basic}.AsyncioAdapterQueues(run_id, init_state)") from None
    _check("AsyncioAdapterQueues", probe, "ticks", "init_state", "run_id", "serializer")
    _find("workflows.runtime.types.internal_state:BrokerState.deepcopy")
    _find("workflows.runtime.control_loop:rebuild_state_from_ticks")
    record = _find(f"{basic}:JournalRecord")[1]

    def finish(queues: Any) -> None:
        """A finished run that somebody keeps need not keep what went through it."""
        if ticks is not None and queues.complete.done() and not queues.readers:
            _fold_all(queues)

    def queues_init(stock: Any) -> Any:
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            stock(self, *args, **kwargs)
            # Weakly: a ring that held its owner would leave both to the garbage collector.
            owner = weakref.ref(self)
            self.ticks = HistoryRing(ticks, on_drop=lambda fallen: _fold(owner(), fallen))
            self.publish_queue = _Published(events, reading=self.stream_lock)
            self.readers, self.first = 0, self.init_state and self.init_state.journal_seq
            _runs[self.run_id] = self

        return __init__

    def run_workflow(stock: Any) -> Any:
        def run_workflow(self: Any, *args: Any, **kwargs: Any) -> Any:
            adapter = stock(self, *args, **kwargs)
            queues = self._queues[adapter.run_id]
            queues.complete.add_done_callback(lambda _: finish(queues))
            return adapter

        return run_workflow

    def journal(stock: Any) -> Any:
        async def journal(self: Any, run_id: str) -> AsyncIterator[Any]:
            """As the one it replaces; RuntimeError if ticks have been folded before they were read."""
            queues = self._queues.get(run_id)
            if queues is None:
                raise RuntimeError(f"No active workflow with run_id '{run_id}'. ")
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
                finish(queues)

        return journal

    _swap(f"{basic}:AsyncioAdapterQueues.__init__", queues_init)
    _swap(f"{basic}:BasicRuntime.run_workflow", run_workflow)
    _swap(f"{basic}:BasicRuntime.journal", journal)


def _fold(queues: Any, ticks: list[Any]) -> None:
    """What replay would do with the oldest ticks, done now."""
    rebuild = import_module("workflows.runtime.control_loop").rebuild_state_from_ticks
    try:
        queues.init_state = rebuild(queues.init_state, ticks, run_id=queues.run_id)
    except BaseException:
        # Without these ticks every later state would be wrong: rather none.
        del queues.init_state
        raise


def _fold_all(queues: Any) -> None:
    ticks = list(queues.ticks)
    queues.ticks.clear()
    _fold(queues, ticks)


# The store: paths, and JSON.


def _open_store() -> None:
    store, serializers = "workflows.context.state_store", "workflows.context.serializers"
    kinds = tuple(_KINDS.values())

    def traverse(stock: Any) -> Any:
        return lambda obj, segment: obj[segment] if isinstance(obj, _MAPS) else stock(obj, segment)

    def assign(stock: Any) -> Any:
        return lambda obj, segment, value: (
            obj.__setitem__(segment, value) if isinstance(obj, _MAPS) else stock(obj, segment, value)
        )

    def shallow_copy(stock: Any) -> Any:
        return lambda obj: copy(obj) if isinstance(obj, kinds) else stock(obj)

    def safe_eq(stock: Any) -> Any:
        return lambda a, b: stock(a, b) and _same_bounds(a, b)

    def jsonable(stock: Any) -> Any:
        return lambda value: stock(
            value, fallback=lambda part: part._plain() if isinstance(part, kinds) else stock(part)
        )

    def serialize_value(stock: Any) -> Any:
        def serialize_value(self: Any, value: Any) -> Any:
            return _component(value, self.serialize_value) if isinstance(value, kinds) else stock(self, value)

        return serialize_value

    _swap(f"{store}:traverse_path_step", traverse)
    _swap(f"{store}:assign_path_step", assign)
    _swap(f"{store}:_shallow_copy_container", shallow_copy)
    _swap(f"{store}:_safe_eq", safe_eq)
    _swap(f"{store}:to_jsonable_python", jsonable)
    _swap(f"{serializers}:JsonSerializer.serialize_value", serialize_value)
    names = _find(f"{serializers}:_framework_types")[1]
    _find(f"{serializers}:_active_serializer")
    # A serializer with a list of allowed types allows this one too.
    name = f"{Bounded.__module__}.{Bounded.__name__}"
    names[name] = Bounded
    _undo.append(partial(names.pop, name))


def _same_bounds(a: Any, b: Any) -> bool:
    """Whether what is equal is so to the bounds: a patch must carry one that has changed."""
    if isinstance(a, tuple(_KINDS.values())) or isinstance(b, tuple(_KINDS.values())):
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
        ctx._broker_log = HistoryRing(ticks, ctx._broker_log)
        ctx._accepted_events = HistoryRing(ticks, ctx._accepted_events)
        ctx._streaming_queue = _Published(events, ctx._streaming_queue._queue)
        return ctx

    def context_init(stock: Any) -> Any:
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            stock(self, *args, **kwargs)
            bound(self)

        return __init__

    def from_dict(stock: Any) -> Any:
        return classmethod(lambda cls, *args, **kwargs: bound(stock.__func__(cls, *args, **kwargs)))

    def to_dict(stock: Any) -> Any:
        def to_dict(self: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
            return {**stock(self, *args, **kwargs), "accepted_events": list(self._accepted_events)}

        return to_dict

    def workflow_init(stock: Any) -> Any:
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            stock(self, *args, **kwargs)
            self._contexts = weakref.WeakSet(self._contexts)

        return __init__

    def run(stock: Any) -> Any:
        def run(self: Any, *args: Any, **kwargs: Any) -> Any:
            handler = stock(self, *args, **kwargs)
            # A finished task leads back to the context by its exception and its frames.
            handler.add_done_callback(lambda done: done.ctx._tasks.clear())
            return handler

        return run

    def serialize(stock: Any) -> Any:
        def serialize(self: Any, value: Any) -> str:
            if not isinstance(value, tuple(_KINDS.values())):
                return cast(str, stock(self, value))
            return json.dumps(_component(value, lambda part: serialize(self, part)))

        return serialize

    _swap(f"{context}.__init__", context_init)
    _swap(f"{context}.from_dict", from_dict)
    _swap(f"{context}.to_dict", to_dict)
    _swap(f"{workflow}.__init__", workflow_init)
    _swap(f"{workflow}.run", run)
    _swap("llama_index.core.workflow.context_serializers:JsonSerializer.serialize", serialize)
