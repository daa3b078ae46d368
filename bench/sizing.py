"""Memory figures for docs/sizing.md: what an entry of a history and of a cache takes, at typical sizes of prompts.

    python bench/sizing.py            measures, prints
    python bench/sizing.py --write    and puts the tables on the page

Each row is filled in a process of its own. Counted is what `deep_sizeof` says, by which `max_bytes` bounds; resident is
by how much the process grew, with what the allocator rounds up.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from memory import ROLLUP, resident
from rounds import PACE
from table import Table, number
from ullage import HistoryRing, LRUCache

PAGE = Path(__file__).parents[1] / "docs" / "sizing.md"
LENGTHS = {"1 kB": 1_000, "20 kB": 20_000, "200 kB": 200_000}
# One such character sets the width of all characters of a str.
ALPHABETS = {"English": "x", "Chinese": "\u6587", "with an emoji": "\U0001f600"}
FILL = 100_000_000
MIB = 2**20


def text(number: int, length: int, character: str) -> str:
    return f"{character}{number} ".ljust(length, "x")


def prompt(number: int, length: int, character: str) -> dict[str, Any]:
    """What DSPy keeps of one call: the messages, the answer, and what was asked for."""
    return {
        "messages": [
            {"role": "system", "content": "Answer."},
            {"role": "user", "content": text(number, length, character)},
        ],
        "outputs": [f"answer {number}".ljust(2_000)],
        "kwargs": {"temperature": number / 7},
        "usage": {"prompt_tokens": 1_000 + number, "completion_tokens": 500 + number},
        "cost": number / 1e6,
        "timestamp": f"2025-01-01T00:00:00.{number:06}",
        "uuid": f"{number:036}",
        "model": "offline/model",
    }


def history(n: int, length: int, character: str) -> tuple[Any, int]:
    ring: Any = HistoryRing(max_bytes="1 TiB")
    ring.extend(prompt(number, length, character) for number in range(n))
    return ring, ring.weight


def cache(n: int, length: int, character: str) -> tuple[Any, int]:
    """Answers of this length under digests of the prompts."""
    kept: Any = LRUCache(max_bytes="1 TiB")
    for turn in range(n):
        kept[f"{turn:064}"] = {"text": text(turn, length, character), "usage": {"completion_tokens": 500 + turn}}
    return kept, kept.currsize


FILLS: dict[str, Callable[[int, int, str], tuple[Any, int]]] = {"HistoryRing": history, "LRUCache": cache}


def child(kind: str, n: int, length: int, character: str) -> None:
    """Prints bytes an entry: counted and resident."""
    FILLS[kind](2, length, character)
    empty = resident()
    container, counted = FILLS[kind](n, length, character)
    print(json.dumps([counted / n, (resident() - empty) / n]))
    assert len(container) == n


def measured(kind: str, length: int, character: str) -> tuple[float, float]:
    n = 20 if PACE.quick else FILL // length
    command = [sys.executable, __file__, kind, str(n), str(length), character]
    return tuple(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def tables() -> list[Table]:
    if not ROLLUP.exists():
        print("skipped: sizing (needs /proc/self/smaps_rollup)", file=sys.stderr)
        return []
    found = []
    for kind, what in (
        ("HistoryRing", "History: entries as DSPy keeps them"),
        ("LRUCache", "Cache: answers under a digest"),
    ):
        table = Table(what, ["text", "language", "counted, bytes", "resident, bytes", "entries in 64 MiB", "in 1 GiB"])
        for label, length in LENGTHS.items():
            for language, character in ALPHABETS.items():
                counted, real = measured(kind, length, character)
                fit = [f"{size // counted:,.0f}" for size in (64 * MIB, 1024 * MIB)]
                table.add(label.replace("kB", "k characters"), language, number(counted), number(real), *fit)
        found.append(table)
    return found


def main() -> None:
    page = "\n".join(map(str, tables()))
    print(page)
    if "--write" in sys.argv:
        between = re.compile(r"(<!-- begin sizes -->\n).*(<!-- end sizes -->)", re.DOTALL)
        PAGE.write_text(between.sub(lambda match: match[1] + page + match[2], PAGE.read_text()))


if __name__ == "__main__":
    if len(sys.argv) == 5:
        child(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    else:
        main()
