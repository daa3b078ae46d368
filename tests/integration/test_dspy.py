"""The real DSPy with our containers in the place of its lists and its memory cache.

DSPy appends to a global history, to the language model's, to the module's and to a trace; it caches completions.
Everything that DSPy does to these objects is done here, mostly by calling DSPy.
"""

from __future__ import annotations

import copy
import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

dspy = pytest.importorskip("dspy", reason="the real DSPy is not installed: pip install dspy")
pytest.importorskip("psutil", reason="memory is measured with psutil: pip install psutil")

from dspy.clients import base_lm  # noqa: E402
from dspy.propose.utils import get_dspy_source_code  # noqa: E402
from dspy.teleprompt.utils import get_token_usage  # noqa: E402
from ullage import HistoryRing, LRUCache  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))
from dspy_load import CACHE_BYTES, HISTORY_BYTES, PROMPT, OfflineEngine  # noqa: E402

pytestmark = pytest.mark.integration

CALLS = 20_000
STOCK_CALLS = 3_000
TOLERANCE = 24 << 20
"""Memory that may come on top after the warm-up: what the allocator keeps, no place for even a tenth of the prompts."""


def load(subject: str, calls: int) -> dict[str, Any]:
    script = Path(__file__).with_name("dspy_load.py")
    child = subprocess.run([sys.executable, script, subject, str(calls)], capture_output=True, text=True, timeout=600)
    assert child.returncode == 0, child.stderr
    report: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    assert report["failures"] == []
    assert report["samples"][-1][0] == calls
    return report


def growth(samples: list[list[int]]) -> tuple[int, int]:
    """Memory that came after the first quarter of the calls, and in how many calls."""
    total = samples[-1][0]
    settled = [(done, rss) for done, rss in samples if done >= total / 4]
    return max(rss for _, rss in settled) - settled[0][1], total - settled[0][0]


@pytest.fixture(scope="module")
def ullage_load() -> dict[str, Any]:
    return load("ullage", CALLS)


def test_memory_stays_flat(ullage_load: dict[str, Any]) -> None:
    grown, calls = growth(ullage_load["samples"])
    assert calls * PROMPT / 10 > TOLERANCE
    assert grown < TOLERANCE


def test_the_same_load_grows_on_stock_objects() -> None:
    grown, calls = growth(load("stock", STOCK_CALLS)["samples"])
    assert grown > calls * PROMPT


def test_the_bound_holds_at_every_instant(ullage_load: dict[str, Any]) -> None:
    assert ullage_load["looks"] > 100
    assert ullage_load["excesses"] == []
    # The bounds were reached: a ring that kept nothing would not pass.
    filled = ullage_load["filled"]
    for name in ("global", "lm", "module", "trace"):
        assert filled[f"{name} weight"] > 0.95 * HISTORY_BYTES
    assert filled["cache weight"] > 0.95 * CACHE_BYTES


def test_repeated_prompts_were_answered_by_the_cache(ullage_load: dict[str, Any]) -> None:
    assert ullage_load["engine_calls"] == CALLS * 3 // 4


def test_one_warning_at_the_soft_limit(ullage_load: dict[str, Any]) -> None:
    assert len(ullage_load["warnings"]) == 1


class Program(dspy.Module):
    """A module with a predictor inside, as programs have."""

    def __init__(self) -> None:
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        return self.predict(question=question)


class Setup:
    """DSPy with a ring in each place where it keeps history, and an LRUCache as its memory cache."""

    def __init__(self) -> None:
        dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
        self.engine = OfflineEngine(answer=60)
        self.lm = dspy.LM("offline/model", engine=self.engine)
        self.program = Program()
        self.cache: LRUCache[str, Any] = LRUCache(4)
        self.all, self.of_lm, self.of_program, self.trace = (HistoryRing[Any](3) for _ in range(4))
        base_lm.GLOBAL_HISTORY = self.all
        self.lm.history = self.of_lm
        self.program.history = self.of_program
        dspy.cache.memory_cache = self.cache
        dspy.configure(lm=self.lm, trace=self.trace, max_history_size=10_000)

    def ask(self, *questions: str) -> None:
        for question in questions:
            self.program(question=question)


@pytest.fixture
def setup() -> Iterator[Setup]:
    before = base_lm.GLOBAL_HISTORY
    yield Setup()
    base_lm.GLOBAL_HISTORY = before
    dspy.configure(lm=None, trace=[], max_history_size=10_000)


def shown(inspect: Any, n: int) -> str:
    out = io.StringIO()
    inspect(n, file=out)
    return out.getvalue()


def test_every_owner_keeps_the_last_entries_and_shares_them(setup: Setup) -> None:
    setup.ask("one", "two", "three", "four", "five")
    for ring in (setup.all, setup.of_lm, setup.of_program):
        questions = [entry["messages"][-1]["content"] for entry in ring]
        assert len(questions) == 3
        assert "three" in questions[0]
        assert "five" in questions[2]
    assert setup.all[-1] is setup.of_lm[-1] is setup.of_program[-1]
    assert [inputs["question"] for _, inputs, _ in setup.trace] == ["three", "four", "five"]


def test_inspect_history(setup: Setup) -> None:
    setup.ask("first question", "second question", "third question")
    for inspect in (dspy.inspect_history, setup.lm.inspect_history):
        last = shown(inspect, 1)
        assert "third question" in last
        assert "second question" not in last
        two = shown(inspect, 2)
        assert two.index("second question") < two.index("third question")
        assert "first question" not in two
        assert "first question" in shown(inspect, 99)


def test_dspy_trims_by_itself_when_its_own_cap_is_lower(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_lm, "MAX_HISTORY_SIZE", 2)
    dspy.configure(max_history_size=1)
    setup.ask("one", "two", "three")
    assert len(setup.all) == 2
    assert len(setup.of_lm) == len(setup.of_program) == 1
    assert setup.of_lm[0] is setup.all[-1]


def test_list_operations(setup: Setup) -> None:
    assert not setup.of_lm
    assert setup.of_lm == []
    setup.ask("one", "two", "three")
    assert setup.of_lm
    entries = list(setup.of_lm)
    assert setup.of_lm == entries
    assert setup.of_lm[-2:] == entries[-2:]
    assert isinstance(setup.of_lm[-2:], list)
    assert setup.of_lm[-99:] == entries
    assert setup.of_lm.pop(0) is entries[0]
    # dspy.clients.typesafe trims its history this way after each call.
    del setup.of_lm[:-99]
    assert setup.of_lm == entries[1:]
    del setup.of_lm[:-1]
    assert setup.of_lm == entries[2:]
    setup.of_lm.clear()
    assert setup.of_lm == []
    assert not setup.of_lm


def test_the_token_count_walks_the_history(setup: Setup) -> None:
    setup.ask("one", "two")
    expected = sum(entry["usage"]["prompt_tokens"] for entry in setup.of_lm)
    assert get_token_usage(setup.lm)[0] == expected > 0


def test_walks_over_a_program_do_not_enter_its_history(setup: Setup) -> None:
    setup.ask("one", "two")
    names = {name for name, _ in setup.program.named_sub_modules(type_=object)}
    assert "self.history" in names
    assert not any(name.startswith("self.history[") for name in names)
    assert "predict" in dict(setup.program.named_predictors())
    assert "class Program" in get_dspy_source_code(setup.program)


def test_deepcopy_of_a_program_with_its_own_model(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    setup.program.set_lm(setup.lm)
    setup.ask("one", "two", "three")
    entries = list(setup.of_lm)
    with caplog.at_level(logging.WARNING):
        twins = [copy.deepcopy(setup.program), setup.program.deepcopy()]
    assert "Failed to deep copy" not in caplog.text
    for twin in twins:
        history = twin.predict.lm.history
        assert type(history) is HistoryRing
        assert history.maxlen == 3
        assert [entry["uuid"] for entry in history] == [entry["uuid"] for entry in entries]
        assert history[0] is not entries[0]
        twin(question="four")
        assert len(history) == 3
        assert history[-1]["uuid"] != entries[-1]["uuid"]
    assert list(setup.of_lm) == entries


def test_a_saved_program_keeps_the_bound_of_its_model(setup: Setup, tmp_path: Path) -> None:
    setup.program.set_lm(setup.lm)
    setup.ask("one", "two", "three")
    setup.program.save(str(tmp_path), save_program=True)
    loaded = dspy.load(str(tmp_path), allow_pickle=True)
    history = loaded.predict.lm.history
    assert type(history) is HistoryRing
    assert history.maxlen == 3
    assert [entry["uuid"] for entry in history] == [entry["uuid"] for entry in setup.of_lm]
    loaded(question="four")
    assert len(history) == 3


def test_saved_settings_keep_the_bound_of_the_trace(setup: Setup, tmp_path: Path) -> None:
    setup.ask("one", "two")
    path = str(tmp_path / "settings.pkl")
    dspy.settings.save(path)
    loaded = dspy.settings.load(path, allow_pickle=True)
    assert type(loaded["trace"]) is HistoryRing
    assert loaded["trace"].maxlen == 3
    assert [inputs["question"] for _, inputs, _ in loaded["trace"]] == ["one", "two"]


def test_the_trace_is_copied_and_extended(setup: Setup) -> None:
    """dspy.BestOfN and dspy.Refine copy the trace, and extend it with that of the best attempt."""
    setup.ask("one")
    best = dspy.BestOfN(module=setup.program, N=2, reward_fn=lambda inputs, prediction: 1.0, threshold=1.0)
    best(question="two")
    assert [inputs["question"] for _, inputs, _ in setup.trace] == ["one", "two"]
    twin = setup.trace.copy()
    assert type(twin) is HistoryRing
    assert twin.maxlen == 3
    assert list(twin) == list(setup.trace)


def test_the_cache_answers_and_keeps_its_bound(setup: Setup) -> None:
    setup.ask("one", "one")
    assert setup.engine.calls == 1
    key = next(iter(setup.cache))
    assert key in dspy.cache
    assert "0" * 64 not in dspy.cache
    setup.ask("two", "three", "four", "five", "one")
    assert setup.engine.calls == 6
    assert len(setup.cache) == 4


def test_a_used_completion_outlives_an_unused_one(setup: Setup) -> None:
    setup.ask("one", "two", "three", "four", "one", "five")
    asked = setup.engine.calls
    setup.ask("one")
    assert setup.engine.calls == asked
    setup.ask("two")
    assert setup.engine.calls == asked + 1


def test_a_saved_cache_comes_back_with_its_bound(setup: Setup, tmp_path: Path) -> None:
    path = str(tmp_path / "cache.pkl")
    setup.ask("one", "two", "three", "four")
    asked = setup.engine.calls
    dspy.cache.save_memory_cache(path)
    dspy.cache.reset_memory_cache()
    assert len(setup.cache) == 0
    dspy.cache.load_memory_cache(path, allow_pickle=True)
    loaded = dspy.cache.memory_cache
    assert type(loaded) is LRUCache
    assert loaded is not setup.cache
    assert (len(loaded), loaded.maxsize) == (4, 4)
    setup.ask("one", "two", "three", "four")
    assert setup.engine.calls == asked
    setup.ask("five")
    assert len(loaded) == 4
