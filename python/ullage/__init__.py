"""Bounded containers for Python programs that never stop."""

from ullage._causes import Cause
from ullage._core import deep_sizeof, flush, reclaim
from ullage._errors import Full
from ullage._history import HistoryRing
from ullage._lru import LRUCache
from ullage._transfer import TransferMap

__all__ = ["Cause", "Full", "HistoryRing", "LRUCache", "TransferMap", "deep_sizeof", "flush", "reclaim"]
__version__ = "0.1.0"
