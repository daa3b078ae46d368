"""`lru_cache` and `cache`: functools' decorators around a callable that makes nothing on a hit."""

import functools
from collections.abc import Callable
from typing import Any

from ullage._core import memoize


def lru_cache(maxsize: Any = 128, typed: bool = False) -> Any:
    """Makes a function remember its results: `functools.lru_cache`, faster.

    `@lru_cache` and `@lru_cache(maxsize=128, typed=False)` both decorate a function, a method or any callable whose
    arguments are hashable. When `maxsize` results are held, the one used least recently leaves for a new one. With
    `maxsize=None` there is no bound, with 0 or less nothing is remembered. With `typed=True`, arguments of different
    types are told apart even if they are equal.

    What is decorated has `cache_info()`, `cache_clear()`, `cache_parameters()` and `__wrapped__`. A call costs O(1)
    beside hashing and comparing its arguments. An exception is not remembered. Safe to use from many threads; two that
    miss at once both call the function.

    Follows `functools.lru_cache`, its exceptions and their messages included.
    """
    if isinstance(maxsize, int):
        if maxsize < 0:
            maxsize = 0
    elif callable(maxsize) and isinstance(typed, bool):
        return _memoized(maxsize, 128, typed)
    elif maxsize is not None:
        raise TypeError("Expected first argument to be an integer, a callable, or None")
    return lambda user_function: _memoized(user_function, maxsize, typed)


def cache(user_function: Callable[..., Any], /) -> Any:
    """Makes a function remember all its results: `lru_cache(maxsize=None)`, as `functools.cache`."""
    return lru_cache(maxsize=None)(user_function)


def _memoized(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:
    memo = memoize(function, maxsize, bool(typed), functools._CacheInfo)
    memo.cache_parameters = lambda: {"maxsize": maxsize, "typed": typed}
    return functools.update_wrapper(memo, function)
