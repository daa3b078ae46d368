"""Exporters, against the real libraries: what they say is so, and a container that fails spoils nothing but its own."""

from __future__ import annotations

import gc
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from child import run
from ullage import HistoryRing, LRUCache, TransferMap, _registry
from ullage._stats import CacheStats, HistoryStats, TransferStats
from ullage.monitor import metrics
from ullage.testing import ManualClock

prometheus_client = pytest.importorskip("prometheus_client", reason="pip install 'ullage[prometheus]'")
pytest.importorskip("opentelemetry.sdk", reason="pip install opentelemetry-sdk")

from opentelemetry.sdk.metrics import MeterProvider  # noqa: E402
from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: E402
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics  # noqa: E402
from prometheus_client.parser import text_string_to_metric_families as parse_text  # noqa: E402
from ullage.monitor.opentelemetry import instrument  # noqa: E402
from ullage.monitor.prometheus import UllageCollector  # noqa: E402

DOCS = Path(__file__).parent.parent / "docs"
Scrape = Callable[[], dict[tuple[str, str], float]]


@pytest.fixture(autouse=True)
def only_these(monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers that other tests left do not count."""
    gc.collect()
    monkeypatch.setattr(_registry, "_all", [])


@pytest.fixture(scope="module")
def endpoint() -> Iterator[tuple[Any, str]]:
    """A registry, and where it is served over loopback."""
    registry = prometheus_client.CollectorRegistry()
    server, thread = prometheus_client.start_http_server(0, "127.0.0.1", registry)
    yield registry, f"http://127.0.0.1:{server.server_port}/metrics"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(params=["text/plain", "application/openmetrics-text"])
def scrape(request: Any, endpoint: tuple[Any, str]) -> Iterator[Scrape]:
    """Asks an exposition endpoint; returns (metric, container) -> value."""
    registry, url = endpoint
    parse = parse_text if request.param == "text/plain" else parse_openmetrics

    def ask() -> dict[tuple[str, str], float]:
        with urlopen(Request(url, headers={"Accept": request.param}), timeout=10) as answer:
            assert answer.headers["Content-Type"].startswith(request.param)
            families = list(parse(answer.read().decode()))
        samples = [sample for family in families for sample in family.samples]
        found = {(sample.name, sample.labels.get("container", "")): sample.value for sample in samples}
        assert len(found) == len(samples), "a series stands there twice"
        return found

    registry.register(collector := UllageCollector())
    yield ask
    registry.unregister(collector)


def test_a_scrape_says_what_stats_say(scrape: Scrape) -> None:
    clock = ManualClock()
    cache = LRUCache(max_bytes="1 MiB", name="answers")
    cache["a"] = "b"
    assert cache.get("a") and not cache.get("b")
    ring = HistoryRing(2, range(5), name="history")
    transfers = TransferMap(30.0, timer=clock, name="transfers")
    transfers.begin("a", 1)
    transfers.begin("b", 2)
    clock.advance(5)
    transfers.complete("a")
    found = scrape()
    expected = {
        ("ullage_hits_total", "answers"): 1,
        ("ullage_misses_total", "answers"): 1,
        ("ullage_insertions_total", "answers"): 1,
        ("ullage_weight_bytes", "answers"): cache.currsize,
        ("ullage_max_weight_bytes", "answers"): 1 << 20,
        ("ullage_entries", "answers"): 1,
        ("ullage_entries", "history"): 2,
        ("ullage_max_entries", "history"): 2,
        ("ullage_dropped_total", "history"): 3,
        ("ullage_begun_total", "transfers"): 2,
        ("ullage_completed_total", "transfers"): 1,
        ("ullage_entries", "transfers"): 1,
        ("ullage_oldest_age_seconds", "transfers"): 5,
        ("ullage_unreadable_containers", ""): 0,
    }
    assert {key: found.get(key) for key in expected} == expected
    assert 0 < found["ullage_memory_used_bytes", ""] < found["ullage_memory_limit_bytes", ""]
    assert ("ullage_weight", "answers") not in found
    assert ("ullage_hits_total", "history") not in found
    assert len(ring) == 2


def test_weights_of_a_weigher_are_not_called_bytes(scrape: Scrape) -> None:
    cache = LRUCache(10, weigher=lambda key, value: value, name="tokens")
    cache.update(a=7, b=8)
    found = scrape()
    assert found["ullage_weight", "tokens"] == 8
    assert found["ullage_max_weight", "tokens"] == 10
    assert found["ullage_evicted_weight_total", "tokens"] == 7
    assert not {("ullage_weight_bytes", "tokens"), ("ullage_max_entries", "tokens")} & found.keys()


def test_costs_in_bytes_are_weights_in_bytes() -> None:
    @dataclass
    class Costs:
        loads: int = 3
        cost: Any = field(default_factory=lambda: {"bytes": 7, "vram": 8}, metadata={"counts": False})
        budget: Any = field(default_factory=lambda: {"vram": 9}, metadata={"counts": False})

    class Container:
        def stats(self) -> Costs:
            return Costs()

    assert metrics.read(Container()) == {"containers": 1, "loads_total": 3, "weight_bytes": 7}


class Hostile(LRUCache[Any, Any]):
    """A cache whose name and statistics raise, once it is told to."""

    broken = False
    called: Any = "fine"

    @property
    def name(self) -> Any:
        if isinstance(self.called, BaseException):
            raise self.called
        return self.called

    def stats(self) -> CacheStats:
        if self.broken:
            raise RuntimeError("no statistics today")
        return super().stats()


@pytest.mark.parametrize(
    "name", ["", 'a"b\\c\nd{}', "\ud800", "\x00", "x" * 10_000, 7, b"bytes", None, "ü 🫙", ["unhashable"]]
)
def test_any_name_makes_a_valid_exposition(scrape: Scrape, name: Any) -> None:
    odd, other = Hostile(5), LRUCache(5, name="other")
    odd.called, odd["a"] = name, 1
    found = scrape()
    assert sum(value for (metric, _), value in found.items() if metric == "ullage_entries") == 1
    assert found["ullage_max_entries", "other"] == other.maxsize
    assert found["ullage_unreadable_containers", ""] == 0


def test_a_container_that_fails_spoils_no_other_and_keeps_its_counts(scrape: Scrape) -> None:
    failing, other = Hostile(5), LRUCache(5, name="other")
    failing["a"] = other["a"] = 1
    assert scrape()["ullage_insertions_total", "fine"] == 1
    for broken, called in ((True, "fine"), (False, RuntimeError("no name today"))):
        failing.broken, failing.called = broken, called
        found = scrape()
        assert found["ullage_insertions_total", "other"] == 1
        assert found["ullage_insertions_total", "fine"] == 1
        assert found["ullage_unreadable_containers", ""] == 1


def test_containers_of_one_name_are_added_up_and_the_sum_does_not_fall(scrape: Scrape) -> None:
    first, second = LRUCache(5, name="twin"), LRUCache(7, name="twin")
    unnamed = [HistoryRing(3, range(5)) for _ in range(3)]
    for cache, hits in ((first, 10), (second, 1)):
        cache["a"] = 1
        for _ in range(hits):
            cache.get("a")
    found = scrape()
    assert found["ullage_hits_total", "twin"] == 11
    assert (found["ullage_entries", "twin"], found["ullage_max_entries", "twin"]) == (2, 12)
    assert found["ullage_containers", "twin"] == 2
    assert found["ullage_dropped_total", "unnamed HistoryRing"] == 6
    del first, cache
    unnamed.clear()
    found = scrape()
    assert found["ullage_hits_total", "twin"] == 11
    assert (found["ullage_entries", "twin"], found["ullage_containers", "twin"]) == (1, 1)
    assert ("ullage_dropped_total", "unnamed HistoryRing") not in found
    second.get("a")
    assert scrape()["ullage_hits_total", "twin"] == 12


def test_nothing_is_remembered_of_names_that_are_gone() -> None:
    readings = metrics.Readings()
    for number in range(100):
        cache = LRUCache(5, name=f"session {number}")
        readings.take()
        del cache
    readings.take()
    assert (readings._lives, readings._departed) == ({}, {})


def test_a_second_collector_is_refused() -> None:
    registry = prometheus_client.CollectorRegistry()
    registry.register(UllageCollector())
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(UllageCollector())


def test_scrapes_while_containers_come_and_go(scrape: Scrape) -> None:
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            for number in range(20):
                LRUCache(5, {1: 1}, name=f"cache {number % 7}")

    threads = [threading.Thread(target=churn) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            assert scrape()["ullage_unreadable_containers", ""] == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def points(reader: InMemoryMetricReader) -> dict[tuple[str, str], float]:
    data = reader.get_metrics_data()
    assert data is not None
    return {
        (metric.name, str(point.attributes.get("ullage.container.name", ""))): point.value
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }


def test_opentelemetry_says_the_same() -> None:
    readers = [InMemoryMetricReader(), InMemoryMetricReader()]
    instrument(MeterProvider(readers))
    cache, failing = LRUCache(5, name="answers"), Hostile(5)
    failing.broken = True
    cache["a"] = 1
    for hits in (1, 2, 3):
        assert cache["a"] == 1
        for reader in readers:
            found = points(reader)
            assert found["ullage.container.hits", "answers"] == hits
            assert found["ullage.container.entry.count", "answers"] == 1
            assert found["ullage.container.entry.limit", "answers"] == 5
            assert found["ullage.container.unreadable", ""] == 1
            assert found["ullage.memory.limit", ""] > found["ullage.memory.usage", ""] > 0


def test_one_collection_reads_each_container_once() -> None:
    reader = InMemoryMetricReader()
    instrument(MeterProvider([reader]))
    read = []

    class Counted(LRUCache[Any, Any]):
        def stats(self) -> CacheStats:
            read.append(self)
            return super().stats()

    cache = Counted(5)
    for times in (1, 2, 3):
        points(reader)
        assert len(read) == times
    read.clear()
    del cache


def test_names_follow_the_conventions() -> None:
    every = [*metrics.OF_PROCESS, *metrics.OF_CONTAINER]
    assert len({metric.name for metric in every}) == len({metric.semantic for metric in every}) == len(every)
    for metric in every:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", metric.name)
        assert re.fullmatch(r"[a-z]+([._][a-z]+)*", metric.semantic)
        assert metric.unit in ("By", "s", "1") or re.fullmatch(r"\{[a-z]+\}", metric.unit)
        stem = metric.name.removesuffix("_total")
        assert stem.endswith("_bytes") == (metric.unit == "By")
        assert stem.endswith("_seconds") == (metric.unit == "s")
        assert metric.help.endswith(".")


@pytest.mark.parametrize("stats", [CacheStats, HistoryStats, TransferStats])
def test_every_field_of_statistics_is_exported(stats: Any) -> None:
    class Container:
        weight_unit = "weight"

        def stats(self) -> Any:
            return stats(**{field.name: 2 for field in fields(stats)})

    assert len(metrics.read(Container())) == 1 + len(fields(stats))


def test_the_documentation_lists_every_metric() -> None:
    page = (DOCS / "metrics.md").read_text()
    for metric in (*metrics.OF_PROCESS, *metrics.OF_CONTAINER):
        assert f"| `ullage_{metric.name}` | `ullage.{metric.semantic}` |" in page


def test_the_dashboard_uses_metrics_that_exist() -> None:
    dashboard = json.loads((DOCS / "grafana.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    used = {name for query in queries for name in re.findall(r"ullage_(\w+)", query)}
    assert len(used) > 10
    assert used <= {metric.name for metric in (*metrics.OF_PROCESS, *metrics.OF_CONTAINER)}


def test_the_package_asks_for_neither_library() -> None:
    code = """
        import sys, ullage, ullage.monitor.metrics
        ullage.report(), ullage.watch_growth(None)
        assert not {"prometheus_client", "opentelemetry"} & sys.modules.keys()
    """
    run(code)
