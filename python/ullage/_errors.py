"""Exceptions of our own."""


class Full(Exception):
    """A container that was told not to make room has none."""
