"""What `watch_growth` costs: the processor time of a sample, and how long it keeps other threads waiting."""

from __future__ import annotations

import gc
import inspect
import statistics
import threading
import time
from collections.abc import Callable

from rounds import PACE
from table import Table, number
from ullage import watch_growth

TRACKED = 10_000 if PACE.quick else 1_000_000
INTERVAL = inspect.signature(watch_growth).parameters["interval"].default
LIMIT = 1.0


def heap(objects: int) -> list[object]:
    """So many objects that the collector tracks: a third each are records, their dicts, and lists in them."""

    class Record:
        def __init__(self, number: int) -> None:
            self.__dict__.update(number=number, parts=[number])

    return [Record(number) for number in range(objects // 3)]


def longest_wait(work: Callable[[], object]) -> float:
    """Milliseconds for which a thread that asks for the interpreter again and again did not get it, at worst."""
    ended, waits = threading.Event(), [0.0]

    def ask() -> None:
        last = time.perf_counter()
        while not ended.is_set():
            time.sleep(0.0001)
            now = time.perf_counter()
            waits.append(now - last)
            last = now

    asker = threading.Thread(target=ask)
    asker.start()
    work()
    ended.set()
    asker.join()
    return max(waits) * 1e3


def tables() -> list[Table]:
    held = heap(TRACKED)
    gc.collect()
    watch = watch_growth(None)
    took, waits, full = [], [], []
    for _ in range(5):
        begun = time.thread_time()
        watch.sample()
        took.append(time.thread_time() - begun)
        waits.append(longest_wait(watch.sample))
        full.append(longest_wait(gc.collect))
    cost = statistics.median(took)
    table = Table(
        f"watch_growth with {len(gc.get_objects()):,} tracked objects",
        [
            "subject",
            "ms of a core",
            "longest wait of another thread, ms",
            f"% of a core, every {INTERVAL:g} s",
            "target",
            "met",
        ],
    )
    table.add("`gc.collect()`", "", number(statistics.median(full)), "", "", "")
    share = 100 * cost / max(INTERVAL, 100 * cost)
    cells = table.judged([(f"≤ {LIMIT:g} %", share, LIMIT)])
    table.add("a sample", number(cost * 1e3), number(statistics.median(waits)), number(share), *cells, ours=True)
    del held
    return [table]


if __name__ == "__main__":
    print(*tables(), sep="\n")
