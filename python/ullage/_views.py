"""Live views on a map: `keys()`, `values()`, `items()`. Looking through one uses no entry."""

from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from reprlib import recursive_repr
from types import MappingProxyType
from typing import Any, TypeVar, cast

K = TypeVar("K")
V = TypeVar("V")

_MISSING: Any = object()


class _View:
    """What the three views share: they are made of walks, which hold no lock between two steps."""

    __slots__ = ()
    _kind: int
    _mapping: Any

    def __iter__(self) -> Iterator[Any]:
        return self._mapping._walk(self._kind, False)  # type: ignore[no-any-return]

    def __reversed__(self) -> Iterator[Any]:
        return self._mapping._walk(self._kind, True)  # type: ignore[no-any-return]

    @property
    def mapping(self) -> MappingProxyType[Any, Any]:
        """The map, to be read only."""
        return MappingProxyType(self._mapping)

    @recursive_repr("...")
    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self)!r})"


class Keys(_View, KeysView[K]):
    """The keys, as a set that follows the map."""

    __slots__ = ()
    _kind = 0


class Values(_View, ValuesView[V]):
    """The values; looking for one compares with each. O(n)."""

    __slots__ = ()
    _kind = 1

    def __contains__(self, value: object) -> bool:
        return any(value is found or value == found for found in self)


class Items(_View, ItemsView[K, V]):
    """The pairs, as a set that follows the map."""

    __slots__ = ()
    _kind = 2

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, tuple) or len(item) != 2:
            return False
        key, value = item
        found = self._mapping.peek(key, _MISSING)
        return found is not _MISSING and (found is value or found == value)


class Viewed:
    """A map that is looked at from outside: nothing here uses an entry."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]
    _walk: Any
    _export: Any

    def __iter__(self) -> Iterator[Any]:
        return self._walk(0, False)  # type: ignore[no-any-return]

    def __reversed__(self) -> Iterator[Any]:
        return self._walk(0, True)  # type: ignore[no-any-return]

    def keys(self) -> Keys[Any]:
        """A set-like view on the keys, in the order of iteration."""
        return Keys(cast("Mapping[Any, Any]", self))

    def values(self) -> Values[Any]:
        """A view on the values, in the order of iteration."""
        return Values(cast("Mapping[Any, Any]", self))

    def items(self) -> Items[Any, Any]:
        """A set-like view on the pairs, in the order of iteration."""
        return Items(cast("Mapping[Any, Any]", self))

    def __eq__(self, other: object) -> bool:
        return _as_dict(self) == _as_dict(other) if isinstance(other, Mapping) else NotImplemented


def _as_dict(mapping: Any) -> dict[Any, Any]:
    if isinstance(mapping, Viewed):
        return {key: value for key, value, *_ in mapping._export()}
    return dict(mapping.items())
