"""What exporters say of the containers: names, units, and readings that do not lie when containers come and go."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import Field, fields
from typing import Any, NamedTuple
from weakref import ref

from ullage import _registry
from ullage.monitor.memory import usage


class Metric(NamedTuple):
    """One number of a container, or of the process.

    `name` follows the conventions of Prometheus (after `ullage_`; a counter ends in `_total`), `semantic` and `unit`
    those of OpenTelemetry. Readings of containers with one label are put together by `join`.
    """

    name: str
    semantic: str
    unit: str
    help: str
    join: Callable[[Iterable[float]], float] = sum

    @property
    def counts(self) -> bool:
        """Whether it only rises, as long as its containers live."""
        return self.name.endswith("_total")


OF_PROCESS = (
    Metric("memory_used_bytes", "memory.usage", "By", "Memory in use, as it counts against the limit that is nearest."),
    Metric("memory_limit_bytes", "memory.limit", "By", "The limit that is nearest: control group, RAM or rlimit."),
    Metric(
        "unreadable_containers", "container.unreadable", "{container}", "Containers whose statistics cannot be read."
    ),
)
OF_CONTAINER = (
    Metric("containers", "container.count", "{container}", "Live containers under this label."),
    Metric("entries", "container.entry.count", "{entry}", "Entries."),
    Metric("max_entries", "container.entry.limit", "{entry}", "The most entries there may be."),
    Metric("weight_bytes", "container.memory.usage", "By", "What the entries weigh, where weights are bytes."),
    Metric("max_weight_bytes", "container.memory.limit", "By", "The most they may weigh, where weights are bytes."),
    Metric("weight", "container.weight.usage", "1", "What the entries weigh, by a weigher of the program's own."),
    Metric("max_weight", "container.weight.limit", "1", "The most they may weigh, by that weigher."),
    Metric("hits_total", "container.hits", "{lookup}", "Look-ups that found an entry."),
    Metric("misses_total", "container.misses", "{lookup}", "Look-ups that found none."),
    Metric("insertions_total", "container.insertions", "{entry}", "Entries that came."),
    Metric("replaced_total", "container.replacements", "{entry}", "Entries whose value was replaced."),
    Metric("explicit_total", "container.removals", "{entry}", "Entries that the program removed."),
    Metric("evictions_total", "container.evictions", "{entry}", "Entries that left for room."),
    Metric("expirations_total", "container.expirations", "{entry}", "Entries that left because their time was over."),
    Metric("evicted_weight_bytes_total", "container.evicted_memory", "By", "Bytes that left for room or in time."),
    Metric("evicted_weight_total", "container.evicted_weight", "1", "Weight that left for room or in time."),
    Metric("rejected_total", "container.rejections", "{entry}", "Entries refused: heavier than the bound."),
    Metric("callback_errors_total", "container.callback.errors", "{error}", "Exceptions raised by hooks."),
    Metric("retired", "container.retired.count", "{entry}", "Entries that left and are not freed yet."),
    Metric("retired_max", "container.retired.max", "{entry}", "The most of them there have been.", max),
    Metric("reclaimed_total", "container.reclaimed", "{entry}", "Entries freed after they left."),
    Metric("reclaim_seconds_total", "container.reclaim.time", "s", "Time spent to free them."),
    Metric("dropped_total", "history.dropped", "{entry}", "Items that fell off."),
    Metric("begun_total", "transfer.begun", "{transfer}", "Transfers that began."),
    Metric("completed_total", "transfer.completed", "{transfer}", "Transfers that were completed."),
    Metric("failed_total", "transfer.failed", "{transfer}", "Transfers that failed."),
    Metric("expired_total", "transfer.expired", "{transfer}", "Transfers that were past their deadline."),
    Metric("renewed_total", "transfer.renewed", "{transfer}", "Deadlines that were put off."),
    Metric("evicted_total", "transfer.evicted", "{transfer}", "Transfers that left for room."),
    Metric("late_total", "transfer.late", "{transfer}", "Completions of what had left before."),
    Metric("early_total", "transfer.early", "{transfer}", "Completions that came before their transfer began."),
    Metric("unseen_total", "transfer.unseen", "{transfer}", "Expired transfers that nobody was told of."),
    Metric("kept_total", "transfer.kept", "{transfer}", "Expired transfers that a hook kept."),
    Metric("waiting", "transfer.waiting", "{transfer}", "Expired transfers that wait to be taken."),
    Metric("high_water", "transfer.high_water", "{transfer}", "The most transfers there have been at a time.", max),
    Metric("oldest_age_seconds", "transfer.oldest_age", "s", "How long ago the oldest transfer began.", max),
    Metric("max_lag_seconds", "transfer.max_lag", "s", "The longest that one outlived its deadline.", max),
    Metric("loads_total", "instance.loads", "{instance}", "Instances loaded."),
    Metric("load_errors_total", "instance.load.errors", "{error}", "Loads that failed."),
    Metric("closes_total", "instance.closes", "{instance}", "Instances closed."),
    Metric("close_errors_total", "instance.close.errors", "{error}", "Closes that failed."),
    Metric("leases", "instance.lease.count", "{lease}", "Leases under way."),
    Metric("pinned", "instance.pinned.count", "{instance}", "Instances that may not be evicted."),
)
_BY_NAME = {metric.name: metric for metric in OF_CONTAINER}
_NAMES = {"live": "entries", "maxlen": "max_entries", "oldest_age": "oldest_age_seconds", "max_lag": "max_lag_seconds"}
_WEIGHTS = ("weight", "max_weight", "evicted_weight")
_COSTS = {"cost": "weight_bytes", "budget": "max_weight_bytes"}


class Label(NamedTuple):
    """What readings are told apart by."""

    container: str
    kind: str


Values = dict[str, float]
"""Readings, by the name of the metric."""


class Snapshot(NamedTuple):
    process: Values
    containers: dict[Label, Values]


def text(name: object) -> str | None:
    """A container's name. What is no text is no name; what no encoding can carry is made to fit."""
    return str.encode(name, errors="backslashreplace")[:200].decode(errors="ignore") if isinstance(name, str) else None


def label(container: Any) -> Label:
    kind = type(container).__name__
    return Label(text(getattr(container, "name", None)) or f"unnamed {kind}", kind)


def read(container: Any) -> Values:
    """A container's statistics under the names of the metrics. What a kind does not have is not there."""
    unit = getattr(container, "weight_unit", None)
    stats = container.stats()
    values: Values = {"containers": 1.0}
    for field in fields(stats):
        name, value = _metric(field, unit), getattr(stats, field.name)
        if isinstance(value, Mapping):
            # Costs by currency: this one is memory of the process.
            name, value = _COSTS.get(field.name, ""), value.get("bytes")
        if name in _BY_NAME and isinstance(value, (int, float)) and math.isfinite(value):
            values[name] = float(value)
    return values


def _metric(field: Field[Any], unit: str | None) -> str:
    """The name of the metric for a field of statistics, if there is one, where weights count `unit`."""
    weighed = unit not in (None, "entries")
    name = _NAMES.get(field.name, field.name)
    if name == "maxsize":
        name = "max_weight" if weighed else "max_entries"
    if name in _WEIGHTS:
        name = f"{name}_bytes" if unit == "bytes" else name if weighed else ""
    return f"{name}_total" if field.metadata.get("counts", True) else name


class _Life(NamedTuple):
    container: ref[Any]
    label: Label
    counts: Values


class Readings:
    """Readings of all containers, put together by label, whose counts do not fall when one of several dies.

    What a container had counted when it was read last stays in the sum for as long as another lives under its label.
    """

    def __init__(self) -> None:
        # Reentrant: what the collector finalizes meanwhile may ask for readings.
        self._lock = threading.RLock()
        self._lives: dict[int, _Life] = {}
        self._departed: dict[Label, Values] = {}

    def take(self) -> Snapshot:
        """What is so now. A container that raises spoils only its own readings; its counts stay as they were last."""
        with self._lock:
            lives: dict[int, _Life] = {}
            read_now: list[tuple[Label, Values]] = []
            unreadable = 0
            for container in _registry.live():
                key = id(container)
                try:
                    values = read(container)
                    counts = {name: values[name] for name in values if _BY_NAME[name].counts}
                    lives[key] = _Life(ref(container), label(container), counts)
                except Exception:
                    unreadable += 1
                    if key not in self._lives:
                        continue
                    life = lives[key] = self._lives[key]
                    values = life.counts
                read_now.append((lives[key].label, values))
            for key, life in self._lives.items():
                if key not in lives or lives[key].container is not life.container:
                    _add(self._departed.setdefault(life.label, {}), life.counts)
            self._lives = lives
            alive = {label for label, _ in read_now}
            self._departed = {label: counts for label, counts in self._departed.items() if label in alive}
            together: dict[Label, dict[str, list[float]]] = {}
            for name, values in [*read_now, *self._departed.items()]:
                for metric, value in values.items():
                    together.setdefault(name, {}).setdefault(metric, []).append(value)
        containers = {
            name: {metric: _BY_NAME[metric].join(values) for metric, values in readings.items()}
            for name, readings in together.items()
        }
        return Snapshot(_of_process(unreadable), containers)


def _add(total: Values, more: Values) -> None:
    for name, value in more.items():
        total[name] = total.get(name, 0.0) + value


def _of_process(unreadable: int) -> Values:
    values = {"unreadable_containers": float(unreadable)}
    with suppress(OSError, ValueError, NotImplementedError):
        now = usage()
        values |= {"memory_used_bytes": float(now.used), "memory_limit_bytes": float(now.limit)}
    return values
