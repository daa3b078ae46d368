"""Two sides of a comparison, stock and with ullage: each in a process of its own, then a table, JSON and a picture."""

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

SIDES = ("stock", "ullage")

Side = dict[str, Any]
"""What was measured on one side; `side` is its name."""


def compare(
    parser: argparse.ArgumentParser,
    play: Callable[[argparse.Namespace], Coroutine[Any, Any, Side]],
    packages: Iterable[str],
    table: Callable[[list[Side]], str],
    curves: Callable[[Side], Iterable[Any]],
    labels: tuple[str, str],
) -> None:
    """The script. `play` measures `options.side`; its `curves` are what was done, the memory in MiB and times in ms.

    `labels` say what was done, and what was timed.
    """
    parser.add_argument("--json", type=Path)
    parser.add_argument("--png", type=Path)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(asyncio.run(play(options))))
        return
    sides = []
    for side in SIDES:
        child = subprocess.run(
            [sys.executable, *sys.argv, "--side", side], stdout=subprocess.PIPE, text=True, check=True
        )
        sides.append(json.loads(child.stdout.splitlines()[-1]))
    releases = [*(f"{package} {metadata.version(package)}" for package in packages), f"Python {sys.version.split()[0]}"]
    release = ", ".join(releases)
    print(f"{release}\n\n{table(sides)}")
    if options.json:
        options.json.write_text(json.dumps({"release": release, "sides": sides}, indent=1))
    if options.png:
        _draw([(side["side"], *curves(side)) for side in sides], *labels, options.png)


def markdown(rows: Iterable[Iterable[str]]) -> str:
    """A table of three columns, of which the first row is the head."""
    head, *rest = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|---|---|---|", *rest])


def _draw(sides: list[tuple[Any, ...]], done_label: str, timed: str, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (side, done, memory, took), colour in zip(sides, ("#c2571a", "#1a62a8"), strict=True):
        left.plot(done, memory, color=colour, label=side)
        right.plot(done, took, color=colour, label=side)
    left.set_ylabel("memory of the process (MiB)")
    right.set_ylabel(f"{timed} (ms, logarithmic)")
    right.set_yscale("log")
    for axes in (left, right):
        axes.set_xlabel(done_label)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    figure.savefig(path)
