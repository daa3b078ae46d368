"""MemoryGuard: warns when the memory of the process gets short, and has containers give some back before it ends."""

import atexit
import math
import os
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ullage import _registry
from ullage._core import reclaim
from ullage.monitor import config
from ullage.monitor.memory import Usage, usage
from ullage.monitor.report import Row, row
from ullage.monitor.table import bytes_text

_PIECE, _PIECE_BYTES = 64, 2**20
"""Entries that leave at a time, and what they hold together."""
_SLICE = 4096
"""References that are freed at a time."""
_FUTILE = 3
"""Rounds without effect after which it stops."""
_NOTABLE = 0.01
"""The share of the limit that counts as an effect, or as growth."""
_BEYOND = 0.25
"""How far below `soft` a round aims, as a share of the way from `soft` to `hard`."""


class MemoryPressureWarning(RuntimeWarning):
    """The memory of the process is getting short."""


@dataclass(frozen=True)
class GuardStats:
    """What a `MemoryGuard` has done; `evicted_bytes` as estimated, `futile` the rounds that freed next to nothing."""

    checks: int = 0
    warnings: int = 0
    rounds: int = 0
    futile: int = 0
    evicted: int = 0
    evicted_bytes: int = 0


class MemoryGuard:
    """Watches the memory of the process against its nearest limit: control group, RAM, RLIMIT_AS or RLIMIT_DATA.

    Past `soft` of the limit it warns, with the largest containers by name, at most once in `warn_every` seconds. From
    `hard` on, until usage is below `soft` again, containers give back what they need least: the largest are cut to one
    level, at most half of everything in a round, by their own `evict(n)`, so that hooks are told as ever. Rounds that
    free next to nothing come ever less often, and after three the guard stops, until usage has fallen below `soft` or
    grown by a hundredth of the limit: what fills the memory then is not in containers.

    A TransferMap is never shrunk: what is in flight may not be freed because memory is short. It counts in warnings.

        with MemoryGuard(soft=0.7, hard=0.85): ...      # a daemon thread, also in forked children
        guard.start(); guard.stop()                     # the same
        guard.check()                                   # without a thread: one look, at most one round

    Parameters
    ----------
    soft, hard: shares of the limit, 0 < soft < hard <= 1; `"70%"` is one too.
    interval: seconds between two looks; a tenth of that past `soft`.
    warn_every: seconds between two warnings.
    trim: whether to ask the C library to give freed memory back (`malloc_trim`, glibc only) after a round that did
        not show; other threads may wait for it when they allocate.
    reader: gives a `Usage`; that of this process by default.
    timer: a clock in seconds.

    What is not given comes from `ullage.config()`. `start` and `check` can be called from any thread.
    """

    def __init__(
        self,
        soft: float | str | None = None,
        hard: float | str | None = None,
        *,
        interval: float | None = None,
        warn_every: float | None = None,
        trim: bool | None = None,
        reader: Callable[[], Usage] = usage,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        settings = config.config()

        def chosen(name: str, given: object) -> Any:
            setting = f"guard_{name}"
            return settings[setting].value if given is None else config.KINDS[setting].parse(given, name)

        self.soft: float = chosen("soft", soft)
        self.hard: float = chosen("hard", hard)
        if not self.soft < self.hard:
            raise ValueError(f"soft must be less than hard; got {self.soft} and {self.hard}")
        self.interval: float = chosen("interval", interval)
        self.warn_every: float = chosen("warn_every", warn_every)
        self._trim = _malloc_trim() if chosen("trim", trim) else None
        for hook, what in ((reader, "reader"), (timer, "timer")):
            if not callable(hook):
                raise TypeError(f"{what} must be callable; got {type(hook).__name__}")
        self._reader, self._timer = reader, timer
        self._stats = GuardStats()
        self._shrinking = False
        self._futile = 0
        self._mark = self._next_round = self._next_warning = -math.inf
        self._thread: threading.Thread | None = None
        self._renew()

    def _renew(self) -> None:
        """Locks and events as new: in a forked child, those of the parent may be held by threads that are not there."""
        self._looking = threading.Lock()
        self._stopped = threading.Event()

    def stats(self) -> GuardStats:
        """A snapshot of what it has done."""
        return self._stats

    def _count(self, **more: int) -> None:
        self._stats = replace(self._stats, **{name: getattr(self._stats, name) + n for name, n in more.items()})

    # One look.

    def check(self) -> Usage:
        """Looks once, warns and shrinks if it is time to, and returns what is in use then."""
        return self._check(threading.Event())

    def _check(self, stopped: threading.Event) -> Usage:
        # One at a time: a second thread, or a hook of a container that is being shrunk, only reads.
        looking = self._looking
        if not looking.acquire(blocking=False):
            return self._reader()
        try:
            return self._look(stopped)
        finally:
            looking.release()

    def _look(self, stopped: threading.Event) -> Usage:
        now = self._reader()
        self._count(checks=1)
        if now.share < self.soft:
            self._relax()
            return now
        self._shrinking = self._shrinking or now.share >= self.hard
        warn, shrink = self._timer() >= self._next_warning, self._shrinking and self._may_shrink(now)
        if not warn and not shrink:
            return now
        known = [(container, row(container)) for container in _registry.live()]
        message = _message(now, [each for _, each in known])
        if shrink:
            now = self._shrink(now, known, stopped)
        if warn:
            self._next_warning = self._timer() + self.warn_every
            self._count(warnings=1)
            warnings.warn(message, MemoryPressureWarning, stacklevel=1)
        return now

    def _relax(self) -> None:
        self._shrinking, self._futile, self._next_round = False, 0, -math.inf

    def _may_shrink(self, now: Usage) -> bool:
        if now.used > self._mark + _NOTABLE * now.limit:
            self._futile, self._next_round = 0, -math.inf
        return self._futile < _FUTILE and self._timer() >= self._next_round

    def _shrink(self, before: Usage, known: Sequence[tuple[Any, Row]], stopped: threading.Event) -> Usage:
        able = [
            (container, each.memory, each.entries)
            for container, each in known
            if each.memory and each.entries and callable(getattr(container, "evict", None))
        ]
        sizes = [size for _, size, _ in able]
        # Below `soft` by some of the way between the two: what ends at the edge would begin again at once.
        aim = self.soft - _BEYOND * (self.hard - self.soft)
        goal = before.part * (before.used - aim * before.limit)
        level = _level(sizes, min(goal, sum(sizes) / 2))
        freed = 0
        for container, size, entries in able:
            if size > level:
                piece = min(max(_PIECE_BYTES * entries // size, 1), _PIECE)
                evicted = _evict(container, math.ceil(entries * (1 - level / size)), piece, stopped)
                freed += size * evicted // entries
                self._count(evicted=evicted)
        # What left may wait to be freed with the writes to come; memory is wanted now.
        while not stopped.is_set() and reclaim(_SLICE) == _SLICE:
            pass
        after = self._reader()
        if self._trim and before.used - after.used < freed / 2:
            self._trim(0)
            after = self._reader()
        self._count(rounds=1, evicted_bytes=freed)
        if after.share < self.soft:
            self._relax()
        elif abs(after.used - before.used) < _NOTABLE * before.limit:
            self._futile, self._mark = self._futile + 1, after.used
            self._next_round = self._timer() + self.interval * 2**self._futile
            self._count(futile=1)
        else:
            self._futile = 0
        return after

    # The thread.

    def start(self) -> "MemoryGuard":
        """Looks from now on, in a daemon thread. Does nothing if it does so already."""
        # What cannot be read is an error here, not one a second.
        self._reader()
        with _starting:
            if self not in _running:
                self._begin()
                _running.add(self)
        return self

    def stop(self, timeout: float | None = None) -> None:
        """Looks no more; waits until a round under way has ended with the piece at hand, or `timeout` seconds."""
        with _starting:
            _running.discard(self)
            self._stopped.set()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _begin(self) -> None:
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(self._stopped,), name="ullage-guard", daemon=True)
        self._thread.start()

    def _run(self, stopped: threading.Event) -> None:
        pause, told = 0.0, None
        while not stopped.wait(pause):
            began = time.monotonic()
            pause = self.interval
            try:
                if self._check(stopped).share >= self.soft:
                    pause /= 10
                told = None
            except Exception as error:
                # A filter may make an error of a warning; a file may be unreadable for a while.
                if told is not type(error):
                    _tell(error)
                told = type(error)
            # It rests for as long as it worked, whatever it is told.
            pause = max(pause, time.monotonic() - began)

    __enter__ = start

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"MemoryGuard(soft={self.soft}, hard={self.hard}{', running' if self in _running else ''})"


_running: set[MemoryGuard] = set()
_starting = threading.RLock()


@atexit.register
def _stop_all() -> None:
    """A thread that is inside a container when the interpreter ends could take the process down."""
    for guard in list(_running):
        # A hook that blocks does not keep the program from ending.
        guard.stop(timeout=5)


def _start_anew() -> None:
    """In a forked child: its guards go on, with threads of their own."""
    global _starting
    _starting = threading.RLock()
    for guard in _running:
        guard._renew()
        guard._begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


def _evict(container: Any, entries: int, piece: int, stopped: threading.Event) -> int:
    """Has a container evict so many entries, in pieces, and returns how many left."""
    evicted = 0
    try:
        while evicted < entries and not stopped.is_set():
            left = container.evict(min(piece, entries - evicted))
            done: int = left if isinstance(left, int) else len(left)
            if not done:
                break
            evicted += done
    except Exception as error:
        _tell(error)
    return evicted


def _level(sizes: Sequence[int], goal: float) -> float:
    """The level to which the largest must be cut so that together they lose `goal`."""
    taken, ordered = 0, sorted(sizes, reverse=True)
    for count, (size, smaller) in enumerate(zip(ordered, [*ordered[1:], 0], strict=False), 1):
        if taken + count * (size - smaller) >= goal:
            return size - (goal - taken) / count
        taken += count * (size - smaller)
    return 0


def _message(now: Usage, rows: Sequence[Row]) -> str:
    largest = sorted((row for row in rows if row.memory), key=lambda row: row.memory or 0, reverse=True)
    told = ", ".join(f"{row.label} ({row.kind}) {bytes_text(row.memory or 0)}" for row in largest[:3])
    total = bytes_text(sum(row.memory or 0 for row in largest))
    return f"memory is at {now.share:.0%} of its limit: {now}. " + (
        f"Containers hold about {total} of it; the largest: {told}." if largest else "No container holds any of it."
    )


def _malloc_trim() -> Callable[[int], int]:
    """`malloc_trim` of the C library; a call by way of CDLL lets go of the GIL."""
    import ctypes

    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        raise NotImplementedError("trim needs malloc_trim of glibc, which is not here; leave it off") from None


def _tell(error: Exception) -> None:
    """As if a thread had ended by it, but nothing ends."""
    threading.excepthook(
        threading.ExceptHookArgs((type(error), error, error.__traceback__, threading.current_thread()))
    )
