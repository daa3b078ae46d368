"""Finding what only grows: the lists, dicts, sets and deques of a program that get longer and never shorter."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ullage import _sizes, _times
from ullage.monitor import places

_RISES = 3
"""How often a container must have been longer than before, to be reported."""
_SHARE = 100
"""The thread rests at least this many times as long as its last sample kept a core busy."""


@dataclass(frozen=True)
class Growth:
    """A container that has only grown.

    `where` is a Python expression (`package.module.name`, with attributes and keys), or what holds it; `also` the other
    names of the same container. `bytes` is an estimate: its own size, and that of a few entries times their number.
    `seconds` is how long it has been watched, in which it grew from `length_before` to `length`.
    """

    where: str
    also: tuple[str, ...]
    kind: str
    length_before: int
    length: int
    bytes: int
    seconds: float

    @property
    def per_minute(self) -> float:
        """Entries that came in a minute."""
        return (self.length - self.length_before) * 60 / self.seconds if self.seconds else 0.0

    @property
    def bytes_per_minute(self) -> float:
        """Bytes that came in a minute, if the new entries are like the others."""
        return self.per_minute * self.bytes / max(self.length, 1)

    def __str__(self) -> str:
        also = f" (also {', '.join(self.also)})" if self.also else ""
        return (
            f"{self.where}{also}: {self.kind} of {self.length:,}, about {self.bytes / 1e6:,.1f} MB, "
            f"{self.per_minute:,.1f} entries and {self.bytes_per_minute / 1e6:,.1f} MB more a minute"
        )


class _Track:
    """What is remembered of a container between samples: never the container itself."""

    __slots__ = ("before", "bytes", "kind", "last_rise", "length", "mark", "names", "peak", "rises", "since")

    def __init__(self, now: float, kind: str, length: int, mark: places.Mark | None) -> None:
        self.kind, self.mark, self.peak = kind, mark, length
        self.bytes = 0
        self.names: tuple[str, ...] = ()
        self._begin(now, length)

    def _begin(self, now: float, length: int) -> None:
        self.since = self.last_rise = now
        self.before = self.length = length
        self.rises = 0

    def is_of(self, container: Any, kind: str) -> bool:
        """Whether this is the container that was met before."""
        return self.kind == kind and (self.mark is None or self.mark.fits(container))

    def see(self, now: float, length: int) -> bool:
        """Takes note of a length, and returns whether that is new to it. What falls has to exceed its peak to rise."""
        if length < self.length:
            self._begin(now, length)
        self.length = length
        if length <= self.peak:
            return False
        self.peak, self.last_rise = length, now
        self.rises += 1
        return True

    def grows(self, now: float) -> bool:
        """Whether it has risen often enough, the last time in the second half of the time that it was watched."""
        return self.rises >= _RISES and self.last_rise - self.since >= (now - self.since) / 2


class GrowthWatch:
    """Looks at the program's containers now and then; made by `watch_growth`. Also a context manager that stops it."""

    def __init__(self, interval: float | None, min_length: int, collector: bool, timer: Callable[[], float]) -> None:
        self._interval = interval
        self._min_length = min_length
        self._collector = collector
        self._timer = timer
        self._tracks: dict[str | int, _Track] = {}
        self._now = timer()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._begin()

    def _begin(self) -> None:
        # Reentrant: what the collector finalizes during a sample may ask for another.
        self._lock = threading.RLock()
        if self._interval is not None:
            self._stopped = threading.Event()
            self._thread = threading.Thread(target=self._run, args=(self._stopped,), name="ullage-growth", daemon=True)
            self._thread.start()
            _running.add(self)

    def _run(self, stopped: threading.Event) -> None:
        while not stopped.is_set():
            begun = time.thread_time()
            try:
                self.sample()
            except Exception as error:
                # Memory may be short for once; that ends no watch.
                args = (type(error), error, error.__traceback__, threading.current_thread())
                threading.excepthook(threading.ExceptHookArgs(args))
            stopped.wait(max(self._interval or 0.0, _SHARE * (time.thread_time() - begun)))

    def sample(self) -> None:
        """Looks once, now. For those who want no thread: call it every minute or so."""
        with self._lock:
            self._now = self._timer()
            known, _classes = places.kinds()
            tracks: dict[str | int, _Track] = {}
            names: dict[int, str] = {}
            nameless: list[_Track] = []
            containers: list[Any] = []
            mine = {id(self), id(self._tracks), id(tracks), id(names)}
            for name, container, kind, length in places.named(known, self._min_length, mine):
                first = names.get(id(container))
                if first is not None:
                    tracks[first].names += (name,)
                elif name not in tracks:
                    names[id(container)] = name
                    tracks[name] = self._track(name, container, kind, length)
                    tracks[name].names = (name,)
            for container, kind, length in places.collected(known, self._min_length) if self._collector else ():
                if id(container) not in names and id(container) not in mine:
                    track = tracks[id(container)] = self._track(id(container), container, kind, length)
                    if track.grows(self._now) and not track.names:
                        nameless.append(track)
                        containers.append(container)
            for track, name in zip(nameless, places.held(containers), strict=True):
                track.names = (name,)
            self._tracks = tracks

    def _track(self, key: str | int, container: Any, kind: Any, length: int) -> _Track:
        class_name = places.class_name(type(container))
        track = self._tracks.get(key)
        if track is None or not track.is_of(container, class_name):
            # A name is proof enough that it is the same next time; an address may be used again.
            mark = None if isinstance(key, str) else places.Mark(container, kind)
            track = _Track(self._now, class_name, length, mark)
        elif track.see(self._now, length) and track.grows(self._now):
            track.bytes = places.weigh(container, kind, length)
        return track

    def report(self) -> list[Growth]:
        """What only grows, as of the last sample; the one that grows by the most bytes a minute comes first."""
        now = self._now
        found = [
            Growth(
                where=track.names[0],
                also=track.names[1:],
                kind=track.kind,
                length_before=track.before,
                length=track.length,
                bytes=track.bytes,
                seconds=now - track.since,
            )
            for track in self._tracks.values()
            if track.names and track.grows(now)
        ]
        return sorted(found, key=lambda growth: growth.bytes_per_minute, reverse=True)

    def stop(self) -> None:
        """Ends the thread, if there is one; what was found stays. May be called again."""
        _running.discard(self)
        self._stopped.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> GrowthWatch:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()


_running: set[GrowthWatch] = set()


@atexit.register
def _stop_all() -> None:
    for watch in list(_running):
        watch.stop()


def _start_anew() -> None:
    """In a forked child: its watches go on, with threads and locks of their own."""
    for watch in list(_running):
        watch._begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


def watch_growth(
    interval: float | timedelta | None = 60.0,
    *,
    min_length: int = 100,
    collector: bool = True,
    timer: Callable[[], float] | None = None,
) -> GrowthWatch:
    """Watches for lists, dicts, sets and deques that only grow; see `GrowthWatch.report`.

    Every `interval` seconds a daemon thread notes how long each one is that loaded modules lead to, within six
    references and 5,000 objects a module, and, with `collector`, each that the garbage collector knows. Shorter ones
    than `min_length` are not looked at. One is reported when it was seen longer than ever at least three times, lately
    too, and not shorter since. The thread rests a hundred times as long as a look takes, so that it uses at most 1 % of
    a core. With `interval=None` there is no thread: call `sample()`.

    It keeps no container alive between samples and runs none of the program's code. O(objects) a sample.
    """
    span = _times.nanoseconds(interval, "interval")
    if interval is not None and span is None:
        raise ValueError(f"interval must be a finite number of seconds, or None for no thread; got {interval!r}")
    if (least := _sizes.count(min_length, "min_length")) is None:
        raise TypeError("min_length must be an integer of at least 1; got None")
    if timer is not None and not callable(timer):
        raise TypeError(f"timer must be callable, as time.monotonic is; got {type(timer).__name__}")
    return GrowthWatch(_times.seconds(span), least, collector, timer or time.monotonic)
