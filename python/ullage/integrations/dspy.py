"""DSPy within bounds: its histories, its trace, its memory cache and its pools of connections.

DSPy records each call in a global list, in one of the language model and in one of every module that led to the call,
and in a trace. It makes these lists in constructors, in copies and when a program is loaded; so what replaces them
stands in its classes, before the attribute of each instance.
"""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from types import SimpleNamespace
from typing import Any
from weakref import WeakValueDictionary

from ullage import HistoryRing, LRUCache, _sizes, deep_sizeof
from ullage.monitor import config


def install(
    *,
    history_bytes: int | str | None = None,
    history_maxlen: int | str | None = None,
    cache_bytes: int | str | None = None,
    cache_policy: str = "lru",
    engines: int | None = 32,
    soft: float | str | None = None,
) -> None:
    """Bounds all that DSPy keeps of its calls, in objects that exist and in those that are still to come.

    Parameters
    ----------
    history_bytes, history_maxlen: the most that each history holds, and the trace: the global history, and that of
        each language model and of each module. The oldest calls leave first.
    cache_bytes: the most that the memory cache holds; DSPy's own `memory_max_entries` is kept beside it.
    cache_policy: which answer leaves the cache first, as `policy` of `LRUCache`.
    engines: the most pools of connections that a language model keeps with its copies, one for each set of
        credentials; None leaves them as they are. One that leaves is closed when the last call that uses it ends.
    soft: the share of `history_bytes` from which on a warning says, once, that a history fills up.

    What is not given is a setting: see `ullage.config()`; that of `soft` is `guard_soft`. Installing again changes the
    bounds. What a program has put in such a place itself stays there.

    A history is pickled as an empty list: a saved program holds no prompts, and is loaded without ullage too.

    Raises RuntimeError if DSPy is not built as this knows it, and changes nothing then.
    """
    global _installed
    bounds = _Bounds(
        _setting("history_bytes", history_bytes),
        _setting("history_maxlen", history_maxlen),
        _setting("cache_bytes", cache_bytes),
        cache_policy,
        _sizes.count(engines, "engines"),
        _setting("guard_soft", soft, "soft"),
    )
    # A policy that is not known is said before anything is changed.
    bounds.cache("trial")
    with _installing:
        uninstall()
        _installed = _Installation(bounds)
        _installed.put()


def uninstall() -> None:
    """Gives DSPy its own objects back, with what ours hold by then. Does nothing if nothing is installed."""
    global _installed
    with _installing:
        if _installed:
            _installed.take_back()
            _installed = None


class History(HistoryRing[Any]):
    """Stands for a list. Recording a call never fails the call."""

    __slots__ = ("stock",)
    stock: Any
    weight_unit = "bytes"

    def append(self, call: Any, /) -> None:
        try:
            super().append(call)
        except Exception as error:
            _warn_once("call", f"a call is not recorded in {self.name}: {error}")
        else:
            if _installed and self.weight > _installed.bounds.soft * _installed.bounds.history_bytes:
                _warn_once(
                    "soft",
                    f"{self.name} holds {self.weight:,} bytes; from {self.max_weight:,} on the oldest calls leave it. "
                    "The bound is install(history_bytes=...), or else ullage.configure(history_bytes=...)",
                )

    def __getstate__(self) -> None:
        """A copy stands for no list."""

    def __reduce__(self) -> tuple[Any, ...]:
        return list, ()


class Answers(LRUCache[str, Any]):
    """Stands for cachetools' LRUCache, whose number of entries it keeps to. An answer that is too heavy is not kept."""

    __slots__ = ("stock",)
    stock: Any

    def __setitem__(self, key: str, answer: Any, /) -> None:
        try:
            super().__setitem__(key, answer)
        except Exception as error:
            self.pop(key, None)
            _warn_once("answer", f"an answer is not kept in {self.name}: {error}")
        while len(self) > self.stock.maxsize:
            self.evict()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self.stock), (self.stock.maxsize,), None, None, iter(list(self.items()))


class Pools(LRUCache[Any, Any]):
    """Stands for the dict of connection pools that a language model shares with its copies.

    DSPy does not say when it is done with a pool, so one that leaves is not closed but let go of: each call holds the
    pool that it uses, and the last to let go closes it.
    """

    __slots__ = ("stock",)
    stock: Any


@dataclass(frozen=True)
class _Bounds:
    history_bytes: int
    history_maxlen: int | None
    cache_bytes: int
    cache_policy: str
    engines: int | None
    soft: float

    def history(self, name: str) -> History:
        return History(self.history_maxlen, max_bytes=self.history_bytes, name=name)

    def trace(self, name: str) -> History:
        return History(self.history_maxlen, weigher=_step_bytes, max_weight=self.history_bytes, name=name)

    def cache(self, name: str) -> Answers:
        policy: Any = self.cache_policy
        return Answers(max_bytes=self.cache_bytes, policy=policy, name=name)

    def pools(self, name: str) -> Pools:
        return Pools(self.engines, name=name)


@dataclass(eq=False)
class _Attribute:
    """Stands in a class before an attribute of its instances, and puts ours in the place of what DSPy puts there.

    At once when it is assigned; when it is read, if it came into `__dict__` by another door, as in unpickling.
    """

    owner: type
    name: str
    kind: type
    make: Callable[[str], Any]
    lock: Callable[[Any], AbstractContextManager[Any]]
    # By the id of the object that it stands for, and keeps alive: instances that shared that share ours.
    standing: WeakValueDictionary[int, Any] = field(default_factory=WeakValueDictionary)

    def __get__(self, instance: Any, owner: type) -> Any:
        try:
            value = vars(instance)[self.name]
        except (KeyError, TypeError):
            what = f"type object {owner.__name__!r}" if instance is None else f"{owner.__name__!r} object"
            raise AttributeError(f"{what} has no attribute {self.name!r}") from None
        return self.replace(instance) if self.grows(value) else value

    def __set__(self, instance: Any, value: Any) -> None:
        if self.grows(value):
            # What is assigned stays as it is: its contents are copied.
            value = self.stand_in(instance, value, _fresh(value, vars(instance).get(self.name)))
        vars(instance)[self.name] = value

    def __delete__(self, instance: Any) -> None:
        self.__get__(instance, type(instance))
        del vars(instance)[self.name]

    def grows(self, value: object) -> bool:
        """Whether it is what DSPy puts there; anything else is a program's own choice."""
        return type(value) is self.kind

    def stand_in(self, instance: Any, contents: Any, stock: Any) -> Any:
        model = vars(instance).get("model")
        label = f"{type(instance).__name__}({model})" if type(model) is str else type(instance).__name__
        return _stand_in(self.make(f"dspy {label}.{self.name}"), contents, stock)

    def replace(self, instance: Any) -> Any:
        with self.lock(instance):
            stock = vars(instance)[self.name]
            if not self.grows(stock):
                return stock
            ours = self.standing.get(id(stock))
            if ours is None:
                ours = self.standing[id(stock)] = self.stand_in(instance, stock, stock)
            vars(instance)[self.name] = ours
            stock.clear()
            return ours

    def restore(self, instance: Any, poured: dict[int, Any]) -> None:
        with self.lock(instance):
            _restore(vars(instance), self.name, poured)


class _Installation:
    """What was put where, and how it is taken back."""

    def __init__(self, bounds: _Bounds) -> None:
        self.bounds = bounds
        self.unsaid = {"soft", "call", "answer"}
        """The warnings that have not been given yet."""
        self.attributes = list(_attributes(bounds))
        self.base_lm = _look("dspy.clients.base_lm", lambda: import_module("dspy.clients.base_lm"))
        _look("dspy.clients.base_lm.GLOBAL_HISTORY", lambda: self.base_lm.GLOBAL_HISTORY, list, HistoryRing)
        self.settings = _look("dspy.dsp.utils.settings", lambda: import_module("dspy.dsp.utils.settings"))
        self.config = _look(
            "dspy.dsp.utils.settings.main_thread_config", lambda: self.settings.main_thread_config, dict
        )
        _look("trace in dspy.settings", lambda: self.config["trace"], list, HistoryRing, type(None))

    def put(self) -> None:
        calls = self.base_lm.GLOBAL_HISTORY
        if type(calls) is list:
            self.base_lm.GLOBAL_HISTORY = _stand_in(self.bounds.history("dspy.GLOBAL_HISTORY"), calls, calls)
            calls.clear()
        self.settings.main_thread_config = _bounded_settings(self.config, self.bounds.trace)
        for attribute in self.attributes:
            setattr(attribute.owner, attribute.name, attribute)
        for instance, attribute in self.instances():
            attribute.__get__(instance, type(instance))

    def take_back(self) -> None:
        for attribute in self.attributes:
            if attribute.name in vars(attribute.owner):
                delattr(attribute.owner, attribute.name)
        poured: dict[int, Any] = {}
        for instance, attribute in self.instances():
            attribute.restore(instance, poured)
        values = dict(self.settings.main_thread_config)
        self.config.clear()
        self.config.update(values)
        self.settings.main_thread_config = self.config
        _restore(self.config, "trace", poured)
        _restore(vars(self.base_lm), "GLOBAL_HISTORY", poured)

    def instances(self) -> Iterator[tuple[Any, _Attribute]]:
        """Every object that has one of the attributes."""
        for instance in gc.get_objects():
            for attribute in self.attributes:
                # Not isinstance, which asks the object.
                if issubclass(type(instance), attribute.owner) and attribute.name in vars(instance):
                    yield instance, attribute


_installed: _Installation | None = None
_installing = threading.RLock()
_replacing = threading.RLock()


def _attributes(bounds: _Bounds) -> Iterator[_Attribute]:
    """One for each attribute of DSPy's objects that grows."""
    dspy = import_module("dspy")
    yield _found("dspy.BaseLM", lambda: dspy.BaseLM("ullage/trial"), "history", list, bounds.history)
    yield _found("dspy.Module", lambda: dspy.Module(), "history", list, bounds.history)
    stock_cache = _look("cachetools.LRUCache", lambda: import_module("cachetools").LRUCache)
    cache = lambda: dspy.clients.Cache(False, True, None)  # noqa: E731
    yield _found("dspy.clients.Cache", cache, "memory_cache", stock_cache, bounds.cache, "_lock")
    if bounds.engines is not None:
        model = lambda: dspy.LM("ullage/trial", engine=SimpleNamespace(complete=print))  # noqa: E731
        yield _found("dspy.LM", model, "_engine_store", dict, bounds.pools, "_engine_lock")
    # An experiment of DSPy's, which may end.
    with suppress(ImportError, AttributeError):
        typesafe = import_module("dspy.clients.typesafe").TypeSafe
        yield _found("dspy.clients.typesafe.TypeSafe", typesafe, "history", list, bounds.history)


def _found(
    what: str, make: Callable[[], Any], name: str, kind: type, ours: Callable[[str], Any], lock: str = ""
) -> _Attribute:
    """An attribute, after a look at an object that was made for that."""
    trial = _look(what, make)
    _look(f"{what}.{name}", lambda: vars(trial)[name], kind)
    if lock:
        _look(f"{what}.{lock}", lambda: vars(trial)[lock].__enter__)
    # A subclass may do without.
    return _Attribute(type(trial), name, kind, ours, lambda instance: vars(instance).get(lock, _replacing))


def _setting(name: str, given: object, called: str = "") -> Any:
    return config.setting(name) if given is None else config.KINDS[name].parse(given, called or name)


def _look(what: str, look: Callable[[], Any], *kinds: type) -> Any:
    """What DSPy has there; RuntimeError if that is not of the kind that is known."""
    try:
        found = look()
    except Exception as error:
        trouble = f"there is no {what} ({type(error).__name__}: {error})"
    else:
        if isinstance(found, kinds or object):
            return found
        trouble = f"{what} is a {type(found).__name__}, not a {kinds[0].__name__}"
    release = getattr(import_module("dspy"), "__version__", "of unknown version")
    raise RuntimeError(f"in DSPy {release} {trouble}; nothing was installed. A newer ullage may know this DSPy")


def _stand_in(ours: Any, contents: Any, stock: Any) -> Any:
    ours.stock = stock
    if isinstance(ours, History):
        # What others append meanwhile is met as well.
        for call in contents:
            ours.append(call)
    else:
        for key in list(contents):
            ours[key] = contents[key]
    return ours


def _restore(place: dict[str, Any], name: str, poured: dict[int, Any]) -> None:
    """Puts what ours stands for in its place again, and once what ours holds into that; for a copy of ours, a list."""
    ours = place[name]
    if not isinstance(ours, History | Answers | Pools):
        return
    if not hasattr(ours, "stock"):
        ours.stock = []
    if id(ours) not in poured:
        poured[id(ours)] = ours
        if isinstance(ours, History):
            ours.stock[:0] = ours
        else:
            ours.stock.update(ours.items())
    place[name] = ours.stock


def _fresh(stock: Any, current: Any) -> Any:
    """An empty one. A cache that is loaded from a file keeps to the number of entries of the one that it replaces."""
    if not hasattr(stock, "maxsize"):
        return type(stock)()
    return type(stock)(min(stock.maxsize, current.stock.maxsize) if isinstance(current, Answers) else stock.maxsize)


def _bounded_settings(config: dict[str, Any], make: Callable[[str], History]) -> dict[str, Any]:
    """DSPy's settings in a dict that bounds each trace that is configured. One of a `dspy.context` is not: it ends."""

    def bounded(trace: Any, stock: list[Any]) -> Any:
        return _stand_in(make("dspy.settings.trace"), trace, stock) if type(trace) is list else trace

    class Settings(type(config)):  # type: ignore[misc]
        def __setitem__(self, name: str, value: Any) -> None:
            super().__setitem__(name, bounded(value, []) if name == "trace" else value)

    trace = config["trace"]
    settings = Settings({**config, "trace": bounded(trace, trace)})
    if type(trace) is list:
        trace.clear()
    return settings


def _step_bytes(step: Any) -> int:
    """What a step of the trace holds, but for the module that took it: all its steps share that."""
    return deep_sizeof(*step[1:]) if type(step) is tuple else deep_sizeof(step)


def _warn_once(what: str, text: str) -> None:
    try:
        if _installed:
            _installed.unsaid.remove(what)
            warnings.warn(text, RuntimeWarning, stacklevel=3)
    except KeyError:
        pass
