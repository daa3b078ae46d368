"""Exceptions of our own."""


class Full(Exception):
    """A container that was told not to make room has none."""


def report(error: BaseException) -> None:
    """Hands an error that nobody could catch to `sys.unraisablehook`, as Python does: what raises is an end."""
    _Unraisable(error)


class _Unraisable:
    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __del__(self) -> None:
        raise self._error
