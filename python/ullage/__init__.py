"""Bounded containers for Python programs that never stop."""

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

__all__ = [
    "Cause",
    "Full",
    "HistoryRing",
    "InstanceCache",
    "LRUCache",
    "TransferMap",
    "cache",
    "cached",
    "cachedmethod",
    "deep_sizeof",
    "flush",
    "lru_cache",
    "reclaim",
    "secret_key",
]
__version__ = "0.1.0"
