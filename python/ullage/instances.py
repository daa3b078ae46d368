"""InstanceCache: expensive objects loaded once, leased while in use, closed after the last lease."""

import atexit
import math
import os
import threading
import time
import weakref
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from inspect import isawaitable, iscoroutinefunction
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, cast, overload

from ullage import _registry
from ullage._budget import Budget, Cost, Given
from ullage._errors import Full, report
from ullage._flight import Flights
from ullage._leases import CLOSING, LIVE, LOADING, NOTHING, RETIRED, Entry, Lease
from ullage._signal import Signal
from ullage._state import check_hooks
from ullage._stats import InstanceStats
from ullage._times import Lifetime, nanoseconds
from ullage._ways import Tasks, Threads, Way, me, result, running_loop, start, submit

if TYPE_CHECKING:
    from concurrent.futures import Future

K = TypeVar("K")
V = TypeVar("V")

# Seconds for which nothing may have changed before everybody is taken to wait for everybody else.
_STUCK = 1.0
# Seconds for which a thread waits for a close that runs on an event loop.
_CLOSE_TIMEOUT = 30.0
_caches: "weakref.WeakSet[InstanceCache[Any, Any]]" = weakref.WeakSet()


class InstanceCache(Generic[K, V]):
    """Expensive objects (models, clients, sessions), loaded once a key.

    `with cache.lease(key) as model:` loads the object if need be and holds it: it is not evicted, and not closed before
    the last of its leases has ended, whatever happens to the cache meanwhile. However many threads and tasks ask at
    once, the loader is called once. Room is made before a load.

    Parameters
    ----------
    loader: `loader(key)` returns the object, or is a coroutine function. Called in the context of the caller that asked
        first. For a task, a loader that is no coroutine function runs in a thread of its own.
    maxsize: at most so many objects; None for no bound.
    budget: at most so much in total: a number, `"8 GiB"`, or several currencies,
        `{"bytes": "8 GiB", "vram": "20 GiB"}`. What waits for its close counts.
    weigher: `weigher(key, object)` says what an object that was loaded costs: a mapping as `budget`, or a number if
        there is one currency. Currencies that are left out cost 0.
    cost_hint: `cost_hint(key)` says the same before a load, so that room is made before; None if it cannot tell.
        It is taken for the cost if there is no weigher.
    close: `close(object)`, or a coroutine function, called once an object, when it has left and nobody holds it.
        Without it the object is let go of. Its exceptions go to `sys.unraisablehook` and are counted.
    idle: seconds after its last use for which an object that is neither leased nor pinned is kept.
    on_full: `"raise"` `Full` when everything is leased or pinned, or `"wait"` until something is not.
    name: what reports call it.
    timeout: seconds to wait for room before `Full` is raised; None for ever.
    lease_warning: seconds after which a lease is warned about, with the place where it was taken; None for never.
    timer: a clock in seconds, `time.monotonic` by default.

    Nothing is locked while the loader, the weigher, a hint or the close runs; they may use the cache. Safe to use from
    many threads, tasks and event loops. O(1) on a hit, O(n) to make room among n objects.
    """

    @overload
    def __init__(
        self,
        loader: Callable[[K], Awaitable[V]],
        /,
        *,
        maxsize: int | None = None,
        budget: Given | None = None,
        weigher: Callable[[K, V], Given] | None = None,
        close: Callable[[V], object] | None = None,
        idle: Lifetime = None,
        on_full: str = "raise",
        name: str | None = None,
        cost_hint: Callable[[K], Given | None] | None = None,
        timeout: Lifetime = 60,
        lease_warning: Lifetime = None,
        timer: Callable[[], float] | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self,
        loader: Callable[[K], V],
        /,
        *,
        maxsize: int | None = None,
        budget: Given | None = None,
        weigher: Callable[[K, V], Given] | None = None,
        close: Callable[[V], object] | None = None,
        idle: Lifetime = None,
        on_full: str = "raise",
        name: str | None = None,
        cost_hint: Callable[[K], Given | None] | None = None,
        timeout: Lifetime = 60,
        lease_warning: Lifetime = None,
        timer: Callable[[], float] | None = None,
    ) -> None: ...

    def __init__(
        self,
        loader: Callable[[K], Any],
        /,
        *,
        maxsize: int | None = None,
        budget: Given | None = None,
        weigher: Callable[[K, V], Given] | None = None,
        close: Callable[[V], object] | None = None,
        idle: Lifetime = None,
        on_full: str = "raise",
        name: str | None = None,
        cost_hint: Callable[[K], Given | None] | None = None,
        timeout: Lifetime = 60,
        lease_warning: Lifetime = None,
        timer: Callable[[], float] | None = None,
    ) -> None:
        if not callable(loader):
            raise TypeError(f"loader must be callable; got {type(loader).__name__}")
        check_hooks(weigher=weigher, close=close, cost_hint=cost_hint, timer=timer)
        if on_full not in ("raise", "wait"):
            raise ValueError(f"on_full must be 'raise' or 'wait'; got {on_full!r}")
        if (budget is None) != (weigher is None and cost_hint is None):
            raise TypeError("a budget needs a weigher or a cost_hint, which say what an object costs, and they need it")
        self._budget = Budget(maxsize, budget)
        self.name = name
        self._loader = loader
        self._loads_itself = iscoroutinefunction(loader) or iscoroutinefunction(type(loader).__call__)
        self._weigher = weigher
        self._cost_hint = cost_hint
        self._close = close
        self._idle = _seconds(idle, "idle")
        self._lease_warning = _seconds(lease_warning, "lease_warning")
        self._timeout = _seconds(timeout, "timeout")
        self._on_full = on_full
        self._timer = timer or time.monotonic

        # Re-entrant, since finalizers and signal handlers run anywhere and may end a lease. Of code that is not ours
        # only keys that collide are compared under it.
        self._lock = threading.RLock()
        self._flights = Flights(name or type(self).__name__)
        # Where the last entry of a key is found, if it is still live; `_entries` is what there is, the least recently
        # used first, what is still to be closed included.
        self._index: dict[Any, Entry] = {}
        self._entries: OrderedDict[Entry, None] = OrderedDict()
        self._pins: dict[Any, None] = {}
        # How many entries hold the object with this id: the last one closes it.
        self._shares: Counter[int] = Counter()
        self._counts: Counter[str] = Counter()
        # Who waits for room, and who waits at all; `_changes` counts what could have made a difference to them.
        self._signals: dict[Any, None] = {}
        self._waiting: set[object] = set()
        self._changes = 0
        # When somebody must look for idle objects and long leases next, and what wakes the thread that does.
        self._due = math.inf
        self._bell: Signal | None = None
        self._closed = False
        _registry.register(self)
        _caches.add(self)

    # Use.

    def get(self, key: K) -> V:
        """The object, loaded if need be. It may be closed by whoever makes room: if that matters, take a lease."""
        self._close_all(self._tend())
        found = self._find(key)
        return cast(V, found) if found is not NOTHING else Threads.run(self._bring(key, Threads))

    async def aget(self, key: K) -> V:
        """As `get`, without blocking the event loop."""
        if doomed := self._tend():
            await Tasks.work(partial(self._close_all, doomed))
        found = self._find(key)
        return cast(V, found) if found is not NOTHING else await self._bring(key, Tasks)

    def lease(self, key: K) -> Lease[V]:
        """`with cache.lease(key) as object:` holds the object; it may be as long as a whole stream."""
        return Lease(self, key)

    def alease(self, key: K) -> Lease[V]:
        """`async with cache.alease(key) as object:`, as `lease`, without blocking the event loop."""
        return Lease(self, key, True)

    def pin(self, key: K) -> None:
        """Keeps the object of `key` from being evicted or idle, be it loaded already or later; a lease does so too."""
        self._pins[key] = None
        if entry := self._index.get(key):
            entry.pinned = True

    def unpin(self, key: K) -> None:
        """Ends `pin`; nothing happens if there was none."""
        self._pins.pop(key, None)
        if entry := self._index.get(key):
            entry.pinned = False
        with self._lock:
            self._wake()

    # What leaves.

    def invalidate(self, key: K) -> bool:
        """The object of `key` leaves, and is closed when its last lease ends. What is being loaded is thrown away, and
        loaded again for those who wait. False if there was neither."""
        entry = self._index.get(key)
        if entry is None or entry.state not in (LOADING, LIVE):
            return False
        self._close_all(self._retire([entry]))
        return True

    def reload(self, key: K) -> V:
        """`invalidate`, then `get`."""
        self.invalidate(key)
        return self.get(key)

    async def areload(self, key: K) -> V:
        """As `reload`, without blocking the event loop."""
        await Tasks.work(partial(self.invalidate, key))
        return await self.aget(key)

    def expire(self) -> int:
        """Lets idle objects leave now, and warns of long leases; how many left. O(n)."""
        before = self._counts["expirations"]
        self._due = -math.inf
        self._close_all(self._tend())
        return self._counts["expirations"] - before

    def clear(self) -> None:
        """Everything leaves, as with `invalidate`."""
        self._close_all(self._retire(list(self._entries)))

    def close(self) -> None:
        """Everything leaves for good: whoever asks from now on gets RuntimeError. What is leased is closed when its
        last lease ends; this does not wait for it."""
        self._closed = True
        self.clear()
        with self._lock:
            self._pins.clear()
            self._due = math.inf
            self._wake()
            if self._bell is not None:
                self._bell.set()

    async def aclose(self) -> None:
        """As `close`, without blocking the event loop."""
        await Tasks.work(self.close)

    def __enter__(self) -> "InstanceCache[K, V]":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    async def __aenter__(self) -> "InstanceCache[K, V]":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # Whoever held a lease would hold the cache.
        if not getattr(self, "_closed", True):
            self.close()

    # Questions.

    def __len__(self) -> int:
        return sum(entry.state is LIVE for entry in list(self._entries))

    def __contains__(self, key: object) -> bool:
        entry = self._index.get(key)
        return entry is not None and entry.state is LIVE

    def stats(self) -> InstanceStats:
        """A snapshot of the counts; two can be subtracted. Taking one changes none. O(n)."""
        with self._lock:
            entries = list(self._entries)
            return InstanceStats(
                **{what: self._counts[what] for what in InstanceStats.counted()},
                entries=sum(entry.state is LIVE for entry in entries),
                leased=sum(bool(entry.leases) for entry in entries),
                leases=sum(len(entry.leases) for entry in entries),
                pinned=sum(entry.pinned for entry in entries),
                retired=sum(entry.state in (RETIRED, CLOSING) for entry in entries),
                cost=MappingProxyType(self._budget.spent()),
                peak=MappingProxyType(self._budget.peak()),
                budget=MappingProxyType(self._budget.given),
                maxsize=self._budget.maxsize,
            )

    def __repr__(self) -> str:
        name = "" if self.name is None else f" {self.name!r}"
        return f"<{type(self).__name__}{name}: {'closed' if self._closed else f'{len(self)} loaded'}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} cannot be copied or pickled: what it holds is loaded and in use here")

    # Leases.

    async def _bring(self, key: K, way: Way) -> V:
        lease: Lease[V] = Lease(self, key, way is Tasks, passing=True)
        while True:
            await self._take(lease, way)
            entry = cast(Entry, lease.entry)
            found, live = entry.object, entry.state is LIVE
            await self._release(lease, way)
            # What was invalidated meanwhile is closed by now.
            if live:
                return cast(V, found)

    async def _take(self, lease: Lease[V], way: Way) -> None:
        """Leases what is live, or else loads it, or waits for whoever does."""
        if doomed := self._tend():
            await way.work(partial(self._close_all, doomed))
        asker = me()
        try:
            while self._find(lease.key, lease) is NOTHING:
                self._check_open()
                self._waiting.add(asker)
                await way.fly(self._flights, lease.key, partial(self._load, lease, asker, way))
                if lease.entry is None:
                    self._count("waits")
                elif lease.entry.state is LIVE:
                    return
                else:
                    # It was invalidated while it was loaded.
                    await self._release(lease, way)
        except Exception:
            await self._release(lease, way)
            raise
        except BaseException:
            # Interrupted, cancelled, or thrown away with its event loop: then nothing can be awaited any more.
            if doomed := self._end(lease):
                way.begin(partial(self._close_all, doomed))
            raise
        finally:
            self._waiting.discard(asker)

    def _find(self, key: Any, lease: Lease[V] | None = None) -> Any:
        """A use: the object of a key, if that is live, or `NOTHING`."""
        entry = self._index.get(key)
        if entry is None:
            return NOTHING
        now = self._timer()
        with self._lock:
            if entry.state is not LIVE:
                return NOTHING
            if lease is not None:
                self._attach(lease, entry, now)
            entry.used = now
            self._entries.move_to_end(entry)
            self._counts["hits"] += 1
            return entry.object

    def _attach(self, lease: Lease[V], entry: Entry, now: float) -> None:
        """Under the lock."""
        lease.entry = entry
        lease.since = now
        entry.leases[lease] = None
        self._expect(now, self._lease_warning)

    def _end(self, lease: Lease[V]) -> list[Entry]:
        """Ends a lease; what is to be closed now."""
        now = self._timer()
        with self._lock:
            entry, lease.entry = lease.entry, None
            if entry is None or entry.leases.pop(lease, NOTHING) is NOTHING:
                return []
            entry.used = now
            self._expect(now, self._idle)
            if not entry.leases:
                self._wake()
            return self._doom([entry])

    async def _release(self, lease: Lease[V], way: Way) -> None:
        if doomed := self._end(lease):
            await way.work(partial(self._close_all, doomed))

    # Loads.

    async def _load(self, lease: Lease[V], asker: object, way: Way) -> None:
        """Loads, for everybody who waits for this key."""
        self._waiting.discard(asker)
        if self._find(lease.key, lease) is not NOTHING:
            return
        orphan = self._index.get(lease.key)
        if orphan is not None and orphan.worker is not None and self._join(lease, orphan):
            # Whoever began this was cancelled; its thread goes on.
            await way.join(orphan.worker)
            return
        hint = None if self._cost_hint is None else self._cost_hint(lease.key)
        cost: Cost | None = self._budget.cost(hint, "cost_hint")
        while cost is not None:
            entry = Entry(lease.key, cost, running_loop() if way is Tasks else None)
            await self._make_room(entry, lease, asker, way)
            cost = await self._fill_for(entry, way)
            if cost is not None:
                await self._release(lease, way)

    def _join(self, lease: Lease[V], entry: Entry) -> bool:
        now = self._timer()
        with self._lock:
            if entry.state is not LOADING:
                return False
            self._attach(lease, entry, now)
            return True

    async def _make_room(self, entry: Entry, lease: Lease[V], asker: object, way: Way) -> None:
        """Evicts until there is room for an entry, and takes it. Raises Full."""
        deadline = time.monotonic() + self._timeout
        now, waited = self._timer(), False
        while True:
            with self._lock:
                self._check_open()
                lacking = self._budget.lacking(entry.cost)
                if not lacking:
                    self._index[entry.key] = entry
                    self._entries[entry] = None
                    self._budget.spend(entry.cost)
                    self._attach(lease, entry, now)
                    break
                victims = self._victims(lacking)
                doomed = self._evict(victims or [])
                if not doomed:
                    seen, signal = self._changes, way.signal()
                    self._signals[signal] = None
            if doomed:
                await way.work(partial(self._close_all, doomed))
                continue
            full = victims is None
            if self._bury():
                continue
            try:
                if full and self._on_full == "raise":
                    raise Full(self._occupied(entry))
                if not waited:
                    waited = True
                    self._count("waits")
                self._waiting.add(asker)
                changed = await way.wait(signal, min(_STUCK, max(deadline - time.monotonic(), 0)))
            finally:
                self._waiting.discard(asker)
                with self._lock:
                    self._signals.pop(signal, None)
            if not changed and self._stuck(seen, asker):
                raise Full(f"waits in a circle: all who could make room wait for some. {self._occupied(entry)}")
            if time.monotonic() >= deadline:
                raise Full(f"waited for {self._timeout:g} seconds. {self._occupied(entry)}")
        # Nobody evicts what is being loaded, so this is not too late.
        entry.pinned = entry.key in self._pins

    async def _fill_for(self, entry: Entry, way: Way) -> Cost | None:
        if way is Threads or self._loads_itself:
            return await self._fill(entry, way)
        try:
            entry.worker = start(lambda: Threads.run(self._fill(entry, Threads)))
        except BaseException:
            self._gone(entry)
            raise
        return await way.join(entry.worker)

    async def _fill(self, entry: Entry, way: Way) -> Cost | None:
        """Loads the object of an entry that has room, and corrects its cost: it is live then, or retired. The true cost
        if there is no room for that."""
        entry.thread, entry.doer = threading.get_ident(), me()
        try:
            loaded = await way.call(self._loader, entry.key, entry.loop)
        except BaseException:
            self._count("load_errors")
            self._gone(entry)
            raise
        with self._lock:
            self._counts["loads"] += 1
            self._shares[id(loaded)] += 1
            entry.object = loaded
        try:
            cost = entry.cost
            if self._weigher is not None:
                cost = self._budget.cost(self._weigher(entry.key, loaded), "weigher")
            now = self._timer()
            with self._lock:
                victims = self._correct(entry, cost, now)
                doomed = self._evict(victims or []) + self._doom([entry])
        except BaseException:
            # In a traceback this frame would keep what has to be freed.
            loaded = None
            if doomed := self._retire([entry]):
                way.begin(partial(self._close_all, doomed))
            raise
        loaded = None
        if doomed:
            await way.work(partial(self._close_all, doomed))
        return cost if victims is None else None

    def _correct(self, entry: Entry, cost: Cost, now: float) -> list[Entry] | None:
        """Makes an entry live at its true cost, under the lock: what has to leave for that. None if that is not enough;
        then it is retired itself."""
        if entry.state is not LOADING:
            return []
        self._budget.spend(cost, entry.cost)
        entry.cost = cost
        self._wake()
        victims = self._victims(self._budget.lacking(), hoping=False)
        entry.state = RETIRED if victims is None else LIVE
        entry.used = now
        for lease in entry.leases:
            lease.since = now
        self._expect(now, min(self._idle, self._lease_warning))
        return victims

    # Room.

    def _victims(self, lacking: dict[str, int], hoping: bool = True) -> list[Entry] | None:
        """Who must leave so that there is room, the least recently used first; nobody if room comes by itself, or if
        that may be hoped for. None if there is no room to be had. Under the lock."""
        left = dict(lacking)

        def enough(entries: list[Entry]) -> bool:
            for entry in entries:
                if any(short > 0 and entry.cost.get(each) for each, short in left.items()):
                    taken.append(entry)
                    for each in left:
                        left[each] -= entry.cost.get(each, 0)
            return all(short <= 0 for short in left.values())

        entries, taken = list(self._entries), list[Entry]()
        if enough([entry for entry in entries if entry.state is CLOSING]):
            return []
        taken.clear()
        if enough([entry for entry in entries if entry.state is LIVE and not entry.leases and not entry.pinned]):
            return taken
        # What is being loaded may be free as soon as it is there.
        return [] if hoping and enough([entry for entry in entries if entry.passing()]) else None

    def _evict(self, victims: list[Entry]) -> list[Entry]:
        """Under the lock; what is to be closed."""
        self._counts["evictions"] += len(victims)
        return self._retire(victims)

    def _bury(self) -> bool:
        """Ends the leases and the loads of tasks whose event loop was closed: they never run again. Whether any did."""
        doomed = []
        changes = self._changes
        for entry in list(self._entries):
            for lease in list(entry.leases):
                if lease.loop is not None and lease.loop.is_closed():
                    doomed += self._end(lease)
            if entry.object is NOTHING and entry.worker is None and entry.loop is not None and entry.loop.is_closed():
                self._gone(entry)
        self._close_all(doomed)
        return self._changes != changes

    def _stuck(self, seen: int, asker: object) -> bool:
        """Whether nothing has changed, and all who hold leases or close something wait."""
        with self._lock:
            holders = {holder for entry in self._entries for holder in entry.holders()}
            if self._changes != seen or not holders or not holders <= self._waiting | {asker}:
                return False
            # One who gives up is enough: the others look again.
            self._changes += 1
            return True

    def _occupied(self, entry: Entry) -> str:
        """Why there is no room, for an error."""
        with self._lock:
            lacking = self._budget.lacking(entry.cost)
            others = [each for each in self._entries if each is not entry]
            places = [f"{file}:{line}" for each in others for file, line in (lease.place for lease in each.leases)]
            pinned = sum(each.pinned for each in others)
        held = f"{len(places)} leases ({', '.join(places[:5])})" if places else "no lease"
        return f"{self!r} lacks {lacking or 'room'} for {entry.key!r}: {held}, {pinned} pinned"

    # Ends.

    def _retire(self, entries: list[Entry]) -> list[Entry]:
        """Entries leave the cache; which of them are to be closed now."""
        with self._lock:
            for entry in entries:
                if entry.state in (LOADING, LIVE):
                    entry.state = RETIRED
            return self._doom(entries)

    def _doom(self, entries: list[Entry]) -> list[Entry]:
        """Which entries have left and are loaded and not leased: whoever asks has to close them. Under the lock."""
        doomed = [e for e in entries if e.state is RETIRED and not e.leases and e.object is not NOTHING]
        for entry in doomed:
            entry.state = CLOSING
            entry.thread = threading.get_ident()
        return doomed

    def _close_all(self, doomed: list[Entry]) -> None:
        while doomed:
            try:
                self._close_one(doomed.pop(0))
            except BaseException:
                self._close_all(doomed)
                raise

    def _close_one(self, entry: Entry) -> None:
        loaded, entry.object = entry.object, None
        entry.doer = me()
        pending = None
        try:
            with self._lock:
                self._shares[id(loaded)] -= 1
                last = not self._shares[id(loaded)]
                if last:
                    del self._shares[id(loaded)]
                    self._counts["closes"] += entry.ours
            if last and entry.ours and self._close is not None:
                answer = self._close(loaded)
                if isawaitable(answer):
                    pending = submit(answer, entry.loop)
        except Exception as error:
            self._failed(error)
        finally:
            # Freed before its room is given to another.
            loaded = answer = None
            if pending is None:
                self._gone(entry)
        if pending is not None:
            future, loop = pending
            entry.doer = None
            future.add_done_callback(partial(self._close_ended, entry))
            # A loop must not wait for itself.
            if running_loop() is None:
                with suppress(Exception):
                    result(future, loop, _CLOSE_TIMEOUT)
                if loop.is_closed():
                    future.cancel()

    def _close_ended(self, entry: Entry, future: "Future[object]") -> None:
        try:
            future.result()
        except BaseException as error:
            self._failed(error)
        self._gone(entry)

    def _gone(self, entry: Entry) -> None:
        """The last of an entry: its room is free."""
        with self._lock:
            if self._entries.pop(entry, NOTHING) is NOTHING:
                return
            self._budget.spend({}, entry.cost)
            self._wake()
        with suppress(Exception), self._lock:
            if self._index.get(entry.key) is entry:
                del self._index[entry.key]

    def _failed(self, error: BaseException) -> None:
        self._count("close_errors")
        report(error)

    def _count(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1

    def _wake(self) -> None:
        """Those who wait for room look again; under the lock."""
        self._changes += 1
        signals, self._signals = self._signals, {}
        for signal in signals:
            signal.set()

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError(f"{self!r} is closed")

    # Time.

    def _expect(self, now: float, span: float) -> None:
        """Somebody has to look in so many seconds; under the lock."""
        if now + span >= self._due or self._closed:
            return
        self._due = now + span
        if self._bell is not None:
            self._bell.set()
            return
        self._bell = Signal()
        # Held weakly: a thread must not keep a cache alive.
        cache = weakref.ref(self, lambda _, bell=self._bell: bell.set())  # type: ignore[misc]
        threading.Thread(target=_watch, args=(cache, self._bell), name="ullage idle", daemon=True).start()

    def _tend(self) -> list[Entry]:
        """Retires what is idle and warns of long leases, if it is time: what is to be closed."""
        if self._due == math.inf or (now := self._timer()) < self._due:
            return []
        late, idle, due = [], [], math.inf
        with self._lock:
            for entry in list(self._entries):
                if entry.state is LIVE and not entry.leases and not entry.pinned:
                    if now - entry.used >= self._idle:
                        idle.append(entry)
                    else:
                        due = min(due, entry.used + self._idle)
                for lease in () if entry.loading() else entry.leases:
                    if not lease.warned and now - lease.since >= self._lease_warning:
                        lease.warned = True
                        late.append(lease)
                    elif not lease.warned:
                        due = min(due, lease.since + self._lease_warning)
            self._due = due
            self._counts["expirations"] += len(idle)
            doomed = self._retire(idle)
        for lease in late:
            lease.warn(f"{self!r}: the lease of {lease.key!r} is held for {now - lease.since:.1f} seconds")
        return doomed

    def _pause(self) -> float | None:
        """Does what is due; seconds until more is, or None if nothing will be and the thread ends."""
        self._close_all(self._tend())
        now = self._timer()
        with self._lock:
            if self._due == math.inf:
                self._bell = None
                return None
            return min(max(self._due - now, 0.001), 3600.0)

    # Ends of processes.

    def _forked(self) -> None:
        """In the child of a fork: the other threads are gone, with their leases and loads, and maybe with the lock."""
        self._lock = threading.RLock()
        self._signals, self._waiting, self._due, self._bell = {}, set(), math.inf, None
        here, now = threading.get_ident(), self._timer()
        for entry in list(self._entries):
            entry.ours = False
            entry.worker = None
            entry.leases = {lease: None for lease in entry.leases if lease.thread == here}
            if entry.thread != here and entry.state in (LOADING, CLOSING):
                entry.state = CLOSING
                self._gone(entry)
        # Those threads may have been in the middle of a sum.
        self._shares.clear()
        self._budget.clear()
        for entry in self._entries:
            self._budget.spend(entry.cost)
            if entry.object is not NOTHING:
                self._shares[id(entry.object)] += 1
            if entry.state is LIVE:
                self._expect(now, self._idle)
        self._close_all(self._doom(list(self._entries)))

    def _exit(self) -> None:
        """At the end of the interpreter: what is in use is left open, aloud."""
        self.close()
        self._bury()
        for entry in list(self._entries):
            for lease in entry.leases:
                lease.warn(f"{self!r}: {entry.key!r} is not closed at exit, since this lease has not ended")


def _watch(cache: "weakref.ref[InstanceCache[Any, Any]]", bell: Signal) -> None:
    """What the thread of a cache with `idle` or `lease_warning` does while there is something to wait for."""
    while (alive := cache()) is not None:
        try:
            pause = alive._pause()
        except BaseException as error:
            report(error)
            pause = 1.0
        del alive
        if pause is None:
            return
        bell.wait(pause)


def _seconds(lifetime: Lifetime, name: str) -> float:
    span = nanoseconds(lifetime, name)
    return math.inf if span is None else span / 1e9


def _forked() -> None:
    for cache in list(_caches):
        cache._forked()


def _exit() -> None:
    for cache in list(_caches):
        cache._exit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
atexit.register(_exit)
