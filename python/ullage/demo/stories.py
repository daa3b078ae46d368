"""The stories the demo tells, in order."""

from __future__ import annotations

from ullage.demo import completions, history, transfers

STORIES = (history.STORY, completions.STORY, transfers.STORY)
