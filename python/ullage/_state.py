"""Copying and pickling: a container goes with its contents, its order, its bounds and its remaining lifetimes."""

import pickle
from copy import deepcopy
from typing import Any, TypeVar

T = TypeVar("T", bound="Portable")


class Portable:
    """A container that can be made again from its settings and its contents.

    A class gives `_settings`, the arguments of its own `__init__`, and `_contents` and `_refill`. A hook that pickle
    cannot take stays behind, except for a weigher: without it the bound would mean something else, so that fails.
    """

    __slots__ = ()
    _settings: dict[str, Any]
    _hook_names: tuple[str, ...] = ()

    def _contents(self) -> Any:
        raise NotImplementedError

    def _refill(self, contents: Any) -> None:
        raise NotImplementedError

    def _empty(self: T) -> T:
        """One like this one, without contents."""
        return _make(type(self), self._settings)

    def __copy__(self: T) -> T:
        new = self._empty()
        new._refill(self._contents())
        vars_of_subclass = getattr(self, "__dict__", None)
        if vars_of_subclass:
            new.__dict__.update(vars_of_subclass)
        return new

    def copy(self: T) -> T:
        """A container of the same kind with the same bounds, hooks and contents. O(n)."""
        return self.__copy__()

    def __deepcopy__(self: T, memo: dict[int, Any]) -> T:
        new = self._empty()
        memo[id(self)] = new
        new._refill(deepcopy(self._contents(), memo))
        vars_of_subclass = getattr(self, "__dict__", None)
        if vars_of_subclass:
            new.__dict__.update(deepcopy(vars_of_subclass, memo))
        return new

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        settings = {
            name: value
            for name, value in self._settings.items()
            if name not in self._hook_names or value is None or _can_be_pickled(value)
        }
        return _make, (type(self), settings), (self._contents(), getattr(self, "__dict__", None))

    def __setstate__(self, state: tuple[Any, dict[str, Any] | None]) -> None:
        contents, vars_of_subclass = state
        if vars_of_subclass:
            self.__dict__.update(vars_of_subclass)
        self._refill(contents)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """A field of this type takes instances only: pydantic never rebuilds one without its bound."""
        from pydantic_core import core_schema

        return core_schema.is_instance_schema(cls)


def _make(cls: type[T], settings: dict[str, Any]) -> T:
    new = cls.__new__(cls)
    # The class of ours, not the subclass: its own `__init__` may want other arguments.
    ours = next(base for base in cls.__mro__ if base.__module__.startswith("ullage."))
    ours.__init__(new, **settings)
    new._settings = settings
    return new


def _can_be_pickled(hook: object) -> bool:
    try:
        pickle.dumps(hook)
    except Exception:
        return False
    return True
