"""Metrics for OpenTelemetry: observable instruments, by way of its API (the extra `opentelemetry`)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator

from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter

import ullage
from ullage.monitor import metrics


def instrument(meter_provider: MeterProvider | None = None) -> None:
    """Makes the observable instruments of all live containers, at the given provider or the global one. Call it once.

    The attributes are `ullage.container.name` and `ullage.container.kind`. Containers with the same are added up.
    """
    meter = get_meter("ullage", ullage.__version__, meter_provider)
    cycle = _Cycle()
    for metric in (*metrics.OF_PROCESS, *metrics.OF_CONTAINER):
        create: Callable[..., object]
        if metric.counts:
            create = meter.create_observable_counter
        elif metric.join is max:
            create = meter.create_observable_gauge
        else:
            create = meter.create_observable_up_down_counter
        create(f"ullage.{metric.semantic}", [cycle.observer(metric)], metric.unit, metric.help)


class _Cycle:
    """One reading of the containers for all instruments: taken anew when one of them asks for the second time."""

    def __init__(self) -> None:
        self._readings = metrics.Readings()
        self._lock = threading.RLock()
        self._now = metrics.Snapshot({}, {})
        self._asked = {metric.name for metric in (*metrics.OF_PROCESS, *metrics.OF_CONTAINER)}

    def _snapshot(self, name: str) -> metrics.Snapshot:
        with self._lock:
            if name in self._asked:
                self._now, self._asked = self._readings.take(), set()
            self._asked.add(name)
            return self._now

    def observer(self, metric: metrics.Metric) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_options: CallbackOptions) -> Iterator[Observation]:
            now = self._snapshot(metric.name)
            if metric.name in now.process:
                yield Observation(now.process[metric.name])
            for label, values in now.containers.items():
                if metric.name in values:
                    attributes = {"ullage.container.name": label.container, "ullage.container.kind": label.kind}
                    yield Observation(values[metric.name], attributes)

        return observe
