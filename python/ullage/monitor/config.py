"""Settings: what is in force, and where it came from.

Nearest wins: an argument of `configure`, then a variable of the environment, then the profile. Variables are read when
a setting is asked for, never at import: a mistake in one is an error of the call that needed it.
"""

import math
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ullage import _sizes
from ullage.monitor.table import Table, bytes_text

PROFILES = ("dev", "prod", "notebook")
PREFIX = "ULLAGE_"

# Read by the benchmarks.
_OTHERS = frozenset({"ULLAGE_BENCH_QUICK"})


def share(value: object, name: str) -> float:
    """A share of a limit: more than 0, at most 1; as text `"0.7"` or `"70%"`."""
    number: Any = value
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(%?)\s*", value, re.ASCII)
        number = float(match[1]) / (100 if match[2] else 1) if match else math.nan
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a share such as 0.7 or '70%'; got {type(value).__name__}")
    if not 0 < number <= 1:
        raise ValueError(f"{name} must be a share of more than 0 and at most 1, such as 0.7 or '70%'; got {value!r}")
    return float(number)


def span(value: object, name: str) -> float:
    """A time in seconds, more than 0; as text `"30"`."""
    number: Any = value
    if isinstance(value, str):
        number = float(value) if re.fullmatch(r"\s*\d+(\.\d+)?\s*", value, re.ASCII) else math.nan
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number of seconds; got {type(value).__name__}")
    if not 0 < number <= threading.TIMEOUT_MAX:
        raise ValueError(f"{name} must be a number of seconds, more than 0, such as 30; got {value!r}")
    return float(number)


def switch(value: object, name: str) -> bool:
    """On or off; as text `"1"` or `"0"`."""
    if isinstance(value, str) and value.strip() in ("0", "1"):
        return value.strip() == "1"
    if isinstance(value, bool):
        return value
    raise ValueError(f"{name} must be True or False, in the environment 1 or 0; got {value!r}")


def length(value: object, name: str) -> int | None:
    """A number of entries, or None for no bound; as text `"1000"` or `"none"`."""
    if not isinstance(value, str):
        return _sizes.count(value, name)
    if value.strip().lower() == "none":
        return None
    if not re.fullmatch(r"\s*0*[1-9]\d{0,17}\s*", value, re.ASCII):
        raise ValueError(f"{name} must be an integer of at least 1, or none for no bound; got {value!r}")
    return int(value)


def profile_name(value: object, name: str) -> str:
    """One of the profiles."""
    if value not in PROFILES:
        raise ValueError(f"{name} must be one of {', '.join(PROFILES)}; got {value!r}")
    return str(value)


@dataclass(frozen=True)
class _Kind:
    """One setting: what it is for, what may be written, and what each profile says."""

    what: str
    parse: Callable[[object, str], Any]
    dev: Any = None
    prod: Any = None
    notebook: Any = None


KINDS: dict[str, _Kind] = {
    "history_maxlen": _Kind("the most entries of a history", length, 1_000, 10_000, 200),
    "history_bytes": _Kind("the most memory of a history", _sizes.size, "64 MiB", "2%", "32 MiB"),
    "cache_bytes": _Kind("the most memory of a cache", _sizes.size, "256 MiB", "10%", "128 MiB"),
    "guard_soft": _Kind("the share of the limit past which MemoryGuard warns", share, 0.8, 0.7, 0.6),
    "guard_hard": _Kind("the share of the limit past which MemoryGuard shrinks", share, 0.95, 0.85, 0.8),
    "guard_interval": _Kind("seconds between two looks of MemoryGuard", span, 1.0, 1.0, 1.0),
    "guard_warn_every": _Kind("seconds between two warnings of MemoryGuard", span, 60.0, 600.0, 60.0),
    "guard_trim": _Kind("whether MemoryGuard gives freed memory back to the system", switch, False, False, False),
}
_PROFILE = _Kind("the settings to begin with", profile_name)
# Read once, when ullage is imported.
_FIXED = {"sweeper": _Kind("whether a thread frees and expires what nobody touches", switch, prod=True)}
DEFAULT_PROFILE = "prod"

_arguments: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Setting:
    """A value in force. `given` is what was written, `origin` who wrote it."""

    name: str
    value: Any
    given: Any
    origin: str
    what: str


@dataclass(frozen=True)
class Config:
    """Every setting in force, with its origin. `print` shows a table, `as_dict` gives plain values."""

    settings: tuple[Setting, ...]

    def __iter__(self) -> Iterator[Setting]:
        return iter(self.settings)

    def __getitem__(self, name: str) -> Setting:
        return {each.name: each for each in self.settings}[name]

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Name -> value and origin."""
        return {each.name: {"value": each.value, "origin": each.origin} for each in self}

    def table(self) -> Table:
        """One row a setting."""
        return Table(
            ("setting", "value", "from", "what it is"),
            [(each.name, _shown(each), each.origin, each.what) for each in self],
        )

    def __str__(self) -> str:
        return str(self.table())

    __repr__ = __str__

    def __rich__(self) -> Any:
        return self.table().__rich__()


def config() -> Config:
    """Every setting in force, and where each came from: an argument, a variable of the environment, or the profile.

    Raises ValueError for a variable that begins with `ULLAGE_` and is not known, and for a value that makes no sense.
    """
    return _resolved(_arguments)


def configure(profile: str | None = None, **settings: Any) -> Config:
    """Chooses a profile, and settings that win over it and over the environment. Returns what is in force.

    Parameters
    ----------
    profile: "dev", "prod" or "notebook"; None leaves it as it is. Without one, `ULLAGE_PROFILE` counts, else "prod".
    settings: by the names that `config()` shows; None takes back what an earlier call said. A history that shall have
        no bound in number wants `history_maxlen="none"`.

    Containers that exist keep their bounds. If anything is wrong, an error says what may be written, and nothing
    changes.
    """
    global _arguments
    if profile is not None:
        settings["profile"] = profile
    for name in settings:
        if name != "profile" and name not in KINDS:
            fixed = f"; {name} is a variable only, {PREFIX}{name.upper()}" if name in _FIXED else ""
            raise TypeError(f"there is no setting {name!r}; there are profile, {', '.join(KINDS)}{fixed}")
    kept = {name: value for name, value in {**_arguments, **settings}.items() if value is not None}
    resolved = _resolved(kept)
    _arguments = kept
    return resolved


def setting(name: str) -> Any:
    """The value of one setting: bytes as an integer, times in seconds, `history_maxlen` an integer or None."""
    return config()[name].value


def _resolved(arguments: Mapping[str, Any]) -> Config:
    variables = _variables()

    def found(name: str, kind: _Kind, default: Any, origin: str) -> Setting:
        given, called, variable = default, name, PREFIX + name.upper()
        if name in arguments:
            given, origin = arguments[name], "argument"
        elif variable in variables:
            given, called, origin = variables[variable], variable, variable
        return Setting(name, kind.parse(given, called), given, origin, kind.what)

    profile = found("profile", _PROFILE, DEFAULT_PROFILE, "default")
    by_profile = [
        found(name, kind, getattr(kind, profile.value), f"profile {profile.value}") for name, kind in KINDS.items()
    ]
    fixed = [found(name, kind, kind.prod, "default") for name, kind in _FIXED.items()]
    config = Config((profile, *by_profile, *fixed))
    soft, hard = config["guard_soft"], config["guard_hard"]
    if not soft.value < hard.value:
        values = " and ".join(f"{each.given!r} ({each.origin})" for each in (soft, hard))
        raise ValueError(f"guard_soft must be less than guard_hard; got {values}")
    return config


def _variables() -> dict[str, str]:
    """Our variables; one that is empty is as good as not set."""
    known = [PREFIX + name.upper() for name in ("profile", *KINDS, *_FIXED)]
    ours = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
    for name in ours:
        if name not in known and name not in _OTHERS:
            raise ValueError(
                f"{name} is not a variable of ullage; there are {', '.join([*known, *sorted(_OTHERS)])}. "
                "Sizes are written as '512 MiB', '2GB' or '5%', shares as 0.7 or '70%', times in seconds"
            )
    return {name: value for name, value in ours.items() if value.strip()}


def _shown(setting: Setting) -> str:
    if setting.name.endswith("_bytes"):
        exact = bytes_text(setting.value)
        return exact if exact == setting.given else f"{setting.given} = {exact}"
    return str(setting.value)
