"""Snapshots of what containers have done."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TypeVar

T = TypeVar("T", bound="_Stats")


@dataclass(frozen=True)
class _Stats:
    @classmethod
    def counted(cls) -> list[str]:
        """The names of the counts."""
        return [each.name for each in fields(cls) if each.metadata.get("counts", True)]

    def __sub__(self: T, earlier: T) -> T:
        """What was done between two snapshots: counts are subtracted, levels stay those of the later one."""
        if type(earlier) is not type(self):
            return NotImplemented
        return replace(self, **{name: getattr(self, name) - getattr(earlier, name) for name in self.counted()})


# For a field that tells how things are, not how often something happened.
LEVEL = {"counts": False}


@dataclass(frozen=True)
class CacheStats(_Stats):
    """What an `LRUCache` has done, and how it is."""

    hits: int
    misses: int
    insertions: int
    replaced: int
    explicit: int
    evictions: int
    expirations: int
    evicted_weight: int
    rejected: int
    callback_errors: int
    reclaimed: int
    reclaim_seconds: float
    retired: int = field(metadata=LEVEL)
    retired_max: int = field(metadata=LEVEL)
    entries: int = field(metadata=LEVEL)
    weight: int = field(metadata=LEVEL)
    maxsize: int | None = field(metadata=LEVEL)

    @property
    def hit_rate(self) -> float:
        """Hits among look-ups; 0 before the first."""
        return self.hits / max(self.hits + self.misses, 1)


@dataclass(frozen=True)
class HistoryStats(_Stats):
    """What a `HistoryRing` has done, and how it is."""

    dropped: int
    callback_errors: int
    reclaimed: int
    reclaim_seconds: float
    retired: int = field(metadata=LEVEL)
    retired_max: int = field(metadata=LEVEL)
    entries: int = field(metadata=LEVEL)
    weight: int = field(metadata=LEVEL)
    maxlen: int | None = field(metadata=LEVEL)
    max_weight: int | None = field(metadata=LEVEL)


@dataclass(frozen=True)
class TransferStats(_Stats):
    """What a `TransferMap` has done, and how it is. Times in seconds."""

    begun: int
    completed: int
    failed: int
    expired: int
    renewed: int
    replaced: int
    evicted: int
    late: int
    early: int
    unseen: int
    kept: int
    callback_errors: int
    reclaimed: int
    reclaim_seconds: float
    retired: int = field(metadata=LEVEL)
    retired_max: int = field(metadata=LEVEL)
    live: int = field(metadata=LEVEL)
    waiting: int = field(metadata=LEVEL)
    high_water: int = field(metadata=LEVEL)
    oldest_age: float | None = field(metadata=LEVEL)
    max_lag: float = field(metadata=LEVEL)


@dataclass(frozen=True)
class InstanceStats(_Stats):
    """What an `InstanceCache` has done, and how it is. Costs by currency; `retired` counts what waits for its close."""

    loads: int
    load_errors: int
    hits: int
    waits: int
    evictions: int
    expirations: int
    closes: int
    close_errors: int
    entries: int = field(metadata=LEVEL)
    leased: int = field(metadata=LEVEL)
    leases: int = field(metadata=LEVEL)
    pinned: int = field(metadata=LEVEL)
    retired: int = field(metadata=LEVEL)
    cost: Mapping[str, int] = field(metadata=LEVEL)
    peak: Mapping[str, int] = field(metadata=LEVEL)
    budget: Mapping[str, int] = field(metadata=LEVEL)
    maxsize: int | None = field(metadata=LEVEL)
