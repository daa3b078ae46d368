"""Five stories of memory that grows: a stock object beside ours, with a table and a picture of what was measured."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

NEEDS = ("matplotlib", "psutil", "rich")
PICTURE = "ullage-demo.png"
PAGE = "ullage-demo.html"


def missing() -> list[str]:
    """The packages of the `demo` extra that cannot be imported."""
    absent = []
    for name in NEEDS:
        try:
            import_module(name)
        except ImportError:
            absent.append(name)
    return absent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="a shorter load: under ten seconds")
    parser.add_argument(
        "--out", type=Path, default=Path("ullage-demo"), metavar="DIR", help="where the picture and the page go"
    )


def run(options: argparse.Namespace) -> int:
    if absent := missing():
        print(f'The demo needs {", ".join(absent)}. Install with: pip install "ullage[demo]"', file=sys.stderr)
        return 2
    # Only now: these modules import the packages of the extra.
    from ullage.demo.process import SubjectError
    from ullage.demo.show import show

    try:
        options.out.mkdir(parents=True, exist_ok=True)
        show(options.quick, options.out / PICTURE, options.out / PAGE)
    except OSError as error:
        place = error.filename or options.out
        print(f"python -m ullage demo: error: {place}: {error.strerror or error}", file=sys.stderr)
        return 2
    except SubjectError as error:
        print(f"python -m ullage demo: error: {error}", file=sys.stderr)
        return 1
    return 0
