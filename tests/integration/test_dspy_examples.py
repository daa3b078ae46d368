"""The examples of DSPy before and after show what they say: stock grows, ours keeps to its bound."""

from __future__ import annotations

from pathlib import Path

import pytest
from example import assert_stock_grows_and_ours_stays_flat, played

pytest.importorskip("dspy", reason="the real DSPy is not installed: pip install dspy")
for package in ("matplotlib", "psutil", "rich"):
    pytest.importorskip(package, reason=f'examples need {package}: pip install "ullage[demo]"')

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("name", ["dspy_history", "dspy_cache"])
def test_stock_grows_and_ours_stays_flat(name: str, tmp_path: Path) -> None:
    assert_stock_grows_and_ours_stays_flat(played(name, tmp_path, "--quick"))
