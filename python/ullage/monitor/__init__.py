"""See what lives: reports, settings and their origin, and a guard over the memory of the process."""

from ullage._registry import live, register
from ullage.monitor.growth import Growth, GrowthWatch, watch_growth
from ullage.monitor.guard import GuardStats, MemoryGuard, MemoryPressureWarning
from ullage.monitor.memory import Usage, usage

__all__ = [
    "Growth",
    "GrowthWatch",
    "GuardStats",
    "MemoryGuard",
    "MemoryPressureWarning",
    "Usage",
    "live",
    "register",
    "usage",
    "watch_growth",
]
