"""The types of HistoryRing as users see them: what `_history.py` adds to `_core.pyi`."""

import sys
from collections.abc import Callable, Iterable, Iterator, MutableSequence
from typing import ClassVar, Literal, SupportsIndex, TypeVar, overload

from _typeshed import SupportsRichComparison, SupportsRichComparisonT
from typing_extensions import Self

from ullage import _core
from ullage._state import Portable
from ullage._stats import HistoryStats
from ullage._times import Lifetime

_T = TypeVar("_T")
_T2 = TypeVar("_T2")

class HistoryRing(Portable, _core.HistoryRing[_T], MutableSequence[_T]):
    __hash__: ClassVar[None]  # type: ignore[assignment]

    @overload
    def __init__(
        self,
        maxlen: int | None,
        iterable: Iterable[_T] = (),
        *,
        weigher: Callable[[_T], int] | None = None,
        max_weight: None = None,
        max_bytes: None = None,
        keep_first: int = 0,
        ttl: Lifetime = None,
        on_drop: Callable[[list[_T]], object] | None = None,
        timer: Callable[[], float] | None = None,
        drop: Literal["slices", "inline"] = "slices",
        name: str | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        maxlen: int | None = ...,
        iterable: Iterable[_T] = (),
        *,
        weigher: Callable[[_T], int],
        max_weight: int,
        max_bytes: None = None,
        keep_first: int = 0,
        ttl: Lifetime = None,
        on_drop: Callable[[list[_T]], object] | None = None,
        timer: Callable[[], float] | None = None,
        drop: Literal["slices", "inline"] = "slices",
        name: str | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        maxlen: int | None = ...,
        iterable: Iterable[_T] = (),
        *,
        weigher: None = None,
        max_weight: None = None,
        max_bytes: int | str,
        keep_first: int = 0,
        ttl: Lifetime = None,
        on_drop: Callable[[list[_T]], object] | None = None,
        timer: Callable[[], float] | None = None,
        drop: Literal["slices", "inline"] = "slices",
        name: str | None = None,
    ) -> None: ...
    @property
    def maxlen(self) -> int | None: ...
    @maxlen.setter
    def maxlen(self, maxlen: int | None) -> None: ...
    @property
    def max_weight(self) -> int | None: ...
    @max_weight.setter
    def max_weight(self, max_weight: int | str) -> None: ...
    def stats(self) -> HistoryStats: ...
    def evict(self, n: int = 1) -> int: ...
    def extend(self, iterable: Iterable[_T], /) -> None: ...
    def extendleft(self, iterable: Iterable[_T], /) -> None: ...
    def popleft(self) -> _T: ...
    def remove(self, value: _T, /) -> None: ...
    def index(self, value: _T, start: SupportsIndex = 0, stop: SupportsIndex = sys.maxsize, /) -> int: ...
    def count(self, value: _T, /) -> int: ...
    def rotate(self, n: SupportsIndex = 1, /) -> None: ...
    @overload
    def sort(self: HistoryRing[SupportsRichComparisonT], *, key: None = None, reverse: bool = False) -> None: ...
    @overload
    def sort(self, *, key: Callable[[_T], SupportsRichComparison], reverse: bool = False) -> None: ...
    def __contains__(self, value: object) -> bool: ...
    def __iter__(self) -> Iterator[_T]: ...
    def __reversed__(self) -> Iterator[_T]: ...
    def __eq__(self, other: object) -> bool: ...
    def __lt__(self, other: list[_T] | HistoryRing[_T]) -> bool: ...
    def __le__(self, other: list[_T] | HistoryRing[_T]) -> bool: ...
    def __gt__(self, other: list[_T] | HistoryRing[_T]) -> bool: ...
    def __ge__(self, other: list[_T] | HistoryRing[_T]) -> bool: ...
    @overload
    def __add__(self, other: list[_T] | HistoryRing[_T]) -> list[_T]: ...
    @overload
    def __add__(self, other: list[_T2] | HistoryRing[_T2]) -> list[_T | _T2]: ...
    @overload
    def __radd__(self, other: list[_T]) -> list[_T]: ...
    @overload
    def __radd__(self, other: list[_T2]) -> list[_T | _T2]: ...
    def __mul__(self, n: SupportsIndex) -> list[_T]: ...
    def __rmul__(self, n: SupportsIndex) -> list[_T]: ...
    # `ring += x` is the ring, `ring + x` a list.
    def __iadd__(self, other: Iterable[_T]) -> Self: ...  # type: ignore[misc]
    def __imul__(self, n: SupportsIndex) -> Self: ...
