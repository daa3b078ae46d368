"""The real DSPy, cured by `ullage.integrations.dspy`: histories, cache and pools do what they did, within bounds."""

from __future__ import annotations

import asyncio
import copy
import gc
import http.server
import io
import json
import pickle
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

dspy = pytest.importorskip("dspy", reason="the real DSPy is not installed: pip install dspy")

import cachetools  # noqa: E402
import ullage  # noqa: E402
from dspy.clients import base_lm  # noqa: E402
from ullage import HistoryRing, LRUCache  # noqa: E402
from ullage.integrations.dspy import install, uninstall  # noqa: E402
from ullage.monitor import config  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from offline import OfflineEngine  # noqa: E402

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


def test_models_that_shared_a_history_share_it_on() -> None:
    first, second = model(), model()
    second.history = first.history
    first.update_history({"prompt": "1"})
    install(history_maxlen=3)
    assert first.history is second.history
    second.update_history({"prompt": "2"})
    held = first.history
    uninstall()
    assert first.history is second.history
    assert [call["prompt"] for call in first.history] == [call["prompt"] for call in held] == ["1", "2"]


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
    install(history_bytes="100 kB", history_maxlen="none", soft=1)
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
    monkeypatch.setattr(config, "_arguments", {})
    found = {}
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


# The memory cache.


def fetch(number: int, size: int = 1_000) -> bool:
    """Looks an answer up and stores it if it is missing, as DSPy does; whether it was there."""
    request = {"model": "m", "prompt": number}
    if dspy.cache.get(request) is not None:
        return True
    dspy.cache.put(request, {"text": f"{number} ".ljust(size, "x")})
    return False


def test_the_cache_keeps_to_its_bytes_and_the_stock_cache_does_not() -> None:
    for number in range(300):
        fetch(number)
    stock = dspy.cache.memory_cache
    assert len(stock) == 300
    install(cache_bytes="100 kB")
    ours = dspy.cache.memory_cache
    assert isinstance(ours, LRUCache)
    for number in range(300, 600):
        fetch(number)
        assert ours.currsize <= 100_000
    assert ours.currsize > 95_000
    assert fetch(599)
    assert not fetch(0)
    uninstall()
    assert dspy.cache.memory_cache is stock
    assert 50 < len(stock) < 100


def test_a_string_that_an_answer_holds_twice_is_counted_once() -> None:
    install(cache_bytes="100 kB")
    text = "x" * 60_000
    dspy.cache.put({"prompt": 1}, {"outputs": [text], "responses": [{"text": text}]})
    assert 60_000 < dspy.cache.memory_cache.currsize < 65_000
    assert dspy.cache.get({"prompt": 1})["outputs"] == [text]


def test_an_answer_that_is_used_outlives_those_that_are_not() -> None:
    install(cache_bytes="20 kB")
    fetch(0)
    for number in range(1, 100):
        fetch(number)
        assert fetch(0)
    assert not fetch(1)


def test_dspys_own_number_of_entries_is_kept_too() -> None:
    install(cache_bytes="1 MiB")
    dspy.configure_cache(enable_disk_cache=False, memory_max_entries=10)
    for number in range(50):
        fetch(number)
    assert len(dspy.cache.memory_cache) == 10


def test_a_cache_that_is_switched_off_stays_a_dict() -> None:
    install()
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    assert dspy.cache.memory_cache == {}
    assert type(dspy.cache.memory_cache) is dict


def test_an_answer_too_heavy_for_the_cache_is_given_and_not_kept() -> None:
    install(cache_bytes="10 kB")
    fetch(1)
    with pytest.warns(RuntimeWarning, match="an answer is not kept") as said:
        assert not fetch(2, size=20_000)
        assert not fetch(2, size=20_000)
    assert len(said) == 1
    assert fetch(1)


def test_saving_and_loading_keep_the_bounds(tmp_path: Path) -> None:
    path = str(tmp_path / "cache.pkl")
    for number in range(50):
        fetch(number)
    dspy.cache.save_memory_cache(path)
    dspy.configure_cache(enable_disk_cache=False, memory_max_entries=10)
    dspy.cache.load_memory_cache(path, allow_pickle=True)
    assert len(dspy.cache.memory_cache) == 50, "the defect of the stock cache: its bound is that of the file"

    dspy.configure_cache(enable_disk_cache=False, memory_max_entries=20)
    install(cache_bytes="15 kB")
    dspy.cache.load_memory_cache(path, allow_pickle=True)
    ours = dspy.cache.memory_cache
    assert isinstance(ours, LRUCache)
    assert 5 < len(ours) < 20
    assert ours.currsize <= 15_000
    install(cache_bytes="1 MiB")
    dspy.cache.load_memory_cache(path, allow_pickle=True)
    assert len(dspy.cache.memory_cache) == 20
    assert fetch(49)


def test_a_file_saved_with_ours_is_one_of_dspys(tmp_path: Path) -> None:
    path = tmp_path / "cache.pkl"
    install(cache_bytes="1 MiB")
    dspy.configure_cache(enable_disk_cache=False, memory_max_entries=10)
    for number in range(20):
        fetch(number)
    dspy.cache.save_memory_cache(str(path))
    assert b"ullage" not in path.read_bytes()
    uninstall()
    dspy.configure_cache(enable_disk_cache=False)
    dspy.cache.load_memory_cache(str(path), allow_pickle=True)
    assert type(dspy.cache.memory_cache) is cachetools.LRUCache
    assert (len(dspy.cache.memory_cache), dspy.cache.memory_cache.maxsize) == (10, 10)
    assert fetch(19)


def test_a_cache_of_ones_own_class_is_bounded_and_a_container_of_ones_own_stays() -> None:
    class Mine(dspy.clients.Cache):
        pass

    install(cache_bytes="10 kB")
    dspy.cache = Mine(False, True, None)
    for number in range(50):
        fetch(number)
    assert dspy.cache.memory_cache.currsize <= 10_000
    assert not fetch(0)

    class Bare(dspy.clients.Cache):
        def __init__(self) -> None:
            self.memory_cache = cachetools.LRUCache(5)

    assert Bare().memory_cache.stats().maxsize == 10_000
    assert len(copy.copy(Bare()).memory_cache) == 0
    dspy.cache.memory_cache = mine = LRUCache(3)
    for number in range(50):
        fetch(number)
    assert dspy.cache.memory_cache is mine
    assert len(mine) == 3


def test_eight_threads_keep_the_cache_within_its_bounds(tmp_path: Path) -> None:
    install(cache_bytes="50 kB")
    path = str(tmp_path / "cache.pkl")
    over = []

    def work(thread: int) -> None:
        for number in range(200):
            fetch((thread * 7 + number) % 100)
            if number % 50 == 25:
                dspy.cache.save_memory_cache(f"{path}{thread}")
                dspy.cache.load_memory_cache(f"{path}{thread}", allow_pickle=True)
            if dspy.cache.memory_cache.currsize > 50_000:
                over.append(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert over == []
    assert len(dspy.cache.memory_cache) > 30


# Pools of connections.


class Provider(http.server.BaseHTTPRequestHandler):
    """A server that speaks as much of OpenAI's interface as a completion needs."""

    protocol_version = "HTTP/1.1"
    answer = json.dumps(
        {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "yes"}}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }
    ).encode()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.gate.wait(60)  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(self.answer)))
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def served() -> Iterator[SimpleNamespace]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    server.daemon_threads = True
    server.gate = threading.Event()  # type: ignore[attr-defined]
    server.gate.set()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    install(engines=4)
    url = f"http://127.0.0.1:{server.server_port}/v1"
    lm = dspy.LM("openai/m", api_base=url, api_key="k", cache=False, num_retries=0)
    yield SimpleNamespace(lm=lm, gate=server.gate, url=url)  # type: ignore[attr-defined]
    server.gate.set()  # type: ignore[attr-defined]
    lm.close()
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_service_with_a_key_for_each_user_keeps_few_pools(served: SimpleNamespace) -> None:
    served.lm("hello", api_key="first")
    first = weakref.ref(next(iter(served.lm._engine_store.values())))
    for user in range(40):
        assert served.lm("hello", api_key=f"user {user}") == ["yes"]
        assert len(served.lm._engine_store) <= 4
    assert first() is None, "a pool that left is closed when nobody uses it"
    served.lm.close()
    assert len(served.lm._engine_store) == 0


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_pool_in_use_is_not_closed_when_it_leaves(served: SimpleNamespace) -> None:
    store = served.lm._engine_store
    served.gate.clear()
    with ThreadPoolExecutor(12) as pool:
        # All of them wait for the server, three times as many as are kept.
        calls = [pool.submit(served.lm, "hello", api_key="first")]
        wait_until(lambda: len(store) == 1)
        key, engine = store.popitem()
        store[key] = engine
        first = weakref.ref(engine)
        del engine
        calls += [pool.submit(served.lm, "hello", api_key=f"user {user}") for user in range(11)]
        wait_until(lambda: store.stats().evictions >= 8)
        assert key not in store
        assert not first()._closed  # type: ignore[union-attr]
        served.gate.set()
        assert [call.result(timeout=60) for call in calls] == [["yes"]] * 12
    assert len(store) == 4
    wait_until(lambda: first() is None)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts sockets in /proc")
def test_eight_threads_and_two_pools_leave_no_sockets_behind(served: SimpleNamespace) -> None:
    install(engines=2)
    before = len(list(Path("/proc/self/fd").iterdir()))

    def serve(thread: int) -> list[Any]:
        return [served.lm("hello", api_key=f"user {thread} {number}") for number in range(10)]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(serve, range(8))) == [[["yes"]] * 10] * 8
    # Both ends of a connection are in this process.
    wait_until(lambda: len(list(Path("/proc/self/fd").iterdir())) <= before + 2 * 2)


def test_copies_share_pools_and_so_they_do_after_uninstall(served: SimpleNamespace) -> None:
    twin = served.lm.copy()
    twin("hello")
    assert served.lm._engine_store is twin._engine_store
    assert len(served.lm._engine_store) == 1
    uninstall()
    assert served.lm._engine_store is twin._engine_store
    assert type(twin._engine_store) is dict
    assert len(twin._engine_store) == 1
    third = served.lm.copy()
    install(engines=2)
    assert third._engine_store is twin._engine_store is served.lm._engine_store
    assert isinstance(twin._engine_store, LRUCache)
    assert len(twin._engine_store) == 1


def test_async_pools_are_bounded_and_those_of_ended_loops_go(served: SimpleNamespace) -> None:
    async def serve() -> list[Any]:
        return await asyncio.gather(*(served.lm.acall("hello", api_key=f"user {user}") for user in range(10)))

    for _ in range(3):
        assert asyncio.run(serve()) == [["yes"]] * 10
        assert len(served.lm._engine_store) <= 4


# When DSPy changes.


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (base_lm, "GLOBAL_HISTORY"),
        (settings, "main_thread_config"),
        (dspy, "BaseLM"),
        (dspy, "Module"),
        (dspy, "LM"),
        (dspy.clients, "Cache"),
    ],
)
def test_a_name_that_is_gone_is_said(place: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {key: value for key, value in vars(settings).items() if key == "main_thread_config"}
    with monkeypatch.context() as patch:
        patch.delattr(place, name)
        with pytest.raises(RuntimeError, match=rf"DSPy {dspy.__version__} there is no .*{name}"):
            install()
    assert settings.main_thread_config is kept["main_thread_config"]
    assert type(base_lm.GLOBAL_HISTORY) is list
    assert not {"history", "_engine_store"} & {*vars(dspy.BaseLM), *vars(dspy.LM), *vars(dspy.Module)}


@pytest.mark.parametrize(
    ("cls", "name", "moved"),
    [
        (dspy.BaseLM, "history", "history"),
        (dspy.Module, "history", "history"),
        (dspy.LM, "_engine_store", "_engine_store"),
        (dspy.clients.Cache, "memory_cache", "memory_cache"),
    ],
)
def test_an_attribute_that_moved_is_said(cls: Any, name: str, moved: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = "_base_init" if cls is dspy.Module else "__init__"
    original = getattr(cls, first)

    def other(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        vars(self)["elsewhere"] = vars(self).pop(name)

    if cls is dspy.Module:
        monkeypatch.setattr(cls, "__init__", lambda self: vars(self).pop("history", None))
        monkeypatch.setattr(dspy.primitives.module.ProgramMeta, "__call__", lambda cls: cls.__new__(cls))
    else:
        monkeypatch.setattr(cls, first, other)
    with pytest.raises(RuntimeError, match=rf"DSPy {dspy.__version__} there is no .*{moved}"):
        install()
    assert type(base_lm.GLOBAL_HISTORY) is list
    assert name not in vars(cls)


def test_an_attribute_of_another_kind_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from collections import deque

    monkeypatch.setattr(base_lm, "GLOBAL_HISTORY", deque())
    with pytest.raises(RuntimeError, match="GLOBAL_HISTORY is a deque, not a list"):
        install()
    monkeypatch.setattr(base_lm, "GLOBAL_HISTORY", [])


def test_an_experiment_of_dspys_is_bounded_too(lm: Any) -> None:
    typesafe = pytest.importorskip("dspy.clients.typesafe").TypeSafe()
    for number in range(5):
        base_lm.record_history(typesafe, {"prompt": number})
        del typesafe.history[: -dspy.settings.max_history_size]
    assert [call["prompt"] for call in typesafe.history] == [2, 3, 4]


def test_what_the_collector_does_not_show_is_bounded_when_it_is_used() -> None:
    lm = model()
    lm.update_history({"prompt": "1"})
    gc.freeze()
    try:
        install(history_maxlen=2)
        assert type(vars(lm)["history"]) is list
        for number in "2", "3":
            lm.update_history({"prompt": number})
        assert isinstance(lm.history, HistoryRing)
        assert [call["prompt"] for call in lm.history] == ["2", "3"]
    finally:
        gc.unfreeze()
