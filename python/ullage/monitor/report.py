"""The report: every container that lives, largest first."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from itertools import chain
from typing import Any

from ullage import _registry
from ullage._core import deep_sizeof
from ullage.monitor.memory import Usage, usage
from ullage.monitor.table import Table, bytes_text

_LONGEST = 60
"""Letters of a name that are shown."""
_SAMPLE = 16
_LOOKED_AT = 20_000
"""Objects looked at in one entry of a sample."""


@dataclass(frozen=True)
class Row:
    """One container. Absent numbers are None: not every kind has every one.

    `weight` and `max_weight` count `unit`: "bytes", or what the container's own weigher returns ("weight"). `memory` is
    in bytes: the weight where that is bytes, else estimated from a sample of entries. `oldest` is in seconds. `stats`
    holds all that the container's `stats()` says, by name.
    """

    name: str | None
    kind: str
    entries: int | None = None
    unit: str | None = None
    weight: int | None = None
    max_weight: int | None = None
    max_entries: int | None = None
    memory: int | None = None
    estimated: bool = False
    hit_rate: float | None = None
    oldest: float | None = None
    retired: int | None = None
    stats: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None

    @property
    def label(self) -> str:
        """The name, or the kind of what has none."""
        return self.name or f"unnamed {self.kind}"


@dataclass(frozen=True)
class Report:
    """What lived when it was made, largest first. `print` shows a table, `as_dict` gives plain values."""

    rows: tuple[Row, ...]
    process: Usage | None
    """The memory of the whole process; None where it cannot be read."""

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def as_dict(self) -> dict[str, Any]:
        """`{"containers": [...], "process": {...}}`, with the fields of `Row` and `Usage`; fit for JSON."""
        return {
            "containers": [asdict(row) for row in self.rows],
            "process": None if self.process is None else asdict(self.process),
        }

    def table(self) -> Table:
        """One row a container."""
        headings = ("name", "kind", "entries>", "weight>", "bound>", "hit rate>", "oldest>", "retired>")
        total = sum(row.memory or 0 for row in self.rows)
        foot = [f"containers: {len(self.rows)}, with about {bytes_text(total)}"]
        if self.process is not None:
            foot[0] += f"; the process: {self.process}"
        foot += [f"{row.label} does not answer: {row.error}" for row in self.rows if row.error]
        return Table(headings, [_cells(row) for row in self.rows], "\n".join(foot))

    def __str__(self) -> str:
        return str(self.table())

    __repr__ = __str__

    def __rich__(self) -> Any:
        return self.table().__rich__()


def report() -> Report:
    """Every container that lives, largest first. Changes no statistics and uses no entry.

    Where weights are not bytes, the memory is estimated from a sample of at most 16 entries.
    """
    rows = [row(container) for container in _registry.live()]
    try:
        process = usage()
    except (NotImplementedError, OSError):
        process = None
    return Report(tuple(sorted(rows, key=lambda row: row.memory or 0, reverse=True)), process)


def row(container: Any, estimate: bool = True) -> Row:
    """A container as a report shows it. What fails stands in the row, and spoils no other.

    Without `estimate` it has its memory only where that is its weight, and takes microseconds.
    """
    name, kind = None, type(container).__name__
    try:
        name = _text(getattr(container, "name", None))
        return _row(container, name, kind, estimate)
    except Exception as error:
        return Row(name, kind, error=f"{type(error).__name__}: {error}")


def _row(container: Any, name: str | None, kind: str, estimate: bool) -> Row:
    stats = _plain(container.stats())
    unit = getattr(container, "weight_unit", None)
    entries = stats.get("entries", stats.get("live"))
    maxsize = stats.get("maxsize", getattr(container, "maxsize", None))
    weight, max_weight, max_entries = None, None, stats.get("maxlen", maxsize)
    if unit not in (None, "entries"):
        weight, max_weight, max_entries = stats["weight"], stats.get("max_weight", maxsize), stats.get("maxlen")
    elif "bytes" in stats.get("cost", ()):
        # Costs by currency: this one is memory of the process.
        unit, weight, max_weight = "bytes", stats["cost"]["bytes"], stats["budget"].get("bytes")
    hits = stats.get("hits", 0)
    asked = hits + stats.get("misses", stats.get("loads", 0))
    exact = unit == "bytes"
    return Row(
        name=name,
        kind=kind,
        entries=entries,
        unit=None if weight is None else unit,
        weight=weight,
        max_weight=max_weight,
        max_entries=max_entries,
        memory=weight if exact else footprint(container, entries or 0) if estimate else None,
        estimated=not exact,
        hit_rate=hits / asked if asked else None,
        oldest=stats.get("oldest_age"),
        retired=stats.get("retired"),
        stats=stats,
    )


def _plain(stats: Any) -> dict[str, Any]:
    """The fields of a snapshot; mappings as dicts."""
    values = ((each.name, getattr(stats, each.name)) for each in fields(stats))
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values}


def _text(name: object) -> str | None:
    """A name as it fits into a line, whatever it is made of; what is no text is no name."""
    if not isinstance(name, str):
        return None
    return " ".join(name.encode(errors="backslashreplace").decode().split())[:_LONGEST]


def footprint(container: Any, entries: int) -> int | None:
    """Bytes that a container and its entries hold, from a sample; None if it gives none.

    What all entries share is counted once: with m entries of own size a and a shared x, measured one by one they have
    m (a + x), together m a + x.
    """
    sample = getattr(container, "_sample", None)
    if sample is None:
        return None
    structure = sys.getsizeof(container)
    some = sample(_SAMPLE) if entries else []
    if not some:
        return structure
    together = deep_sizeof(*chain.from_iterable(some), limit=_LOOKED_AT * len(some))
    if len(some) == 1:
        return structure + together * entries
    apart = sum(deep_sizeof(*entry, limit=_LOOKED_AT) for entry in some)
    shared = max(apart - together, 0) / (len(some) - 1)
    own = max(together - shared, 0) / len(some)
    return structure + round(shared + own * max(entries, len(some)))


def _cells(row: Row) -> tuple[str, ...]:
    bounds = [f"{row.max_entries:,}"] if row.max_entries is not None else []
    bounds += [_amount(row.max_weight, row.unit)] if row.max_weight is not None else []
    weights = [_amount(row.weight, row.unit)] if row.weight is not None else []
    weights += [f"~{bytes_text(row.memory)}"] if row.estimated and row.memory is not None else []
    return (
        row.name or "-",
        row.kind,
        "-" if row.entries is None else f"{row.entries:,}",
        ", ".join(weights) or "-",
        "closed" if 0 in (row.max_entries, row.max_weight) else ", ".join(bounds) or "none",
        "-" if row.hit_rate is None else f"{row.hit_rate:.1%}",
        "-" if row.oldest is None else f"{row.oldest:,.1f} s",
        "-" if row.retired is None else f"{row.retired:,}",
    )


def _amount(weight: int, unit: str | None) -> str:
    return bytes_text(weight) if unit == "bytes" else f"{weight:,}"
