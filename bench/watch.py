"""What `watch_growth` costs: processor time of a sample, and its longest piece, with a million tracked objects.

``python bench/watch.py [OBJECTS]``
"""

import gc
import sys
import threading
import time

from ullage.monitor.growth import watch_growth

INTERVAL = 60.0
"""The default."""


class Thing:
    def __init__(self, number: int) -> None:
        self.number = number
        self.parts = [number]


def longest_wait(stop: threading.Event) -> float:
    """The longest time for which a thread that asks for the interpreter all the while did not get it."""
    worst, last = 0.0, time.perf_counter()
    while not stop.is_set():
        time.sleep(0.0001)
        now = time.perf_counter()
        worst, last = max(worst, now - last), now
    return worst


def main(objects: int) -> None:
    things = [Thing(number) for number in range(objects // 3)]
    records = [{"number": [number]} for number in range(objects // 6)]
    gc.collect()
    tracked = len(gc.get_objects())
    watch = watch_growth(None)
    watch.sample()
    begun = time.thread_time()
    watch.sample()
    cost = time.thread_time() - begun

    waits = []
    for work in (lambda: time.sleep(0.3), watch.sample, gc.collect):
        stop = threading.Event()
        waiter = threading.Thread(target=lambda stop=stop: waits.append(longest_wait(stop)))
        waiter.start()
        work()
        stop.set()
        waiter.join()
    print(f"{tracked:,} tracked objects, {len(sys.modules):,} modules")
    print(f"a sample: {cost * 1e3:.0f} ms of one core, {cost / max(INTERVAL, 100 * cost):.2%} at an interval of {INTERVAL:.0f} s")
    print("longest wait of another thread: {:.1f} ms idle, {:.1f} ms in a sample, {:.1f} ms in gc.collect()".format(
        *(wait * 1e3 for wait in waits)))
    del things, records


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
