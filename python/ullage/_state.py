"""Copying and pickling: a container goes with its contents, its order, its bounds and its remaining lifetimes."""

import copyreg
import pickle
import threading
from collections.abc import Callable
from copy import deepcopy
from types import GenericAlias, MethodType
from typing import Any, TypeVar, cast, get_args

from ullage._core import flush, reclaim
from ullage._times import Lifetime, nanoseconds, seconds

T = TypeVar("T", bound="Portable")


class Portable:
    """A container that can be made again from its settings and its contents.

    A class gives `_settings`, the arguments of its own `__init__`, and `_export` and `_refill`. A hook that pickle
    cannot take stays behind, except for a weigher: without it the bound would mean something else, so that fails.
    """

    __slots__ = ()
    __class_getitem__ = classmethod(GenericAlias)  # type: ignore[var-annotated]
    _settings: dict[str, Any]
    _hook_names: tuple[str, ...] = ()
    # A row of `_export`: so many objects, so many numbers, and the nanoseconds left or None.
    _parts = 2
    _numbers = 1
    _export: Any

    def _refill(self, contents: Any) -> None:
        raise NotImplementedError

    @property
    def weight_unit(self) -> str:
        """What weights count: "bytes", "entries", or "weight": what the container's weigher returns."""
        if self._settings.get("max_bytes") is not None:
            return "bytes"
        return "entries" if self._settings.get("weigher") is None else "weight"

    @property
    def name(self) -> str | None:
        """What reports call it."""
        return cast("str | None", self._settings["name"])

    @property
    def ttl(self) -> Lifetime:
        """What `ttl` was given."""
        return cast(Lifetime, self._settings["ttl"])

    # What left is freed a little with each write, of any container; these do it now, for all.
    reclaim = staticmethod(reclaim)
    flush = staticmethod(flush)

    def _empty(self: T) -> T:
        """One like this one, without contents."""
        new = _blank(type(self))
        _set_up(new, self._settings, {id(self): new})
        return new

    def __copy__(self: T) -> T:
        new = self._empty()
        _add(new, self.__getstate__())
        new._refill(self._export())
        return new

    def copy(self: T) -> T:
        """A container of the same kind with the same bounds, hooks and contents. O(n)."""
        return self.__copy__()

    def close(self) -> None:
        """Lets go of everything for good, hooks included: the container raises `RuntimeError` on use from then on."""
        super().close()  # type: ignore[misc]
        settings = getattr(self, "_settings", {})
        self._settings = {  # type: ignore[misc]
            name: None if callable(value) else value for name, value in settings.items()
        }

    def __deepcopy__(self: T, memo: dict[int, Any]) -> T:
        new = memo[id(self)] = _blank(type(self))
        _set_up(new, self._settings, memo)
        _add(new, deepcopy(self.__getstate__(), memo))
        new._refill(deepcopy(self._export(), memo))
        return new

    def __reduce_ex__(self, protocol: Any) -> Any:
        if type(self).__reduce__ is not object.__reduce__:
            # A subclass says itself how it is pickled.
            return self.__reduce__()
        trials = _trials.__dict__.setdefault("of", set())
        if trials:
            # A hook is on trial and leads here; what that pickle holds does not matter.
            return _blank, (type(self),)
        trials.add(id(self))
        try:
            settings = {
                name: value
                for name, value in self._settings.items()
                if name not in self._hook_names or value is None or _can_be_pickled(value)
            }
        finally:
            trials.discard(id(self))
        # All in the state, nothing in the arguments: a hook or an entry may lead back to this container.
        state = settings, self.__getstate__(), self._export()
        return _blank, (type(self),), state, None, None, _restore

    def __getstate__(self) -> Any:
        """What a subclass added, as `object.__getstate__` gives it; a subclass may have its own."""
        slots = {
            name: getattr(self, name)
            for name in copyreg._slotnames(type(self))  # type: ignore[attr-defined]
            if name != "_settings" and hasattr(self, name)
        }
        attributes = getattr(self, "__dict__", None) or None
        return (attributes, slots) if slots else attributes

    def _plain(self, encode: Callable[[Any], Any] = lambda part: part) -> dict[str, Any]:
        """What JSON can hold of this container, bounds and remaining lifetimes included; `_from_plain` reads it.

        Hooks stay behind. A TypeError for what would come back as something else: a weigher, attributes of a subclass.
        """
        if self._settings.get("weigher") is not None:
            raise TypeError("JSON cannot hold a weigher; take max_bytes=, or pickle")
        if self.__getstate__() is not None:
            raise TypeError(f"JSON cannot hold what {type(self).__name__} adds to the container; pickle can")
        settings = {
            name: seconds(nanoseconds(value)) if name in ("ttl", "idle") else value
            for name, value in self._settings.items()
            if name != "weigher" and name not in self._hook_names
        }
        parts = self._parts
        rows = [[*map(encode, row[:parts]), *row[parts:]] for row in self._export()]
        return {"ullage": type(self).__name__, **settings, "contents": rows}

    @classmethod
    def _from_plain(cls: type[T], plain: dict[str, Any], decode: Callable[[Any], Any] = lambda part: part) -> T:
        settings = {name: value for name, value in plain.items() if name not in ("ullage", "contents")}
        new = _blank(cls)
        _ours(cls).__init__(new, **settings)
        if extra := settings.keys() - new._settings.keys():
            raise TypeError(f"{cls.__name__} has no {', '.join(sorted(extra))}")
        new._refill([(*map(decode, row[: cls._parts]), *row[cls._parts :]) for row in plain["contents"]])
        return new

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """A field of this type takes an instance, and keeps it; and what JSON made of one, bounds included.

        A plain dict or list is an error: it has no bound. The entries of an instance are not validated.
        """
        from pydantic_core import core_schema  # type: ignore[import-not-found, unused-ignore]

        number = core_schema.int_schema(ge=0, lt=2**64)
        kinds = get_args(source) or (Any,) * cls._parts
        row = [*map(handler.generate_schema, kinds), *[number] * cls._numbers, core_schema.nullable_schema(number)]
        contents = core_schema.typed_dict_field(core_schema.list_schema(core_schema.tuple_schema(row)))
        plain = core_schema.typed_dict_schema({"contents": contents}, extra_behavior="allow")

        def validate(value: Any, check: Callable[[Any], dict[str, Any]]) -> Portable:
            if isinstance(value, cls):
                return value
            if not isinstance(value, dict) or value.get("ullage") != cls.__name__:
                what = f"{cls.__name__} expected, for {type(value).__name__} has no bound"
                raise ValueError(f"{what}; pass {cls.__name__}(bound, ...), or put a BeforeValidator in the annotation")
            try:
                return cls._from_plain(check(value))
            except TypeError as error:
                raise ValueError(str(error)) from error

        def serialize(value: Portable, info: Any) -> Portable | dict[str, Any]:
            if info.mode != "json":
                return value
            if type(value) is not cls:
                raise TypeError(f"this field would come back as {cls.__name__}; it holds {type(value).__name__}")
            return value._plain()

        to_json = core_schema.plain_serializer_function_ser_schema(serialize, info_arg=True)
        return core_schema.no_info_wrap_validator_function(validate, plain, serialization=to_json)


def check_hooks(**hooks: Any) -> None:
    """Raises TypeError for a hook that cannot be called."""
    for name, hook in hooks.items():
        if hook is not None and not callable(hook):
            raise TypeError(f"{name} must be callable, or None; got {type(hook).__name__}")


def is_inline(drop: str) -> bool:
    """Whether what leaves a container is freed on the spot, by its `drop`."""
    if drop not in ("slices", "inline"):
        raise ValueError(f"drop must be 'slices' or 'inline'; got {drop!r}")
    return drop == "inline"


# Containers whose hooks this thread is trying to pickle.
_trials = threading.local()


def _blank(cls: type[T]) -> T:
    return cls.__new__(cls)


def _ours(cls: type[Portable]) -> Any:
    """The class of ours, not the subclass: its own `__init__` may want other arguments."""
    return next(base for base in cls.__mro__ if base.__module__.startswith("ullage."))


def _set_up(new: Portable, settings: dict[str, Any], copies: dict[int, Any]) -> None:
    """Opens a blank container. A hook that is a method of something copied along becomes a method of its copy."""
    settings = {
        name: MethodType(value.__func__, copies[id(value.__self__)])
        if isinstance(value, MethodType) and id(value.__self__) in copies
        else value
        for name, value in settings.items()
    }
    _ours(type(new)).__init__(new, **settings)
    new._settings = settings  # type: ignore[misc]


def _add(new: Portable, state: Any) -> None:
    """Gives a container what a subclass added, as pickle does."""
    if state is None:
        return
    if hasattr(new, "__setstate__"):
        new.__setstate__(state)
        return
    attributes, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
    if attributes:
        new.__dict__.update(attributes)
    for name, value in (slots or {}).items():
        setattr(new, name, value)


def _restore(new: Portable, state: tuple[dict[str, Any], Any, Any]) -> None:
    settings, added, contents = state
    _set_up(new, settings, {})
    _add(new, added)
    new._refill(contents)


def _can_be_pickled(hook: object) -> bool:
    try:
        pickle.dumps(hook)
    except Exception:
        return False
    return True
