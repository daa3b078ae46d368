"""watch_growth on the real DSPy and LlamaIndex: it names what they never let go of."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
from ullage import watch_growth
from ullage.monitor import Growth, GrowthWatch

pytestmark = pytest.mark.integration

CALLS = 150
SAMPLES = 5


def found(watch: GrowthWatch) -> dict[str, Growth]:
    return {growth.where: growth for growth in watch.report()}


def test_it_names_the_global_history_of_dspy() -> None:
    dspy = pytest.importorskip("dspy", reason="the real DSPy is not installed: pip install dspy")
    pytest.importorskip("psutil", reason="dspy_load needs it: pip install psutil")
    sys.path.insert(0, str(Path(__file__).parent))
    from dspy_load import OfflineEngine

    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    lm = dspy.LM("offline/model", engine=OfflineEngine())
    dspy.configure(lm=lm)
    watch = watch_growth(None)
    for sample in range(SAMPLES):
        for call in range(CALLS):
            lm(f"{sample} {call} ".ljust(20_000, "x"))
        watch.sample()
    growth = found(watch)["dspy.clients.base_lm.GLOBAL_HISTORY"]
    assert growth.length - growth.length_before == (SAMPLES - 1) * CALLS
    assert growth.bytes > growth.length * 20_000
    # The largest of all, and of nearly one size: the history of the language model itself holds the same entries.
    assert growth.where in [each.where for each in watch.report()[:2]]


def test_it_names_the_token_counts_and_spans_of_llama_index() -> None:
    pytest.importorskip("llama_index.core", reason="LlamaIndex is not installed: pip install llama-index-core")
    from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
    from llama_index.core.instrumentation import get_dispatcher
    from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
    from llama_index.core.llms import MockLLM

    sys.modules["app"] = app = ModuleType("app")
    app.counter = TokenCountingHandler(tokenizer=str.split)
    app.llm = MockLLM(max_tokens=5, callback_manager=CallbackManager([app.counter]))
    spans = SimpleSpanHandler()
    get_dispatcher().add_span_handler(spans)
    watch = watch_growth(None)
    try:
        for sample in range(SAMPLES):
            for call in range(CALLS):
                app.llm.complete(f"{sample} {call} ".ljust(2_000, "x"))
            watch.sample()
    finally:
        del sys.modules["app"]
    assert found(watch)["app.counter.llm_token_counts"].length == SAMPLES * CALLS
    assert any(growth.where.endswith(".completed_spans") for growth in watch.report())
