"""The real onnxruntime behind an InstanceCache, beside ways in which programs do without one: examples/models.py."""

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc"),
]
EXAMPLE = Path(__file__).parents[2] / "examples" / "models.py"


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    for package in ("numpy", "onnx", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed; the extra `models-example` brings it")
    example = runpy.run_path(str(EXAMPLE))
    return {row["way"]: row for row in example["compare"](tmp_path_factory.mktemp("models"))}


def test_each_model_is_loaded_once_however_many_ask(rows: dict[str, Any]) -> None:
    assert rows["InstanceCache, cost_hint"]["rush"] == rows["InstanceCache, weigher only"]["rush"] == 1
    assert rows["a load a query"]["rush"] == 58
    assert rows["an unlocked dict"]["rush"] > 1


def test_memory_stays_at_the_budget_if_costs_are_known_before(rows: dict[str, Any]) -> None:
    # Beyond the weights: the runtime's own needs, and a layer that it copies while it loads.
    assert rows["InstanceCache, cost_hint"]["peak"] < 128 + 48
    # The budget and the model that is loaded beside it.
    assert rows["InstanceCache, weigher only"]["peak"] > 128 + 48
    assert rows["an unlocked dict"]["resident"] > 128 + 48 > rows["InstanceCache, cost_hint"]["resident"]
