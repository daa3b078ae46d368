"""The example is run: stock and with ullage, on whichever release of LlamaIndex is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

if not (find_spec("workflows") or find_spec("llama_index")):
    pytest.skip("LlamaIndex is not installed: ullage[llama-index]", allow_module_level=True)
pytest.importorskip("psutil", reason="memory is measured with psutil: pip install psutil")

pytestmark = pytest.mark.integration

EXAMPLE = Path(__file__).parents[2] / "examples" / "llama_index_workflow.py"
RUNS, PAYLOAD, TURN = 40, 4 << 20, 16 << 10


def example(*arguments: object, module: tuple[str, ...] = ()) -> None:
    command = [sys.executable, "-W", "ignore", *module, EXAMPLE, *arguments]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_memory_of_a_long_run_stays_flat_and_finished_runs_hold_nothing(tmp_path: Path) -> None:
    example("--turns", 1500, "--json", tmp_path / "out.json", "--png", tmp_path / "out.png")
    stock, ours = json.loads((tmp_path / "out.json").read_text())["sides"]

    def growth(side: dict[str, Any]) -> float:
        memory = [mib for _, mib, _ in side["long"]["samples"]]
        return (memory[-1] - memory[0]) * (1 << 20)

    assert growth(stock) > 1000 * TURN > 4 * growth(ours)
    assert stock["runs"]["kept"] == RUNS
    assert ours["runs"]["dropped"] == ours["runs"]["kept"] == 0
    assert (tmp_path / "out.png").stat().st_size > 10_000


def test_memray_sees_the_payloads_go(tmp_path: Path) -> None:
    memray = pytest.importorskip("memray", reason="memray is not installed")
    peaks = []
    for side in ("stock", "ullage"):
        trace = tmp_path / f"{side}.bin"
        example("--side", side, "--turns", 10, "--every", 10, module=("-m", "memray", "run", "-q", "-o", str(trace)))
        peaks.append(memray.FileReader(trace).metadata.peak_memory)
    stock, ours = peaks
    assert stock > RUNS * PAYLOAD
    assert ours < RUNS * PAYLOAD / 2
