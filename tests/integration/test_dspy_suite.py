"""DSPy's own tests, as far as its sdist holds them, pass with ours installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("dspy", reason="the real DSPy is not installed: pip install dspy")
sys.path.insert(0, str(Path(__file__).parent))
import dspy_suite

pytestmark = pytest.mark.integration


def test_what_passes_on_the_stock_objects_passes_on_ours(tmp_path: Path) -> None:
    try:
        tests = dspy_suite.fetched(tmp_path)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        pytest.skip("PyPI cannot be reached")
    passed, lost = dspy_suite.compare(tests)
    assert passed >= 5
    assert [test for test in lost if test.partition("[")[0] not in dspy_suite.EXCLUDED] == []
