"""The real DSPy, cured by `ullage.integrations.dspy`: what it does to its histories, its cache and its pools goes on."""

from __future__ import annotations

import asyncio
import copy
import http.server
import io
import json
import os
import pickle
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

dspy = pytest.importorskip("dspy", reason="the real DSPy is not installed: pip install dspy")
pytest.importorskip("psutil", reason="memory is measured with psutil: pip install psutil")

import cachetools  # noqa: E402
import ullage  # noqa: E402
from dspy.clients import base_lm  # noqa: E402
from dspy.dsp.utils import settings as dspy_settings_instance  # noqa: E402, F401
from ullage import HistoryRing, LRUCache  # noqa: E402
from ullage.integrations.dspy import install, uninstall  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))
from dspy_load import OfflineEngine  # noqa: E402

pytestmark = pytest.mark.integration
settings = sys.modules["dspy.dsp.utils.settings"]


class Program(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        return self.predict(question=question)

    async def aforward(self, question: str) -> Any:
        return await self.predict.acall(question=question)


class OwnLM(dspy.LM):
    """A language model as users derive theirs."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("offline/own", **kwargs)
        self.asked: list[str] = []


class AsyncEngine(OfflineEngine):
    async def complete(self, request: Any) -> Any:  # type: ignore[override]
        await asyncio.sleep(0)
        return super().complete(request)


def model(cls: Any = dspy.LM, **kwargs: Any) -> Any:
    args = () if cls is OwnLM else ("offline/model",)
    return cls(*args, engine=OfflineEngine(answer=60), async_engine=AsyncEngine(answer=60), cache=False, **kwargs)


@pytest.fixture(autouse=True)
def stock() -> Iterator[None]:
    """Every test begins and ends with DSPy as it comes."""
    base_lm.GLOBAL_HISTORY.clear()
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    settings.main_thread_config |= {"lm": None, "trace": [], "max_history_size": 10_000}
    yield
    uninstall()
    assert "history" not in vars(dspy.BaseLM)
    assert type(base_lm.GLOBAL_HISTORY) is list


@pytest.fixture
def lm() -> Any:
    """A language model that was made after the installation, and is the one in use."""
    install(history_maxlen=3, history_bytes="1 MiB", cache_bytes="1 MiB")
    lm = model()
    settings.main_thread_config["lm"] = lm
    return lm


def ask(program: Any, *questions: str) -> None:
    for question in questions:
        program(question=question)


def questions(history: Any) -> list[str]:
    """The last word of each question in a history."""
    found = []
    for call in history:
        lines = call["messages"][-1]["content"].splitlines()
        found.append(lines[lines.index("[[ ## question ## ]]") + 1])
    return found


# Histories.


def test_every_history_keeps_the_last_calls_and_shares_them(lm: Any) -> None:
    program = Program()
    ask(program, "1", "2", "3", "4", "5")
    histories = (base_lm.GLOBAL_HISTORY, lm.history, program.history, program.predict.history)
    for history in histories:
        assert isinstance(history, HistoryRing)
        assert questions(history) == ["3", "4", "5"]
        assert history[-1] is lm.history[-1]
    assert [inputs["question"] for _, inputs, _ in dspy.settings.trace] == ["3", "4", "5"]


def test_histories_that_were_there_before_are_bounded_at_once() -> None:
    lm, program = model(), Program()
    settings.main_thread_config["lm"] = lm
    ask(program, "1", "2", "3", "4", "5")
    install(history_maxlen=3)
    for history in (base_lm.GLOBAL_HISTORY, vars(lm)["history"], vars(program)["history"]):
        assert questions(history) == ["3", "4", "5"]
    assert len(settings.main_thread_config["trace"]) == 3
    ask(program, "6")
    assert questions(lm.history) == questions(program.history) == ["4", "5", "6"]


def test_uninstall_gives_the_same_objects_back_with_what_was_kept() -> None:
    lm, program = model(), Program()
    settings.main_thread_config |= {"lm": lm}
    ask(program, "1")
    places = lambda: (  # noqa: E731
        base_lm.GLOBAL_HISTORY,
        vars(lm)["history"],
        vars(program)["history"],
        settings.main_thread_config["trace"],
        vars(dspy.cache)["memory_cache"],
        vars(lm)["_engine_store"],
        settings.main_thread_config,
    )
    before = places()
    install(history_maxlen=3)
    ask(program, "2", "3", "4")
    late = model()
    uninstall()
    assert all(now is then for now, then in zip(places(), before, strict=True))
    assert questions(lm.history) == questions(base_lm.GLOBAL_HISTORY) == ["2", "3", "4"]
    assert type(late.history) is list
    assert type(late._engine_store) is dict
    for cls, name in ((dspy.BaseLM, "history"), (dspy.Module, "history"), (dspy.LM, "_engine_store")):
        assert name not in vars(cls)
    assert "memory_cache" not in vars(dspy.clients.Cache)
    assert type(settings.main_thread_config) is type(before[-1])
    ask(program, "5", "6", "7")
    assert len(lm.history) == 6


def test_install_again_changes_the_bounds_and_one_uninstall_ends_it(lm: Any) -> None:
    program = Program()
    ask(program, "1", "2", "3")
    install(history_maxlen=2)
    assert questions(lm.history) == questions(program.history) == ["2", "3"]
    install(history_maxlen=5)
    ask(program, "4", "5", "6", "7")
    assert questions(lm.history) == ["3", "4", "5", "6", "7"]
    uninstall()
    assert type(lm.history) is list


def test_uninstall_without_install_changes_nothing() -> None:
    before = base_lm.GLOBAL_HISTORY, dspy.cache.memory_cache, settings.main_thread_config
    uninstall()
    uninstall()
    assert all(
        now is then
        for now, then in zip(
            (base_lm.GLOBAL_HISTORY, dspy.cache.memory_cache, settings.main_thread_config), before, strict=True
        )
    )


def test_the_bound_in_bytes_holds_for_each_history(lm: Any) -> None:
    install(history_bytes="100 kB", history_maxlen="none")
    program = Program()
    ask(program, *(str(number).ljust(10_000, "x") for number in range(30)))
    for history in (base_lm.GLOBAL_HISTORY, lm.history, program.history, dspy.settings.trace):
        assert 0 < len(history) < 10
        assert 50_000 < history.stats().weight <= 100_000


def test_a_call_too_heavy_for_its_history_is_answered_and_said_once(lm: Any) -> None:
    install(history_bytes=30_000, soft=1)
    program = Program()
    with pytest.warns(RuntimeWarning, match="not recorded") as said:
        ask(program, "x" * 50_000, "y" * 50_000)
    assert len(said) == 1
    ask(program, "short")
    assert questions(lm.history) == ["short"]


def test_a_call_that_cannot_be_weighed_is_answered(lm: Any) -> None:
    class Hostile:
        def __sizeof__(self) -> int:
            raise LookupError("not today")

    with pytest.warns(RuntimeWarning, match="not today"):
        lm.update_history({"response": Hostile()})
    assert len(lm.history) == 0


def test_one_warning_at_the_soft_limit(lm: Any) -> None:
    install(history_bytes="100 kB", soft=0.5)
    with pytest.warns(RuntimeWarning, match=r"GLOBAL_HISTORY holds .* ullage\.configure") as said:
        ask(Program(), *(str(number).ljust(10_000, "x") for number in range(20)))
    assert len(said) == 1


def test_bounds_come_from_the_profile_and_config_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    try:
        for profile in ("dev", "prod"):
            ullage.configure(profile=profile)
            install()
            history = model().history
            found[profile] = history.maxlen, history.max_weight, dspy.cache.memory_cache.maxsize
            assert f"profile {profile}" in str(ullage.config())
        assert found["dev"][:2] == (1_000, 64 << 20)
        assert all(dev != prod for dev, prod in zip(*found.values(), strict=True))
        monkeypatch.setenv("ULLAGE_HISTORY_BYTES", "5 MiB")
        install(history_maxlen=7)
        assert (model().history.maxlen, model().history.max_weight) == (7, 5 << 20)
        assert ullage.config()["history_bytes"].origin == "ULLAGE_HISTORY_BYTES"
    finally:
        ullage.configure(**dict.fromkeys(("history_bytes",)))
        from ullage.monitor import config

        config._arguments = {}


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        ({"history_bytes": 0}, "history_bytes must be at least 1"),
        ({"history_bytes": "lots"}, "'512 MiB'"),
        ({"history_bytes": float("nan")}, "history_bytes"),
        ({"history_maxlen": True}, "history_maxlen must be an integer"),
        ({"cache_bytes": -1}, "cache_bytes must be at least 1"),
        ({"cache_policy": "mru"}, "policy must be one of lru"),
        ({"engines": 0}, "engines must be at least 1"),
        ({"soft": 0}, "soft must be a share"),
        ({"soft": 1.5}, "soft must be a share"),
    ],
)
def test_a_bad_bound_is_said_and_changes_nothing(bad: dict[str, Any], text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=text):
        install(**bad)
    assert type(base_lm.GLOBAL_HISTORY) is list
    assert "history" not in vars(dspy.BaseLM)


def test_inspect_history_and_slices(lm: Any) -> None:
    program = Program()
    ask(program, "first", "second", "third", "fourth")
    for inspect in (dspy.inspect_history, lm.inspect_history, program.inspect_history):
        out = io.StringIO()
        inspect(2, file=out)
        assert out.getvalue().index("third") < out.getvalue().index("fourth")
        assert "second" not in out.getvalue()
    history = lm.history
    assert questions(history[-2:]) == ["third", "fourth"]
    assert isinstance(history[-2:], list)
    assert questions([history[0], history[-1]]) == ["second", "fourth"]
    del history[:-1]
    assert questions(lm.history) == ["fourth"]
    lm.history.clear()
    assert lm.history == []
    assert not lm.history


def test_copies_of_a_model_begin_anew_with_the_bound(lm: Any) -> None:
    ask(Program(), "1", "2")
    twin = lm.copy(temperature=0.5)
    assert isinstance(twin.history, HistoryRing)
    assert (len(twin.history), twin.history.maxlen) == (0, 3)
    assert twin._engine_store is lm._engine_store
    assert len(lm.history) == 2


def test_a_deep_copy_of_a_program_keeps_calls_and_bound(lm: Any) -> None:
    program = Program()
    program.set_lm(lm)
    ask(program, "1", "2", "3")
    for twin in (copy.deepcopy(program), program.deepcopy(), program.reset_copy()):
        if twin.predict.lm is None:
            continue
        history = twin.predict.lm.history
        assert questions(history) == ["1", "2", "3"]
        assert history[0] is not lm.history[0]
        ask(twin, "4")
        assert questions(history) == ["2", "3", "4"]
        assert type(twin.history) is type(history)
        assert twin.history.maxlen == 3
    assert questions(lm.history) == ["1", "2", "3"]


def test_a_deep_copy_gets_a_list_of_its_own_back(lm: Any) -> None:
    program = Program()
    program.set_lm(lm)
    ask(program, "1")
    twin = copy.deepcopy(program)
    uninstall()
    assert type(twin.predict.lm.history) is list
    assert twin.predict.lm.history is not lm.history
    assert questions(twin.predict.lm.history) == ["1"]


def test_a_saved_program_holds_no_prompt_and_gets_its_bound_when_loaded(lm: Any, tmp_path: Path) -> None:
    program = Program()
    program.set_lm(model(OwnLM))
    ask(program, "a secret question")
    program.save(str(tmp_path), save_program=True)
    saved = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"a secret question" not in saved
    assert b"ullage" not in saved
    loaded = dspy.load(str(tmp_path), allow_pickle=True)
    for history in (loaded.history, loaded.predict.history, loaded.predict.lm.history):
        assert isinstance(history, HistoryRing)
        assert (len(history), history.maxlen) == (0, 3)
    ask(loaded, "1", "2", "3", "4")
    assert questions(loaded.predict.lm.history) == ["2", "3", "4"]


def test_saved_settings_hold_no_prompt_and_the_trace_gets_its_bound_when_configured(lm: Any, tmp_path: Path) -> None:
    ask(Program(), "a secret question")
    path = tmp_path / "settings.pkl"
    dspy.settings.save(str(path))
    assert b"a secret question" not in path.read_bytes()
    settings.main_thread_config["trace"] = dspy.settings.load(str(path), allow_pickle=True)["trace"]
    ask(Program(), "1", "2", "3", "4")
    assert len(dspy.settings.trace) == 3


def test_module_walks_do_not_enter_the_history(lm: Any) -> None:
    program = Program()
    ask(program, "1", "2", "3")
    names = [name for name, _ in program.named_sub_modules(type_=object)]
    assert any(name.endswith("history") for name in names)
    assert not any("history[" in name for name in names)
    assert [name for name, _ in program.named_parameters()] == ["predict"]


def test_a_configured_trace_is_bounded_and_one_of_a_context_is_not(lm: Any) -> None:
    settings.main_thread_config["trace"] = []
    assert isinstance(dspy.settings.trace, HistoryRing)
    program = Program()
    with dspy.context(trace=[]):
        ask(program, "1", "2", "3", "4", "5")
        assert len(dspy.settings.trace) == 5
    with dspy.context(lm=model()):
        ask(program, "6", "7", "8", "9")
        assert len(dspy.settings.trace) == 3
    settings.main_thread_config["trace"] = None
    ask(program, "10")
    assert dspy.settings.trace is None
    best = dspy.BestOfN(module=program, N=2, reward_fn=lambda inputs, prediction: 1.0, threshold=1.0)
    settings.main_thread_config["trace"] = []
    best(question="11")
    assert [inputs["question"] for _, inputs, _ in dspy.settings.trace] == ["11"]


def test_what_a_program_assigns_itself(lm: Any) -> None:
    mine = [{"n": number} for number in range(5)]
    lm.history = mine
    assert lm.history == mine[2:]
    assert len(mine) == 5
    ring: HistoryRing[Any] = HistoryRing(1)
    lm.history = ring
    ask(Program(), "1", "2")
    assert lm.history is ring
    odd = {"a": "dict"}
    lm.history = odd
    assert lm.history is odd
    del lm.history
    assert not hasattr(lm, "history")
    with pytest.raises(AttributeError, match="history"):
        del lm.history
    lm.history = []
    assert isinstance(lm.history, HistoryRing)
    assert not hasattr(dspy.LM, "history")


def test_models_of_ones_own_class_are_bounded(lm: Any) -> None:
    own = model(OwnLM)
    program = Program()
    program.set_lm(own)
    ask(program, "1", "2", "3", "4")
    assert questions(own.history) == ["2", "3", "4"]
    twin = pickle.loads(pickle.dumps(own.history))
    assert twin == []
    assert type(twin) is list


def test_async_calls_are_recorded_within_the_bound(lm: Any) -> None:
    program = Program()

    async def all_at_once() -> None:
        await asyncio.gather(*(program.acall(question=str(number)) for number in range(12)))

    asyncio.run(all_at_once())
    assert len(lm.history) == len(program.history) == len(base_lm.GLOBAL_HISTORY) == 3


def test_a_context_of_its_own_model_in_each_thread(lm: Any) -> None:
    program = Program()
    models = [model() for _ in range(8)]

    def serve(own: Any) -> None:
        with dspy.context(lm=own):
            ask(program, *map(str, range(10)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(serve, models))
    for own in models:
        assert questions(own.history) == ["7", "8", "9"]
    assert len(lm.history) == 0
    assert len(program.history) == 3


def test_threads_call_while_it_is_installed_and_uninstalled() -> None:
    lm = model()
    settings.main_thread_config |= {"lm": lm, "max_history_size": 50}
    program = Program()
    stop = threading.Event()

    def serve(number: int) -> int:
        calls = 0
        while not stop.is_set() or calls < 20:
            program(question=f"{number} {calls}")
            calls += 1
        return calls

    with ThreadPoolExecutor(8) as pool:
        served = [pool.submit(serve, number) for number in range(8)]
        try:
            for number in range(10):
                install(history_maxlen=5 + number)
                assert len(lm.history) <= 5 + number
                uninstall()
        finally:
            stop.set()
        assert all(each.result(timeout=120) >= 20 for each in served)
    assert type(lm.history) is list
