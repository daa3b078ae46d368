"""Watch the containers of a running program: a live table of what its page says.

The program serves the page: `ullage.monitor.page.serve()`, or mounted in its web application.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import fields
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from ullage.monitor.memory import Usage
from ullage.monitor.page import PORT
from ullage.monitor.report import Report, Row
from ullage.monitor.table import Table

TIMEOUT = 10.0


class NoAnswer(Exception):
    """What the address leads to is no page of ullage; the text says why."""


def ask(url: str) -> Report:
    """What the page at that address says now."""
    try:
        with urlopen(url.rstrip("/") + "/data.json", timeout=TIMEOUT) as answer:
            data = json.load(answer)
        rows = tuple(_known(Row, {**each, **_printable(each)}) for each in data["containers"])
        process = data["process"] and _known(Usage, data["process"])
    except (URLError, OSError, ValueError, TypeError, KeyError) as error:
        reason = getattr(error, "reason", error)
        raise NoAnswer(
            f"no page of ullage at {url} ({reason}): let the program call ullage.monitor.page.serve(), "
            "or give the address under which it mounts the page"
        ) from None
    return Report(tuple(sorted(rows, key=lambda row: row.memory or 0, reverse=True)), process)


def _known(kind: Any, values: dict[str, Any]) -> Any:
    names = {field.name for field in fields(kind)}
    return kind(**{name: value for name, value in values.items() if name in names})


def _printable(values: dict[str, Any]) -> dict[str, Any]:
    """Text as a terminal may have it: nothing in a name moves the cursor."""
    return {
        name: "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in value)
        for name, value in values.items()
        if isinstance(value, str)
    }


def tables(url: str, interval: float) -> Iterator[Table]:
    """What the page says, again and again."""
    while True:
        yield ask(url).table()
        time.sleep(interval)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0.1 and 3600 seconds")
    return seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    address = f"http://127.0.0.1:{PORT}/"
    parser.add_argument(
        "url", nargs="?", default=address, metavar="URL", help=f"the page's address (default: {address})"
    )
    parser.add_argument(
        "--interval", type=_seconds, default=2.0, metavar="SECONDS", help="between two looks (default: 2)"
    )
    parser.add_argument(
        "--once", action="store_true", help="look once, print and end; so it does if the output is no terminal"
    )


def run(options: argparse.Namespace) -> int:
    try:
        if options.once or not sys.stdout.isatty():
            print(ask(options.url))
        else:
            _show(tables(options.url, options.interval))
    except NoAnswer as error:
        print(f"python -m ullage top: error: {error}", file=sys.stderr)
        return 2
    return 0


def _show(found: Iterator[Table]) -> None:
    try:
        from rich.live import Live
    except ImportError:
        for table in found:
            # Clears the screen, as terminals understand since the VT100.
            print(f"\x1b[H\x1b[2J{table}", flush=True)
    else:
        with Live(next(found), screen=True, auto_refresh=False) as live:
            for table in found:
                live.update(table, refresh=True)
