"""The stories the demo tells, in order."""

from __future__ import annotations

from ullage.demo import completions, evictions, history, pressure, transfers

STORIES = (history.STORY, completions.STORY, transfers.STORY, evictions.STORY, pressure.STORY)
