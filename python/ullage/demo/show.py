"""Play the stories with a progress bar, then say what was found: a table, sentences and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from ullage.demo.findings import Verdict, amount, findings
from ullage.demo.picture import draw
from ullage.demo.process import CHILD, play
from ullage.demo.stories import STORIES
from ullage.demo.story import MIB, SIDES, Run, Story

COLOURS = {Verdict.BETTER: "green", Verdict.SAME: "dim", Verdict.WORSE: "red"}

HTML = """<!doctype html>
<meta charset="utf-8">
<title>ullage demo</title>
<img src="PICTURE" alt="Memory and latency over time, for each story" style="max-width: 100%">
<pre style="font-family: monospace; line-height: 1.3">{code}</pre>
"""

Results = list[tuple[Story, Run, Run]]


def play_all(
    quick: bool, console: Console, stories: Sequence[Story] = STORIES, child: Sequence[str] = CHILD
) -> Results:
    share = TextColumn("{task.percentage:>3.0f} %")
    columns = (TextColumn("{task.description}"), BarColumn(), share, TimeElapsedColumn())
    results: Results = []
    with Progress(*columns, console=console) as progress:
        for story in stories:
            items = story.items[quick]
            runs = []
            for side in SIDES:
                task = progress.add_task(f"{story.title}: {story.label(side)}", total=items)

                def advance(done: int, task: TaskID = task) -> None:
                    progress.update(task, completed=done)

                runs.append(play(story, side, items, advance, child))
            results.append((story, runs[0], runs[1]))
    return results


def table(results: Results) -> Table:
    title = "Peak memory, and latency (µs) in the last quarter of the load"
    rows = Table(box=SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    rows.add_column("")
    for head in ("peak MiB", "median", "p99", "worst"):
        rows.add_column(head, justify="right", no_wrap=True)
    for story, *runs in results:
        rows.add_row(f"[bold]{story.title}[/]")
        for side, run in zip(SIDES, runs, strict=True):
            steady = run.steady
            numbers = (steady.rss / MIB, steady.p50, steady.p99, steady.worst)
            rows.add_row(f" {story.label(side)}", *map(amount, numbers))
    return rows


def explain(results: Results, console: Console) -> None:
    """Sentences made from the numbers, so that they cannot praise what was not measured."""
    for story, stock, ours in results:
        console.print(f"[bold]{story.title}[/]. Timed: {story.timed}", highlight=False)
        for finding in findings(stock, ours):
            colour = COLOURS[finding.verdict]
            console.print(f"  [{colour}]{finding.verdict.value:14}[/]  {finding}", highlight=False)
        notes = Table.grid(padding=(0, 2), pad_edge=True)
        notes.add_row("  stock", stock.outcome)
        notes.add_row("  ours", ours.outcome)
        notes.add_row("  the price", story.price)
        console.print(notes, "", highlight=False)
    console.print(
        "Times include about 0.1 µs for reading the clock, and leave out what the system gave to other programs. The "
        "worst is one single operation: it is shown, and not judged.",
        highlight=False,
    )


def show(quick: bool, picture: Path, page: Path) -> None:
    results = play_all(quick, Console())
    # Not the console of the progress bar: this one's words are what the page repeats.
    console = Console(record=True)
    console.print(table(results))
    explain(results, console)
    draw(results, picture)
    html = console.export_html(code_format=HTML.replace("PICTURE", picture.name), inline_styles=True)
    page.write_text(html, encoding="utf-8")
    console.print(f"\nMemory and latency over time: {picture} (and {page.name})", soft_wrap=True, highlight=False)
