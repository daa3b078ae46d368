"""The types of LRUCache as users see them: what `_lru.py` adds to `_core.pyi`."""

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any, ClassVar, Literal, TypeVar, overload

from _typeshed import SupportsKeysAndGetItem
from typing_extensions import Self

from ullage import _core
from ullage._causes import Cause
from ullage._state import Portable
from ullage._stats import CacheStats
from ullage._times import Lifetime
from ullage._views import Viewed

_K = TypeVar("_K")
_V = TypeVar("_V")
_K2 = TypeVar("_K2")
_V2 = TypeVar("_V2")

class LRUCache(Portable, Viewed[_K, _V], _core.LRUCache[_K, _V], MutableMapping[_K, _V]):
    __hash__: ClassVar[None]  # type: ignore[assignment]

    @overload
    def __init__(
        self,
        maxsize: int | None,
        iterable: SupportsKeysAndGetItem[_K, _V] | Iterable[tuple[_K, _V]] = (),
        *,
        max_bytes: None = None,
        weigher: Callable[[_K, _V], int] | None = None,
        ttl: Lifetime = None,
        idle: Lifetime = None,
        policy: Literal["lru"] = "lru",
        on_evict: Callable[[_K, _V, Cause], object] | None = None,
        timer: Callable[[], float] | None = None,
        drop: Literal["slices", "inline"] = "slices",
        name: str | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        *,
        iterable: SupportsKeysAndGetItem[_K, _V] | Iterable[tuple[_K, _V]] = (),
        max_bytes: int | str,
        weigher: None = None,
        ttl: Lifetime = None,
        idle: Lifetime = None,
        policy: Literal["lru"] = "lru",
        on_evict: Callable[[_K, _V, Cause], object] | None = None,
        timer: Callable[[], float] | None = None,
        drop: Literal["slices", "inline"] = "slices",
        name: str | None = None,
    ) -> None: ...
    @overload
    @classmethod
    def fromkeys(
        cls, iterable: Iterable[_K2], value: None = None, maxsize: int | None = ...
    ) -> LRUCache[_K2, Any | None]: ...
    @overload
    @classmethod
    def fromkeys(cls, iterable: Iterable[_K2], value: _V2, maxsize: int | None = ...) -> LRUCache[_K2, _V2]: ...
    @property
    def maxsize(self) -> int | None: ...
    @maxsize.setter
    def maxsize(self, maxsize: int | str | None) -> None: ...
    @property
    def policy(self) -> Literal["lru"]: ...
    @property
    def idle(self) -> Lifetime: ...
    def stats(self) -> CacheStats: ...
    def set(self, key: _K, value: _V, *, ttl: Lifetime = None) -> None: ...
    def touch(self, key: _K, *, ttl: Lifetime = None) -> bool: ...
    def get_or_set(self, key: _K, factory: Callable[[], _V]) -> _V: ...
    def expires_in(self, key: _K) -> float | None: ...
    ttl_of = expires_in
    def evict(self, n: int = 1) -> list[tuple[_K, _V]]: ...
    def coldest(self, n: int) -> list[tuple[_K, _V]]: ...
    def hottest(self, n: int) -> list[tuple[_K, _V]]: ...
    @overload
    def __or__(self, other: Mapping[_K, _V]) -> Self: ...
    @overload
    def __or__(self, other: Mapping[_K2, _V2]) -> LRUCache[_K | _K2, _V | _V2]: ...
    @overload
    def __ror__(self, other: Mapping[_K, _V]) -> Self: ...
    @overload
    def __ror__(self, other: Mapping[_K2, _V2]) -> LRUCache[_K | _K2, _V | _V2]: ...
    # Takes pairs too, as a dict's does; there is no `+` between the two that a checker would have to choose from.
    @overload  # type: ignore[misc]
    def __ior__(self, other: SupportsKeysAndGetItem[_K, _V]) -> Self: ...
    @overload
    def __ior__(self, other: Iterable[tuple[_K, _V]]) -> Self: ...
