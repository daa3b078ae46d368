"""Lifetimes: what users may write, and the nanoseconds that the core counts in."""

import math
from datetime import timedelta

Lifetime = float | timedelta | None

# About 292 years. Longer is never.
_NEVER = 2**63


def nanoseconds(lifetime: Lifetime, name: str = "ttl") -> int | None:
    """A lifetime in nanoseconds; None for one that never ends.

    Raises TypeError for what is no number of seconds, ValueError for NaN, zero and negatives.
    """
    if lifetime is None:
        return None
    if isinstance(lifetime, timedelta):
        seconds = lifetime.total_seconds()
    elif isinstance(lifetime, bool) or not hasattr(type(lifetime), "__float__"):
        kind = type(lifetime).__name__
        raise TypeError(f"{name} must be a number of seconds, a timedelta, or None for ever; got {kind}")
    else:
        try:
            seconds = float(lifetime)
        except OverflowError:
            # An integer beyond every float.
            seconds = math.inf if lifetime > 0 else -math.inf
    if math.isnan(seconds) or seconds <= 0:
        raise ValueError(f"{name} must be more than 0 seconds, or None for ever; got {lifetime!r}")
    if seconds >= _NEVER / 1e9:
        return None
    return max(round(seconds * 1e9), 1)


def seconds(span: int | None) -> float | None:
    """Nanoseconds as a number of seconds; None stays None."""
    return None if span is None else span / 1e9
