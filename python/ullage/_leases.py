"""Leases: what a cache has loaded, and who uses it."""

import sys
import threading
import warnings
from inspect import CO_ASYNC_GENERATOR, CO_GENERATOR
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from ullage._budget import Cost
from ullage._errors import report
from ullage._ways import Tasks, Threads, me, running_loop

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from concurrent.futures import Future

    from ullage.instances import InstanceCache

V = TypeVar("V")

NOTHING: Any = object()
"""What is in an entry before it is loaded."""

# The states of an entry, in their order. Only what is live is found.
LOADING, LIVE, RETIRED, CLOSING = "loading", "live", "retired", "closing"


class Entry:
    """One load of one object, from the room that is made for it to its close."""

    def __init__(self, key: Any, cost: Cost, loop: "AbstractEventLoop | None") -> None:
        self.key = key
        self.cost = cost
        self.state = LOADING
        self.object: Any = NOTHING
        # An ordered set: what it was leased for, and for whom a load goes on.
        self.leases: dict[Lease[Any], None] = {}
        self.pinned = False
        self.used = 0.0
        # The event loop that the object lives on.
        self.loop = loop
        # A thread of its own that loads it for a task.
        self.worker: Future[Any] | None = None
        # Who loads or closes it, if that is known.
        self.doer: object = None
        # The thread that loads or closes it. In a child of a fork there is only one.
        self.thread = threading.get_ident()
        # What the parent of a fork has loaded is the parent's to close.
        self.ours = True

    def loading(self) -> bool:
        """Whether somebody is at it; it may have left the cache meanwhile."""
        return self.state is LOADING or self.object is NOTHING

    def holders(self) -> list[object]:
        """Who has to do something before its room is free; None is somebody who is not known."""
        return [self.doer] if self.loading() or self.state is CLOSING else [lease.holder for lease in self.leases]

    def passing(self) -> bool:
        """Whether it is loaded, or held for a moment only, as far as is known."""
        return self.loading() or (bool(self.leases) and all(lease.passing for lease in self.leases))


class Lease(Generic[V]):
    """The right to use an object: `with` or `async with` takes it and ends it. Taken once."""

    def __init__(self, cache: "InstanceCache[Any, V]", key: Any, is_async: bool = False, passing: bool = False) -> None:
        self._cache = cache
        # Of a `get`, which ends it at once.
        self.passing = passing
        self._async = is_async
        self.key = key
        self.entry: Entry | None = None
        self.taken = self.warned = False
        self.since = 0.0
        self.thread = threading.get_ident()
        caller = sys._getframe(1 if passing else 2)
        # A task whose loop was closed holds nothing any more.
        self.loop = running_loop() if is_async else None
        self.place = (caller.f_code.co_filename, caller.f_lineno)
        # A generator may be finished by another thread than the one that began it.
        wanders = caller.f_code.co_flags & (CO_GENERATOR | CO_ASYNC_GENERATOR)
        self.holder = None if wanders else me()

    def _begin(self) -> None:
        if self.taken:
            raise RuntimeError("a lease is taken once; ask the cache for another")
        self.taken = True

    def __enter__(self) -> V:
        if self._async:
            raise TypeError("write `async with cache.alease(key)`, or `with cache.lease(key)`")
        self._begin()
        Threads.run(self._cache._take(self, Threads))
        return cast(Entry, self.entry).object  # type: ignore[no-any-return]

    def __exit__(self, *error: object) -> None:
        if doomed := self._cache._end(self):
            self._cache._close_all(doomed)

    async def __aenter__(self) -> V:
        if not self._async:
            raise TypeError("write `with cache.lease(key)`, or `async with cache.alease(key)`")
        self._begin()
        await self._cache._take(self, Tasks)
        return cast(Entry, self.entry).object  # type: ignore[no-any-return]

    async def __aexit__(self, *error: object) -> None:
        await self._cache._release(self, Tasks)

    def warn(self, text: str) -> None:
        """Warns at the place where it was taken."""
        try:
            warnings.warn_explicit(text, RuntimeWarning, *self.place)
        except Exception as error:
            report(error)
