"""Play a file of real requests through an LRUCache: hit ratio, time and memory at several capacities.

A trace is one key a line, gzip or plain text. Each request is a look-aside read: a key that is not there is stored.
"""

from __future__ import annotations

import argparse
import gzip
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from ullage import LRUCache

GZIP_MAGIC = b"\x1f\x8b"


class TraceError(Exception):
    """A file that cannot be played; the text says why."""


@dataclass(frozen=True)
class Capacity:
    """How many entries a cache may hold: a number, or a share of the trace's unique keys."""

    entries: int = 0
    percent: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Capacity:
        number = text.strip().removesuffix("%")
        try:
            if number == text.strip():
                if (entries := int(number)) >= 1:
                    return cls(entries=entries)
            elif 0 < (percent := float(number)) <= 100:
                return cls(percent=percent)
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(
            f"{text!r} is no capacity: write a number of entries, at least 1, or a share of the unique keys, as 10%"
        )

    def of(self, unique: int) -> int:
        """Entries for a trace of that many unique keys; room for more than all of them would stay empty."""
        return min(unique, self.entries or max(1, int(unique * self.percent / 100)))

    def __str__(self) -> str:
        return f"{self.percent:g} %" if self.percent else ""


DEFAULT_CAPACITIES = tuple(Capacity(percent=percent) for percent in (1, 5, 10, 20, 50))


class Trace(NamedTuple):
    """Requests in order. Equal keys are one object, so a long trace costs a pointer a request."""

    requests: list[str]
    unique: int


class Result(NamedTuple):
    capacity: int
    hits: int
    seconds: float
    bytes: int


def lines(path: Path) -> Iterator[str]:
    with path.open("rb") as raw:
        zipped = raw.peek(len(GZIP_MAGIC)).startswith(GZIP_MAGIC)
        with TextIOWrapper(gzip.GzipFile(fileobj=raw) if zipped else raw, encoding="utf-8") as text:
            for line in text:
                yield line.rstrip("\r\n")


def read(path: Path) -> Trace:
    """The trace in a file; raises TraceError with a reason that fits on one line."""
    known: dict[str, str] = {}
    try:
        requests = [known.setdefault(key, key) for key in lines(path) if key]
    except UnicodeDecodeError:
        raise TraceError(f"{path} is not text: a trace is one key a line, in UTF-8, plain or gzip") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TraceError(f"{path} is a damaged gzip file: {error}") from None
    except OSError as error:
        raise TraceError(f"cannot read {path}: {error.strerror or error}") from None
    if not requests:
        raise TraceError(f"{path} holds no keys: a trace is one key a line")
    return Trace(requests, len(known))


def play(requests: Sequence[str], capacity: int) -> Result:
    """One pass over the requests with a cache of `capacity` entries."""
    cache: LRUCache[str, bool] = LRUCache(capacity)
    misses = 0
    start = perf_counter()
    for key in requests:
        if cache.get(key) is None:
            cache[key] = True
            misses += 1
    seconds = perf_counter() - start
    return Result(capacity, len(requests) - misses, seconds, sys.getsizeof(cache))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    ruled = chain([header, ["-" * width for width in widths]], rows)
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in ruled)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("trace", type=Path, metavar="TRACE", help="a file of one key a line, gzip or plain text")
    parser.add_argument(
        "--capacity",
        type=Capacity.parse,
        action="append",
        metavar="N|P%",
        help="entries, or a share of the unique keys; may be given several times (default: 1, 5, 10, 20 and 50 %%)",
    )


def run(options: argparse.Namespace) -> int:
    try:
        trace = read(options.trace)
    except TraceError as error:
        print(f"python -m ullage replay: error: {error}", file=sys.stderr)
        return 2
    count = len(trace.requests)
    print(f"{options.trace.name}: {count:,} requests, {trace.unique:,} unique keys, LRUCache")
    rows = []
    for capacity in options.capacity or DEFAULT_CAPACITIES:
        result = play(trace.requests, capacity.of(trace.unique))
        rows.append(
            [
                str(capacity),
                f"{result.capacity:,}",
                f"{100 * result.hits / count:.1f} %",
                f"{result.seconds:.3f} s",
                f"{1e9 * result.seconds / count:.0f} ns",
                f"{result.bytes / 1024:,.0f} KiB",
            ]
        )
    print(table(["share", "entries", "hit ratio", "time", "a request", "memory"], rows))
    return 0
