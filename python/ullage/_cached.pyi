"""The types of what `cached` and `cachedmethod` make: those of the function survive."""

from collections.abc import Callable, Hashable, MutableMapping
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, TypedDict, TypeVar, overload, type_check_only

from typing_extensions import Self

from ullage._causes import Cause
from ullage._stats import CacheStats
from ullage._times import Lifetime

_P = ParamSpec("_P")
_Q = ParamSpec("_Q")
_T = TypeVar("_T")
_S = TypeVar("_S")

class CacheInfo(NamedTuple):
    hits: int
    misses: int
    maxsize: int | None
    currsize: int

@type_check_only
class _Parameters(TypedDict):
    maxsize: int | None
    typed: bool

@type_check_only
class _Whole:
    """What is there for all calls together."""

    def cache_info(self) -> CacheInfo: ...
    def cache_stats(self) -> CacheStats: ...
    def cache_clear(self) -> None: ...
    def cache_parameters(self) -> _Parameters: ...

@type_check_only
class _Each(Generic[_P, _T]):
    """What is there for each call."""

    __wrapped__: Callable[..., Any]
    __name__: str
    __qualname__: str
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _T: ...
    def cache_key(self, *args: _P.args, **kwargs: _P.kwargs) -> Hashable: ...
    def cache_contains(self, *args: _P.args, **kwargs: _P.kwargs) -> bool: ...
    def cache_invalidate(self, *args: _P.args, **kwargs: _P.kwargs) -> bool: ...

@type_check_only
class _BoundFunction(_Whole, Generic[_P, _T]):
    """A cached function as a method: what it has for one call takes `self` as well, so ask the class."""

    __wrapped__: Callable[..., Any]
    __self__: Any
    __name__: str
    __qualname__: str
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _T: ...

@type_check_only
class _CachedFunction(_Whole, _Each[_P, _T]):
    cache: MutableMapping[Any, Any]
    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(
        self: _CachedFunction[Concatenate[_S, _Q], _T], instance: _S, owner: type | None = None
    ) -> _BoundFunction[_Q, _T]: ...

@type_check_only
class _BoundMethod(_Whole, _Each[_P, _T]):
    __self__: Any

@type_check_only
class _CachedMethod(_Each[_P, _T]):
    def cache_info(self, instance: Any, /) -> CacheInfo: ...
    def cache_stats(self, instance: Any, /) -> CacheStats: ...
    def cache_clear(self, instance: Any, /) -> None: ...
    def cache_parameters(self, instance: Any, /) -> _Parameters: ...
    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(
        self: _CachedMethod[Concatenate[_S, _Q], _T], instance: _S, owner: type | None = None
    ) -> _BoundMethod[_Q, _T]: ...

@type_check_only
class _FunctionDecorator:
    def __call__(self, function: Callable[_P, _T], /) -> _CachedFunction[_P, _T]: ...

@type_check_only
class _MethodDecorator:
    def __call__(self, function: Callable[_P, _T], /) -> _CachedMethod[_P, _T]: ...

@overload
def cached(maxsize: Callable[_P, _T]) -> _CachedFunction[_P, _T]: ...
@overload
def cached(
    maxsize: int | None = 128,
    *,
    ttl: Lifetime = None,
    key: Callable[..., Hashable] | None = None,
    typed: bool = False,
    condition: Callable[[Any], object] | None = None,
    weigher: Callable[[Any, Any], int] | None = None,
    on_evict: Callable[[Any, Any, Cause], object] | None = None,
    timer: Callable[[], float] | None = None,
    cache: None = None,
) -> _FunctionDecorator: ...
@overload
def cached(
    *,
    key: Callable[..., Hashable] | None = None,
    typed: bool = False,
    condition: Callable[[Any], object] | None = None,
    cache: MutableMapping[Any, Any],
) -> _FunctionDecorator: ...
@overload
def cachedmethod(maxsize: Callable[_P, _T]) -> _CachedMethod[_P, _T]: ...
@overload
def cachedmethod(
    maxsize: int | None = 128,
    *,
    ttl: Lifetime = None,
    key: Callable[..., Hashable] | None = None,
    typed: bool = False,
    condition: Callable[[Any], object] | None = None,
    weigher: Callable[[Any, Any], int] | None = None,
    on_evict: Callable[[Any, Any, Cause], object] | None = None,
    timer: Callable[[], float] | None = None,
    cache: None = None,
) -> _MethodDecorator: ...
@overload
def cachedmethod(
    *,
    key: Callable[..., Hashable] | None = None,
    typed: bool = False,
    condition: Callable[[Any], object] | None = None,
    cache: Callable[[Any], MutableMapping[Any, Any]],
) -> _MethodDecorator: ...
