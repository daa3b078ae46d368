"""The containers that live: what reports, exporters and the memory guard go through.

A container registers itself once, when it is made; nothing in its use knows of it. References are weak and have no
callback, so the death of a container costs what it always did. The dead are cleared out whenever the list has doubled,
which is O(1) a registration, amortised. Nothing waits for a lock: a list appends in one step, and of two threads that
would clear out, one goes on.
"""

import os
import threading
from typing import Any
from weakref import ref

_FEW = 64

_all: list["ref[Any]"] = []
_full = _FEW
_clearing = threading.Lock()


def register(container: object) -> None:
    """Makes a container known to reports, for as long as it lives. It must take weak references.

    What a report asks of it: `stats()`, a frozen dataclass whose fields are read by name, and, where there are such
    things, `name`, `weight_unit` ("bytes" if that is what weights are), `_sample(n)`, a few of its entries, unused and
    uncounted, each as a tuple of the objects that it holds, and `evict(n)`, by which the memory guard asks for `n`
    entries when memory is short: it returns what left, or how much.
    """
    _all.append(ref(container))
    if len(_all) >= _full:
        _clear_out()


def live() -> list[Any]:
    """The containers that live, each once, in the order in which they were made."""
    # A copy is one step; a container that was initialised twice is there twice.
    found = (reference() for reference in _all.copy())
    return list({id(container): container for container in found if container is not None}.values())


def _clear_out() -> None:
    global _full
    # Not a `with`: a finaliser that makes a container may come here again in the middle.
    if not _clearing.acquire(blocking=False):
        return
    try:
        seen = _all.copy()
        alive = [reference for reference in seen if reference() is not None]
        # Others only append, so what was seen is still the beginning.
        _all[: len(seen)] = alive
        _full = max(2 * len(_all), _FEW)
    finally:
        _clearing.release()


def _start_anew() -> None:
    """In a forked child: the thread that was clearing out, if any, is not there to end it."""
    global _clearing
    _clearing = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
