"""TransferMap: the surface of a mapping over the core's expiring map."""

from collections.abc import Callable, Mapping, MutableMapping
from itertools import islice
from reprlib import recursive_repr
from typing import Any, cast

from ullage import _core, _registry, _sizes
from ullage._lru import _SHOWN
from ullage._state import Portable, check_hooks, is_inline
from ullage._stats import TransferStats
from ullage._times import Lifetime, nanoseconds, seconds
from ullage._views import Viewed

_ON_FULL = ("raise", "evict")


@_core.with_raw_methods
class TransferMap(Portable, Viewed, _core.TransferMap):  # type: ignore[type-arg]
    """Things in flight, each with a deadline.

    `begin` puts a handle in flight, `complete` or `fail` ends it. What is not ended in time expires: it is invisible at
    once, and handed over once, by `pop_expired()` or to `on_expire`. Every call is O(1), however many are live or
    expired.

    Parameters
    ----------
    ttl: seconds until the deadline, or a `timedelta`; None for ever.
    maxsize: the most entries that are live at once; None for no bound.
    on_expire: `on_expire([(key, handle), ...])`, called with nothing locked, by the sweeper or by the next call. It may
        use the map, and may return `{key: ttl}` to keep what cannot be freed yet. Its exceptions go to
        `sys.unraisablehook`.
    on_full: "raise" `ullage.Full`, or "evict": the entry with the nearest deadline expires at once.
    timer: a clock in seconds, `time.monotonic` by default.
    drop: "slices": what leaves is freed a little at a time, so that nobody is stalled; "inline": on the spot.
    name: what reports call it.

    What waits for `pop_expired` is bounded too. Until it is called for the first time, the oldest beyond `maxsize` or
    65,536 leave unseen, and are counted; after that none does, and a map with `maxsize` of them raises `ullage.Full`.
    The keys of the last 4,096 entries that ended are remembered: `state` and the count of late completions go by them.

    Differences from a dict: iteration is in the order of `begin` and goes on whatever comes and goes; `popitem`, `pop`
    and `del` count as completions. Safe to use from many threads.
    """

    __slots__ = ("_settings",)
    _hook_names = ("on_expire", "timer")
    _numbers = 0

    def __init__(
        self,
        ttl: Lifetime,
        *,
        maxsize: int | None = None,
        on_expire: Callable[[list[tuple[Any, Any]]], Mapping[Any, Lifetime] | None] | None = None,
        on_full: str = "raise",
        timer: Callable[[], float] | None = None,
        drop: str = "slices",
        name: str | None = None,
    ) -> None:
        if on_full not in _ON_FULL:
            raise ValueError(f"on_full must be one of {', '.join(_ON_FULL)}; got {on_full!r}")
        check_hooks(on_expire=on_expire, timer=timer)
        bound = _sizes.count(maxsize, "maxsize")
        self._configure(nanoseconds(ttl), _sizes.stored(bound), on_full == "evict", on_expire, timer, is_inline(drop))
        self._settings = {
            "ttl": ttl,
            "maxsize": bound,
            "on_expire": on_expire,
            "on_full": on_full,
            "timer": timer,
            "drop": drop,
            "name": name,
        }
        _registry.register(self)

    @property
    def maxsize(self) -> int | None:
        """The most entries that are live at once, or None. Shrinking lets those with the nearest deadlines expire."""
        # A bound that nothing can reach is none to the core.
        return cast("int | None", self._settings["maxsize"]) if self._bound is None else self._bound

    @maxsize.setter
    def maxsize(self, maxsize: int | None) -> None:
        bound = _sizes.count(maxsize, "maxsize")
        self._bound = _sizes.stored(bound)
        self._settings = {**self._settings, "maxsize": bound}

    def stats(self) -> TransferStats:
        """A snapshot of the counts; two can be subtracted. Taking one changes none."""
        return TransferStats(**self._stats())

    def _sample(self, n: int) -> list[tuple[Any, Any]]:
        return list(islice(self.items(), n))

    # Deadlines.

    def renew(self, key: Any, ttl: Lifetime = None) -> bool:
        """Puts the deadline off to `ttl` seconds from now, or the map's own; never nearer. False if not live."""
        return self._renew(key, None if ttl is None else nanoseconds(ttl) or 2**64 - 1)

    def remaining(self, key: Any) -> float | None:
        """Seconds until the deadline of a live `key`; None if it never expires. Raises KeyError."""
        return seconds(self._remaining(key))

    def pop_expired(self, limit: int | None = None) -> list[tuple[Any, Any]]:
        """Hands over what expired, at most `limit`, in the order of deadlines; each entry once. O(handed over)."""
        return self._pop_expired(None if limit is None else _sizes.whole(limit, "limit"))

    # A mapping's surface.

    def peek(self, key: Any, default: Any = None) -> Any:
        """The handle of a live `key`, or `default`; as `get`, for looking never changes anything here."""
        return self.get(key, default)

    def update(self, other: Any = (), /, **more: Any) -> None:
        """Begins every pair of a mapping or of an iterable, then those given by name."""
        if isinstance(other, Viewed):
            other = [(key, value) for key, value, *_ in other._export()]
        MutableMapping.update(cast("MutableMapping[Any, Any]", self), other, **more)

    @recursive_repr("...")
    def __repr__(self) -> str:
        if self.maxsize == 0:
            return f"{type(self).__name__}(closed)"
        live = self._export()
        pairs = [f"{key!r}: {handle!r}" for key, handle, _ in live[:_SHOWN]]
        if len(live) > _SHOWN:
            pairs.append(f"... {len(live) - _SHOWN} more")
        return f"{type(self).__name__}({self.ttl!r}, {{{', '.join(pairs)}}})"

    # Copying.

    def _refill(self, contents: list[tuple[Any, Any, int | None]]) -> None:
        for key, handle, left in contents:
            if left != 0:
                self.begin(key, handle, ttl=float("inf") if left is None else left / 1e9)


MutableMapping.register(TransferMap)
