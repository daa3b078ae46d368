"""Places in a package, `module:Class.attribute` or `module:name`, and what stands there."""

from collections.abc import Iterable
from importlib import import_module
from typing import Any


def owner_of(where: str) -> tuple[Any, str]:
    module, _, path = where.partition(":")
    owner = import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    return owner, name


def held(places: Iterable[str]) -> list[Any]:
    return [vars(owner)[name] for owner, name in map(owner_of, places)]
