"""Where containers live: walks through the objects of the process that run none of their code.

No attribute, property, metaclass or special method of what is met is asked. `type()` tells its class,
`gc.get_referents` what it refers to, and the descriptors of the built-in types its length and namespace.
"""

from __future__ import annotations

import gc
import operator
import sys
import time
import types
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain, compress, islice, pairwise
from typing import Any

KINDS: tuple[Any, ...] = (list, dict, set, deque)

_DEPTH = 6
"""References from a module's namespace to a container: `module.object.attribute[key].attribute` is that far."""
_BREADTH = 5_000
"""Objects looked into for one module, the nearest first."""
_SLICE = 5_000
"""Objects of the collector looked at before other threads get their turn; a tenth of that of modules."""
_HOLDERS = 1_000
"""Holders of holders that are followed at a time."""
_WEIGHED = 8
_WEIGHED_OBJECTS = 1_000
"""Entries and objects looked at to estimate what a container holds."""


def _ids(*classes: type) -> frozenset[int]:
    """Classes by identity: to hash or compare one may run its metaclass's code."""
    return frozenset(map(id, classes))


_PLAIN = _ids(str, bytes, int, bool, type(None))
_SUSPENDED = _ids(types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType)
_LEAVES = _PLAIN | _ids(
    *(bytearray, float, complex, type(...), type(NotImplemented), range, slice, types.ModuleType, types.CodeType),
    *(types.BuiltinFunctionType, types.MethodDescriptorType, types.MethodWrapperType, types.WrapperDescriptorType),
    *(types.ClassMethodDescriptorType, types.GetSetDescriptorType, types.MemberDescriptorType),
)
"""Classes whose objects lead to no container, or to those of another module."""
_SHARED = _ids(types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.CodeType)

_module_namespace: Any = vars(types.ModuleType)["__dict__"].__get__
_class_namespace: Any = vars(type)["__dict__"].__get__
_class_mro: Any = vars(type)["__mro__"].__get__
_class_module: Any = vars(type)["__module__"].__get__
_class_name: Any = vars(type)["__qualname__"].__get__
_class_flags: Any = vars(type)["__flags__"].__get__
_HEAP_TYPE = 1 << 9


def kinds() -> tuple[dict[int, Any], list[type]]:
    """The id of each class that is a list, dict, set or deque, and which of them it is; and the classes, to be kept."""
    found: dict[int, Any] = {}
    classes: list[type] = []
    for kind in KINDS:
        below = [kind]
        for cls in below:
            found[id(cls)] = kind
            below += type.__subclasses__(cls)
        classes += below
    return found, classes


def class_name(cls: type) -> str:
    module = _class_module(cls)
    return f"{module}.{_class_name(cls)}" if type(module) is str and module != "builtins" else str(_class_name(cls))


def named(known: dict[int, Any], least: int, seen: set[int]) -> Iterator[tuple[str, Any, Any, int]]:
    """The containers of `least` entries or more that modules lead to: a Python expression, the container, kind, length.

    What is met twice comes twice. What is in `seen` is passed by.
    """
    modules = [
        (name, _module_namespace(module))
        for name, module in dict.copy(sys.modules).items()
        if type(name) is str and issubclass(type(module), types.ModuleType)
    ]
    seen.update(id(scope) for _, scope in modules)
    turn = 0
    for name, scope in modules:
        for link, kind, length in _below(name, scope, known, least, seen):
            yield _expression(name, reversed([*_along(link)]), scope), link[0], kind, length
        if len(seen) > turn:
            turn = len(seen) + _SLICE // 10
            time.sleep(0)


def _below(
    module: str, scope: Any, known: dict[int, Any], least: int, seen: set[int]
) -> Iterator[tuple[Any, Any, int]]:
    """Breadth first, so that what is near gets the shorter name and the first share of the work.

    A link is an object and the link of the object that refers to it.
    """
    level: list[Any] = [(scope, None)]
    room = _BREADTH
    for _ in range(_DEPTH):
        below: list[Any] = []
        for link in level:
            for child in _children(link[0]):
                cls = type(child)
                if id(cls) in _LEAVES or id(child) in seen:
                    continue
                kind = known.get(id(cls))
                if kind and (length := kind.__len__(child)) >= least:
                    yield (child, link), kind, length
                elif len(below) < room and (not issubclass(cls, type) or _is_of(child, module)):
                    seen.add(id(child))
                    below.append((child, link))
        level = below
        room -= len(level)


def _children(thing: Any) -> list[Any]:
    if issubclass(type(thing), type):
        return gc.get_referents(*gc.get_referents(_class_namespace(thing)))
    return gc.get_referents(thing)


def _is_of(cls: type, module: str) -> bool:
    name = _class_module(cls)
    return type(name) is str and name == module


def collected(known: dict[int, Any], least: int) -> Iterator[tuple[Any, Any, int]]:
    """The containers of `least` entries or more that the collector knows: container, kind, length."""
    for things in _slices():
        found = list(map(known.get, map(id, map(type, things))))
        for thing, kind in zip(compress(things, found), filter(None, found), strict=True):
            length = kind.__len__(thing)
            if length >= least:
                yield thing, kind, length


def _slices() -> Iterator[list[Any]]:
    """All that the collector knows, let go as it is looked at."""
    things = gc.get_objects()
    while things:
        part = things[-_SLICE:]
        del things[-_SLICE:]
        yield part
        # Whoever walks through it may be in it, by way of its frame.
        part.clear()
        time.sleep(0)


class Mark:
    """Tells whether a container is still the one it was made from, though it may have grown; keeps nothing alive."""

    __slots__ = ("_ends", "_kind", "_ref")

    def __init__(self, container: Any, kind: Any) -> None:
        self._kind = kind
        # Lists and dicts cannot be referred to weakly. What grows keeps its first entry, or its last.
        self._ref = weakref.ref(container) if kind is set or kind is deque else None
        self._ends = () if self._ref else self._ends_of(container)

    def fits(self, container: Any) -> bool:
        if self._ref:
            return self._ref() is container
        return any(map(operator.eq, self._ends, self._ends_of(container)))

    def _ends_of(self, container: Any) -> tuple[int, ...]:
        with suppress(StopIteration):
            return id(next(self._kind.__iter__(container))), id(next(self._kind.__reversed__(container)))
        return ()


def weigh(container: Any, kind: Any, length: int) -> int:
    """An estimate in bytes: its own size, and that of what its newest entries refer to, times how many there are.

    What more refer to than there are entries is taken to be theirs in common, and is left out.
    """
    entries = (
        reversed(dict.items(container)) if kind is dict else getattr(kind, "__reversed__", set.__iter__)(container)
    )
    newest = _items(islice(entries, _WEIGHED))
    level, seen, total = list(chain.from_iterable(newest) if kind is dict else newest), {id(newest)}, 0
    while level:
        below = []
        for thing in level:
            if id(thing) not in seen and not _is_shared(thing) and sys.getrefcount(thing) <= length:
                seen.add(id(thing))
                total += _own_size(thing)
                below += gc.get_referents(thing)
        level = below[: _WEIGHED_OBJECTS - len(seen)]
    return _own_size(container) + total * length // max(len(newest), 1)


def _is_shared(thing: Any) -> bool:
    """Whether it belongs to the program rather than to whoever refers to it."""
    cls = type(thing)
    return issubclass(cls, type) or id(cls) in _SHARED


def _own_size(thing: Any) -> int:
    """`sys.getsizeof` as the nearest class written in C has it."""
    built_in = next(cls for cls in _class_mro(type(thing)) if not _class_flags(cls) & _HEAP_TYPE)
    return int(type.__getattribute__(built_in, "__sizeof__")(thing))


def held(containers: list[Any]) -> list[str]:
    """Where each of these lives, to which no module leads: what holds it, and how."""
    names: list[str] = [""] * len(containers)
    # By the id of what is at the top: the links from there down to a container, and which container that is.
    wanted: dict[int, list[Any]] = {id(thing): [(at, (thing, None))] for at, thing in enumerate(containers)}
    mine = {id(containers)}
    for _ in range(_DEPTH):
        above: dict[int, list[Any]] = {}
        mine.update(id(link) for links in wanted.values() for _, link in links)
        for part in _slices():
            # No modules: before CPython 3.12.6 that of asyncio refers to what is freed, which dies of being touched.
            things = [thing for thing in part if type(thing) is not types.ModuleType]
            if wanted.keys().isdisjoint(map(id, gc.get_referents(*things))):
                continue
            for thing in things:
                if id(thing) in mine:
                    continue
                for child in gc.get_referents(thing):
                    for at, link in wanted.get(id(child), ()):
                        if owner := _owner(thing):
                            names[at] = names[at] or _expression(owner, _along((thing, link)), None)
                        elif len(above) < _HOLDERS:
                            above.setdefault(id(thing), []).append((at, (thing, link)))
        wanted = above
        if not wanted or all(names):
            break
    return [name or "a local variable of a running function" for name in names]


def _along(link: Any) -> Iterator[Any]:
    while link is not None:
        thing, link = link
        yield thing


def _owner(thing: Any) -> str:
    """What to call something that is no mere part of something else."""
    cls = type(thing)
    if cls is types.CellType or cls is types.FrameType or issubclass(cls, (*KINDS, tuple)):
        return ""
    if issubclass(cls, type):
        return class_name(thing)
    if cls is types.FunctionType or id(cls) in _SUSPENDED:
        return str(thing.__qualname__)
    return f"<{class_name(cls)}>"


def _expression(text: str, links: Iterable[Any], scope: Any) -> str:
    """How Python code gets from what `text` names, with the attributes in `scope`, along a chain of references."""
    path = list(links)
    for parent, child in pairwise(path):
        if child is not path[-1] and child is _namespace(parent):
            scope = child
        else:
            text += _step(parent, child, parent is scope)
    return text


def _step(parent: Any, child: Any, is_scope: bool) -> str:
    cls = type(parent)
    if issubclass(cls, dict):
        for key, value in _items(dict.items(parent)):
            if value is child:
                if is_scope and type(key) is str:
                    return f".{key}"
                return f"{'.__dict__' * is_scope}[{_key(key)}]"
    elif sequence := next((each for each in (list, tuple, deque) if issubclass(cls, each)), None):
        for at, value in enumerate(_items(sequence.__iter__(parent))):
            if value is child:
                return f"[{at}]"
    else:
        for name, value in _attributes(parent):
            if value is child and type(name) is str:
                return f".{name}"
    return f".<{class_name(type(child))}>"


def _key(key: Any) -> str:
    # Integers of thousands of digits have no repr.
    with suppress(ValueError):
        return f"{key!r:.80}" if id(type(key)) in _PLAIN else f"<{class_name(type(key))}>"
    return "<int>"


def _attributes(thing: Any) -> Iterator[tuple[str, Any]]:
    """What `thing.name` is for its own attributes, its slots, and those of functions and cells."""
    own = _class_namespace(thing) if issubclass(type(thing), type) else _namespace(thing)
    yield "__dict__", own
    yield from () if own is None else _items(own.items())
    for cls in _class_mro(type(thing)):
        for name, slot in _items(_class_namespace(cls).items()):
            if type(slot) is types.MemberDescriptorType or cls is types.FunctionType or cls is types.CellType:
                with suppress(AttributeError, TypeError, ValueError):
                    yield name, slot.__get__(thing)


def _namespace(thing: Any) -> dict[str, Any] | None:
    """An object's `__dict__`, whatever its class says that is."""
    for cls in _class_mro(type(thing)):
        slot = _class_namespace(cls).get("__dict__")
        if type(slot) is types.GetSetDescriptorType or type(slot) is types.MemberDescriptorType:
            with suppress(AttributeError, TypeError):
                found = slot.__get__(thing)
                return found if type(found) is dict else None
    return None


def _items(things: Iterable[Any]) -> list[Any]:
    """A copy to walk; nothing if it changes meanwhile, as it may if the collector runs a finalizer."""
    try:
        return list(things)
    except RuntimeError:
        return []
