"""Tables as they stand on the page: every row, the losing ones too, and beside each target whether it was met."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

MISSED = "**missed**"


def number(value: float | None) -> str:
    """Three significant digits, nothing for what was not measured."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


@dataclass
class Table:
    title: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    note: str = ""

    def add(self, *cells: str, ours: bool = False) -> None:
        name, *rest = cells
        self.rows.append([f"**{name}**" if ours else name, *rest])

    @staticmethod
    def judged(verdicts: Iterable[tuple[str, float | None, float]]) -> list[str]:
        """The cells "target" and "met" for every (text, measured, limit); what was not measured is left out."""
        known = [(text, value, value <= limit) for text, value, limit in verdicts if value is not None]
        met = ("yes" if held else f"{MISSED} ({number(value)})" for _, value, held in known)
        return ["; ".join(text for text, _, _ in known), "; ".join(met)]

    def __str__(self) -> str:
        lines = [f"**{self.title}**", ""]
        if self.note:
            lines += [self.note, ""]
        lines.append(f"| {' | '.join(self.columns)} |")
        lines.append("|---|" + "--:|" * (len(self.columns) - 1))
        lines += [f"| {' | '.join(row)} |" for row in self.rows]
        return "\n".join(lines) + "\n"


def missed(page: str) -> list[str]:
    """Title, subject and target of every miss on a page, in the order of the page."""
    found, title = [], ""
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if line.startswith("**"):
            title = line.strip("*")
        for targets, verdicts in pairwise(cells):
            if MISSED in verdicts:
                pairs = zip(targets.split("; "), verdicts.split("; "), strict=True)
                found += [f"{title}: {cells[1].strip('*')} {t}, {v}" for t, v in pairs if MISSED in v]
    return found
