"""`cached` and `cachedmethod`: functions, coroutine functions and methods that remember; each call computed once."""

import functools
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, fields, replace
from inspect import Signature, isasyncgenfunction, iscoroutine, iscoroutinefunction, isgeneratorfunction, signature
from types import MethodType
from typing import Any, NamedTuple
from weakref import ref

from ullage import _keys
from ullage._causes import Cause
from ullage._flight import MISSING, Flights, _lock
from ullage._lru import LRUCache
from ullage._state import check_hooks
from ullage._stats import CacheStats
from ullage._times import Lifetime

_MAXSIZE: Any = 128

# A function with the parameters of the one that it stands for: to go through *args would cost more than the look-up.
_SOURCE = """
def key({parameters}):
    return {made}

{async_}def call({parameters}):
    {prepare}
    try:
        return {shelf}[{key}]
    except KeyError:
        pass
    except TypeError:
        _check(_name, {key})
    return {await_}{fly}({key}, _function, {arguments})
"""


class CacheInfo(NamedTuple):
    """The counts of functools. A hit is a call that was answered without a computation of its own."""

    hits: int
    misses: int
    maxsize: int | None
    currsize: int


def cached(
    maxsize: Any = _MAXSIZE,
    *,
    ttl: Lifetime = None,
    key: Callable[..., Any] | None = None,
    typed: bool = False,
    condition: Callable[[Any], object] | None = None,
    weigher: Callable[[Any, Any], int] | None = None,
    on_evict: Callable[[Any, Any, Cause], object] | None = None,
    timer: Callable[[], float] | None = None,
    cache: MutableMapping[Any, Any] | None = None,
) -> Any:
    """Makes a function or a coroutine function remember its results, and compute each only once at a time.

    `@cached` and `@cached(1000, ttl=60)` both decorate. Whoever asks for what is being computed waits for it, be it
    threads, tasks or both: one computation for any number of callers, over several event loops as well. Methods can be
    decorated; `self` is then part of the key, and kept alive by it: see `cachedmethod`.

    Parameters
    ----------
    maxsize: an integer of at least 1, the results that are held, or None for no bound; with a weigher, their weight.
    ttl: seconds that a result lives; a `timedelta` is one too; None for ever.
    key: `key(*args, **kwargs)`, a hashable that stands for the call. By default it is made of the arguments, the same
        one however they are written: by position, by name, or left out for their default.
    typed: tells arguments apart that are equal and of different types.
    condition: `condition(result)`: whether to remember it. Those who wait for it get it in any case.
    weigher: `weigher(key, result) -> int >= 0`. A result that alone is heavier than `maxsize` is not remembered.
    on_evict, timer: as those of `LRUCache`.
    cache: a mutable mapping to remember in, in place of an `LRUCache` of its own. Whether threads may use it at once
        is its own matter. Others may use it too: a key begins with the function's name, unless `key` makes it.

    What is decorated has `cache`, `cache_info()`, `cache_stats()`, `cache_clear()`, `cache_parameters()` and
    `__wrapped__`, and for one call `cache_key(*args)`, `cache_contains(*args)` and `cache_invalidate(*args)`. What is
    being computed when it is cleared or invalidated goes to those who wait for it, and is not remembered.

    An `Exception` is raised in those who waited for it, and not remembered. When the caller that computes is cancelled
    or interrupted, one of those who wait takes over. What would wait for itself raises RecursionError.

    O(1) a call, beside hashing and comparing the key.
    """
    settings = dict(maxsize=maxsize, ttl=ttl, weigher=weigher, on_evict=on_evict, timer=timer)
    return _decorator(_function, _Plan(settings, key, typed, condition, cache))


def cachedmethod(
    maxsize: Any = _MAXSIZE,
    *,
    ttl: Lifetime = None,
    key: Callable[..., Any] | None = None,
    typed: bool = False,
    condition: Callable[[Any], object] | None = None,
    weigher: Callable[[Any, Any], int] | None = None,
    on_evict: Callable[[Any, Any, Cause], object] | None = None,
    timer: Callable[[], float] | None = None,
    cache: Callable[[Any], MutableMapping[Any, Any]] | None = None,
) -> Any:
    """`cached` for methods: each instance has results of its own, which live as long as it does.

    The parameters are those of `cached`, and bound what one instance remembers. The instance need not be hashable, is
    not part of the key, and is not kept alive. Its results are in its `__dict__`; one without a `__dict__` needs
    `__weakref__` among its `__slots__`, and must not be referred to by its own results, or they keep it. Copies and
    pickles of an instance remember nothing.

    `cache` is asked once an instance, `cache(self)`, for a mutable mapping to remember in. `key` gets `self` as well.

    `obj.method.cache_clear()` and its like are about one instance; they are also `Class.method.cache_clear(obj)`. Under
    `@classmethod`, each class is an instance.
    """
    settings = dict(maxsize=maxsize, ttl=ttl, weigher=weigher, on_evict=on_evict, timer=timer)
    if cache is not None and not callable(cache):
        raise TypeError(f"cache must be callable, cache(self) -> mapping, or None; got {type(cache).__name__}")
    return _decorator(_Method, _Plan(settings, key, typed, condition, cache))


@dataclass(frozen=True)
class _Plan:
    """What a decorator was given."""

    settings: dict[str, Any]
    key: Callable[..., Any] | None
    typed: bool
    condition: Callable[[Any], object] | None
    cache: Any


def _decorator(decorate: Callable[[Callable[..., Any], _Plan], Any], plan: _Plan) -> Any:
    """The decorator, its arguments checked; or what it makes, if it was used bare."""
    function = plan.settings["maxsize"]
    bare = callable(function) or isinstance(function, classmethod | staticmethod)
    if bare:
        plan.settings["maxsize"] = _MAXSIZE
    check_hooks(key=plan.key, condition=plan.condition)
    for hook, what in ((plan.key, "key"), (plan.condition, "condition")):
        if iscoroutinefunction(hook):
            raise TypeError(f"{what} must be a plain function: it is called, not awaited")
    LRUCache(**plan.settings)
    if plan.cache is not None and plan.settings != dict.fromkeys(plan.settings) | {"maxsize": _MAXSIZE}:
        raise TypeError("with cache=, bounds, lifetimes and hooks are those of that cache; give them to it")
    return decorate(function, plan) if bare else lambda function: decorate(function, plan)


class _Given:
    """A mapping that a user gave, with counts of our own: others may use it too."""

    def __init__(self, mapping: MutableMapping[Any, Any]) -> None:
        for method in ("get", "__setitem__", "__contains__", "pop", "clear", "__len__"):
            if not hasattr(type(mapping), method):
                raise TypeError(f"cache must be a mutable mapping; {type(mapping).__name__} has no {method}()")
        self.mapping = mapping
        self._hits = self._misses = 0

    def __getitem__(self, key: Any) -> Any:
        value = self.mapping.get(key, MISSING)
        with _lock:
            if value is not MISSING:
                self._hits += 1
                return value
            self._misses += 1
        raise KeyError(key)

    def stats(self) -> CacheStats:
        known: Any = getattr(self.mapping, "stats", None)
        stats = known() if callable(known) else None
        if not isinstance(stats, CacheStats):
            size: Any = len(self.mapping)
            weight, maxsize = getattr(self.mapping, "currsize", size), getattr(self.mapping, "maxsize", None)
            known = dict.fromkeys((each.name for each in fields(CacheStats)), 0)
            stats = CacheStats(**known | {"entries": size, "weight": weight, "maxsize": maxsize})
        return replace(stats, hits=self._hits, misses=self._misses)


class _Results(Flights):
    """What one function, or one method of one instance, has returned; and the flights towards more."""

    __slots__ = ("_cleared", "_condition", "_look", "cache", "shelf")

    def __init__(self, plan: _Plan, name: str, given: MutableMapping[Any, Any] | None) -> None:
        super().__init__(name)
        self.cache: Any = LRUCache(name=name, **plan.settings) if given is None else given
        self.shelf: Any = self.cache if given is None else _Given(given)
        self._look = getattr(self.cache, "peek", self.cache.get)
        self._condition = plan.condition
        self._cleared: CacheStats | None = None

    def find(self, key: Any) -> Any:
        return self._look(key, MISSING)

    def keep(self, key: Any, value: Any) -> None:
        if iscoroutine(value):
            value.close()
            raise TypeError(f"{self.name} returned a coroutine, which can be awaited only once; decorate an async def")
        if self._condition is not None and not self._condition(value):
            return
        try:
            self.cache[key] = value
        except ValueError as error:
            # Too heavy for the bound; the caller has it all the same. Not so what a weigher of ours got wrong.
            if self.shelf is self.cache and not str(error).startswith("too heavy"):
                raise

    def drop(self, key: Any, value: Any) -> None:
        if self.find(key) is value:
            self.cache.pop(key, None)

    def stats(self) -> CacheStats:
        stats: CacheStats = self.shelf.stats()
        return replace(stats, hits=stats.hits + self.shared, misses=stats.misses - self.shared)

    def info(self) -> CacheInfo:
        stats = self.stats()
        if self._cleared is not None:
            stats -= self._cleared
        return CacheInfo(stats.hits, max(stats.misses, 0), stats.maxsize, stats.weight)

    def clear(self) -> None:
        self.forget_all()
        self.cache.clear()
        self._cleared = self.stats()

    def invalidate(self, key: Any) -> bool:
        self.forget(key)
        return self.cache.pop(key, MISSING) is not MISSING


def _compiled(
    function: Callable[..., Any], plan: _Plan, own: Callable[[Any], _Results] | None = None
) -> tuple[Callable[..., Any], Any]:
    """The function that makes keys, and the one that is called. `own(self)` finds the results of a method."""
    decorator, name = "cachedmethod" if own else "cached", _name_of(function)
    for kind in (classmethod, staticmethod):
        if isinstance(function, kind):
            raise TypeError(f"put @{decorator} under @{kind.__name__}: it decorates the function itself")
    if not callable(function):
        raise TypeError(f"@{decorator} decorates a function; got {type(function).__name__}")
    bodies = (function, type(function).__call__)
    if any(map(isgeneratorfunction, bodies)) or any(map(isasyncgenfunction, bodies)):
        raise TypeError(f"{name} makes generators, which can be walked only once; return a list or a tuple")
    names: dict[str, Any] = {"_function": function, "_own": own, "_check": _keys.check, "_name": name}
    taken = [*names, "_results", "_shelf", "_fly", "_afly"]
    spelled = None if plan.key else _keys.spell(function, plan.typed, own is not None, taken)
    if spelled is None:
        spelled = _keys.spell_any(plan.key, plan.typed, own is not None)
    prepare = [f"_results = _own({spelled.first})"] if own else []
    made = key = spelled.key if plan.cache is None or plan.key else f"(_name, {spelled.key})"
    if "_make" in spelled.names:
        key = "_key"
        prepare.append(f"_key = {made}")
    waits = any(map(iscoroutinefunction, bodies))
    source = _SOURCE.format(
        parameters=spelled.parameters,
        made=made,
        prepare="; ".join(prepare) or "pass",
        shelf="_results.shelf" if own else "_shelf",
        key=key,
        arguments=spelled.arguments,
        async_="async " if waits else "",
        await_="await " if waits else "",
        fly=("_results." if own else "_") + ("afly" if waits else "fly"),
    )
    names |= spelled.names
    exec(compile(source, f"<{decorator} {name}>", "exec"), names)
    return names["key"], functools.update_wrapper(names["call"], function)


def _name_of(function: Any) -> str:
    name = getattr(function, "__qualname__", None)
    return f"{function.__module__}.{name}" if name else repr(function)


def _function(function: Callable[..., Any], plan: _Plan) -> Any:
    """A function with its results."""
    key, call = _compiled(function, plan)
    results = _Results(plan, _name_of(function), plan.cache)
    names = call.__globals__
    names["_shelf"], names["_fly"], names["_afly"] = results.shelf, results.fly, results.afly
    call.cache = results.cache
    call.cache_key = key
    call.cache_contains = lambda *args, **kwargs: key(*args, **kwargs) in results.cache
    call.cache_invalidate = lambda *args, **kwargs: results.invalidate(key(*args, **kwargs))
    call.cache_clear = results.clear
    call.cache_info = results.info
    call.cache_stats = results.stats
    call.cache_parameters = lambda: {"maxsize": results.info().maxsize, "typed": plan.typed}
    return call


class _Method:
    """A method whose results each instance has for itself."""

    def __init__(self, function: Callable[..., Any], plan: _Plan) -> None:
        name = _name_of(function)

        def own(instance: Any) -> _Results:
            """The results of one instance."""
            try:
                # The shortest way, taken by all calls but the first.
                belongings: _Belongings = instance.__dict__[_OWN]
                if belongings.owner() is instance:
                    return belongings[self]  # type: ignore[no-any-return]
            except (AttributeError, KeyError, TypeError):
                pass
            belongings = _belongings(instance)
            if self not in belongings:
                belongings.setdefault(self, _Results(plan, name, plan.cache and plan.cache(instance)))
            return belongings[self]  # type: ignore[no-any-return]

        key, call = _compiled(function, plan, own)
        call.cache_key = key
        call.cache_contains = lambda self, /, *args, **kwargs: key(self, *args, **kwargs) in own(self).cache
        call.cache_invalidate = lambda self, /, *args, **kwargs: own(self).invalidate(key(self, *args, **kwargs))
        call.cache_clear = lambda self: own(self).clear()
        call.cache_info = lambda self: own(self).info()
        call.cache_stats = lambda self: own(self).stats()
        call.cache_parameters = lambda self: {"maxsize": own(self).info().maxsize, "typed": plan.typed}
        functools.update_wrapper(self, function)
        self._call = call

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self._call if instance is None else _Bound(self._call, instance)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)


class _Bound(functools.partial):  # type: ignore[type-arg]
    # A method of an instance. A partial: `inspect` sees through one, to the coroutine function that it may be.

    __slots__ = ()
    __doc__ = property(lambda self: self.func.__doc__)

    @property
    def __self__(self) -> Any:
        return self.args[0]

    @property
    def __signature__(self) -> Signature:
        return signature(MethodType(self.func, self.__self__))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.func, name)
        return functools.partial(found, self.__self__) if name.startswith("cache_") else found


class _Belongings(dict):  # type: ignore[type-arg]
    """What the methods of one instance remember. Copied and pickled without."""

    __slots__ = ("owner",)

    def __init__(self, owner: Any = None) -> None:
        self.owner = owner

    def are_of(self, instance: Any) -> bool:
        """False for those that came along in the `__dict__` of a copy."""
        return self.owner() is instance if isinstance(self.owner, ref) else self.owner == id(instance)

    def __reduce_ex__(self, _protocol: Any) -> Any:
        return _Belongings, ()


# Where they are in the `__dict__` of an instance.
_OWN = "__ullage__"
# Those of instances that have no `__dict__`, by address.
_homeless: dict[Any, _Belongings] = {}


def _belongings(instance: Any) -> _Belongings:
    home: Any = getattr(instance, "__dict__", None)
    name: Any = _OWN
    if type(home) is not dict:
        home, name = _homeless, id(instance)
    found: _Belongings | None = home.get(name)
    if found is not None and found.are_of(instance):
        return found
    with _lock:
        now: _Belongings | None = home.get(name)
        if now is None or not now.are_of(instance):
            now = home[name] = _Belongings(_owner(instance, name))
    # What it replaces, `found`, is dropped here, with nothing locked.
    return now


def _owner(instance: Any, name: str | int) -> Any:
    """What tells an instance from another one: a weak reference or, if there is none, its address."""
    homeless = name == id(instance)
    try:
        return ref(instance, (lambda _: _homeless.pop(name, None)) if homeless else None)
    except TypeError:
        if homeless:
            kind = type(instance).__name__
            raise TypeError(f"a {kind} has no place for results: add '__weakref__' to its __slots__") from None
        return id(instance)
