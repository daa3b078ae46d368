"""Bounded containers for Python programs that never stop."""

from typing import TYPE_CHECKING

from ullage._cached import cached, cachedmethod
from ullage._causes import Cause
from ullage._core import deep_sizeof, flush, reclaim
from ullage._errors import Full
from ullage._history import HistoryRing
from ullage._lru import LRUCache
from ullage._memo import cache, lru_cache
from ullage._secret import secret_key
from ullage._transfer import TransferMap
from ullage.instances import InstanceCache

if TYPE_CHECKING:
    from ullage.monitor.config import config, configure
    from ullage.monitor.growth import watch_growth
    from ullage.monitor.guard import MemoryGuard, MemoryPressureWarning
    from ullage.monitor.report import report
else:
    # Imported when they are asked for: who wants a container pays for a container.
    _LATER = {
        "MemoryGuard": "ullage.monitor.guard",
        "MemoryPressureWarning": "ullage.monitor.guard",
        "config": "ullage.monitor.config",
        "configure": "ullage.monitor.config",
        "report": "ullage.monitor.report",
        "watch_growth": "ullage.monitor.growth",
    }

    def __getattr__(name):
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = globals()[name] = getattr(import_module(_LATER[name]), name)
        return value

    def __dir__():
        return sorted({*globals(), *_LATER})


__all__ = [
    "Cause",
    "Full",
    "HistoryRing",
    "InstanceCache",
    "LRUCache",
    "MemoryGuard",
    "MemoryPressureWarning",
    "TransferMap",
    "cache",
    "cached",
    "cachedmethod",
    "config",
    "configure",
    "deep_sizeof",
    "flush",
    "lru_cache",
    "reclaim",
    "report",
    "secret_key",
    "watch_growth",
]
__version__ = "0.1.0"
