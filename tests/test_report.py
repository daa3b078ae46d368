"""ullage.report(): what it says of every container, and that asking changes nothing."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import pytest
import ullage
from ullage import HistoryRing, LRUCache, TransferMap, _registry, deep_sizeof
from ullage.monitor.report import Row, footprint, row
from ullage.monitor.table import Table, bytes_text
from ullage.testing import ManualClock


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """Only what a test makes is known in it."""
    monkeypatch.setattr(_registry, "_all", [])


def test_a_cache_bounded_by_entries():
    cache = LRUCache(10, {n: n for n in range(12)}, name="answers")
    cache.get(11), cache.get(10), cache.get(9), cache.get(0)
    found = row(cache)
    assert (found.name, found.kind, found.entries, found.max_entries) == ("answers", "LRUCache", 10, 10)
    assert (found.unit, found.weight, found.max_weight) == (None, None, None)
    assert found.hit_rate == 0.75
    assert found.stats["evictions"] == 2
    assert found.estimated


def test_a_cache_bounded_by_bytes_is_as_large_as_it_says():
    cache = LRUCache(max_bytes="1 MiB")
    cache["a"] = "x" * 10_000
    found = row(cache)
    assert (found.unit, found.weight, found.max_weight) == ("bytes", cache.currsize, 2**20)
    assert (found.memory, found.estimated) == (cache.currsize, False)
    assert found.max_entries is None


def test_a_weigher_has_a_unit_of_its_own():
    cache = LRUCache(100, {"a": "xxxx"}, weigher=lambda key, value: len(value))
    ring = HistoryRing(7, ["xxx"], weigher=len, max_weight=50)
    assert [(r.unit, r.weight, r.max_weight, r.max_entries) for r in (row(cache), row(ring))] == [
        ("weight", 4, 100, None),
        ("weight", 3, 50, 7),
    ]


def test_a_history_and_transfers():
    clock = ManualClock()
    ring, transfers = HistoryRing(5, range(9)), TransferMap(60, maxsize=7, timer=clock)
    transfers.begin("a", 1)
    clock.advance(2.5)
    transfers.begin("b", 1)
    assert (row(ring).entries, row(ring).max_entries, row(ring).stats["dropped"]) == (5, 5, 4)
    found = row(transfers)
    assert (found.entries, found.max_entries, found.oldest, found.hit_rate) == (2, 7, 2.5, None)


def test_no_look_ups_no_hit_rate():
    assert row(LRUCache(3)).hit_rate is None


def test_the_largest_stands_first():
    small, large, middle = LRUCache(9, name="small"), HistoryRing(9, name="large"), LRUCache(9, name="middle")
    small[0], middle[0] = "x" * 10, "x" * 10_000
    large.append("x" * 1_000_000)
    assert [each.label for each in ullage.report()] == ["large", "middle", "small"]


def test_asking_changes_no_statistics_and_uses_no_entry():
    cache, ring, transfers = LRUCache(9, {n: n for n in range(9)}), HistoryRing(9, range(9)), TransferMap(60)
    transfers.begin(1, 2)
    before = [(each.stats(), list(each)) for each in (cache, ring)], transfers.stats().begun
    for _ in range(3):
        str(ullage.report())
    assert ([(each.stats(), list(each)) for each in (cache, ring)], transfers.stats().begun) == before


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 1_000])
def test_memory_is_estimated_from_a_sample(count):
    entries = {f"key {n}": f"{n}".ljust(1_000, "x") for n in range(count)}
    true = deep_sizeof(*entries, *entries.values())
    for container in (LRUCache(None, entries), HistoryRing(None, entries.items()), TransferMap(60)):
        if isinstance(container, TransferMap):
            container.update(entries)
        assert footprint(container, count) - sys.getsizeof(container) == pytest.approx(true, rel=0.1)


def test_a_sample_is_of_all_ages():
    cache, ring = LRUCache(None, dict.fromkeys(range(1_000))), HistoryRing(None, range(1_000))
    for container in (cache, ring):
        keys = [entry[0] for entry in container._sample(16)]
        assert len(set(keys)) == len(keys) in range(8, 17)
        assert min(keys) < 100 and max(keys) > 900


@pytest.mark.parametrize("left", [1, 2, 15, 16, 17, 500])
def test_a_sample_of_what_is_left(left):
    cache, ring = LRUCache(None, dict.fromkeys(range(5_000))), HistoryRing(None, range(5_000))
    cache.evict(5_000 - left), ring.evict(5_000 - left)
    assert 1 <= len({key for key, _ in cache._sample(16)}) <= 16
    assert min(left, 9) <= len(set(ring._sample(16))) <= 16
    assert (cache.stats().hits, cache.stats().misses, next(iter(cache))) == (0, 0, 5_000 - left)


def test_the_structure_counts_too():
    cache = LRUCache(None, dict.fromkeys(range(100_000)))
    assert row(cache).memory == pytest.approx(100_000 * (40 + sys.getsizeof(1_000)), rel=0.1)


def test_what_entries_share_is_counted_once():
    shared = bytearray(1_000_000)
    ring = HistoryRing(None, [(n, shared, bytearray(1_000)) for n in range(1_000)])
    assert 2_000_000 < row(ring).memory < 2_500_000


def test_closed_containers_stay_in_the_table():
    boxes = [LRUCache(3, name="a"), HistoryRing(3, name="b"), TransferMap(3, name="c")]
    for box in boxes:
        box.close()
    assert [each.error for each in ullage.report()] == [None] * 3
    assert str(ullage.report()).count("closed") == 3


class Odd:
    """A container that somebody else wrote: it registers, and answers what it can."""

    def __init__(self, stats):
        self.stats = stats
        _registry.register(self)


@dataclass(frozen=True)
class OddStats:
    hits: int = 3
    misses: int = 1
    retired: int = 7


def test_any_container_may_register():
    odd = Odd(OddStats)
    found = row(odd)
    assert (found.kind, found.hit_rate, found.retired, found.memory, found.entries) == ("Odd", 0.75, 7, None, None)
    assert "75.0%" in str(ullage.report())


@dataclass(frozen=True)
class Spent:
    entries: int
    loads: int
    hits: int
    cost: Mapping[str, int]
    budget: Mapping[str, int]


def test_of_costs_by_currency_bytes_are_the_weight():
    spent = MappingProxyType({"bytes": 5, "vram": 10**9})
    odd = Odd(lambda: Spent(2, 1, 3, spent, MappingProxyType({"bytes": 7, "vram": 10**10})))
    found = row(odd)
    assert (found.unit, found.weight, found.max_weight, found.memory, found.hit_rate) == ("bytes", 5, 7, 5, 0.75)
    assert json.loads(json.dumps(ullage.report().as_dict()))["containers"][0]["stats"]["cost"]["vram"] == 10**9
    elsewhere = Odd(lambda: Spent(2, 1, 3, MappingProxyType({"vram": 5}), MappingProxyType({})))
    assert (row(elsewhere).weight, row(elsewhere).memory) == (None, None)


@pytest.mark.parametrize("name", [5, b"bytes", "", "two\nlines\tand a tab", "\ud800", "x" * 10_000, ["list"]])
def test_a_name_is_shown_in_one_line_whatever_it_is(name):
    cache = LRUCache(3, name=name)
    text = str(ullage.report()).encode().decode()
    assert len(text.splitlines()) == 3
    assert len(text.splitlines()[1]) < 150
    json.dumps(ullage.report().as_dict())
    del cache


def test_one_that_fails_spoils_no_other():
    def fails():
        raise ZeroDivisionError("no statistics today")

    odd, cache = Odd(fails), LRUCache(3, name="fine")
    report = ullage.report()
    assert {each.label for each in report} == {"unnamed Odd", "fine"}
    assert "unnamed Odd does not answer: ZeroDivisionError: no statistics today" in str(report)
    del odd, cache


def test_the_dict_is_fit_for_json():
    keep = [LRUCache(3, {1: 2}, name="a"), HistoryRing(3, [1]), TransferMap(9), LRUCache(max_bytes="5%")]
    found = json.loads(json.dumps(ullage.report().as_dict()))
    assert [each["kind"] for each in found["containers"]].count("LRUCache") == 2
    assert found["process"]["used"] > 2**20
    assert set(found["containers"][0]) == set(Row.__dataclass_fields__)
    del keep


def test_the_text_has_a_line_for_each_container():
    keep = (
        LRUCache(1_000, {n: n for n in range(1_000)}, name="answers"),
        HistoryRing(max_bytes="64 MiB", name="history"),
    )
    lines = str(ullage.report()).splitlines()
    assert lines[0].split() == ["name", "kind", "entries", "weight", "bound", "hit", "rate", "oldest", "retired"]
    assert lines[1].startswith("answers  LRUCache       1,000")
    assert lines[2].split() == ["history", "HistoryRing", "0", "0", "B", "64", "MiB", "-", "-", "0"]
    assert lines[3].startswith("containers: 2, with about ")
    assert repr(ullage.report()) == str(ullage.report())
    del keep


def test_rich_shows_a_table_and_takes_a_name_as_it_is():
    console = pytest.importorskip("rich.console").Console(width=120, record=True)
    keep = LRUCache(3, name="[red]answers[/red]")
    console.print(ullage.report())
    assert "[red]answers[/red]" in console.export_text()
    del keep


def test_a_ring_that_grows_while_it_is_sampled_is_no_error():
    class Growing(HistoryRing):
        def _sample(self, n):
            self.extend(range(100))
            return super()._sample(n)

    assert row(Growing(50, [1])).error is None


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1,023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (2**20 - 1, "1,024 KiB"),
        (5 * 2**50, "5,120 TiB"),
    ],
)
def test_sizes_have_three_digits(size, text):
    assert bytes_text(size) == text


def test_a_table_lines_up():
    table = Table(("name", "count>"), [("a", "1"), ("long", "1,000")], "foot")
    assert str(table).splitlines() == ["name  count", "a         1", "long  1,000", "foot"]


def test_instances_are_in_the_report_with_their_costs() -> None:
    cache = ullage.InstanceCache(
        lambda key: bytearray(key), budget={"bytes": "1 MiB"}, weigher=lambda key, value: {"bytes": key}, name="models"
    )
    cache.get(1000), cache.get(1000), cache.get(50)
    row = next(row for row in ullage.report().rows if row.name == "models")
    assert (row.kind, row.entries, row.weight, row.max_weight) == ("InstanceCache", 2, 1050, 2**20)
    cache.close()
