"""Why an entry left a container."""

from enum import Enum


class Cause(str, Enum):
    """What an exit hook is told; equal to its name in lower case, so `cause == "size"` works."""

    EXPLICIT = "explicit"
    """It was deleted, popped, or cleared."""
    REPLACED = "replaced"
    """A new value took its place."""
    SIZE = "size"
    """Room was needed."""
    EXPIRED = "expired"
    """Its time was over."""

    __str__ = str.__str__
