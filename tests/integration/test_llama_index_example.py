"""The example is run: stock and with ullage, on whichever release of LlamaIndex is installed."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from example import EXAMPLES, played

if not (find_spec("workflows") or find_spec("llama_index")):
    pytest.skip("LlamaIndex is not installed: ullage[llama-index]", allow_module_level=True)
pytest.importorskip("psutil", reason="memory is measured with psutil: pip install psutil")

pytestmark = pytest.mark.integration

RUNS, PAYLOAD, TURN = 40, 4 << 20, 16 << 10


def test_memory_of_a_long_run_stays_flat_and_finished_runs_hold_nothing(tmp_path: Path) -> None:
    stock, ours = played("llama_index_workflow", tmp_path, "--turns", 1500)["sides"]

    def growth(side: dict[str, Any]) -> float:
        memory = [mib for _, mib, _ in side["long"]["samples"]]
        return (memory[-1] - memory[0]) * (1 << 20)

    assert growth(stock) > 1000 * TURN > 4 * growth(ours)
    assert stock["runs"]["kept"] == RUNS
    assert ours["runs"]["dropped"] == ours["runs"]["kept"] == 0


def test_memray_sees_the_payloads_go(tmp_path: Path) -> None:
    memray = pytest.importorskip("memray", reason="memray is not installed")
    peaks = []
    for side in ("stock", "ullage"):
        trace = tmp_path / f"{side}.bin"
        command = [sys.executable, "-m", "memray", "run", "-q", "-o", trace, EXAMPLES / "llama_index_workflow.py"]
        subprocess.run([*command, "--side", side, "--turns", "10", "--every", "10"], check=True, timeout=300)
        peaks.append(memray.FileReader(trace).metadata.peak_memory)
    stock, ours = peaks
    assert stock > RUNS * PAYLOAD
    assert ours < RUNS * PAYLOAD / 2
