"""One subject in a process of its own, so that the memory measured is its own.

The child (``python -m ullage.demo.process STORY SIDE ITEMS``, or a script that calls `measure`) writes a line of JSON
for each window as it ends, and one for the whole run. The parent (`play`) says how far the child is as they come.
"""

from __future__ import annotations

import json
import subprocess
import sys
from array import array
from collections.abc import Callable, Iterable, Sequence
from time import get_clock_info, perf_counter_ns, process_time_ns

import psutil

from ullage.demo.stories import STORIES
from ullage.demo.story import Run, Story, Window

WINDOWS = 60
CHILD = ("-m", "ullage.demo.process")
FINE = get_clock_info("process_time").resolution < 1e-6
"""Whether the clock of processor time is fit to time one operation; on some systems it ticks a few times a second."""


class SubjectError(Exception):
    """A child ended without a result; the text is the last thing it said."""


def window(done: int, rss: int, nanoseconds: Iterable[int]) -> Window:
    took = sorted(nanoseconds)
    share = len(took) - 1
    p50, p99, worst = (took[round(share * rank)] / 1000 for rank in (0.5, 0.99, 1.0))
    return Window(done, rss, p50, p99, worst)


def measure(story: Story, side: str, items: int) -> None:
    """The child: play the load, and report on standard output."""
    memory = psutil.Process().memory_info
    subject = story.subject(side)
    took = array("q")
    peak = begun = 0
    ends = {items * number // WINDOWS for number in range(1, WINDOWS + 1)}
    for done, item in enumerate(story.load(items), 1):
        cpu, start = process_time_ns(), perf_counter_ns()
        subject(item)
        wall = perf_counter_ns() - start
        # Where the processor worked for less than the wall time, the system gave the rest to another program.
        took.append(min(wall, process_time_ns() - cpu) if FINE else wall)
        if done in ends:
            rss = memory().rss
            peak = max(peak, rss)
            print(json.dumps(window(done, rss, took[begun:])), flush=True)
            begun = done
    steady = window(items, peak, took[items * 3 // 4 :])
    print(json.dumps({"steady": steady, "outcome": subject.outcome()}), flush=True)


def play(story: Story, side: str, items: int, progress: Callable[[int], None], child: Sequence[str] = CHILD) -> Run:
    """The parent: run one subject, and call `progress` with the items done so far."""
    command = [sys.executable, *child, story.name, side, str(items)]
    windows: list[Window] = []
    run: Run | None = None
    complaint = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        for line in running.stdout or ():
            try:
                report = json.loads(line)
            except ValueError:
                complaint = line.strip()
                continue
            if isinstance(report, list):
                windows.append(Window(*report))
                progress(windows[-1].done)
            else:
                run = Run(tuple(windows), Window(*report["steady"]), report["outcome"])
    if running.returncode or run is None:
        raise SubjectError(f"{story.label(side)}: {complaint or f'exit status {running.returncode}'}")
    return run


if __name__ == "__main__":
    name, side, items = sys.argv[1:]
    measure(next(story for story in STORIES if story.name == name), side, int(items))
