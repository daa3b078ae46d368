"""A small table, as text or for rich."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """Headings and cells. A heading that ends in `>` stands over cells that line up on the right."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    foot: str = ""

    def __str__(self) -> str:
        lines = [[heading.rstrip(">") for heading in self.headings], *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        right = [heading.endswith(">") for heading in self.headings]
        text = [
            "  ".join(
                cell.rjust(width) if to_right else cell.ljust(width)
                for cell, width, to_right in zip(line, widths, right, strict=True)
            ).rstrip()
            for line in lines
        ]
        return "\n".join([*text, *([self.foot] if self.foot else [])])

    def __rich__(self) -> Any:
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), caption=self.foot or None, caption_justify="left")
        for heading in self.headings:
            right = heading.endswith(">")
            table.add_column(heading.rstrip(">"), justify="right" if right else "left", no_wrap=right, overflow="fold")
        for row in self.rows:
            # Not markup: a name may hold brackets.
            table.add_row(*map(Text, row))
        return table


def bytes_text(size: int) -> str:
    """A number of bytes, with three digits and a unit."""
    amount, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:,.0f} {unit}" if amount >= 1000 else f"{amount:.3g} {unit}"
