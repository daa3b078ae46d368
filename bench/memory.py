"""Memory beside keys and values: the growth of the resident set of a child process that fills one subject.

Keys and values are there before, so what grows is the structure. Then every entry is replaced once by a new one; a
structure that rehashes, or keeps what it should give back, grows again.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from pathlib import Path

from maps import made
from rounds import PACE, loop
from subjects import FLIGHTS, HISTORIES, HOUR, MAPS, Subject, mapping, present
from table import Table, number

ROLLUP = Path("/proc/self/smaps_rollup")

WITH_TTL = Subject("ullage, ttl", "ullage", lambda m, n: m.LRUCache(n, ttl=HOUR), mapping(), "ours")
FAMILIES = {"maps": MAPS, "lifetimes": [WITH_TTL, *FLIGHTS], "histories": HISTORIES}
FILL = {"maps": "put", "lifetimes": "begin", "histories": "fill"}
REPLACE = {"maps": "evict", "lifetimes": "pair", "histories": "append"}
TARGET = {"maps": 48.0, "lifetimes": 72.0}


def resident() -> int:
    """Bytes, counted page by page; the cheaper counters of /proc lag behind."""
    time.sleep(0.1)  # a subject with a thread may still be at work
    gc.collect()
    return next(int(line.split()[1]) for line in ROLLUP.read_text().splitlines() if line.startswith("Rss:")) * 1024


def child(family: str, name: str, n: int) -> None:
    """Prints bytes an entry: filled, and more after every entry was replaced."""
    subject = next(s for s in FAMILIES[family] if s.name == name)
    old, new = made("str", 0, n), made("str", n, 2 * n)
    pairs = list(zip(new, old, strict=True))
    names = subject.names(subject.new(n), n)
    # A subject of two spellings is filled and used in the one for maps when it is a map.
    fill = subject.spelling.get(FILL[family]) or subject.spelling.get("put") or subject.spelling["evict"]
    replace = subject.spelling.get(REPLACE[family]) or subject.spelling["evict"]
    fill_all, replace_all = loop(fill, "k", names), loop(replace, "k, o", names)
    empty = resident()
    fill_all(old, *names.values())
    full = resident()
    replace_all(pairs, *names.values())
    print(json.dumps([(full - empty) / n, (resident() - full) / n]))


def measured(family: str, name: str, n: int) -> tuple[float, float]:
    command = [sys.executable, __file__, family, name, str(n)]
    return tuple(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def tables() -> list[Table]:
    if not ROLLUP.exists():
        print(f"skipped: memory ({ROLLUP} is not there)", file=sys.stderr)
        return []
    listed = []
    n = PACE.largest
    for family, subjects in FAMILIES.items():
        columns = ["subject", "bytes an entry", "more when all are replaced", "target", "met", "remark"]
        table = Table(f"Memory, {family}, {n:,} entries", columns)
        rows = [(measured(family, subject.name, n), subject) for subject in present(subjects)]
        for (full, more), subject in sorted(rows, key=lambda row: row[0]):
            ours = subject.role == "ours"
            limit = TARGET.get(family)
            targets = [(f"≤ {limit:g}", full, limit), ("no more", more, 0.5)] if ours and limit else []
            cells = [number(full), number(more), *table.judged(targets), subject.remark]
            table.add(subject.name, *cells, ours=ours)
        listed.append(table)
    return listed


if __name__ == "__main__":
    child(sys.argv[1], sys.argv[2], int(sys.argv[3]))
