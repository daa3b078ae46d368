"""Metrics for Prometheus, by way of `prometheus_client` (the extra `prometheus`)."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ullage.monitor import metrics


class UllageCollector(Collector):
    """All live containers, read when they are scraped: `prometheus_client.REGISTRY.register(UllageCollector())`.

    The labels are `container`, its name, and `kind`, its class. Containers with one label are added up.
    """

    def __init__(self) -> None:
        self._readings = metrics.Readings()

    def collect(self) -> Iterator[Metric]:
        now = self._readings.take()
        for metric in metrics.OF_PROCESS:
            if metric.name in now.process:
                yield GaugeMetricFamily(f"ullage_{metric.name}", metric.help, now.process[metric.name])
        for metric, family in _families():
            for label, values in now.containers.items():
                if metric.name in values:
                    family.add_metric(label, values[metric.name])
            if family.samples:
                yield family

    def describe(self) -> list[Metric]:
        """The names, so that a registry refuses a second collector, which would say everything twice."""
        return [family for _, family in _families()]


def _families() -> Iterator[tuple[metrics.Metric, CounterMetricFamily | GaugeMetricFamily]]:
    for metric in metrics.OF_CONTAINER:
        family = CounterMetricFamily if metric.counts else GaugeMetricFamily
        yield metric, family(f"ullage_{metric.name}", metric.help, labels=metrics.Label._fields)
