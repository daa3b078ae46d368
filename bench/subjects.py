"""Every subject once: where it comes from, how it is made, and how it spells each operation.

An operation is source text, because a call around it would cost more than the operation. It may name `c` the container,
`k` the key, `o` a key that leaves, `v` the value, `n` the size, `t` an hour as a timedelta. What a subject cannot do it
does not spell, and it stays out of that race.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from importlib import import_module
from itertools import islice
from operator import truth
from threading import Condition
from typing import Any

HOUR = 3600.0  # A lifetime that no benchmark outlasts.


@dataclass(frozen=True)
class Subject:
    name: str
    module: str
    make: Callable[[Any, int], Any]
    spelling: dict[str, str]
    role: str = "peer"
    remark: str = ""

    def new(self, n: int) -> Any:
        return self.make(import_module(self.module), n)

    def names(self, container: Any, n: int) -> dict[str, Any]:
        return {"c": container, "v": "a value", "n": n, "t": timedelta(seconds=HOUR), "islice": islice}


def mapping(**other: str) -> dict[str, str]:
    return {"hit": "c[k]", "miss": "c.get(k)", "put": "c[k] = v", "evict": "c[k] = v", **other}


def methods(**other: str) -> dict[str, str]:
    return {"hit": "c.get(k)", "miss": "c.get(k)", "put": "c.set(k, v)", "evict": "c.set(k, v)", **other}


MAPS = [
    Subject("dict", "builtins", lambda m, n: m.dict(), mapping(evict="c[k] = v; del c[o]"), "floor", "no bound"),
    Subject("ullage", "ullage", lambda m, n: m.LRUCache(n), mapping(), "ours"),
    Subject(
        "OrderedDict",
        "collections",
        lambda m, n: m.OrderedDict(),
        mapping(hit="c.move_to_end(k); c[k]", put="c[k] = v; c.move_to_end(k)", evict="c[k] = v; c.popitem(False)"),
        remark="by hand, no lock",
    ),
    Subject(
        "functools.lru_cache",
        "functools",
        lambda m, n: m.lru_cache(n)(truth),
        {"hit": "c(k)", "evict": "c(k)"},
        remark="calls a C function on a miss",
    ),
    Subject("cachetools", "cachetools", lambda m, n: m.LRUCache(n), mapping(), remark="no lock"),
    Subject("cachebox", "cachebox", lambda m, n: m.LRUCache(n), mapping()),
    Subject("lru-dict", "lru", lambda m, n: m.LRU(n), mapping()),
    Subject("moka-py", "moka_py", lambda m, n: m.Moka(n, policy="lru"), methods(), remark="evicts in batches"),
    Subject("theine", "theine", lambda m, n: m.Cache(n), methods(), remark="W-TinyLFU: may refuse a new key"),
    Subject("pylru", "pylru", lambda m, n: m.lrucache(n), mapping(), remark="no lock"),
    Subject("expiringdict", "expiringdict", lambda m, n: m.ExpiringDict(n, HOUR), mapping(), remark="oldest leaves"),
]


def flight(begin: str, complete: str, **other: str) -> dict[str, str]:
    return {"begin": begin, "complete": complete, "pair": f"{begin}; {complete}", **other}


# Room for twice the live entries, so that nothing leaves for room where a lifetime is measured.
FLIGHTS = [
    Subject("dict", "builtins", lambda m, n: m.dict(), flight("c[k] = v", "c.pop(o)"), "floor", "never expires"),
    Subject(
        "ullage",
        "ullage",
        lambda m, n: m.TransferMap(HOUR),
        flight("c.begin(k, v)", "c.complete(o)", expire="c.pop_expired(256)"),
        "ours",
    ),
    Subject(
        "cachetools.TTLCache",
        "cachetools",
        lambda m, n: m.TTLCache(2 * n, HOUR),
        flight("c[k] = v", "c.pop(o)", expire="c.expire()"),
        remark="one ttl a cache, no lock",
    ),
    Subject(
        "cachetools.TLRUCache",
        "cachetools",
        lambda m, n: m.TLRUCache(2 * n, lambda key, value, now: now + HOUR),
        flight("c[k] = v", "c.pop(o)", expire="c.expire()"),
        remark="ttl an item, no lock",
    ),
    Subject(
        "cachebox.TTLCache",
        "cachebox",
        lambda m, n: m.TTLCache(2 * n, HOUR),
        flight("c[k] = v", "c.pop(o)", expire="c.expire()"),
        remark="one ttl a cache",
    ),
    Subject(
        "cachebox.VTTLCache",
        "cachebox",
        lambda m, n: m.VTTLCache(2 * n),
        flight("c.insert(k, v, 3600.0)", "c.pop(o)", expire="c.expire()"),
        remark="ttl an item",
    ),
    Subject(
        "expiringdict",
        "expiringdict",
        lambda m, n: m.ExpiringDict(2 * n, HOUR),
        flight("c[k] = v", "c.pop(o)"),
        remark="one ttl, never sweeps",
    ),
    Subject(
        "theine",
        "theine",
        lambda m, n: m.Cache(2 * n),
        flight("c.set(k, v, t)", "c.delete(o)"),
        remark="ttl an item, a thread sweeps",
    ),
    Subject(
        "moka-py",
        "moka_py",
        lambda m, n: m.Moka(2 * n),
        flight("c.set(k, v, 3600.0)", "c.remove(o)"),
        remark="ttl an item",
    ),
]

HISTORIES = [
    Subject(
        "list",
        "builtins",
        lambda m, n: m.list(),
        {"append": "c.append(v); del c[0]", "fill": "c.append(v)", "tail": "c[-10:]", "index": "c[k]"},
        "floor",
        "`del c[0]` by hand",
    ),
    Subject(
        "list, cut in halves",
        "builtins",
        lambda m, n: m.list(),
        {"append": "c.append(v)\nif len(c) >= 2 * n: del c[:n]", "fill": "c.append(v)"},
        "floor",
        "by hand, holds up to twice the bound",
    ),
    Subject(
        "deque",
        "collections",
        lambda m, n: m.deque(maxlen=n),
        {"append": "c.append(v)", "fill": "c.append(v)", "tail": "list(islice(c, len(c) - 10, None))", "index": "c[k]"},
        "floor",
    ),
    Subject(
        "ullage",
        "ullage",
        lambda m, n: m.HistoryRing(n),
        {"append": "c.append(v)", "fill": "c.append(v)", "tail": "c[-10:]", "index": "c[k]"},
        "ours",
    ),
]


def answer(*arguments: Any, **names: Any) -> int:
    return 1


def memos(function: Callable[..., Any], typed: bool = False) -> list[Subject]:
    """What remembers the results of a function; `c` is the function that does."""
    calls = {"one": "c(k)", "two": "c(k, 1)", "three": "c(k, 1, 2)", "none": "c()", "evict": "c(k)"}
    calls |= {"name": "c(a=k)", "both": "c(k, a=1)"}
    return [
        Subject("ullage.lru_cache", "ullage", lambda m, n: m.lru_cache(n, typed)(function), calls, "ours"),
        Subject("functools.lru_cache", "functools", lambda m, n: m.lru_cache(n, typed)(function), calls),
        Subject(
            "cachetools.cached",
            "cachetools",
            lambda m, n: m.cached(m.LRUCache(n), key=m.keys.typedkey if typed else m.keys.hashkey)(function),
            calls,
            remark="no lock",
        ),
        Subject(
            "cachebox.cached",
            "cachebox",
            lambda m, n: m.cached(
                m.LRUCache(n), m.make_typed_key if typed else m.make_key, postprocess=None, lock=None
            )(function),
            calls,
            remark="without its own lock",
        ),
        Subject("moka_py.cached", "moka_py", lambda m, n: m.cached(n, typed, policy="lru")(function), calls),
    ]


MEMOS, TYPED_MEMOS, TRUTHS = memos(answer), memos(answer, typed=True), memos(truth)
UNBOUNDED = {operation: call for operation, call in MEMOS[0].spelling.items() if operation != "evict"}
MEMOS.append(Subject("functools.cache", "functools", lambda m, n: m.cache(answer), UNBOUNDED, remark="no bound"))


def flights(function: Callable[..., Any], **calls: str) -> list[Subject]:
    """What computes each result of a function once, however many ask for it; `c` is the function that does."""
    return [
        Subject("ullage.cached", "ullage", lambda m, n: m.cached(n)(function), calls, "ours"),
        Subject("ullage.lru_cache", "ullage", lambda m, n: m.lru_cache(n)(function), calls, "floor", "computes twice"),
        Subject("functools", "functools", lambda m, n: m.lru_cache(n)(function), calls, "floor", "computes twice"),
        Subject(
            "cachetools.cached",
            "cachetools",
            lambda m, n: m.cached(m.LRUCache(n), condition=Condition())(function),
            calls,
            remark="with condition=",
        ),
        Subject("cachebox.cached", "cachebox", lambda m, n: m.cached(m.LRUCache(n))(function), calls),
        Subject(
            "moka_py.cached",
            "moka_py",
            lambda m, n: m.cached(n, policy="lru", wait_concurrent=True)(function),
            calls,
            remark="with wait_concurrent=",
        ),
    ]


ONCE = {
    "one argument": flights(lambda a: 1, call="c(k)"),
    "two arguments": flights(lambda a, b: 1, call="c(k, 1)"),
    "three arguments": flights(lambda a, b, c: 1, call="c(k, 1, 2)"),
    "one argument by name": flights(lambda a: 1, call="c(a=k)"),
    "no arguments": flights(lambda: 1, call="c()"),
    "one argument, any number accepted": flights(lambda *a: 1, call="c(k)"),
}

BACKENDS = [
    Subject(
        "ullage BoundedCache",
        "ullage.integrations.flask_caching",
        lambda m, n: m.BoundedCache(n),
        methods(),
        "ours",
    ),
    Subject("cachelib SimpleCache", "cachelib", lambda m, n: m.SimpleCache(n), methods()),
]


@cache
def skipped(module: str) -> str:
    """Why a module cannot take part, said aloud once; empty when it can."""
    try:
        import_module(module)
    except ImportError as error:
        print(f"skipped: {module} ({error})", file=sys.stderr)
        return str(error)
    return ""


def present(family: list[Subject]) -> list[Subject]:
    return [subject for subject in family if not skipped(subject.module)]


def versions() -> list[str]:
    """Name and version of every package that takes part, and the names of those that do not."""
    from importlib.metadata import packages_distributions, version

    distributions = packages_distributions()
    listed = []
    for module in dict.fromkeys(subject.module for subject in MAPS + FLIGHTS + BACKENDS):
        if skipped(module):
            listed.append(f"{module} skipped")
        elif module in distributions:
            listed.append(f"{distributions[module][0]} {version(distributions[module][0])}")
        elif hasattr(import_module(module), "__version__"):  # run from a checkout, not installed
            listed.append(f"{module} {import_module(module).__version__}")
    return listed
