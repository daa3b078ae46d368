"""The sweeper: what expires leaves without a call, hooks are called, forks and the interpreter's end are survived."""

import gc
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import ullage
from child import run
from ullage import Cause, HistoryRing, LRUCache, TransferMap
from ullage.testing import ManualClock


class Node:
    pass


def wait_until(true: Callable[[], bool], seconds: float = 20) -> None:
    """Waits without touching a container; fails if it does not come true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def watched(put: Callable[[int, Node], object], n: int = 1000) -> list[weakref.ref[Node]]:
    refs = []
    for i in range(n):
        node = Node()
        put(i, node)
        refs.append(weakref.ref(node))
    return refs


def all_dead(refs: list[weakref.ref[Node]]) -> bool:
    return all(ref() is None for ref in refs)


def test_entries_of_a_cache_leave_in_time_without_a_call() -> None:
    cache: LRUCache[int, Node] = LRUCache(None, ttl=0.05)
    refs = watched(cache.__setitem__)
    wait_until(lambda: all_dead(refs))
    assert cache.stats().expirations == 1000 and cache.stats().entries == 0


def test_idle_entries_leave_in_time_without_a_call() -> None:
    cache: LRUCache[int, Node] = LRUCache(None, idle=0.05)
    refs = watched(cache.__setitem__)
    wait_until(lambda: all_dead(refs))


def test_an_entry_with_a_lifetime_of_its_own_leaves_without_a_call() -> None:
    cache: LRUCache[int, Node] = LRUCache(None)
    refs = watched(lambda i, node: cache.set(i, node, ttl=0.05), 10)
    cache["stays"] = Node()
    wait_until(lambda: all_dead(refs))
    assert len(cache) == 1


def test_a_nearer_deadline_is_heard_of() -> None:
    cache: LRUCache[int, Node] = LRUCache(None, ttl=3600)
    stays = watched(cache.__setitem__, 10)
    refs = watched(lambda i, node: cache.set(-1 - i, node, ttl=0.05), 10)
    wait_until(lambda: all_dead(refs))
    assert not any(ref() is None for ref in stays)


def test_touching_with_a_nearer_deadline_is_heard_of() -> None:
    cache: LRUCache[int, Node] = LRUCache(None, ttl=3600)
    refs = watched(cache.__setitem__, 1)
    cache.touch(0, ttl=0.05)
    wait_until(lambda: all_dead(refs))


def test_items_of_a_ring_leave_in_time_without_a_call() -> None:
    ring: HistoryRing[Node] = HistoryRing(None, ttl=0.05)
    refs = watched(lambda i, node: ring.append(node))
    wait_until(lambda: all_dead(refs))
    assert len(ring) == 0 and ring.dropped == 1000


@pytest.mark.parametrize("way", ["appendleft", "insert", "slice"])
def test_whatever_way_an_item_comes_into_a_ring_it_leaves_in_time(way: str) -> None:
    fallen: list[Any] = []
    ring: HistoryRing[int] = HistoryRing(10, ttl=0.05, on_drop=fallen.extend)
    if way == "appendleft":
        ring.appendleft(1)
    elif way == "insert":
        ring.insert(0, 1)
    else:
        ring[0:0] = [1]
    wait_until(lambda: fallen == [1])


def test_transfers_that_nobody_asks_for_wait_in_a_bounded_number() -> None:
    transfers: TransferMap[int, Node] = TransferMap(0.05, maxsize=10)
    refs = watched(lambda i, node: (transfers.begin(i, node), time.sleep(0.006)), 60)
    wait_until(lambda: sum(ref() is not None for ref in refs) <= 20)
    time.sleep(0.1)
    assert 0 < len(transfers.pop_expired()) <= 20


def test_on_expire_is_called_without_a_call() -> None:
    batches: list[Any] = []
    transfers: TransferMap[int, str] = TransferMap(0.05, on_expire=batches.append)
    for i in range(600):
        transfers.begin(i, str(i))
    wait_until(lambda: sum(map(len, batches)) == 600)
    assert [key for batch in batches for key, _ in batch] == list(range(600))
    assert transfers.stats().expired == 600 and max(map(len, batches)) <= 256


def test_a_call_reports_a_few_and_the_sweeper_the_rest() -> None:
    reported: list[Any] = []
    transfers: TransferMap[int, int] = TransferMap(1, on_expire=reported.extend)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(10)
    try:
        for i in range(5000):
            transfers.begin(i, i, ttl=1 + i * 7919 % 5003 * 1e-6)
        end = time.monotonic() + 1.1
        while time.monotonic() < end:
            pass
        # The sweeper has no turn before the call ends.
        assert reported == [] and len(transfers) == 0 and 0 < len(reported) <= 8
    finally:
        sys.setswitchinterval(interval)
    wait_until(lambda: len(reported) == 5000)
    assert len(set(reported)) == 5000 and transfers.stats().expired == 5000


def test_what_the_sweeper_finds_while_a_call_reports_is_reported_without_another_call() -> None:
    reported: list[Any] = []
    came = threading.Event()

    def on_expire(batch: list[Any]) -> None:
        reported.extend(batch)
        came.wait(20)

    transfers: TransferMap[int, int] = TransferMap(0.5, on_expire=on_expire)
    # The sweeper looks at it after it has looked at the other.
    cache: LRUCache[int, int] = LRUCache(None, ttl=0.51, on_evict=lambda *entry: came.set())
    interval = sys.getswitchinterval()
    sys.setswitchinterval(10)
    try:
        transfers.update((i, i) for i in range(1000))
        cache[0] = 0
        end = time.monotonic() + 0.6
        while time.monotonic() < end:
            pass
        assert reported == [] and len(transfers) == 0 and 0 < len(reported) < 1000
    finally:
        sys.setswitchinterval(interval)
    assert came.is_set()
    wait_until(lambda: len(reported) == 1000)


def test_what_makes_room_is_reported_without_another_call() -> None:
    reported: list[Any] = []
    transfers: TransferMap[int, int] = TransferMap(60, maxsize=1, on_full="evict", on_expire=reported.extend)
    transfers.begin(1, 1)
    transfers[2] = 2
    wait_until(lambda: reported == [(1, 1)])
    transfers.setdefault(3, 3)
    wait_until(lambda: reported == [(1, 1), (2, 2)])


def test_what_a_smaller_bound_lets_expire_is_reported_without_another_call() -> None:
    reported: list[Any] = []
    transfers: TransferMap[int, int] = TransferMap(60, on_full="evict", on_expire=reported.extend)
    transfers.update((i, i) for i in range(1000))
    transfers.maxsize = 1
    wait_until(lambda: len(reported) == 999)


def test_what_on_expire_keeps_in_a_full_map_is_reported_again() -> None:
    calls: list[Any] = []

    def on_expire(batch: list[Any]) -> dict[str, float] | None:
        calls.append(batch)
        if len(calls) == 1:
            transfers.begin("b", 2, ttl=60)
        return {"a": 0.05} if len(calls) < 3 else None

    transfers: TransferMap[str, int] = TransferMap(0.05, maxsize=1, on_expire=on_expire)
    transfers.begin("a", 1)
    wait_until(lambda: calls == [[("a", 1)]] * 3)


def test_what_on_expire_keeps_is_reported_again() -> None:
    calls: list[Any] = []

    def on_expire(batch: list[Any]) -> dict[str, float] | None:
        calls.append(batch)
        return {"a": 0.05} if len(calls) < 3 else None

    transfers: TransferMap[str, int] = TransferMap(0.05, on_expire=on_expire)
    transfers.begin("a", 1)
    wait_until(lambda: len(calls) == 3)


def test_on_evict_is_called_without_a_call() -> None:
    left: list[Any] = []
    cache: LRUCache[int, int] = LRUCache(None, ttl=0.05, on_evict=lambda *entry: left.append(entry))
    cache.update((i, i) for i in range(600))
    wait_until(lambda: len(left) == 600)
    assert left == [(i, i, Cause.EXPIRED) for i in range(600)]


def test_a_hook_that_raises_is_reported_and_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: errors.append(args.exc_value))

    def fail(*_: object) -> None:
        raise ValueError

    cache: LRUCache[int, int] = LRUCache(None, ttl=0.02, on_evict=fail)
    cache[1] = 1
    wait_until(lambda: len(errors) == 1)
    cache[2] = 2
    wait_until(lambda: len(errors) == 2)


def test_a_hook_may_block_while_other_containers_are_swept() -> None:
    begun, go = threading.Event(), threading.Event()

    def block(*_: object) -> None:
        begun.set()
        go.wait(20)

    slow: LRUCache[int, int] = LRUCache(None, ttl=0.02, on_evict=block)
    slow[1] = 1
    assert begun.wait(20)
    # Everything goes on: this thread, and calls of the very container.
    slow[2] = 2
    assert slow.get(2) in (2, None)
    go.set()


def test_a_container_is_not_kept_alive_and_may_die_while_it_is_swept() -> None:
    refs = []
    for _ in range(200):
        cache: LRUCache[int, Node] = LRUCache(None, ttl=0.001)
        refs += watched(cache.__setitem__, 50)
        dead = weakref.ref(cache)
        del cache
        assert dead() is None
    ullage.flush()
    wait_until(lambda: all_dead(refs))


def test_a_container_in_a_cycle_with_its_hook_is_collected() -> None:
    class Owner:
        def __init__(self) -> None:
            self.cache: LRUCache[int, Any] = LRUCache(None, ttl=0.05, on_evict=self.left)
            self.cache[1] = self

        def left(self, *_: object) -> None:
            pass

    owner = weakref.ref(Owner())
    gc.collect()
    wait_until(lambda: owner() is None)


def test_a_clock_of_the_users_own_is_not_swept(clock: ManualClock | None = None) -> None:
    clock = ManualClock()
    cache: LRUCache[int, Node] = LRUCache(None, ttl=0.01, timer=clock)
    refs = watched(cache.__setitem__, 10)
    time.sleep(0.1)
    assert not any(ref() is None for ref in refs)
    clock.advance(1)
    assert len(cache) == 0
    ullage.flush()
    assert all_dead(refs)


def test_many_threads_and_the_sweeper_work_on_the_same_containers() -> None:
    cache: LRUCache[int, list[int]] = LRUCache(500, ttl=0.003)
    transfers: TransferMap[int, list[int]] = TransferMap(0.003)
    ring: HistoryRing[list[int]] = HistoryRing(500, ttl=0.003)
    handed: list[Any] = []
    begun = [0] * 6

    def work(number: int) -> None:
        until = time.monotonic() + 1.0
        i = 0
        while time.monotonic() < until:
            i += 1
            key = number * 10**9 + i
            cache[key % 700] = [i]
            cache.get((key * 7) % 700), len(cache), cache.coldest(3)
            transfers.begin(key, [i])
            begun[number] += 1
            if i % 3 == 0:
                handed.extend(transfers.pop_expired(10))
            ring.append([i]), len(ring), ring[-1:]

    threads = [threading.Thread(target=_safely, args=(work, number)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    end = time.monotonic() + 20
    while len(handed) < sum(begun) and time.monotonic() < end:
        handed.extend(transfers.pop_expired())
    keys = [key for key, _ in handed]
    # Each handed over exactly once, though the thread and all callers moved them.
    assert len(keys) == len(set(keys)) == sum(begun) and not _failures


_failures: list[BaseException] = []


def _safely(work: Callable[[int], None], number: int) -> None:
    try:
        work(number)
    except IndexError:
        work(number)
    except BaseException as error:
        _failures.append(error)


@pytest.mark.parametrize(
    "made",
    ["ullage.LRUCache(None, ttl=ttl)", "ullage.TransferMap(ttl, on_expire=lambda batch: None)"],
    ids=["cache", "transfers"],
)
def test_memory_of_a_million_entries_comes_back_without_a_call(made: str) -> None:
    run(
        """
        import time, ullage, psutil
        me = psutil.Process()
        def fill(n, ttl):
            cache = MADE
            for i in range(n):
                cache[i] = [i]
            return cache
        fill(1000, 60)
        base = me.memory_info().rss
        ttl = 2
        while True:
            start = time.monotonic()
            cache = fill(1_000_000, ttl)
            full = me.memory_info().rss
            if time.monotonic() - start < ttl:
                break
            ttl *= 2
        assert full - base > 100 << 20, (base, full)
        end = time.monotonic() + 30
        while me.memory_info().rss - base > (full - base) / 4:
            assert time.monotonic() < end, me.memory_info().rss - base
            time.sleep(0.05)
        assert len(cache) == 0
        """.replace("MADE", made),
        timeout=90,
    )


def test_without_the_sweeper_everything_works_by_calls() -> None:
    run(
        """
        import threading, time, ullage
        cache = ullage.LRUCache(None, ttl=0.02)
        cache.update((i, [i]) for i in range(1000))
        time.sleep(0.1)
        assert not [t for t in __import__("os").listdir("/proc/self/task")][1:]
        assert len(cache) == 0 and cache.stats().expirations >= 256
        cache.expire(), ullage.flush()
        assert cache.stats().expirations == 1000
        """,
        ULLAGE_SWEEPER="0",
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")
def test_an_idle_process_has_no_thread_or_no_wake_ups() -> None:
    run(
        """
        import os, time, ullage
        cache = ullage.LRUCache(10)
        cache[1] = [1]
        assert len(os.listdir("/proc/self/task")) == 1
        cache = ullage.LRUCache(10, ttl=3600)
        cache[1] = [1]
        time.sleep(0.2)
        def switches():
            total = 0
            for task in os.listdir("/proc/self/task"):
                if int(task) != os.getpid():
                    for line in open(f"/proc/self/task/{task}/status"):
                        if line.startswith("voluntary"):
                            total += int(line.split()[1])
            return total
        before = switches()
        time.sleep(1)
        assert switches() == before
        """
    )


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@needs_fork
def test_forks_in_the_middle_of_sweeps() -> None:
    run(
        """
        import os, sys, threading, time, warnings, weakref
        import ullage
        warnings.simplefilter("error")
        class Node: pass
        cache = ullage.LRUCache(None, ttl=0.004)
        transfers = ullage.TransferMap(0.004, on_expire=lambda batch: None)
        children = []
        for round in range(60):
            for i in range(300):
                cache[i] = [Node()]
                transfers.begin((round, i), [Node()])
            time.sleep(0.002 * (round % 4))
            child = os.fork()
            if child == 0:
                # Nothing is locked, and the first deadline starts a thread of the child's own.
                refs = []
                for i in range(100):
                    node = Node()
                    cache[i] = node
                    refs.append(weakref.ref(node))
                del node
                end = time.monotonic() + 10
                while any(ref() for ref in refs):
                    if time.monotonic() > end:
                        os._exit(3)
                    time.sleep(0.002)
                len(cache), len(transfers), transfers.stats(), cache.clear()
                os._exit(0)
            children.append(child)
        for child in children:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        node = Node()
        ref = weakref.ref(node)
        cache["last"] = node
        del node
        end = time.monotonic() + 10
        while ref():
            assert time.monotonic() < end
            time.sleep(0.005)
        """,
        timeout=120,
    )


@needs_fork
def test_a_fork_from_a_hook_that_the_sweeper_calls() -> None:
    run(
        """
        import os, time, ullage
        codes = []
        def hook(key, value, cause):
            child = os.fork()
            if child == 0:
                cache[5] = 5
                os._exit(0)
            codes.append(os.waitpid(child, 0)[1])
        cache = ullage.LRUCache(None, ttl=0.02, on_evict=hook)
        cache[1] = 1
        end = time.monotonic() + 10
        while not codes:
            assert time.monotonic() < end
            time.sleep(0.005)
        assert codes == [0]
        cache[2] = 2
        while len(codes) < 2:
            assert time.monotonic() < end
            time.sleep(0.005)
        """
    )


@needs_fork
def test_exit_waits_for_a_hook_that_was_running_at_a_fork() -> None:
    done = run(
        """
        import os, threading, time, ullage
        begun = threading.Event()
        def hook(*entry):
            begun.set()
            end = time.monotonic() + 0.3
            while time.monotonic() < end:
                time.sleep(0.001)
            print("done")
        cache = ullage.LRUCache(None, ttl=0.01, on_evict=hook)
        cache[1] = 1
        begun.wait()
        child = os.fork()
        if child == 0:
            cache[2] = 2
        else:
            assert os.waitpid(child, 0)[1] == 0
        """
    )
    assert done.stdout == "done\n"


def test_exit_while_the_sweeper_is_at_work() -> None:
    for delay in (0, 0.001, 0.005, 0.02, 0.05):
        done = run(
            f"""
            import time, ullage
            class Node:
                def __del__(self):
                    ullage.LRUCache(1, ttl=1)[1] = 1
            keep = []
            for _ in range(20):
                cache = ullage.LRUCache(None, ttl=0.005, on_evict=(lambda *entry: None) if len(keep) % 2 else None)
                cache.update((i, [Node()]) for i in range(500))
                keep.append(cache)
            keep.append(ullage.TransferMap(0.001, on_expire=lambda batch: time.sleep(0.001)))
            for i in range(1000):
                keep[-1].begin(i, [Node()])
            big = ullage.LRUCache(1)
            big[0] = [Node() for _ in range(20_000)]
            big[1] = 1
            time.sleep({delay})
            """
        )
        assert done.stdout == done.stderr == ""


def test_exit_while_a_hook_sleeps_waits_for_it() -> None:
    done = run(
        """
        import time, ullage
        def hook(*entry):
            time.sleep(0.3)
            print("done")
        cache = ullage.LRUCache(None, ttl=0.01, on_evict=hook)
        cache[1] = 1
        time.sleep(0.1)
        """
    )
    assert done.stdout == "done\n"


def test_sub_interpreters_get_a_clear_error() -> None:
    done = run(
        """
        import ullage
        try:
            import _xxsubinterpreters as sub
        except ImportError:
            import _interpreters as sub
        interpreter = sub.create()
        failed = sub.run_string(interpreter, '''
        try:
            import ullage._core
        except ImportError as error:
            assert "interpreter" in str(error), error
        else:
            raise SystemError("imported")
        ''')
        assert failed is None, failed
        """
    )
    assert done.stderr == ""


def test_collecting_while_a_map_of_cycles_is_swept() -> None:
    transfers: TransferMap[int, Any] = TransferMap(0.002, maxsize=1000, on_full="evict")
    cache: LRUCache[int, Any] = LRUCache(1000, ttl=0.002)
    refs: list[weakref.ref[Node]] = []
    end = time.monotonic() + 1.5
    i = 0
    while time.monotonic() < end:
        for _ in range(50):
            i += 1
            node: Any = Node()
            cycle = [node, transfers, cache]
            node.cycle = cycle
            refs.append(weakref.ref(node))
            transfers.begin(i, cycle)
            cache[i] = cycle
        gc.collect()
    del node, cycle
    transfers.clear(), cache.clear(), ullage.flush()
    gc.collect()
    assert all_dead(refs)


def test_with_the_collector_off_everything_is_freed() -> None:
    gc.disable()
    try:
        cache: LRUCache[int, Node] = LRUCache(None, ttl=0.02)
        refs = watched(cache.__setitem__, 5000)
        wait_until(lambda: all_dead(refs))
    finally:
        gc.enable()
