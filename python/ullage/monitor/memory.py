"""The memory of the process, against the nearest of its limits."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ullage import _sizes
from ullage.monitor.table import bytes_text

# Of a control group counts what the kernel cannot take back without killing: not the pages of files.
_HELD = (("anon", "shmem"), ("total_rss", "total_shmem"))


@dataclass(frozen=True)
class Usage:
    """Bytes in use, bytes that may be used, what sets that limit, and which part of those in use is of this process."""

    used: int
    limit: int
    what: str
    part: float = 1.0

    @property
    def share(self) -> float:
        """Used of the limit, 1 where nothing is left."""
        return self.used / self.limit

    def __str__(self) -> str:
        return f"{bytes_text(self.used)} of {bytes_text(self.limit)} ({self.what})"


def usage() -> Usage:
    """The limit that is nearest, of these: the control groups of the process, RAM, RLIMIT_AS, RLIMIT_DATA.

    A control group is shared: what counts is what all of its processes hold. Against RAM counts what is resident.
    """
    return max(_all(), key=lambda usage: usage.share)


def _all() -> Iterator[Usage]:
    machine = _sizes.machine_memory()
    resident, *others = _statm()
    yield Usage(resident, machine, "RAM")
    for limit, file in _sizes.limits():
        if limit < machine:
            held = _held(file.parent) or resident
            yield Usage(held, limit, "control group", min(resident / held, 1.0))
    if others:
        import resource

        for used, name in zip(others, ("RLIMIT_AS", "RLIMIT_DATA"), strict=True):
            limit = resource.getrlimit(getattr(resource, name))[0]
            if limit != resource.RLIM_INFINITY:
                yield Usage(used, max(limit, 1), name)


def _statm() -> list[int]:
    """Resident, virtual and data memory; where there is no /proc, only what is resident."""
    try:
        pages = [int(number) for number in Path("/proc/self/statm").read_text().split()]
        return [pages[place] * os.sysconf("SC_PAGE_SIZE") for place in (1, 0, 5)]
    except (OSError, ValueError, IndexError):
        pass
    try:
        import psutil
    except ImportError:
        raise NotImplementedError("there is no /proc here; to read the memory of the process, install psutil") from None
    return [psutil.Process().memory_info().rss]


def _held(group: Path) -> int:
    """What the processes of a control group hold; 0 if it does not say."""
    try:
        lines = (line.split() for line in (group / "memory.stat").read_text().splitlines())
        stat = {line[0]: int(line[1]) for line in lines}
    except (OSError, ValueError, IndexError):
        return 0
    return max(sum(stat.get(name, 0) for name in names) for names in _HELD)
