"""A load on the real DSPy in a process of its own: eight threads, prompts of 20 kB, no network.

``python dspy_load.py stock|ullage CALLS`` prints one line of JSON: the memory of the process as the calls went by, and
what an observer saw that looked at every container all the while.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import dspy
import psutil
from dspy.clients import base_lm
from dspy.lm15 import Message, Request, Response, TextPart, Usage
from ullage import HistoryRing, LRUCache, deep_sizeof

THREADS = 8
PROMPT = 20_000
ANSWER = 2_000
BOUNDS = {"global": (1_000, 8 << 20), "lm": (1_000, 8 << 20), "module": (100, 8 << 20), "trace": (100, 8 << 20)}
"""The most entries and bytes of each history: the first two fill up by weight, the others by length."""
CACHE_BYTES = 8 << 20
SAMPLE_EVERY = 250


class OfflineEngine:
    """A language model that answers at once: `calls` counts how often it was really asked."""

    def __init__(self, answer: int = ANSWER) -> None:
        self.answer = answer
        self.calls = 0

    def complete(self, request: Request) -> Response:
        self.calls += 1
        text = f"[[ ## answer ## ]]\n{self.calls:08} ".ljust(self.answer, "y") + "\n\n[[ ## completed ## ]]"
        usage = Usage(input_tokens=7, output_tokens=3, total_tokens=10)
        message = Message.assistant([TextPart(text)])
        return Response(id=None, model="offline", message=message, finish_reason="stop", usage=usage)


def prompt(thread: int, number: int) -> str:
    """Every fourth call repeats the one before, and is answered by the cache."""
    return f"{thread} {number - (number % 4 == 3)} ".ljust(PROMPT, "x")


def step_bytes(step: tuple[Any, ...]) -> int:
    """What a step of the trace holds, but for the module that took it: all steps share that, with its whole history."""
    return deep_sizeof(*step[1:])


class Bounds:
    """The containers put in DSPy's place, and what an observer saw of them."""

    def __init__(self, lm: dspy.LM, program: dspy.Module) -> None:
        self.rings = {
            name: HistoryRing(most, weigher=step_bytes, max_weight=weight)
            if name == "trace"
            else HistoryRing(most, max_bytes=weight)
            for name, (most, weight) in BOUNDS.items()
        }
        self.cache: LRUCache[str, Any] = LRUCache(max_bytes=CACHE_BYTES)
        base_lm.GLOBAL_HISTORY = self.rings["global"]
        lm.history = self.rings["lm"]
        program.history = self.rings["module"]
        dspy.configure(trace=self.rings["trace"])
        dspy.cache.memory_cache = self.cache
        self.looks = 0
        self.excesses: list[str] = []
        self.filled: dict[str, int] = {}

    def sizes(self) -> Iterator[tuple[str, int, int]]:
        for name, ring in self.rings.items():
            most, weight = BOUNDS[name]
            yield f"{name} length", len(ring), most
            yield f"{name} weight", ring.stats().weight, weight
        yield "cache weight", self.cache.currsize, CACHE_BYTES

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
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    engine = OfflineEngine()
    lm = dspy.LM("offline/model", engine=engine)
    program = dspy.Predict("question -> answer")
    dspy.configure(lm=lm)
    report: dict[str, Any] = {"failures": []}
    if subject == "stock":
        report["samples"] = play(program, calls, report["failures"])
    else:
        bounds = Bounds(lm, program)
        stop = threading.Event()
        observer = threading.Thread(target=bounds.watch, args=(stop,))
        # Threads take turns at every chance: more places to be caught between a check and an act.
        sys.setswitchinterval(0.00001)
        observer.start()
        report["samples"] = play(program, calls, report["failures"])
        stop.set()
        observer.join()
        report |= {"looks": bounds.looks, "excesses": bounds.excesses[:10], "filled": bounds.filled}
    report["engine_calls"] = engine.calls
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
