"""What one thread waits for and another sets."""

import threading
from contextlib import suppress


class Signal:
    """An event that is set once for whoever waits, from anywhere: also by a finalizer, the callback of a weak reference
    or a signal handler. These interrupt a thread at any point, and could wait for ever for a lock that it holds, such
    as the one in `threading.Event`."""

    def __init__(self) -> None:
        self._unset = threading.Lock()
        self._unset.acquire()

    def set(self) -> None:
        with suppress(RuntimeError):  # it is set already
            self._unset.release()

    def wait(self, timeout: float) -> bool:
        """Waits until it is set, and unsets it; False if that took too long, in seconds."""
        return self._unset.acquire(timeout=timeout)
