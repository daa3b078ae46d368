"""``python -m ullage demo``: what it measures, what it says about it, and what it says when it cannot run."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

for package in ("matplotlib", "psutil", "rich"):
    pytest.importorskip(package, reason=f'the demo needs {package}: pip install "ullage[demo]"')

from ullage import _registry  # noqa: E402
from ullage.__main__ import main  # noqa: E402
from ullage.demo import PAGE, PICTURE, completions, evictions, history, pressure, process, show, transfers  # noqa: E402
from ullage.demo.findings import Finding, Verdict, amount, findings  # noqa: E402
from ullage.demo.stories import STORIES  # noqa: E402
from ullage.demo.story import MIB, Run, Story, Window  # noqa: E402
from ullage.monitor.memory import Usage  # noqa: E402


def run_of(rss: int, p50: float, p99: float, worst: float) -> Run:
    window = Window(10, rss * MIB, p50, p99, worst)
    return Run((window, window), window, "kept")


def test_percentiles_of_a_window() -> None:
    assert process.window(7, 8, [1000 * number for number in range(101)]) == Window(7, 8, 50.0, 99.0, 100.0)
    assert process.window(1, 8, [3000]) == Window(1, 8, 3.0, 3.0, 3.0)


def test_findings_name_what_is_worse_as_well_as_what_is_better() -> None:
    found = list(findings(run_of(100, 1.0, 2.0, 5.0), run_of(50, 3.0, 2.1, 1.0)))
    assert [finding.verdict for finding in found] == [Verdict.BETTER, Verdict.WORSE, Verdict.SAME]
    assert [str(finding) for finding in found] == [
        "peak memory 100 -> 50 MiB (2.0 times less)",
        "median 1 -> 3 µs (3.0 times more)",
        "p99 2 -> 2.1 µs",
    ]


def test_a_difference_within_the_tolerance_is_no_finding() -> None:
    assert Finding("p99", 100, 124, "µs", 1.25).verdict is Verdict.SAME
    assert Finding("p99", 100, 126, "µs", 1.25).verdict is Verdict.WORSE
    assert Finding("p99", 126, 100, "µs", 1.25).verdict is Verdict.BETTER


@pytest.mark.parametrize(("value", "text"), [(0.1234, "0.123"), (1, "1"), (99.96, "100"), (1234.5, "1,234")])
def test_amounts_have_three_digits(value: float, text: str) -> None:
    assert amount(value) == text


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_both_subjects_see_the_same_load(story: Story) -> None:
    first, second = ([shape(item) for item in story.load(40)] for _ in range(2))
    assert first == second
    assert len(first) == 40


def shape(item: object) -> str:
    """An item as text; transfers are told apart by their keys, not by where their buffers lie."""
    return repr(([key for key, _ in item.begun], item.completed) if isinstance(item, transfers.Turn) else item)


def test_the_history_keeps_its_bounds_and_the_newest() -> None:
    stock, ours = history.ListHistory(), history.RingHistory()
    entries = list(history.load(3_200))
    for entry in entries:
        stock(entry)
        ours(entry)
    assert stock.history == entries
    kept = len(ours.history)
    assert 0 < kept < len(entries)
    assert list(ours.history) == entries[-kept:]
    assert sum(len(entry["messages"][1]["content"]) for entry in ours.history) <= history.BOUND


def test_the_caches_hold_what_was_asked_for_last() -> None:
    stock, ours = completions.OrderedDictCache(), completions.ByteCache()
    requests = list(completions.load(600))
    for item in requests:
        stock(item)
        ours(item)
    key, value = requests[-1]
    assert stock.cache[key] == ours.cache[key] == value
    assert stock.hits == len(requests) - len(stock.cache)
    assert 0 < ours.hits <= stock.hits


def test_lost_transfers_stay_in_the_dict_and_leave_the_map() -> None:
    stock, ours = transfers.WalkedDict(), transfers.DeadlineMap()
    for subject in (stock, ours):
        for turn in transfers.load(4_000):
            subject(turn)
    begun = 4_000 * transfers.BATCH
    lost = begun // transfers.LOST
    under_way = sum(key % transfers.LOST > 0 for key in range(begun - transfers.LATENCY * transfers.BATCH, begun))
    assert len(stock.transfers) == lost + under_way
    waiting = int(transfers.TTL / transfers.TURN) * transfers.BATCH // transfers.LOST
    assert ours.aborted == pytest.approx(lost - waiting, abs=transfers.BATCH)
    assert len(ours.transfers) + ours.aborted == lost + under_way


def test_large_values_that_leave_are_freed_in_slices() -> None:
    stock, ours = evictions.STORY.stock(), evictions.STORY.ours()
    for item in evictions.load(1_000):
        stock(item)
        ours(item)
    assert set(stock.cache) == set(ours.cache) and len(ours.cache) == evictions.CAP
    assert ours.cache.stats().retired_max > 0 and "freed in slices" in ours.outcome()


def test_the_guard_keeps_below_the_limit_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def held(self: pressure.Unguarded) -> Usage:
        return Usage(sum(map(len, [*self.answers.values(), *self.prompts])), 8 * MIB, "test")

    monkeypatch.setattr(pressure, "PAUSE", 0)
    monkeypatch.setattr(pressure.Unguarded, "usage", held)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(_registry, "_all", [])
    stock = pressure.Unguarded()
    for item in pressure.load(400):
        stock(item)
    assert stock.usage().share > 2
    assert "a real limit would have ended it" in stock.outcome()
    del stock
    ours = pressure.Guarded()
    ours.guard.stop()
    for item in pressure.load(400):
        ours(item)
        ours.guard.check()
    assert 0.5 < ours.usage().share < 0.8
    assert ours.prompts[-1] == item[1] and item[0] in ours.answers
    assert 'said "memory is at 6' in ours.outcome()


def test_a_child_that_fails_is_reported() -> None:
    story = replace(STORIES[0], name="no such story")
    with pytest.raises(process.SubjectError, match=r"list, pop\(0\).*StopIteration"):
        process.play(story, "stock", 10, lambda done: None)


def test_the_demo_from_end_to_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A hundredth of the load: this is about the parts fitting together, not about the numbers.
    monkeypatch.setattr(show, "STORIES", [replace(story, items=(600, 300)) for story in STORIES])
    monkeypatch.setenv("COLUMNS", "200")
    out = tmp_path / "new" / "folder"
    assert main(["demo", "--quick", "--out", str(out)]) == 0
    assert (out / PICTURE).read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    for story in STORIES:
        assert story.title in shown
        assert story.price in shown
        for side in ("stock", "ours"):
            assert story.label(side) in shown
    assert shown.count("peak memory ") == len(STORIES)
    assert PICTURE in shown.splitlines()[-1]
    page = (out / PAGE).read_text(encoding="utf-8")
    assert f'src="{PICTURE}"' in page
    assert all(story.title in page for story in STORIES)


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    occupied = tmp_path / "file"
    occupied.touch()
    assert main(["demo", "--out", str(occupied)]) == 2
    assert f"error: {occupied}: File exists" in capsys.readouterr().err


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An environment in which the packages of the extra cannot be imported."""
    for package in ("matplotlib", "psutil", "rich"):
        (tmp_path / f"{package}.py").write_text("raise ImportError('not installed')\n")
    paths = [str(tmp_path), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def test_without_the_extra_the_demo_says_what_to_install(bare: dict[str, str]) -> None:
    child = subprocess.run([sys.executable, "-m", "ullage", "demo"], env=bare, capture_output=True, text=True)
    assert child.returncode == 2
    assert child.stderr == 'The demo needs matplotlib, psutil, rich. Install with: pip install "ullage[demo]"\n'


def test_without_the_extra_replay_works(bare: dict[str, str], tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_text("a\nb\na\n")
    command = [sys.executable, "-m", "ullage", "replay", str(trace), "--capacity", "2"]
    child = subprocess.run(command, env=bare, capture_output=True, text=True)
    assert (child.returncode, child.stderr) == (0, "")
    assert "33.3 %" in child.stdout
