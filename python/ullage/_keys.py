"""Keys: what a call is remembered by."""

from collections.abc import Callable
from enum import Enum
from inspect import Parameter, signature
from typing import Any, NamedTuple


class _Mark(Enum):
    """Stands in a key where the named arguments begin. Pickled by name, so that keys mean the same elsewhere."""

    NAMED = "*"

    def __repr__(self) -> str:
        return self.value


def call_key(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
    """The arguments as they were given; named ones in the order of their names."""
    return (*args, _Mark.NAMED, *sorted(kwargs.items())) if kwargs else args


def typed_key(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
    """As `call_key`, and the types of all arguments."""
    types = (*map(type, args), *(type(kwargs[name]) for name in sorted(kwargs)))
    return call_key(*args, **kwargs), types


class Spelling(NamedTuple):
    """Source text for a function that is called like another one, and makes a key of its arguments."""

    parameters: str
    first: str
    key: str
    arguments: str
    names: dict[str, Any]
    """What the text names beside the parameters."""


def spell(function: Callable[..., Any], typed: bool, method: bool) -> Spelling | None:
    """How a function with a fixed number of parameters is called; None if there is no such spelling.

    A lone argument is its own key. Arguments that were left out are in the key as their defaults, and named ones in
    their place, so that every way to write a call has one key. The `self` of a method is not part of it.
    """
    try:
        parameters = list(signature(function, follow_wrapped=False).parameters.values())
        # A default is part of the key.
        hash(tuple(each.default for each in parameters))
    except (TypeError, ValueError):
        return None
    names: dict[str, Any] = {"_type": type}
    listed: list[str] = []
    arguments: list[str] = []
    before = None
    for number, each in enumerate(parameters):
        if each.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD) or each.name.startswith("_"):
            return None
        if before is Parameter.POSITIONAL_ONLY and each.kind is not before:
            listed.append("/")
        named = each.kind is Parameter.KEYWORD_ONLY
        if named and before is not each.kind:
            listed.append("*")
        before = each.kind
        if each.default is Parameter.empty:
            listed.append(each.name)
        else:
            names[f"_default{number}"] = each.default
            listed.append(f"{each.name}=_default{number}")
        arguments.append(f"{each.name}={each.name}" if named else each.name)
    if before is Parameter.POSITIONAL_ONLY:
        listed.append("/")
    if method and not arguments:
        return None
    keyed = [each.name for each in parameters[method:]]
    items = keyed + [f"_type({name})" for name in keyed if typed]
    key = items[0] if len(items) == 1 else f"({', '.join(items)})"
    return Spelling(", ".join(listed), "".join(arguments[:1]), key, ", ".join(arguments), names)


def check(name: str, key: Any) -> None:
    """Raises a TypeError that helps, if that is why a key cannot be looked up."""
    try:
        hash(key)
    except TypeError as error:
        raise TypeError(
            f"{name}: {error}; what a call is remembered by must be hashable: pass a tuple for a list, or give key="
        ) from None
