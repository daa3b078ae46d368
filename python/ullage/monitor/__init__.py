"""See what lives: reports, settings and their origin, and a guard over the memory of the process."""

from ullage.monitor.growth import Growth, GrowthWatch, watch_growth

__all__ = ["Growth", "GrowthWatch", "watch_growth"]
