"""Snapshots of what containers have done."""

from dataclasses import dataclass, fields
from typing import Any, TypeVar

T = TypeVar("T", bound="_Stats")


@dataclass(frozen=True)
class _Stats:
    def __sub__(self: T, earlier: T) -> T:
        """What was done between two snapshots: counts are subtracted, levels stay those of the later one."""
        if type(earlier) is not type(self):
            return NotImplemented
        return type(self)(
            **{
                field.name: getattr(self, field.name) - getattr(earlier, field.name)
                if field.metadata.get("counts", True)
                else getattr(self, field.name)
                for field in fields(self)
            }
        )


def level() -> Any:
    """A field that tells how things are, not how often something happened."""
    from dataclasses import field

    return field(metadata={"counts": False})


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
    entries: int = level()
    weight: int = level()
    maxsize: int | None = level()

    @property
    def hit_rate(self) -> float:
        """Hits among look-ups; 0 before the first."""
        return self.hits / max(self.hits + self.misses, 1)


@dataclass(frozen=True)
class HistoryStats(_Stats):
    """What a `HistoryRing` has done, and how it is."""

    dropped: int
    callback_errors: int
    entries: int = level()
    weight: int = level()
    maxlen: int | None = level()
    max_weight: int | None = level()


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
    live: int = level()
    waiting: int = level()
    high_water: int = level()
    oldest_age: float | None = level()
    max_lag: float = level()
