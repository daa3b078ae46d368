"""HistoryRing: the surface of a list over the core's ring."""

import operator
import sys
from collections.abc import Callable, Iterable, Iterator, MutableSequence
from reprlib import recursive_repr
from typing import Any, SupportsIndex, cast

from ullage import _core, _registry, _sizes
from ullage._state import Portable, check_hooks, is_inline
from ullage._stats import HistoryStats
from ullage._times import Lifetime, nanoseconds

_UNSET: Any = object()
_NO_BOUND = 2**63
_SHOWN = 20
_MANY = 2**20


@_core.with_raw_methods
class HistoryRing(Portable, _core.HistoryRing):  # type: ignore[type-arg]
    """A list that forgets its oldest items.

    `HistoryRing(100)` keeps the last 100; `HistoryRing(max_bytes="64 MiB")` what fits into that much memory, as
    `deep_sizeof` measures it. Index, append and `pop(0)` are O(1) at any length; a slice copies only what it returns.

    Parameters
    ----------
    maxlen: an integer of at least 1, or None for no bound.
    iterable: items to begin with.
    weigher: `weigher(item) -> int >= 0`, called once an item; `max_weight` bounds the sum.
    max_bytes: in place of these two: bytes, `"512 MiB"`, `"2GB"`, or `"5%"` of the memory that may be used.
    keep_first: the first `keep_first` items never fall off: a system prompt. A full ring's `append` is O(keep_first).
    ttl: seconds after which an item falls off, or a `timedelta`; None for never.
    on_drop: `on_drop(items)`, called after items have fallen off, in order, each once, with nothing locked.
    timer: a clock in seconds, `time.monotonic` by default.
    drop: "slices": what leaves is freed a little at a time, so that nobody is stalled; "inline": on the spot.
    name: what reports call it.

    Differences from a list
    -----------------------
    - `append` on a full ring lets the oldest item fall off, `insert` raises IndexError, as with a `deque`; a slice that
      grows the ring too far lets the oldest fall off.
    - Iteration goes over what was there when it began, less what has fallen off since; others may append meanwhile.
    - `isinstance(ring, list)` is False, on purpose: code in C would write to a list past its bound. A function that
      insists on a list wants `list(ring)` or `ring[:]`.
    - Slices, `+` and `*` give lists; `+=` and `*=` change the ring. `plain += ring` makes a new list of a plain one, as
      `plain + ring` does; `plain.extend(ring)` changes it.
    - `sort` raises ValueError if the ring changes meanwhile.

    Safe to use from many threads.
    """

    __slots__ = ("_settings",)
    __hash__ = None  # type: ignore[assignment]
    _hook_names = ("on_drop", "timer")
    _parts = 1

    def __init__(
        self,
        maxlen: int | None = _UNSET,
        iterable: Iterable[Any] = (),
        *,
        weigher: Callable[[Any], int] | None = None,
        max_weight: int | None = None,
        max_bytes: int | str | None = None,
        keep_first: int = 0,
        ttl: Lifetime = None,
        on_drop: Callable[[list[Any]], object] | None = None,
        timer: Callable[[], float] | None = None,
        drop: str = "slices",
        name: str | None = None,
    ) -> None:
        if maxlen is _UNSET and max_weight is None and max_bytes is None:
            raise TypeError("give maxlen, a number of items or None, or max_bytes, or max_weight with a weigher")
        if max_bytes is not None and (weigher is not None or max_weight is not None):
            raise TypeError("max_bytes weighs items itself; with a weigher of your own, give max_weight")
        if max_weight is not None and weigher is None:
            raise TypeError("max_weight needs a weigher")
        check_hooks(weigher=weigher, on_drop=on_drop, timer=timer)
        length = None if maxlen is _UNSET else _sizes.count(maxlen, "maxlen")
        pinned = _sizes.whole(keep_first, "keep_first")
        if length is not None and pinned >= length:
            raise ValueError(f"keep_first must be less than maxlen, {length}; got {keep_first}")
        weight = _sizes.count(max_weight, "max_weight")
        if max_bytes is not None:
            weight, weigher = _sizes.size(max_bytes, "max_bytes"), _core.deep_sizeof
        bound = None if weigher is None else min(weight or _NO_BOUND, _NO_BOUND)
        self._configure(
            _sizes.stored(length), weigher, bound, pinned, nanoseconds(ttl), on_drop, timer, is_inline(drop)
        )
        self._settings = {
            "maxlen": length,
            "weigher": weigher if max_bytes is None else None,
            "max_weight": weight if max_bytes is None else None,
            "max_bytes": weight if max_bytes is not None else None,
            "keep_first": pinned,
            "ttl": ttl,
            "on_drop": on_drop,
            "timer": timer,
            "drop": drop,
            "name": name,
        }
        _registry.register(self)
        HistoryRing.extend(self, iterable)

    # The bounds.

    @property
    def maxlen(self) -> int | None:
        """The most items, or None. Shrinking drops the oldest at once."""
        # A bound that nothing can reach is none to the core.
        return cast("int | None", self._settings["maxlen"]) if self._maxlen is None else self._maxlen

    @maxlen.setter
    def maxlen(self, maxlen: int | None) -> None:
        length = _sizes.count(maxlen, "maxlen")
        if length is not None and self.keep_first >= length:
            raise ValueError(f"maxlen must be more than keep_first, {self.keep_first}; got {maxlen}")
        self._maxlen = _sizes.stored(length)
        self._settings = {**self._settings, "maxlen": length}

    @property
    def max_weight(self) -> int | None:
        """The most weight, or bytes if the ring was made with `max_bytes`; None for no bound."""
        weight = self._max_weight
        return None if weight is None or weight >= _NO_BOUND else weight

    @max_weight.setter
    def max_weight(self, max_weight: int | str) -> None:
        in_bytes = self._settings["max_bytes"] is not None
        if self._max_weight is None:
            raise TypeError("this ring has no weigher")
        weight = _sizes.size(max_weight, "max_weight") if in_bytes else _sizes.count(max_weight, "max_weight")
        self._max_weight = min(weight or _NO_BOUND, _NO_BOUND)
        self._settings = {**self._settings, "max_bytes" if in_bytes else "max_weight": weight}

    def stats(self) -> HistoryStats:
        """A snapshot of the counts; two can be subtracted."""
        return HistoryStats(
            dropped=self.dropped,
            callback_errors=self._callback_errors,
            entries=0 if self._maxlen == 0 else len(self),
            weight=self.weight,
            maxlen=self.maxlen,
            max_weight=self.max_weight,
            **self._reclaimed(),
        )

    def evict(self, n: int = 1) -> int:
        """Lets the `n` oldest items fall off, as if room were needed, and returns how many did. Pinned items stay."""
        return self._evict(_sizes.whole(n, "n"))

    def _sample(self, n: int) -> list[tuple[Any]]:
        return [(item,) for item in self[:: -(-len(self) // n) or 1]]

    # A list's and a deque's surface.

    def extend(self, iterable: Iterable[Any], /) -> None:
        """Appends every item of an iterable; the ring itself is one too."""
        # As a list does: not by a method that a subclass may have changed.
        append = HistoryRing.append
        for item in list(self) if iterable is self else iterable:
            append(self, item)

    def extendleft(self, iterable: Iterable[Any], /) -> None:
        """Adds every item of an iterable at the front, so that the last comes to stand first."""
        appendleft = super().appendleft
        for item in list(self) if iterable is self else iterable:
            appendleft(item)

    def popleft(self) -> Any:
        """Removes and returns the first item. O(1)."""
        return super().pop(0)

    def remove(self, value: Any, /) -> None:
        """Removes the first item that equals `value`; ValueError if there is none."""
        items = self._snapshot()[0]
        position = next((at for at, item in enumerate(items) if item is value or item == value), -1)
        if position < 0:
            raise ValueError("HistoryRing.remove(x): x not in HistoryRing")
        item = items[position]
        # What others let fall off meanwhile has moved the item, not removed it.
        while not self._remove_at(position, item):
            position = next((at for at, found in enumerate(self._snapshot()[0]) if found is item), -1)
            if position < 0:
                raise IndexError("HistoryRing mutated during remove().")

    def index(self, value: Any, start: SupportsIndex = 0, stop: SupportsIndex = sys.maxsize, /) -> int:
        """The position of the first item that equals `value`; ValueError if there is none."""
        items = self._snapshot()[0]
        for position in range(*slice(operator.index(start), operator.index(stop)).indices(len(items))):
            item = items[position]
            if item is value or item == value:
                return position
        raise ValueError(f"{value!r} is not in HistoryRing")

    def count(self, value: Any, /) -> int:
        """How many items equal `value`."""
        return sum(1 for item in self._snapshot()[0] if item is value or item == value)

    def __contains__(self, value: object) -> bool:
        return any(item is value or item == value for item in self)

    def rotate(self, n: SupportsIndex = 1, /) -> None:
        """Moves the last `n` items to the front, or, if `n` is negative, the first ones to the end."""
        steps = operator.index(n)
        self._rotate(steps if abs(steps) <= sys.maxsize else steps % max(len(self), 1))

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        """Sorts in place, stably. ValueError if the ring changes meanwhile."""
        items, epoch = self._snapshot()
        by = items.__getitem__ if key is None else lambda position: key(items[position])
        self._permute(sorted(range(len(items)), key=by, reverse=reverse), epoch)

    def _set_slice(self, where: slice, values: Iterable[Any]) -> None:
        try:
            iterator = iter(values)
        except TypeError:
            raise TypeError("can only assign an iterable") from None
        new = list(iterator)
        start, stop, step = where.indices(len(self))
        if step == 1:
            self._splice(start, max(start, stop), new)
            return
        size = len(range(start, stop, step))
        if len(new) != size:
            what = f"attempt to assign sequence of size {len(new)} to extended slice of size {size}"
            raise ValueError(what)
        # One item needs no step, and only then can it be beyond every position.
        self._assign(start, step if size > 1 else 1, new)

    def _del_slice(self, where: slice) -> None:
        positions = range(*where.indices(len(self)))
        if positions:
            low, high = sorted((positions[0], positions[-1]))
            self._delete(low, high + 1, min(abs(positions.step), sys.maxsize))

    def __iter__(self) -> Iterator[Any]:
        return self._walk(False)

    def __reversed__(self) -> Iterator[Any]:
        return self._walk(True)

    def _compare(self, other: object, comparison: str) -> bool:
        if not isinstance(other, list | _core.HistoryRing):
            return NotImplemented  # type: ignore[no-any-return]
        return cast(bool, getattr(list(self), comparison)(list(cast("Iterable[Any]", other))))

    def __eq__(self, other: object) -> bool:
        return self._compare(other, "__eq__")

    def __lt__(self, other: object) -> bool:
        return self._compare(other, "__lt__")

    def __le__(self, other: object) -> bool:
        return self._compare(other, "__le__")

    def __gt__(self, other: object) -> bool:
        return self._compare(other, "__gt__")

    def __ge__(self, other: object) -> bool:
        return self._compare(other, "__ge__")

    def __add__(self, other: object) -> list[Any]:
        if not isinstance(other, list | _core.HistoryRing):
            return NotImplemented
        return [*self, *cast("Iterable[Any]", other)]

    def __radd__(self, other: object) -> list[Any]:
        if not isinstance(other, list):
            return NotImplemented
        return [*other, *self]

    def __iadd__(self, other: Iterable[Any]) -> "HistoryRing":  # type: ignore[misc]
        HistoryRing.extend(self, other)
        return self

    def __mul__(self, n: SupportsIndex) -> list[Any]:
        return list(self) * n if hasattr(type(n), "__index__") else NotImplemented

    __rmul__ = __mul__

    def __imul__(self, n: SupportsIndex) -> "HistoryRing":
        if not hasattr(type(n), "__index__"):
            return NotImplemented
        times, items = operator.index(n), list(self)
        # Raises what a list raises if it is beyond every index.
        _ = [] * times
        if times <= 0:
            self.clear()
            return self
        if len(items) * times > _MANY:
            # As in a deque, what would only pass through is left out: without that, this would never end.
            for bound, size in ((self.maxlen, len(items)), (self.max_weight, self.weight)):
                times = min(times, bound // size + 2) if bound and size else times
        HistoryRing.extend(self, items * (times - 1))
        return self

    @recursive_repr("[...]")
    def __repr__(self) -> str:
        if self.maxlen == 0:
            return f"{type(self).__name__}(closed)"
        items = [repr(item) for item in self[-_SHOWN:]]
        more = len(self) - _SHOWN
        if more > 0:
            items.insert(0, f"... {more} more")
        return f"{type(self).__name__}({self.maxlen}, [{', '.join(items)}])"

    # Copying.

    def _refill(self, contents: list[tuple[Any, int, int | None]]) -> None:
        # Pinned items stay, though their time may be over.
        for item, weight, left in contents:
            self._import(item, weight, left)


MutableSequence.register(HistoryRing)
