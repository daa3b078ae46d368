"""The examples of DSPy before and after show what they say: stock grows, ours keeps to its bound."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("dspy", reason="the real DSPy is not installed: pip install dspy")
for package in ("matplotlib", "psutil", "rich"):
    pytest.importorskip(package, reason=f'examples need {package}: pip install "ullage[demo]"')

pytestmark = pytest.mark.integration
EXAMPLES = Path(__file__).parents[2] / "examples"
MIB = 1 << 20


@pytest.mark.parametrize("name", ["dspy_history", "dspy_cache"])
def test_stock_grows_and_ours_stays_flat(name: str, tmp_path: Path) -> None:
    numbers, picture = tmp_path / "numbers.json", tmp_path / "picture.png"
    command = [sys.executable, EXAMPLES / f"{name}.py", "--quick", "--json", numbers, "--png", picture]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "peak memory" in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    story = json.loads(numbers.read_text())

    def growth(side: dict[str, Any]) -> int:
        """What the last sixth of the load added."""
        memory = [rss for _, rss, *_ in side["windows"]]
        assert len(memory) == 60
        return int(memory[-1] - memory[-10])

    assert growth(story["stock"]) > 8 * MIB
    assert growth(story["ours"]) < 2 * MIB
