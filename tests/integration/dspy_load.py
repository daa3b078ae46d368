"""A load on the real DSPy in a process of its own: eight threads, prompts of 20 kB, no network.

``python dspy_load.py stock|ullage CALLS`` prints one line of JSON: the memory of the process as the calls went by, and
what an observer saw that looked at every container all the while.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import dspy
import psutil
from dspy.clients import base_lm
from ullage.integrations.dspy import install

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from offline import OfflineEngine

THREADS = 8
PROMPT = 20_000
ANSWER = 2_000
HISTORY_MAXLEN = 1_000
HISTORY_BYTES = 8 << 20
CACHE_BYTES = 8 << 20
SAMPLE_EVERY = 250


def prompt(thread: int, number: int) -> str:
    """Every fourth call repeats the one before, and is answered by the cache."""
    return f"{thread} {number - (number % 4 == 3)} ".ljust(PROMPT, "x")


class Observer:
    """Looks at every container all the while."""

    def __init__(self, lm: dspy.LM, program: dspy.Module) -> None:
        self.lm = lm
        self.program = program
        self.looks = 0
        self.excesses: list[str] = []
        self.filled: dict[str, int] = {}

    def sizes(self) -> Iterator[tuple[str, int, int]]:
        for name, ring in {
            "global": base_lm.GLOBAL_HISTORY,
            "lm": self.lm.history,
            "module": self.program.history,
            "trace": dspy.settings.trace,
        }.items():
            yield f"{name} length", len(ring), HISTORY_MAXLEN
            yield f"{name} weight", ring.stats().weight, HISTORY_BYTES
        yield "cache weight", dspy.cache.memory_cache.currsize, CACHE_BYTES

    def watch(self, stop: threading.Event) -> None:
        while not stop.is_set():
            for name, size, bound in self.sizes():
                self.filled[name] = max(size, self.filled.get(name, 0))
                if size > bound:
                    self.excesses.append(f"{name} {size} > {bound}")
            self.looks += 1
            time.sleep(0)


def play(program: dspy.Module, calls: int, failures: list[str]) -> list[tuple[int, int]]:
    """All calls, from all threads; returns (calls done, memory) now and then."""
    rss: Callable[[], Any] = psutil.Process().memory_info
    samples: list[tuple[int, int]] = []
    tickets = count(1)

    def caller(thread: int) -> None:
        try:
            for number in range(calls // THREADS):
                program(question=prompt(thread, number))
                if (done := next(tickets)) % SAMPLE_EVERY == 0:
                    samples.append((done, rss().rss))
        except BaseException as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=caller, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(samples)


def main(subject: str, calls: int) -> None:
    said: list[str] = []
    warnings.showwarning = lambda message, *_, **__: said.append(str(message))
    if subject == "ullage":
        install(history_bytes=HISTORY_BYTES, history_maxlen=HISTORY_MAXLEN, cache_bytes=CACHE_BYTES)
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    engine = OfflineEngine(ANSWER)
    lm = dspy.LM("offline/model", engine=engine)
    program = dspy.Predict("question -> answer")
    dspy.configure(lm=lm)
    report: dict[str, Any] = {"failures": []}
    if subject == "stock":
        report["samples"] = play(program, calls, report["failures"])
    else:
        observer = Observer(lm, program)
        stop = threading.Event()
        watch = threading.Thread(target=observer.watch, args=(stop,))
        # Threads take turns at every chance: more places to be caught between a check and an act.
        sys.setswitchinterval(0.00001)
        watch.start()
        report["samples"] = play(program, calls, report["failures"])
        stop.set()
        watch.join()
        report |= {"looks": observer.looks, "excesses": observer.excesses[:10], "filled": observer.filled}
    report |= {"engine_calls": engine.calls, "warnings": [text for text in said if "holds" in text]}
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
