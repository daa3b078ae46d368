"""Keys: what a call is remembered by."""

from collections.abc import Callable, Iterable
from inspect import Parameter, Signature, signature
from typing import Any, NamedTuple


class _Shown(type):
    def __repr__(cls) -> str:
        return "*"


class NAMED(metaclass=_Shown):
    """Stands in a key where the named arguments begin. A class, since that is hashed in C and pickled by its name."""


def call_key(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """The arguments as they were given; named ones in the order of their names."""
    if not kwargs:
        return args
    named = kwargs.items()
    return (*args, NAMED, *(named if len(kwargs) == 1 else sorted(named)))


def typed_key(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """As `call_key`, and the types of all arguments."""
    key = call_key(args, kwargs)
    return key, *map(type, args), *(type(kwargs[name]) for name in sorted(kwargs))


class Spelling(NamedTuple):
    """Source text for a function that is called like another one, and makes a key of its arguments."""

    parameters: str
    first: str
    key: str
    arguments: str
    names: dict[str, Any]
    """What the text names beside the parameters."""


class _Text(str):
    __repr__ = str.__str__


def spell(function: Callable[..., Any], typed: bool, method: bool, taken: Iterable[str]) -> Spelling | None:
    """How a function with a fixed number of parameters is called; None if there is no such spelling.

    A lone argument is its own key. Arguments that were left out are in the key as their defaults, and named ones in
    their place, so that every way to write a call has one key. The `self` of a method is not part of it. Names that
    are `taken` mean something else in the text.
    """
    try:
        parameters = list(signature(function, follow_wrapped=False).parameters.values())
        # A default is part of the key.
        hash(tuple(each.default for each in parameters))
    except (TypeError, ValueError):
        return None
    if any(each.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD) for each in parameters):
        return None
    defaults = {f"_{n}": each.default for n, each in enumerate(parameters) if each.default is not Parameter.empty}
    texts = [_Text(f"_{n}") if f"_{n}" in defaults else Parameter.empty for n in range(len(parameters))]
    plain = [
        each.replace(default=text, annotation=Parameter.empty) for each, text in zip(parameters, texts, strict=True)
    ]
    given = [
        f"{each}={each}" if kind is Parameter.KEYWORD_ONLY else each
        for each, kind in ((p.name, p.kind) for p in parameters)
    ]
    names = {"_type": type, **defaults}
    listed = [each.name for each in parameters]
    if (method and not listed) or not {*taken, *names}.isdisjoint(listed):
        return None
    keyed = listed[method:]
    items = keyed + [f"_type({name})" for name in keyed if typed]
    key = items[0] if len(items) == 1 else f"({', '.join(items)})"
    return Spelling(str(Signature(plain))[1:-1], listed[0] if listed else "", key, ", ".join(given), names)


def spell_any(key: Callable[..., Any] | None, typed: bool, method: bool) -> Spelling:
    """The same for any arguments: the key is made by `_make`, which is `key` if there is one, and gets `self` then."""
    first = "self, " if method else ""
    if key is not None:
        made = f"_make({first}*args, **kwargs)"
    else:
        key, made = (
            (typed_key, "_make(args, kwargs)") if typed else (call_key, "_make(args, kwargs) if kwargs else args")
        )
    parameters = "self, /, *args, **kwargs" if method else "*args, **kwargs"
    return Spelling(parameters, "self", made, f"{first}*args, **kwargs", {"_make": key})


def check(name: str, key: Any) -> None:
    """Raises a TypeError that helps, if that is why a key cannot be looked up."""
    try:
        hash(key)
    except TypeError as error:
        raise TypeError(
            f"{name}: {error}; what a call is remembered by must be hashable: pass a tuple for a list, or give key="
        ) from None
