"""LRUCache: the surface of a dict over the core's map."""

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from reprlib import recursive_repr
from typing import Any, cast

from ullage import _core, _registry, _sizes
from ullage._causes import Cause
from ullage._state import Portable, check_hooks, is_inline
from ullage._stats import CacheStats
from ullage._times import Lifetime, nanoseconds, seconds
from ullage._views import Viewed

_UNSET: Any = object()
_POLICIES = ("lru",)
_SHOWN = 20
_FOR_EVER = 2**64 - 1


@_core.with_raw_methods
class LRUCache(Portable, Viewed, _core.LRUCache):  # type: ignore[type-arg]
    """A dict that keeps what was used last.

    `LRUCache(1000)` holds at most 1,000 entries; `LRUCache(max_bytes="512 MiB")` at most that much memory, as
    `deep_sizeof` measures it; with a `weigher`, `maxsize` bounds the total weight. To make room, the entry that was
    used least recently leaves. The bound holds after every operation, whatever keys, values and threads do.

    Parameters
    ----------
    maxsize: an integer of at least 1, or None for no bound.
    iterable: a mapping, or pairs, to begin with.
    max_bytes: in place of `maxsize`: bytes, `"512 MiB"`, `"2GB"`, or `"5%"` of the memory that may be used.
    weigher: `weigher(key, value) -> int >= 0`, called once an entry, at insertion.
    ttl: seconds that an entry lives; a `timedelta` is one too; None for ever.
    idle: seconds after its last use for which an entry lives.
    policy: "lru".
    on_evict: `on_evict(key, value, cause)`, called after an entry has left, with nothing locked. Its exceptions go to
        `sys.unraisablehook` and are counted.
    timer: a clock in seconds, `time.monotonic` by default.
    drop: "slices": what leaves is freed a little at a time, so that nobody is stalled; "inline": on the spot.
    name: what reports call it.

    Differences from a dict
    -----------------------
    - Order is that of use: `c[k]`, `get`, `setdefault` and assignment move an entry to the end. `in`, `peek`,
      iteration, views, `==` and `repr` do not.
    - If an entry is added or removed, an iteration that runs ends with RuntimeError, even if the size stays the same.
    - `popitem(last=True)` and `move_to_end` are those of OrderedDict.
    - An entry that alone is heavier than the bound raises ValueError, and the old value for its key stays.
    - `fromkeys` has a third argument, the bound; it is the number of keys by default.

    Every operation on one entry is O(1). Safe to use from many threads.
    """

    __slots__ = ("_settings",)
    _hook_names = ("on_evict", "timer")

    def __init__(
        self,
        maxsize: int | None = _UNSET,
        iterable: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = (),
        *,
        max_bytes: int | str | None = None,
        weigher: Callable[[Any, Any], int] | None = None,
        ttl: Lifetime = None,
        idle: Lifetime = None,
        policy: str = "lru",
        on_evict: Callable[[Any, Any, Cause], object] | None = None,
        timer: Callable[[], float] | None = None,
        drop: str = "slices",
        name: str | None = None,
    ) -> None:
        if (maxsize is _UNSET) == (max_bytes is None):
            raise TypeError("give either maxsize, a number of entries or a total weight, or max_bytes")
        if max_bytes is not None and weigher is not None:
            raise TypeError("max_bytes weighs entries itself; with a weigher of your own, give maxsize")
        if policy not in _POLICIES:
            raise ValueError(f"policy must be one of {', '.join(_POLICIES)}; got {policy!r}")
        check_hooks(weigher=weigher, on_evict=on_evict, timer=timer)
        inline = is_inline(drop)
        if max_bytes is None:
            bound = _sizes.count(maxsize, "maxsize")
        else:
            bound, weigher = _sizes.size(max_bytes, "max_bytes"), _core.entry_bytes
        self._configure(
            _sizes.stored(bound), weigher, nanoseconds(ttl), nanoseconds(idle, "idle"), on_evict, timer, inline
        )
        self._settings = {
            "maxsize" if max_bytes is None else "max_bytes": bound,
            "weigher": weigher if max_bytes is None else None,
            "ttl": ttl,
            "idle": idle,
            "policy": policy,
            "on_evict": on_evict,
            "timer": timer,
            "drop": drop,
            "name": name,
        }
        _registry.register(self)
        LRUCache.update(self, iterable)

    @classmethod
    def fromkeys(cls, iterable: Iterable[Any], value: Any = None, maxsize: int | None = _UNSET) -> "LRUCache":
        """A cache with these keys, each with the same value; bounded by their number unless told otherwise."""
        keys = list(iterable)
        new = cls(max(len(keys), 1) if maxsize is _UNSET else maxsize)
        for key in keys:
            new[key] = value
        return new

    # The bound.

    @property
    def maxsize(self) -> int | None:
        """The bound: entries, or total weight if there is a weigher; None for none. Shrinking evicts at once."""
        # A bound that nothing can reach is none to the core.
        return cast("int | None", self._settings.get("maxsize")) if self._bound is None else self._bound

    @maxsize.setter
    def maxsize(self, maxsize: int | str | None) -> None:
        in_bytes = "max_bytes" in self._settings
        bound = _sizes.size(maxsize, "maxsize") if in_bytes else _sizes.count(maxsize, "maxsize")
        self._bound = _sizes.stored(bound)
        self._settings = {**self._settings, "max_bytes" if in_bytes else "maxsize": bound}

    @property
    def policy(self) -> str:
        """How the next victim is chosen."""
        return cast(str, self._settings["policy"])

    @property
    def idle(self) -> Lifetime:
        """What `idle` was given."""
        return cast(Lifetime, self._settings["idle"])

    def stats(self) -> CacheStats:
        """A snapshot of the counts; two can be subtracted. Taking one changes none."""
        return CacheStats(**self._stats())

    # One entry.

    def set(self, key: Any, value: Any, *, ttl: Lifetime = None) -> None:
        """Stores a value with a lifetime of its own, in place of the cache's; None is the cache's."""
        self._set(key, value, _own(ttl))

    def touch(self, key: Any, *, ttl: Lifetime = None) -> bool:
        """Counts as a use without reading; with `ttl`, the lifetime starts again. False if there is no such key."""
        return self._touch(key, _own(ttl))

    def get_or_set(self, key: Any, factory: Callable[[], Any]) -> Any:
        """The value for `key`; if there is none, what `factory()` returns, stored.

        The factory runs with nothing locked. If another thread stores a value meanwhile, that one is returned.
        """
        # A look without a use first, so that one call counts as one hit or one miss.
        found = self.peek(key, _UNSET)
        return self.setdefault(key, factory()) if found is _UNSET else self.get(key, found)

    def expires_in(self, key: Any) -> float | None:
        """Seconds that `key` has left to live; None if it does not expire. Raises KeyError. Not a use."""
        return seconds(self._expires_in(key))

    ttl_of = expires_in

    # Several entries.

    def update(self, other: Any = (), /, **more: Any) -> None:
        """Stores every entry of a mapping or of pairs, then those given by name, each as an assignment would."""
        if type(other) is dict:
            other = other.items()
        elif isinstance(other, _core.TransferMap) or getattr(type(other), "__iter__", None) is LRUCache.__iter__:
            other = [(key, value) for key, value, *_ in other._export()]
        MutableMapping.update(cast("MutableMapping[Any, Any]", self), other, **more)

    def evict(self, n: int = 1) -> list[tuple[Any, Any]]:
        """Removes the `n` least recently used entries, as if room were needed; returns them, oldest first."""
        return self._evict(_sizes.whole(n, "n"))

    def coldest(self, n: int) -> list[tuple[Any, Any]]:
        """The next `n` victims, oldest first. Uses none of them."""
        return self._coldest(_sizes.whole(n, "n"))

    def hottest(self, n: int) -> list[tuple[Any, Any]]:
        """The `n` entries used last, latest first. Uses none of them."""
        return self._hottest(_sizes.whole(n, "n"))

    def _sample(self, n: int) -> list[tuple[Any, Any]]:
        # Some of the places looked at are free, and where most are, all of them may be.
        found = self._scattered(4 * n) or self.coldest(n)
        return found[:: -(-len(found) // n) or 1]

    # A dict's surface.

    def __or__(self, other: object) -> "LRUCache":
        if not isinstance(other, Mapping):
            return NotImplemented
        new = self.copy()
        new.update(other)
        return new

    def __ror__(self, other: object) -> "LRUCache":
        if not isinstance(other, Mapping):
            return NotImplemented
        new = self._empty()
        new.update(other)
        new.update(self)
        return new

    def __ior__(self, other: Any) -> "LRUCache":  # type: ignore[misc]
        self.update(other)
        return self

    @recursive_repr("...")
    def __repr__(self) -> str:
        if self.maxsize == 0:
            return f"{type(self).__name__}(closed)"
        pairs = [f"{key!r}: {value!r}" for key, value in self.coldest(_SHOWN)]
        more = len(self) - _SHOWN
        if more > 0:
            pairs.append(f"... {more} more")
        return f"{type(self).__name__}({self.maxsize}, {{{', '.join(pairs)}}})"

    # Copying.

    def _refill(self, contents: list[tuple[Any, Any, int, int | None]]) -> None:
        for key, value, weight, left in contents:
            if left != 0:
                self._import(key, value, weight, left)


def _own(ttl: Lifetime) -> int | None:
    """An entry's own lifetime in nanoseconds; for ever is a very long one, since None means the cache's."""
    return None if ttl is None else nanoseconds(ttl) or _FOR_EVER


MutableMapping.register(LRUCache)
