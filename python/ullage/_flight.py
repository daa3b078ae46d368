"""Flights: one computation a key at a time, however many threads, tasks and event loops ask for it."""

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar
from itertools import count
from reprlib import Repr
from threading import Lock, RLock, get_ident
from time import monotonic, sleep
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

T = TypeVar("T")

MISSING: Any = object()
"""What `find` returns when there is nothing."""

# Guards the state of every flight. Under it nothing is hashed, compared or called that is not ours; it is re-entrant
# because signal handlers and finalizers run anywhere.
_lock = RLock()
_on: set["Flight"] = set()
# What each thread computes or waits for, while whatever else it has to do stands still.
_standing: dict[int, dict["Flight", "Flight"]] = {}
_clock = count(1)
# The computation that this code is part of. Tasks inherit it, and so does `asyncio.to_thread`.
_inside: ContextVar["Flight | None"] = ContextVar("ullage flight", default=None)
# Seconds after which those who wait for a task of another event loop look whether that loop was closed.
_PATIENCE = 0.25
# Seconds for which forgetting waits at most for what is being kept, and between two looks.
_LONGEST, _PAUSE = 1.0, 0.0001

_shown = Repr()
_shown.maxstring = _shown.maxother = _shown.maxlong = 60


class Outcome(NamedTuple):
    """What a flight brought: a value, or an exception with the traceback that it had when it landed."""

    value: Any = None
    error: Exception | None = None
    traceback: TracebackType | None = None

    def deliver(self) -> Any:
        """Returns the value, or raises. Every waiter raises the same exception, so its traceback starts anew."""
        try:
            if self.error is not None:
                raise self.error.with_traceback(self.traceback)
            return self.value
        finally:
            # This frame is in the traceback: it would keep the exception, and so itself, alive.
            del self


class Flight:
    """One call for one key: it computes, or it waits for the one that does."""

    __slots__ = (
        "flights",
        "hash",
        "keeping",
        "key",
        "loop",
        "needs",
        "on",
        "other",
        "outcome",
        "since",
        "stale",
        "thread",
        "waits",
        "wake",
        "within",
    )

    def __init__(self, flights: "Flights", key: Any, loop: "AbstractEventLoop | None", wake: Callable[[], object]):
        self.flights = flights
        self.key = key
        self.hash = hash(key)
        self.loop = loop
        self.thread = get_ident()
        self.within = _inside.get()
        self.wake = wake
        self.since = 0
        self.on = False
        self.stale = False
        self.keeping = False
        self.other: Flight | None = None
        self.outcome: Outcome | None = None
        # Who waits for this one, and what this one waits for.
        self.waits: dict[Flight, None] = {}
        self.needs: dict[Flight, Flight] = {}

    def lost(self) -> bool:
        """Whether it can never land: its event loop was closed."""
        return self.loop is not None and self.loop.is_closed()

    def circle(self, other: "Flight") -> list["Flight"]:
        """The way from `other` back to this call, which would wait for it; empty if there is none."""
        came: dict[Flight, Flight | None] = {other: None}
        left, found = [other], None
        while left and (found is None or found is not self.within):
            flight = left.pop()
            if flight is self.within or (found is None and self.loop is None and flight.thread == self.thread):
                found = flight
            for need in flight.all_needs():
                if need.on and need not in came:
                    came[need] = flight
                    left.append(need)
        way: list[Flight] = []
        while found is not None:
            way.append(found)
            found = came[found]
        return way

    def all_needs(self) -> list["Flight"]:
        """What it waits for, and what its thread is busy with; not what that was busy with before: that is below it."""
        standing = _standing.get(self.thread, {}).items()
        return [*self.needs.values(), *(need for call, need in standing if call.since > self.since)]

    def needs_now(self, other: "Flight") -> None:
        """From now on whatever this call is part of needs `other`; it may be this call itself."""
        self.since = next(_clock)
        if self.within is not None:
            self.within.needs[self] = other
        if self.loop is None:
            _standing.setdefault(self.thread, {})[self] = other

    def end(self) -> None:
        """Lands if it has an outcome, else leaves the key to the next; wakes whoever waits. Can be done again."""
        with _lock:
            if self.within is not None:
                self.within.needs.pop(self, None)
            if self.thread in _standing:
                _standing[self.thread].pop(self, None)
                if not _standing[self.thread]:
                    del _standing[self.thread]
            if self.other is not None:
                self.other.waits.pop(self, None)
            self.flights._leave(self)
            waits = list(self.waits)
            if self.on and not self.stale and self.outcome is not None:
                self.flights.shared += len(waits)
            self.on = False
            _on.discard(self)
        for wait in waits:
            wait.outcome = self.outcome
            wait.wake()
            self.waits.pop(wait, None)
        # A task that was started in here may hold on to this for long.
        self.key = self.within = self.other = self.outcome = None


class Flights:
    """The flights of one cache.

    `fly(key, function, *args, **kwargs)` calls `function(*args, **kwargs)`, unless it is being called for an equal key
    by any thread or task: then it waits for that outcome. `afly` is the same for a coroutine function, and waits
    without blocking its event loop; both may meet over one key.

    - Failure: `Exception`s are raised in those who waited as well. The next newcomer tries again.
    - The caller that computes is cancelled, interrupted, or its event loop closed: one of those who wait takes over.
    - A caller that waits is cancelled or interrupted: nothing else happens.
    - Waits in a circle, of which the computation that needs itself is the smallest, raise RecursionError. Whatever a
      computation starts counts as part of it: tasks, `asyncio.to_thread`.
    - `forget(key)` and `forget_all()`: what is being computed goes to those who wait for it now, and to nobody else;
      it is not kept.

    A subclass may have a place for what is computed: `find`, `keep` and `drop`. Their exceptions are failures.

    Keys must be hashable. `name` is what errors call the keys' owner.
    """

    __slots__ = ("_on", "name", "shared")

    def __init__(self, name: str) -> None:
        self.name = name
        self.shared = 0
        """Calls that were answered without a computation of their own."""
        # By hash, so that no key is compared under the lock.
        self._on: dict[int, tuple[Flight, ...]] = {}

    def find(self, key: Any) -> Any:
        """What there is for `key`, or `MISSING`; asked once more before a computation begins."""
        return MISSING

    def keep(self, key: Any, value: Any) -> None:
        """Stores a value. The flight is over when this returns, so that nobody finds neither."""

    def drop(self, key: Any, value: Any) -> None:
        """Takes back a value that was forgotten while it was being kept."""

    def fly(self, key: Any, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """The value for `key`: computed, or waited for. Blocks the thread."""
        gate = Lock()
        gate.acquire()

        def wake() -> None:
            # A second time, if whoever tells us is interrupted.
            with suppress(RuntimeError):
                gate.release()

        flight = Flight(self, key, None, wake)
        try:
            while other := self._board(flight):
                while not gate.acquire(timeout=-1 if other.loop is None else _PATIENCE):
                    if other.lost():
                        other.end()
                if flight.outcome is not None:
                    return flight.outcome.deliver()  # type: ignore[no-any-return]
            if (found := self._found(key)) is not MISSING:
                return found  # type: ignore[no-any-return]
            token = _inside.set(flight)
            try:
                value = function(*args, **kwargs)
            finally:
                _inside.reset(token)
            self._land(flight, value)
            return value
        except Exception as error:
            flight.outcome = Outcome(error=error, traceback=error.__traceback__)
            raise
        finally:
            try:
                flight.end()
            except BaseException:
                # Interrupted. Those who wait must hear of it all the same.
                flight.end()
                raise
            finally:
                # This frame is in the traceback of the exception that these may hold.
                del flight
                other = None

    async def afly(self, key: Any, function: Callable[..., Awaitable[T]], /, *args: Any, **kwargs: Any) -> T:
        """The value for `key`: awaited, or waited for. Needs asyncio's event loop, or one that behaves like it."""
        from asyncio import get_running_loop, wait

        loop = get_running_loop()
        future: Future[None] = loop.create_future()

        def arrive() -> None:
            if not future.done():
                future.set_result(None)

        def wake() -> None:
            # If the loop is closed, nobody waits there any more.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(arrive)

        flight = Flight(self, key, loop, wake)
        try:
            while other := self._board(flight):
                if other.loop is None or other.loop is loop:
                    await future
                while not future.done():
                    await wait([future], timeout=_PATIENCE)
                    if other.lost():
                        other.end()
                if flight.outcome is not None:
                    return flight.outcome.deliver()  # type: ignore[no-any-return]
                future = loop.create_future()
            if (found := self._found(key)) is not MISSING:
                return found  # type: ignore[no-any-return]
            token = _inside.set(flight)
            try:
                value = await function(*args, **kwargs)
            finally:
                # A coroutine that is thrown away is closed in a context that is not its own.
                with suppress(ValueError):
                    _inside.reset(token)
            self._land(flight, value)
            return value
        except Exception as error:
            flight.outcome = Outcome(error=error, traceback=error.__traceback__)
            raise
        finally:
            try:
                flight.end()
            except BaseException:
                flight.end()
                raise
            finally:
                del flight
                other = None

    def forget(self, key: Any) -> None:
        """What is being computed for `key` is not kept, and newcomers do not wait for it.

        What is being kept by another thread just now is waited for, so that it is not kept after this has returned.
        """
        self._forget([each for each in self._on.get(hash(key), ()) if each.key is key or each.key == key])

    def forget_all(self) -> None:
        """As `forget`, for every key."""
        self._forget([flight for bucket in list(self._on.values()) for flight in bucket])

    def _forget(self, flights: list[Flight]) -> None:
        with _lock:
            for flight in flights:
                flight.stale = True
                self._leave(flight)
        deadline = monotonic() + _LONGEST
        for flight in flights:
            # Not for long: a hook may be waiting for us. Then it is dropped once it has been kept.
            while flight.on and flight.keeping and flight.thread != get_ident() and monotonic() < deadline:
                sleep(_PAUSE)

    def _board(self, flight: Flight) -> Flight | None:
        """None if `flight` is to compute; else the one that it waits for."""
        key = flight.key
        _room()
        while True:
            bucket = self._on.get(flight.hash, ())
            # Keys are compared here, where nothing is held; if the bucket changes meanwhile, look again.
            other = next((each for each in bucket if each.on and (each.key is key or each.key == key)), None)
            if other is not None and other.lost():
                other.end()
                continue
            with _lock:
                circle = [] if other is None else flight.circle(other)
                if self._on.get(flight.hash, ()) != bucket:
                    continue
                if other is None:
                    flight.on, flight.other = True, None
                    self._on[flight.hash] = (*bucket, flight)
                    _on.add(flight)
                    flight.needs_now(flight)
                    return None
                if not circle:
                    flight.other = other
                    flight.needs_now(other)
                    other.waits[flight] = None
                    # A finalizer of this thread may have ended it just now.
                    if other.on:
                        return other
                    continue
                keys = [(each.flights.name, each.key) for each in (circle[0], *reversed(circle))]
            shown = " needs ".join(f"{name}({_shown.repr(key)})" for name, key in keys)
            raise RecursionError(f"waits in a circle: {shown}")

    def _found(self, key: Any) -> Any:
        """What was kept since the caller looked. Those who wait look for themselves: it may be forgotten by then."""
        found = self.find(key)
        if found is not MISSING:
            with _lock:
                self.shared += 1
        return found

    def _land(self, flight: Flight, value: Any) -> None:
        """Keeps a value, unless it was forgotten before or meanwhile."""
        with _lock:
            flight.keeping = not flight.stale
        if flight.keeping:
            self.keep(flight.key, value)
            if flight.stale:
                self.drop(flight.key, value)
        flight.outcome = Outcome(value)

    def _leave(self, flight: Flight) -> None:
        rest = tuple(each for each in self._on.get(flight.hash, ()) if each is not flight)
        if rest:
            self._on[flight.hash] = rest
        else:
            self._on.pop(flight.hash, None)


def _room(frames: int = 16) -> None:
    """Raises RecursionError where the stack is too full to end what is begun."""
    if frames:
        _room(frames - 1)


def _forked() -> None:
    """In the child of a fork: the other threads are gone, and so is what they computed."""
    _lock.release()
    me = get_ident()
    for thread in [thread for thread in _standing if thread != me]:
        del _standing[thread]
    for flight in [flight for flight in _on if flight.thread != me]:
        flight.end()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_forked)
