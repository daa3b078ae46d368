"""For tests of programs that use ullage."""

from datetime import timedelta


class ManualClock:
    """A clock that stands still until it is turned: `LRUCache(100, ttl=60, timer=clock)`.

    >>> clock = ManualClock()
    >>> clock.advance(5)
    >>> clock()
    5.0
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = float(start)

    def __call__(self) -> float:
        """The time, in seconds."""
        return self._now

    def advance(self, by: float | timedelta) -> None:
        """Turns the clock on by a number of seconds or a timedelta; never back."""
        seconds = by.total_seconds() if isinstance(by, timedelta) else float(by)
        if not seconds >= 0:
            raise ValueError(f"a clock is turned on, not back; got {by!r}")
        # Rounded to nanoseconds, so that ten times 0.1 is 1.
        self._now = round(self._now + seconds, 9)

    def __repr__(self) -> str:
        return f"ManualClock({self._now})"
