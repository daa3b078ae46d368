"""The picture: a row for each story, memory over time on the left, latency over time on the right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ullage.demo.findings import Finding, findings
from ullage.demo.story import MIB, SIDES, Run, Story

STOCK, OURS, INK, FAINT, GRID = "#c2571a", "#1a62a8", "#222222", "#7a7a7a", "#e4e4e4"
COLOURS = (STOCK, OURS)
DASHES = (0, (4, 2))
THOUSANDS = FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")


def draw(results: Sequence[tuple[Story, Run, Run]], path: Path) -> None:
    figure = Figure(figsize=(12, 4 * len(results) + 0.8), dpi=120, layout="constrained")
    figure.suptitle("The same load on a stock object (orange) and on ullage (blue)", fontsize=15, weight="bold")
    rows = figure.subplots(len(results), 2, squeeze=False)
    for (left, right), (story, stock, ours) in zip(rows, results, strict=True):
        found = {finding.what: finding for finding in findings(stock, ours)}
        memory(left, story, stock, ours, found["peak memory"])
        latency(right, story, stock, ours, found["median"])
    if engine := figure.get_layout_engine():
        engine.set(h_pad=0.16, w_pad=0.12, hspace=0.03, wspace=0.04)  # type: ignore[call-arg]
    figure.savefig(path)


def memory(axes: Axes, story: Story, stock: Run, ours: Run, peak: Finding) -> None:
    for run, side, colour in zip((stock, ours), SIDES, COLOURS, strict=True):
        done = [window.done for window in run.windows]
        rss = [window.rss / MIB for window in run.windows]
        axes.plot(done, rss, color=colour, linewidth=2.2, label=story.label(side))
    if story.bound:
        start = min(run.windows[0].rss for run in (stock, ours))
        label = f"the bound: {story.bound // MIB} MiB more than at the start"
        axes.axhline((start + story.bound) / MIB, color=OURS, linewidth=1, linestyle=":", label=label)
    axes.set_ylim(0, max(peak.stock, peak.ours) * 1.35)
    axes.set_ylabel("memory of the process (MiB)")
    axes.legend(loc="upper left", frameon=False)
    frame(axes, story, stock.steady.done, story.title, peak)


def latency(axes: Axes, story: Story, stock: Run, ours: Run, median: Finding) -> None:
    for run, colour in zip((stock, ours), COLOURS, strict=True):
        done = [window.done for window in run.windows]
        axes.plot(done, [window.worst for window in run.windows], ".", color=colour, markersize=4, alpha=0.5)
        axes.plot(done, [window.p99 for window in run.windows], color=colour, linewidth=1.1, linestyle=DASHES)
        axes.plot(done, [window.p50 for window in run.windows], color=colour, linewidth=2.2)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.2)
    axes.set_ylabel("latency (µs, logarithmic)")
    lines = (
        Line2D([], [], color=FAINT, linewidth=2.2, label="median"),
        Line2D([], [], color=FAINT, linewidth=1.1, linestyle=DASHES, label="p99"),
        Line2D([], [], color=FAINT, linestyle="", marker=".", markersize=6, label="worst"),
    )
    axes.legend(handles=lines, loc="upper left", ncols=3, frameon=False)
    frame(axes, story, stock.steady.done, story.timed[0].upper() + story.timed[1:], median)


def frame(axes: Axes, story: Story, last: int, title: str, finding: Finding) -> None:
    axes.set_title(title, loc="left", fontsize=12, color=INK, weight="bold", pad=22)
    axes.text(0, 1.03, str(finding), transform=axes.transAxes, fontsize=10.5, color=INK)
    axes.set_xlim(0, last)
    if story.event:
        axes.axvline(last / 2, ymax=0.72, color=FAINT, linewidth=1, linestyle=":")
        axes.text(last * 0.51, 0.02, story.event, transform=axes.get_xaxis_transform(), fontsize=9, color=FAINT)
    axes.set_xlabel(story.axis)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(THOUSANDS)
    axes.yaxis.set_major_formatter(THOUSANDS)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
