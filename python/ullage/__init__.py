"""Bounded containers for Python programs that never stop."""

from ullage._causes import Cause
from ullage._core import deep_sizeof
from ullage._errors import Full
from ullage._history import HistoryRing
from ullage._lru import LRUCache
from ullage._transfer import TransferMap
from ullage.monitor.config import config, configure
from ullage.monitor.report import report

__all__ = ["Cause", "Full", "HistoryRing", "LRUCache", "TransferMap", "config", "configure", "deep_sizeof", "report"]
__version__ = "0.1.0"
