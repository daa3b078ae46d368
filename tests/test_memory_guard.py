"""MemoryGuard: whom it warns, what it has given back, when it leaves well alone, and that a process lives by it."""

import ctypes
import math
import os
import subprocess
import sys
import threading
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest
from child import run
from ullage import HistoryRing, LRUCache, MemoryGuard, MemoryPressureWarning, TransferMap, _registry, _sizes
from ullage.monitor import memory
from ullage.monitor.guard import _level
from ullage.monitor.memory import Usage, usage
from ullage.monitor.report import row
from ullage.testing import ManualClock

KIB, MIB, GIB = 2**10, 2**20, 2**30
LIMIT = 10 * MIB


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """Only what a test makes is known in it, and a warning is what it looks for."""
    monkeypatch.setattr(_registry, "_all", [])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MemoryPressureWarning)
        yield


class Process:
    """A process with a limit of 10 MiB that holds what its containers hold, and something else."""

    def __init__(self, *containers):
        self.containers = containers
        self.other = 0
        self.clock = ManualClock()

    def fill(self, share):
        """Sets the something else so that this share of the limit is in use."""
        self.other = 0
        self.other = round(share * LIMIT) - self.usage().used

    def usage(self):
        held = sum(row(container).memory or 0 for container in self.containers)
        return Usage(held + self.other, LIMIT, "test")

    def guard(self, **settings):
        return MemoryGuard(
            0.7, 0.85, reader=self.usage, timer=self.clock, **{"interval": 1, "warn_every": 60} | settings
        )


def cache_of(size, name=None, **settings):
    """A cache of 10 kB entries."""
    cache = LRUCache(max_bytes="1 GiB", name=name, **settings)
    while cache.currsize < size:
        cache[len(cache)] = "x" * 10_000
    return cache


def ring_of(size, **settings):
    ring = HistoryRing(max_bytes="1 GiB", **settings)
    while ring.weight < size:
        ring.append("x" * 10_000 + str(len(ring)))
    return ring


def test_below_soft_nothing_happens():
    cache = cache_of(4 * MIB)
    process = Process(cache)
    process.fill(0.69)
    guard, before = process.guard(), len(cache)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert guard.check() == process.usage()
    assert (len(cache), guard.stats().checks, guard.stats().warnings) == (before, 1, 0)


def test_past_soft_it_warns_once_in_a_while_and_names_the_largest():
    keep = [cache_of(size * 100 * KIB, name) for size, name in ((1, "d"), (2, "c"), (9, "a"), (5, "b"))]
    process = Process(*keep)
    process.fill(0.72)
    guard, before = process.guard(), [len(each) for each in keep]
    with pytest.warns(MemoryPressureWarning, match=r"72% of its limit: 7.2 MiB of 10 MiB \(test\)") as told:
        guard.check()
    text = str(told[0].message)
    assert "the largest: a (LRUCache)" in text
    assert text.index("a (LRU") < text.index("b (LRU") < text.index("c (LRU")
    assert "d (LRU" not in text
    for _ in range(50):
        process.clock.advance(1)
        guard.check()
    assert guard.stats().warnings == 1
    process.clock.advance(20)
    guard.check()
    assert guard.stats().warnings == 2
    assert [len(each) for each in keep] == before


def test_a_warning_without_containers_says_so():
    process = Process()
    process.fill(0.9)
    with pytest.warns(MemoryPressureWarning, match="No container holds any of it"):
        process.guard().check()


def test_past_hard_the_largest_are_cut_to_one_level_and_the_small_are_left_in_peace():
    small, middle, large = cache_of(200 * KIB), ring_of(2 * MIB), cache_of(5 * MIB)
    process = Process(small, middle, large)
    process.fill(0.9)
    guard, before = process.guard(), len(small)
    assert guard.check().share < 0.7
    assert len(small) == before
    assert middle.weight >= 2 * MIB
    assert 2 * MIB < large.currsize < 3 * MIB
    assert 0 in middle or middle[0].endswith("x0")
    assert guard.stats().rounds == 1
    assert guard.stats().evicted_bytes == pytest.approx(5 * MIB - large.currsize, rel=0.1)


def test_hot_entries_and_the_newest_items_stay():
    cache, ring = cache_of(4 * MIB), ring_of(4 * MIB)
    last = len(cache) - 1, ring[-1]
    cache.get(0)
    process = Process(cache, ring)
    process.fill(0.95)
    process.guard().check()
    assert 0 in cache and last[0] in cache and 1 not in cache
    assert ring[-1] == last[1]


def test_between_soft_and_hard_it_shrinks_only_on_the_way_down():
    cache = cache_of(4 * MIB)
    process = Process(cache)
    process.fill(0.8)
    guard, before = process.guard(), len(cache)
    guard.check()
    assert len(cache) == before
    process.other += MIB
    guard.check()
    after = len(cache)
    assert after < before
    assert process.usage().share < 0.7
    process.fill(0.8)
    guard.check()
    assert len(cache) == after


def test_half_of_everything_is_the_most_that_a_round_takes():
    cache = cache_of(MIB)
    process = Process(cache)
    process.fill(0.99)
    before = len(cache)
    process.guard().check()
    assert before // 2 - 1 <= len(cache) <= before // 2 + 1


def test_hooks_are_told_and_pinned_items_stay():
    left, fell = [], []
    cache = cache_of(3 * MIB, on_evict=lambda key, value, cause: left.append((key, str(cause))))
    ring = ring_of(3 * MIB, on_drop=fell.extend, keep_first=2)
    first = ring[:2]
    process = Process(cache, ring)
    process.fill(0.95)
    guard = process.guard()
    guard.check()
    assert left == [(key, "size") for key in range(len(left))]
    assert len(left) + len(fell) == guard.stats().evicted > 100
    assert ring[:2] == first
    assert ring.dropped == len(fell)


def test_of_several_processes_each_gives_back_its_part():
    cache = cache_of(4 * MIB)
    guard = MemoryGuard(0.7, 0.85, reader=lambda: Usage(9 * MIB, LIMIT, "test", part=0.25))
    before = cache.currsize
    guard.check()
    assert before - cache.currsize == pytest.approx((0.9 - 0.6625) * LIMIT / 4, rel=0.05)


def test_large_entries_leave_one_at_a_time():
    pieces = []

    class Noting(LRUCache):
        def evict(self, n=1):
            pieces.append(n)
            return super().evict(n)

    cache = Noting(max_bytes="1 GiB")
    for number in range(8):
        cache[number] = bytes(MIB)
    process = Process(cache)
    process.fill(0.95)
    process.guard().check()
    assert set(pieces) == {1} and len(pieces) == 3


def test_what_left_is_freed_at_once():
    ring = HistoryRing(None, ([[number] for number in range(1_000)] for _ in range(200)), name="of lists")
    process = Process(ring)
    process.fill(0.95)
    process.guard().check()
    assert len(ring) < 200
    assert ring.stats().retired == 0 < ring.stats().retired_max
    assert row(ring).stats["reclaim_seconds"] > 0


def test_transfers_are_never_shrunk():
    transfers = TransferMap(None)
    for number in range(500):
        transfers.begin(number, bytes(10_000))
    process = Process(transfers)
    process.fill(0.99)
    guard = process.guard()
    with pytest.warns(MemoryPressureWarning, match="unnamed TransferMap"):
        guard.check()
    for _ in range(100):
        process.clock.advance(100)
        guard.check()
    assert len(transfers) == 500 == transfers.stats().begun
    assert guard.stats().evicted == 0


def test_without_progress_it_backs_off_and_stops():
    cache = cache_of(4 * MIB)
    process, readings = Process(cache), [Usage(9 * MIB, LIMIT, "test")]
    guard = MemoryGuard(0.7, 0.85, interval=1, reader=lambda: readings[0], timer=process.clock)
    before, rounds = len(cache), []
    for second in range(100):
        guard.check()
        if guard.stats().rounds > len(rounds):
            rounds.append(second)
        process.clock.advance(1)
    assert rounds == [0, 2, 6]
    assert guard.stats().futile == 3
    assert len(cache) >= before // 8 - 3
    # It grows on: what it did may have helped after all.
    readings[0] = Usage(9 * MIB + LIMIT // 50, LIMIT, "test")
    guard.check()
    assert guard.stats().rounds == 4
    # It was well for a while: the next time is a new one.
    readings[0] = Usage(MIB, LIMIT, "test")
    guard.check()
    readings[0] = Usage(9 * MIB, LIMIT, "test")
    guard.check()
    assert guard.stats().rounds == 5


def test_nothing_to_give_back_is_no_reason_to_spin():
    keep = LRUCache(3), HistoryRing(3), LRUCache(3)
    keep[2].close()
    process = Process(*keep)
    process.fill(0.99)
    guard = process.guard()
    for _ in range(100):
        guard.check()
        process.clock.advance(1)
    assert guard.stats().rounds == 3


def test_a_container_that_fails_keeps_no_other_from_giving_back(monkeypatch):
    class Failing(LRUCache):
        def evict(self, n=1):
            raise ZeroDivisionError

    told = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.exc_type))
    failing, cache = Failing(max_bytes="1 GiB"), cache_of(3 * MIB)
    failing.update(cache)
    process = Process(failing, cache)
    process.fill(0.9)
    before = len(cache)
    process.guard().check()
    assert told == [ZeroDivisionError]
    assert len(cache) < before


def test_one_that_gives_nothing_is_asked_once_a_round():
    class Pinned(LRUCache):
        asked = 0

        def evict(self, n=1):
            Pinned.asked += 1
            return []

    pinned = Pinned(max_bytes="1 GiB")
    pinned.update(cache_of(3 * MIB))
    process = Process(pinned)
    process.fill(0.9)
    guard = process.guard()
    guard.check()
    assert (Pinned.asked, guard.stats().evicted) == (1, 0)


def test_a_hook_may_use_the_guard():
    cache = cache_of(4 * MIB, on_evict=lambda *left: guard.check())
    process = Process(cache)
    process.fill(0.9)
    guard = process.guard()
    guard.check()
    assert guard.stats().rounds == guard.stats().checks == 1


def test_a_warning_that_is_an_error_comes_after_the_work():
    cache = cache_of(4 * MIB)
    process = Process(cache)
    process.fill(0.9)
    guard, before = process.guard(), len(cache)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(MemoryPressureWarning):
            guard.check()
    assert len(cache) < before
    guard.check()


@pytest.mark.parametrize("sizes", [[], [5], [0, 0], [5, 5, 5], [9, 5, 1], [1, 2, 3, 4, 100]])
def test_levels(sizes):
    for goal in range(sum(sizes) + 1):
        level = _level(sizes, goal)
        assert sum(max(size - level, 0) for size in sizes) == pytest.approx(goal)


@pytest.mark.parametrize("name", ["soft", "hard"])
@pytest.mark.parametrize(
    "share", [0, -0.5, 1.01, math.nan, math.inf, -math.inf, True, False, "much", "0", "101%", "nan", [], b"0.7", 2**63]
)
def test_what_is_no_share_is_an_error_that_says_what_is(name, share):
    with pytest.raises((TypeError, ValueError), match=f"{name} must be a share.* such as 0.7 or '70%'"):
        MemoryGuard(**{name: share})


@pytest.mark.parametrize("shares", [(0.9, 0.8), (0.8, 0.8), (1, 1), ("90%", 0.5), (0.9, None)])
def test_soft_must_be_less_than_hard(shares):
    with pytest.raises(ValueError, match="soft must be less than hard"):
        MemoryGuard(*shares)


@pytest.mark.parametrize("name", ["interval", "warn_every"])
@pytest.mark.parametrize("span", [0, -1, math.nan, math.inf, True, "soon", [], pytest.param(2**2000, id="huge")])
def test_what_is_no_number_of_seconds_is_an_error(name, span):
    with pytest.raises((TypeError, ValueError), match=f"{name} must be a number of seconds"):
        MemoryGuard(**{name: span})


def test_hooks_must_be_callable():
    for name in ("reader", "timer"):
        with pytest.raises(TypeError, match=f"{name} must be callable"):
            MemoryGuard(**{name: 3})
    with pytest.raises(ValueError, match="trim must be True or False"):
        MemoryGuard(trim="often")


def test_defaults_come_from_the_settings(monkeypatch):
    monkeypatch.setenv("ULLAGE_GUARD_SOFT", "60%")
    guard = MemoryGuard(hard="0.9")
    assert (guard.soft, guard.hard, guard.interval) == (0.6, 0.9, 1.0)
    assert repr(guard) == "MemoryGuard(soft=0.6, hard=0.9)"


def test_trim_is_called_when_freed_memory_does_not_show(monkeypatch):
    trims = []
    monkeypatch.setattr("ullage.monitor.guard._malloc_trim", lambda: trims.append)
    cache = cache_of(4 * MIB)
    guard = MemoryGuard(0.7, 0.85, trim=True, reader=lambda: Usage(9 * MIB, LIMIT, "test"))
    guard.check()
    assert trims == [0]
    del cache


def test_trim_where_the_c_library_has_none(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    with pytest.raises(NotImplementedError, match="leave it off"):
        MemoryGuard(trim=True)
    MemoryGuard(trim=False)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="not glibc")
def test_the_real_trim():
    keep = cache_of(MIB)
    MemoryGuard(0.01, 0.02, trim=True, reader=lambda: Usage(1, 2, "test")).check()
    assert len(keep) > 0


# The thread.


def looked(guard, more):
    """Waits for so many more looks."""
    seen, enough = guard.stats().checks, threading.Event()
    reader = guard._reader

    def counting():
        if guard.stats().checks >= seen + more:
            enough.set()
        return reader()

    guard._reader = counting
    assert enough.wait(30)
    guard._reader = reader


def test_the_thread_looks_until_it_is_stopped():
    process = Process()
    guard = process.guard(interval=0.001)
    with guard as entered:
        assert entered is guard is guard.start()
        thread = guard._thread
        looked(guard, 3)
        assert "running" in repr(guard)
    assert not thread.is_alive()
    guard.stop()
    checks = guard.stats().checks
    guard.start()
    looked(guard, 3)
    guard.stop()
    assert guard.stats().checks > checks
    assert guard.check().share < 0.7


def test_the_thread_shrinks_and_a_look_by_hand_does_so_after_it():
    cache = cache_of(4 * MIB)
    process = Process(cache)
    process.fill(0.9)
    with process.guard(interval=0.001) as guard:
        looked(guard, 2)
    assert process.usage().share < 0.7
    process.fill(0.9)
    assert guard.check().share < 0.9


def test_the_thread_outlives_what_goes_wrong(monkeypatch):
    told = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.exc_type))
    process = Process()
    guard = process.guard(interval=0.001)
    wrong, over = [OSError, OSError, MemoryPressureWarning, None, OSError], threading.Event()

    def reader():
        if not wrong:
            over.set()
        elif error := wrong.pop(0):
            raise error
        return process.usage()

    with guard:
        guard._reader = reader
        assert over.wait(30)
    assert told == [OSError, MemoryPressureWarning, OSError]


def test_what_cannot_be_read_is_an_error_at_the_start():
    def reader():
        raise NotImplementedError("no /proc")

    guard = MemoryGuard(reader=reader)
    with pytest.raises(NotImplementedError, match="no /proc"):
        guard.start()
    assert guard._thread is None


def test_a_hook_may_stop_the_guard():
    cache = cache_of(4 * MIB, on_evict=lambda *left: guard.stop())
    process = Process(cache)
    process.fill(0.9)
    guard = process.guard(interval=0.001)
    guard.start()
    guard._thread.join(30)
    assert not guard._thread.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_is_watched_too():
    run("""
        import os, threading, warnings
        from ullage import MemoryGuard
        from ullage.monitor.memory import Usage

        warnings.simplefilter("ignore")
        reader = lambda: Usage(1, 10, "test")
        stopped, running = MemoryGuard(reader=reader).start(), MemoryGuard(interval=0.001, reader=reader).start()
        stopped.stop()
        # As if its thread had been looking at the fork.
        running._looking.acquire()
        child = os.fork()
        if child == 0:
            looked = threading.Event()
            running._reader = lambda: looked.set() or reader()
            fine = looked.wait(20) and threading.active_count() == 2
            running.stop()
            os._exit(0 if fine else 1)
        assert os.waitpid(child, 0)[1] == 0
        running._looking.release()
        running.stop()
    """)


@pytest.mark.parametrize("state", ["idle", "shrinking"])
def test_the_interpreter_ends_in_silence_while_a_guard_is_at_work(state):
    done = run(f"""
        import threading, warnings
        from ullage import LRUCache, MemoryGuard
        from ullage.monitor.memory import Usage

        warnings.simplefilter("ignore")
        begun = threading.Event()
        cache = LRUCache(None, ((n, "x" * 100) for n in range(100_000)), on_evict=lambda *left: begun.set())
        MemoryGuard(interval=0.001, reader=lambda: Usage({dict(idle=1, shrinking=9)[state]}, 10, "test")).start()
        if {state == "shrinking"}:
            assert begun.wait(20)
    """)
    assert (done.stdout, done.stderr) == ("", "")


# What is read.


def test_this_process():
    found = usage()
    assert MIB < found.used < found.limit
    assert 0 < found.share < 1
    assert str(found).endswith(f"({found.what})")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 64 GiB with files of its own; a process with 1 GiB resident."""

    def at(path):
        return tmp_path / str(path).lstrip("/")

    monkeypatch.setattr(_sizes, "Path", at)
    monkeypatch.setattr(memory, "Path", at)
    numbers, sysconf = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 64 * GIB // 4096}, os.sysconf
    monkeypatch.setattr(os, "sysconf", lambda name: numbers.get(name) or sysconf(name))

    def files(**texts):
        texts = {"/proc/self/statm": f"{2 * GIB // 4096} {GIB // 4096} 0 0 0 {GIB // 4096} 0\n", **texts}
        for place, text in texts.items():
            at(place).parent.mkdir(parents=True, exist_ok=True)
            at(place).write_text(text)
        return usage()

    return files


V2, V1 = "/sys/fs/cgroup", "/sys/fs/cgroup/memory"


def test_without_a_control_group_ram_is_the_limit(machine):
    assert machine() == Usage(GIB, 64 * GIB, "RAM")


@pytest.mark.parametrize(
    "files",
    [
        {f"{V2}/memory.max": f"{4 * GIB}", f"{V2}/memory.stat": f"anon {2 * GIB}\nfile {9 * GIB}\nshmem {GIB}\n"},
        {
            "/proc/self/cgroup": "9:memory:/a\n",
            f"{V1}/a/memory.limit_in_bytes": f"{4 * GIB}",
            f"{V1}/a/memory.stat": f"cache {9 * GIB}\nrss 1\ntotal_rss {2 * GIB}\ntotal_shmem {GIB}\n",
        },
    ],
    ids=["v2", "v1"],
)
def test_of_a_control_group_counts_what_all_its_processes_hold(machine, files):
    assert machine(**files) == Usage(3 * GIB, 4 * GIB, "control group", part=1 / 3)


def test_the_nearest_limit_of_nested_groups_counts(machine):
    found = machine(
        **{
            "/proc/self/cgroup": "0::/pod/app\n",
            f"{V2}/pod/memory.max": f"{10 * GIB}",
            f"{V2}/pod/memory.stat": f"anon {9 * GIB}\n",
            f"{V2}/pod/app/memory.max": f"{4 * GIB}",
            f"{V2}/pod/app/memory.stat": f"anon {GIB}\n",
        }
    )
    assert found == Usage(9 * GIB, 10 * GIB, "control group", part=1 / 9)


@pytest.mark.parametrize("stat", ["", "nonsense", "anon\n", "anon much\n", "anon 0\n"])
def test_a_group_that_does_not_say_what_it_holds(machine, stat):
    assert machine(**{f"{V2}/memory.max": f"{4 * GIB}", f"{V2}/memory.stat": stat}) == Usage(
        GIB, 4 * GIB, "control group"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
@pytest.mark.parametrize("name", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_limits_of_the_process_count(name):
    run(f"""
        import resource
        from ullage.monitor.memory import usage
        resource.setrlimit(resource.{name}, (2**29, 2**29))
        found = usage()
        assert (found.what, found.limit) == ("{name}", 2**29), found
        assert 0 < found.share < 1
    """)


def test_without_proc_psutil_is_asked(machine, tmp_path, monkeypatch):
    psutil = pytest.importorskip("psutil")
    machine()
    (tmp_path / "proc/self/statm").write_text("nonsense")
    assert usage().used == pytest.approx(psutil.Process().memory_info().rss, rel=0.5)
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(NotImplementedError, match="install psutil"):
        usage()


# Life and death.


@contextmanager
def control_group(size):
    """A control group of this size below that of this process; skips where none can be made."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        hierarchy, controllers, path = line.split(":", 2)
        if hierarchy == "0" or "memory" in controllers.split(","):
            root = Path("/sys/fs/cgroup", "" if hierarchy == "0" else "memory")
            limit = "memory.max" if hierarchy == "0" else "memory.limit_in_bytes"
            group = root / path.lstrip("/") / f"ullage-test-{os.getpid()}"
            try:
                group.mkdir()
            except OSError:
                continue
            try:
                (group / limit).write_text(str(size))
                for swap in ("memory.swap.max", "memory.memsw.limit_in_bytes"):
                    if (group / swap).exists():
                        (group / swap).write_text("0" if hierarchy == "0" else str(size))
                # A process may only move to where its own group lets it.
                subprocess.run(["sh", "-c", f"echo $$ > {group}/cgroup.procs"], check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError):
                group.rmdir()
                continue
            try:
                yield str(group)
            finally:
                group.rmdir()
            return
    pytest.skip("no control group with a memory limit can be made here")


@contextmanager
def process_limit(size):
    yield f"RLIMIT_DATA={size}"


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
@pytest.mark.parametrize("limited", [control_group, process_limit])
def test_a_process_dies_without_the_guard_and_lives_with_it(limited):
    with limited(300 * MIB) as limit:
        alone, guarded = (
            subprocess.run(
                [sys.executable, str(Path(__file__).with_name("memory_load.py")), limit, how],
                capture_output=True,
                text=True,
                timeout=120,
            )
            for how in ("alone", "guarded")
        )
    assert alone.returncode != 0 and "lived" not in alone.stdout
    assert alone.returncode == -9 or "MemoryError" in alone.stderr
    assert guarded.returncode == 0, guarded.stderr
    assert guarded.stdout.endswith("lived\n")
    assert guarded.stderr.count("MemoryPressureWarning: memory is at") == 1
    assert "answers (LRUCache)" in guarded.stderr
