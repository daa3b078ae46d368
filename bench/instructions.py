"""Instructions an operation, counted by valgrind's callgrind: they repeat exactly where nanoseconds never do.

callgrind writes its counts and starts anew whenever a libc function that nothing else calls is about to be entered.
The child calls it around a loop over nothing and after a loop over the items; the difference, divided, is one operation
with its loop.
"""

from __future__ import annotations

import gc
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from maps import made
from rounds import PACE, loop
from subjects import FLIGHTS, HISTORIES, MAPS, MEMOS, Subject, mapping, present
from table import Table


def watched(module: ModuleType, n: int) -> Any:
    """A cache while a guard watches. Its first look is over: what is counted is the hit, not the look."""
    guard = module.MemoryGuard(interval=3600)
    guard.start()
    while not guard.stats().checks:
        time.sleep(0.1)
    time.sleep(0.5)
    return module.LRUCache(n)


WATCHED = [
    Subject("not watched", "ullage", lambda m, n: m.LRUCache(n), mapping(), "ours"),
    Subject("watched", "ullage", watched, mapping(), "ours"),
]
FAMILIES = {"maps": MAPS, "lifetimes": FLIGHTS, "histories": HISTORIES, "calls": MEMOS, "watched": WATCHED}
FILL = {"maps": ("put", "evict"), "lifetimes": ("begin",), "histories": ("fill",), "watched": ("put",)}
OPS = 2_000

Column = tuple[str, str, int]  # title, operation, entries


def columns() -> dict[str, list[Column]]:
    small, *_, large = PACE.sizes(1_000, 100_000)
    maps = [(f"hit, {n:,}", "hit", n) for n in (small, large)] + [("miss", "miss", small), ("overwrite", "put", small)]
    return {
        "maps": maps + [(f"evict, {n:,}", "evict", n) for n in (small, large)],
        "lifetimes": [(f"begin and complete, {n:,}", "pair", n) for n in (small, large)],
        "calls": [
            ("one argument", "one", small),
            ("two", "two", small),
            ("by name", "name", small),
            ("none", "none", small),
            ("evict", "evict", small),
        ],
        "histories": [("append when full", "append", small), ("[-10:]", "tail", small), ("[i]", "index", small)],
        "watched": maps[:2],
    }


def items(operation: str, n: int, keys: list[Any]) -> tuple[str, list[Any]]:
    """The loop's target and what it loops over; the first few are for the interpreter to warm up on."""
    ops = len(keys) - n
    if operation == "pair":
        return "k, o", list(zip(keys[n:], keys, strict=False))
    if operation in ("evict", "miss"):
        return "k", keys[n:]
    if operation == "index":
        return "k", [n // 2] * ops
    return "k", random.Random(n).choices(keys[:n], k=ops)


def child(family: str, name: str, plan: list[Column]) -> None:
    subject = next(s for s in FAMILIES[family] if s.name == name)
    fill = next((subject.spelling[word] for word in FILL.get(family, ()) if word in subject.spelling), None)
    gc.disable()
    for _, operation, n in plan:
        names = subject.names(subject.new(n), n)
        keys = made("str", 0, n + OPS + 64)
        each, work = items(operation, n, keys)
        loop(fill or subject.spelling[operation], "k", names)(keys[:n], *names.values())
        run = loop(subject.spelling[operation], each, names)
        for part in (work[:64], [], work[64:]):
            run(part, *names.values())
            os.getppid()


def counted(family: str, name: str, plan: list[Column]) -> list[float]:
    with TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/part", "--dump-before=getppid"]
        command += [sys.executable, __file__, family, name, json.dumps(plan)]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": "0"})
        parts = [Path(folder, f"part.{i + 1}").read_text() for i in range(3 * len(plan))]
    totals = [int(re.search(r"^(?:summary|totals): (\d+)", part, re.MULTILINE)[1]) for part in parts]
    return [(whole - nothing) / OPS for nothing, whole in zip(totals[1::3], totals[2::3], strict=True)]


def table(family: str, plan: list[Column]) -> Table:
    """One row a subject, one column an operation, fewest first; empty where a subject cannot do it."""
    listed = Table(f"Instructions an operation with its loop, {family}", ["subject", *(title for title, _, _ in plan)])
    rows = []
    for subject in present(FAMILIES[family]):
        if PACE.quick and subject.role != "ours":
            continue  # the quick pace only sees that counting works
        # `o`, the key a dict has to be told to remove, would cost every subject a longer loop.
        able = [c for c in plan if c[1] in subject.spelling and (c[1] != "evict" or subject.role != "floor")]
        rows.append((subject, dict(zip(able, counted(family, subject.name, able), strict=True))))
    for subject, counts in sorted(rows, key=lambda row: list(row[1].values())):
        cells = [f"{counts[column]:,.0f}" if column in counts else "" for column in plan]
        listed.add(subject.name, *cells, ours=subject.role == "ours")
    return listed


def tables() -> list[Table]:
    if not shutil.which("valgrind"):
        print("skipped: instructions (valgrind is not there)", file=sys.stderr)
        return []
    return [table(family, plan) for family, plan in columns().items()]


if __name__ == "__main__":
    child(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
