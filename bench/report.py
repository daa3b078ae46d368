"""Runs the benchmarks and writes their tables to docs/benchmarks.md.

    python bench/report.py                 all sections, about a quarter of an hour
    python bench/report.py maps memory     these sections; the page keeps the others
    python bench/report.py --quick         whether everything runs: prints, writes nothing

The page is written anew after every section, so that an interrupted run loses nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType

import backends
import calls
import growth
import history
import instructions
import latency
import maps
import memory
import samples
import transfers
import watching
from rounds import PACE
from subjects import versions
from table import Table, missed

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"

HEAD = """\
# Benchmarks

ullage beside `dict`, `list`, `OrderedDict`, `deque`, `functools.lru_cache` and the packages that do similar work. Every
row stays in, those where ullage loses too; missed targets are listed first.

## How to reproduce

    pip install ullage pytest pytest-benchmark cachetools cachebox lru-dict moka-py theine pylru expiringdict cachelib
    python bench/report.py                 # all of this page, about a quarter of an hour
    python bench/report.py maps memory     # these sections only
    python bench/report.py --quick         # does everything run? Prints, writes nothing
    python -m pytest bench                 # the same as pytest-benchmark tests, with the ratios in their extra_info

A package that is not installed is skipped, and named. Memory needs Linux, instructions need `valgrind`.

## How to read it

- **Ratios count, nanoseconds do not.** The subjects of a table take turns in short rounds on one thread. A ratio is
  taken within each round, and its median over all rounds is shown: what slows the machine for a while slows both of
  its sides. That is why a ratio can differ a little from the quotient of two medians.
- **Time** is CPU time of the thread with garbage collection off, less what the same loop costs around nothing. Work
  that a subject hands to another thread is not in it (theine). Slow subjects do fewer operations in a round.
- **Keys** have their hash computed already, and were touched shortly before they are used, as a key in hand is. Where
  a table does not say otherwise they are the very objects that were put in. Int keys are consecutive, which suits dict.
- **÷ best peer** compares with the fastest peer by its median. `dict` is no peer: it has no bound and no lifetimes.
- **target** is what ullage set itself, **met** whether this run met it.
- **Instructions** include the loop. They repeat from run to run, but do not show what waiting for memory costs.
"""

NOTES = {
    "maps": "`LRUCache`: hits, misses by `get`, overwriting, and new keys that evict.",
    "history": "`HistoryRing`. A bounded `list` is written by hand: `append`, then `del c[0]`, or a cut now and then.",
    "transfers": "`TransferMap`: an entry is begun with a lifetime of an hour and completed while the others wait.",
    "calls": "`lru_cache`, then `cached`, beside functools' own and what else makes a function remember its results.",
    "backends": "Back ends of cachelib, and so of Flask-Caching and Flask-Session, that keep values in memory.",
    "memory": "Growth of the resident set beside keys and values, each subject in a process of its own.",
    "latency": "Wall clock of single operations, each subject in a process of its own.",
    "growth": "Far memory makes any table slower as it grows, so what is added is held against what dict adds.",
    "watching": "`MemoryGuard` at its default pace and a report a second, on and off in turns; time of the process.",
    "samples": "`watch_growth` looks at every object; beside it, a full collection, which the program has anyway.",
    "instructions": "Counted by valgrind's callgrind.",
}


def raced(module: ModuleType) -> Iterator[Table]:
    for _, make in module.races():
        yield make().run().table()


def transfer_tables() -> Iterator[Table]:
    yield from raced(transfers)
    yield transfers.burst()


SECTIONS: dict[str, Callable[[], Iterable[Table]]] = {
    "maps": lambda: raced(maps),
    "history": lambda: raced(history),
    "transfers": transfer_tables,
    "calls": lambda: raced(calls),
    "backends": lambda: raced(backends),
    "memory": memory.tables,
    "growth": growth.tables,
    "latency": latency.tables,
    "watching": watching.tables,
    "samples": samples.tables,
    "instructions": instructions.tables,
}


def machine() -> str:
    """What the numbers of a section belong to."""
    cpu = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists() and (model := re.search(r"model name\s*: (.+)", info.read_text())):
        cpu = model[1]
    load = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{cpu}, {os.cpu_count()} cores{load}; {platform.system()}, {python}; {', '.join(versions())}."


def section(name: str) -> str:
    print(f"{name} ...", file=sys.stderr, flush=True)
    lines = [f"## {name.capitalize()}\n", f"{NOTES[name]}\n", f"*{machine()}*\n"]
    return "\n".join([*lines, *map(str, SECTIONS[name]())])


def kept() -> dict[str, str]:
    text = PAGE.read_text() if PAGE.exists() else ""
    return dict(re.findall(r"<!-- begin (\w+) -->\n(.*?)<!-- end \1 -->", text, re.DOTALL))


def page(sections: dict[str, str]) -> str:
    body = "\n".join(f"<!-- begin {n} -->\n{sections[n]}<!-- end {n} -->\n" for n in SECTIONS if n in sections)
    misses = "\n".join(f"- {miss}" for miss in missed(body)) or "None."
    return f"{HEAD}\n## Missed targets\n\n{misses}\n\n{body}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="section", help=f"any of: {', '.join(SECTIONS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="run everything shortly, print, write nothing")
    asked = parser.parse_args()
    if unknown := set(asked.sections) - set(SECTIONS):
        parser.error(f"no such section: {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    if asked.quick:
        PACE.quicken()
    sections = {} if asked.quick else kept()
    for name in asked.sections or SECTIONS:
        sections[name] = section(name)
        if not asked.quick:
            PAGE.parent.mkdir(exist_ok=True)
            PAGE.write_text(page(sections))
    if asked.quick:
        print(page(sections))


if __name__ == "__main__":
    main()
