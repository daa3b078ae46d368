"""Patches: functions of ours in the place of those of a package, as long as that is built as it is known here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from importlib import import_module, metadata
from typing import Any


class Patches:
    """What is replaced, and how it is put back. `module:Class.attribute` and `module:name` say where.

    `packages` are the ones that bring the modules, by what those begin with; `guide` is the page about their releases.
    """

    def __init__(self, packages: dict[str, str], guide: str) -> None:
        self._packages, self._guide = packages, guide
        self.undo: list[Callable[[], object]] = []

    def find(self, where: str) -> tuple[Any, str, Any]:
        """The owner of an attribute, its name, and its value as it stands there: a classmethod, not a method."""
        module, _, path = where.partition(":")
        *outer, name = path.split(".")
        try:
            owner = import_module(module)
            for part in outer:
                owner = getattr(owner, part)
            return owner, name, vars(owner)[name]
        except (ImportError, AttributeError, KeyError) as error:
            raise self.moved(where) from error

    def moved(self, where: str) -> RuntimeError:
        """The error for what is not there, or not as it was."""
        package = next(package for start, package in self._packages.items() if where.startswith(start))
        release, what = f"{package} {metadata.version(package)}", where.replace(":", ".")
        return RuntimeError(f"{release} has no {what}, which ullage builds on; {self._guide} names the releases")

    def swap(self, where: str, ours: Callable[..., Any]) -> None:
        """Puts ours in the place of a function, classmethod or property, which ours gets as its first argument."""
        owner, name, stock = self.find(where)
        kind: Any = next((kind for kind in (classmethod, property) if isinstance(stock, kind)), None)
        inner: Any = stock.__func__ if kind is classmethod else stock.fget if kind else stock

        @wraps(inner)
        def call(*args: Any, **kwargs: Any) -> Any:
            return ours(inner, *args, **kwargs)

        setattr(owner, name, kind(call) if kind else call)
        self.undo.append(partial(setattr, owner, name, stock))

    def put_back(self) -> None:
        while self.undo:
            self.undo.pop()()

    @contextmanager
    def anew(self) -> Iterator[None]:
        """Puts back what was replaced before, and if the block fails what it replaced."""
        self.put_back()
        try:
            yield
        except BaseException:
            self.put_back()
            raise
