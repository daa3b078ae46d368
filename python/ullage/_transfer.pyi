"""The types of TransferMap as users see them: what `_transfer.py` adds to `_core.pyi`."""

from collections.abc import Callable, Mapping, MutableMapping
from typing import ClassVar, Literal, TypeVar, overload

from ullage import _core
from ullage._state import Portable
from ullage._stats import TransferStats
from ullage._times import Lifetime
from ullage._views import Viewed

_K = TypeVar("_K")
_V = TypeVar("_V")
_D = TypeVar("_D")

class TransferMap(Portable, Viewed[_K, _V], _core.TransferMap[_K, _V], MutableMapping[_K, _V]):
    __hash__: ClassVar[None]  # type: ignore[assignment]

    def __init__(
        self,
        ttl: Lifetime,
        *,
        maxsize: int | None = None,
        on_expire: Callable[[list[tuple[_K, _V]]], Mapping[_K, Lifetime] | None] | None = None,
        on_full: Literal["raise", "evict"] = "raise",
        timer: Callable[[], float] | None = None,
        drop: Literal["slices", "inline"] = "slices",
        name: str | None = None,
    ) -> None: ...
    @property
    def maxsize(self) -> int | None: ...
    @maxsize.setter
    def maxsize(self, maxsize: int | None) -> None: ...
    def stats(self) -> TransferStats: ...
    def renew(self, key: _K, ttl: Lifetime = None) -> bool: ...
    def remaining(self, key: _K) -> float | None: ...
    def pop_expired(self, limit: int | None = None) -> list[tuple[_K, _V]]: ...
    @overload
    def peek(self, key: _K, default: None = None) -> _V | None: ...
    @overload
    def peek(self, key: _K, default: _V) -> _V: ...
    @overload
    def peek(self, key: _K, default: _D) -> _V | _D: ...
