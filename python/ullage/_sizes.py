"""Bounds: what users may write for a number of entries and for a number of bytes."""

import os
import re
from fractions import Fraction
from operator import index
from pathlib import Path

_UNITS = {
    "": 1,
    "b": 1,
    **{f"{prefix}b": 1000**power for power, prefix in enumerate("kmgtpe", 1)},
    **{f"{prefix}ib": 1024**power for power, prefix in enumerate("kmgtpe", 1)},
}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgtpe]?i?b?|%)\s*", re.IGNORECASE | re.ASCII)


def count(bound: object, name: str) -> int | None:
    """A bound on a number of entries: an integer of at least 1, or None for no bound."""
    if bound is None:
        return None
    if isinstance(bound, bool) or not hasattr(type(bound), "__index__"):
        kind = type(bound).__name__
        raise TypeError(f"{name} must be an integer of at least 1, or None for no bound; got {kind}")
    number = index(bound)  # type: ignore[arg-type]
    if number < 1:
        raise ValueError(f"{name} must be at least 1, or None for no bound; got {bound}")
    return int(number)


def whole(number: object, name: str) -> int:
    """A number of entries to look at or to remove: an integer of at least 0."""
    if isinstance(number, bool) or not hasattr(type(number), "__index__"):
        raise TypeError(f"{name} must be an integer of at least 0; got {type(number).__name__}")
    n = index(number)  # type: ignore[arg-type]
    if n < 0:
        raise ValueError(f"{name} must be at least 0; got {n}")
    return min(int(n), 2**62)


def stored(bound: int | None) -> int | None:
    """A bound as the core keeps it: one that nothing can reach is none."""
    return None if bound is None or bound >= 2**63 else bound


def size(bound: object, name: str) -> int:
    """A bound in bytes: an integer, `"512 MiB"`, `"2GB"`, or a share of the memory there is, `"5%"`."""
    if not isinstance(bound, str):
        number = count(bound, name)
        if number is None:
            raise TypeError(f"{name} must be a number of bytes, or text such as '512 MiB' or '5%'")
        return number
    match = _SIZE.fullmatch(bound)
    unit = match and match[2].lower()
    if not match or (unit != "%" and unit not in _UNITS):
        raise ValueError(f"{name} must be a number of bytes, or text such as '512 MiB', '2GB' or '5%'; got {bound!r}")
    # Exact: 0.29 kB is 290 bytes.
    amount = Fraction(match[1])
    if unit == "%":
        if amount > 100:
            raise ValueError(f"{name} cannot be more than all of the memory; got {bound!r}")
        total = amount / 100 * usable_memory()
    else:
        total = amount * _UNITS[unit or ""]
    if total < 1:
        raise ValueError(f"{name} must be at least 1 byte; got {bound!r}")
    return min(int(total), 2**63)


def usable_memory() -> int:
    """Bytes that this process may use: the limit of its control group, else the machine's memory."""
    return min([machine_memory(), *(limit for limit, _ in limits())])


def machine_memory() -> int:
    """Bytes of memory that this machine has."""
    if not hasattr(os, "sysconf"):
        raise NotImplementedError("the memory of this machine is not known here; give a number of bytes")
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def limits() -> list[tuple[int, Path]]:
    """The memory limits of this process's control groups, of version 2 and of version 1, and where they were read."""
    files = [Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")]
    try:
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            hierarchy, controllers, path = line.split(":", 2)
            root = Path("/sys/fs/cgroup") / ("" if hierarchy == "0" else "memory")
            if hierarchy == "0" or "memory" in controllers.split(","):
                group = root / path.lstrip("/")
                # A limit of any group above counts as well.
                for folder in (group, *group.parents):
                    if folder.is_relative_to(root):
                        files += [folder / "memory.max", folder / "memory.limit_in_bytes"]
    except (OSError, ValueError):
        pass
    found = []
    for file in dict.fromkeys(files):
        try:
            found.append((int(file.read_text()), file))
        except (OSError, ValueError):
            continue
    return [(limit, file) for limit, file in found if limit > 0]
