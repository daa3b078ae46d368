"""A back end for Flask-Caching and cachelib, bounded in entries or in bytes.

There is nothing to install or to take back: Flask-Caching imports what its configuration names.

    CACHE_TYPE = "ullage.integrations.flask_caching.BoundedCache"
    CACHE_OPTIONS = {"max_bytes": "256 MiB"}
"""

from __future__ import annotations

import os
import threading
import weakref
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cachelib.serializers import SimpleSerializer

try:
    from flask_caching.backends.base import BaseCache
except ModuleNotFoundError as missing:
    if missing.name != "flask_caching":
        raise
    # cachelib serves without Flask too.
    from cachelib import BaseCache  # type: ignore[assignment]

from ullage import LRUCache, _sizes

if TYPE_CHECKING:
    from collections.abc import Callable

    from ullage._stats import CacheStats

_ABSENT: Any = object()
_caches: weakref.WeakSet[BoundedCache] = weakref.WeakSet()


class BoundedCache(BaseCache):
    """A cachelib cache in memory from which the entry leaves that was used least recently.

    It has the methods and rules of cachelib's `SimpleCache`: values are pickled, so that nobody changes what is stored;
    a timeout is a number of seconds or a `timedelta`, 0 for ever, None for the default. What is different:

    - The bound is never passed, and what was read lately stays, whatever its timeout; storing in a full cache is O(1).
    - A timeout may have a fraction. A negative one is over at once, and so takes away what is stored.
    - A value that cannot be stored (too heavy for `max_bytes`, or its serializer gives None) makes `set` return False,
      and the key has no value then, rather than an old one.
    - `inc` and `dec` are one step for all other methods. Looking a value up takes no lock.

    Parameters
    ----------
    threshold: at most so many entries; of Flask-Caching, `CACHE_THRESHOLD`. It does not count if there is `max_bytes`.
    default_timeout: seconds, or a `timedelta`; of Flask-Caching, `CACHE_DEFAULT_TIMEOUT`.
    ignore_delete_many_errors: as in cachelib; deleting does not fail here.
    max_bytes: at most so much memory, keys and bookkeeping included: a number, `"256 MiB"`, `"5%"` of what there is.
    serializer: None keeps the objects themselves; they need not be picklable then, and are shared.
    policy, timer, name: as those of `ullage.LRUCache`.

    In a Flask application all but the first three come from `CACHE_OPTIONS`. A bound or a timeout that is none raises
    TypeError or ValueError. Safe to use from many threads.
    """

    serializer: Any = SimpleSerializer()

    def __init__(
        self,
        threshold: int | None = 500,
        default_timeout: int | timedelta = 300,
        ignore_delete_many_errors: bool = True,
        *,
        max_bytes: int | str | None = None,
        serializer: Any = _ABSENT,
        policy: Any = "lru",
        timer: Callable[[], float] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(default_timeout)  # type: ignore[arg-type, no-untyped-call, unused-ignore]
        self.ignore_delete_many_errors = ignore_delete_many_errors
        if serializer is not _ABSENT:
            self.serializer = serializer
        bound: Any = (
            {"max_bytes": max_bytes} if max_bytes is not None else {"maxsize": _sizes.count(threshold, "threshold")}
        )
        self._cache: LRUCache[str, Any] = LRUCache(**bound, policy=policy, timer=timer, name=name)
        # Held while anything changes. Re-entrant, since an object that leaves may have a finalizer that stores another.
        self._lock = threading.RLock()
        _caches.add(self)

    @classmethod
    def factory(cls, app: Any, config: dict[str, Any], args: list[Any], kwargs: dict[str, Any]) -> BoundedCache:
        """What Flask-Caching calls, with its configuration, `CACHE_ARGS`, and `CACHE_OPTIONS` and defaults."""
        if not args:
            kwargs.setdefault("threshold", config["CACHE_THRESHOLD"])
        kwargs.setdefault("name", f"Flask-Caching of {app.name}")
        return cls(*args, **kwargs)

    def get(self, key: str) -> Any:
        """The value; None if there is none."""
        stored = self._cache.get(key, _ABSENT)
        if stored is _ABSENT:
            return None
        return stored if self.serializer is None else self.serializer.loads(stored)

    def has(self, key: str) -> bool:
        """Whether there is a value. This is no use of it."""
        return key in self._cache

    def set(self, key: str, value: Any, timeout: float | timedelta | None = None) -> bool:
        """Stores a value; whether it is stored."""
        stored, seconds = self._dumps(value), self._seconds(timeout)
        with self._lock:
            return self._store(key, stored, seconds)

    def add(self, key: str, value: Any, timeout: float | timedelta | None = None) -> bool:
        """Stores a value if there is none; whether it is stored."""
        stored, seconds = self._dumps(value), self._seconds(timeout)
        with self._lock:
            return key not in self._cache and self._store(key, stored, seconds)

    def delete(self, key: str) -> bool:
        """Removes a value; whether there was one."""
        with self._lock:
            return self._cache.pop(key, _ABSENT) is not _ABSENT

    def delete_many(self, *keys: str) -> list[str]:
        """Removes values; the keys, all of them, for none has a value now."""
        for key in keys:
            self.delete(key)
        return list(keys)

    def clear(self) -> bool:
        """Removes everything. True."""
        with self._lock:
            self._cache.clear()
        return True

    def inc(self, key: str, delta: int = 1) -> int | None:
        """Adds to a number, 0 if there is none, and gives it the default timeout; the new number."""
        with self._lock:
            return super().inc(key, delta)

    def dec(self, key: str, delta: int = 1) -> int | None:
        """As `inc`, downwards."""
        with self._lock:
            return super().dec(key, delta)

    def stats(self) -> CacheStats:
        """As `LRUCache.stats`: hits, misses, what left and why, the weight."""
        return self._cache.stats()

    def _dumps(self, value: Any) -> Any:
        if self.serializer is None:
            return value
        stored = self.serializer.dumps(value)
        return _ABSENT if stored is None else stored

    def _seconds(self, timeout: Any) -> float:
        if timeout is None:
            timeout = self.default_timeout
        if isinstance(timeout, timedelta):
            return timeout.total_seconds()
        if isinstance(timeout, bool) or not isinstance(timeout, int | float):
            kind = type(timeout).__name__
            raise TypeError(f"timeout must be seconds, a timedelta, 0 for ever, or None for the default; got {kind}")
        return timeout

    def _store(self, key: str, stored: Any, seconds: float) -> bool:
        """Under the lock."""
        over = seconds < 0
        if not over and stored is not _ABSENT:
            try:
                self._cache.set(key, stored, ttl=seconds or None)
                return True
            except ValueError as error:
                if not str(error).startswith("too heavy"):
                    raise
        self._cache.pop(key, None)
        return over


def _forked() -> None:
    """A lock that another thread held at the fork stays held in the child."""
    for cache in list(_caches):
        cache._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
