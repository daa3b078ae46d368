"""A story that a script of its own tells: a table, and if asked for the numbers as JSON and a picture."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from ullage.demo.picture import draw
from ullage.demo.process import measure
from ullage.demo.show import explain, play_all, table
from ullage.demo.story import SIDES, Story


def main(story: Story) -> None:
    """What the script does: it is the parent, and called with the name of a side the child."""
    if sys.argv[1:2] == [story.name]:
        _, _, side, items = sys.argv
        measure(story, side, int(items))
        return
    parser = argparse.ArgumentParser(description=story.title)
    parser.add_argument("--quick", action="store_true", help="a shorter load")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the numbers go")
    parser.add_argument("--png", type=Path, metavar="FILE", help="where the picture goes")
    options = parser.parse_args()
    console = Console()
    results = play_all(options.quick, console, (story,), sys.argv[:1])
    console.print(table(results))
    explain(results, console)
    if options.json:
        runs = {
            side: {"label": story.label(side), **asdict(run)} for side, run in zip(SIDES, results[0][1:], strict=True)
        }
        options.json.write_text(json.dumps({"name": story.name, "title": story.title, "timed": story.timed, **runs}))
    if options.png:
        draw(results, options.png)
