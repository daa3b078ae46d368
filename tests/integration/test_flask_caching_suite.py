"""What passes in the tests of cachelib and of Flask-Caching with their cache in memory passes with ours."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

# What the tests need beside the two packages.
pytest.importorskip("flask_caching", reason="Flask-Caching is not installed: pip install Flask-Caching")
pytest.importorskip("xprocess", reason="what its tests need is missing: pip install pytest-xprocess")
pytest.importorskip("pytest_asyncio", reason="what its tests need is missing: pip install pytest-asyncio")
pytest.importorskip("asgiref", reason="what its tests need is missing: pip install asgiref")
sys.path.insert(0, str(Path(__file__).parent))
import flask_caching_suite

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        tuple(map(int, version("Flask-Caching").split(".")[:2])) < (2, 5),
        reason="before 2.5, that is on Python 3.10, a test wants delete_many to stop at a key that is missing",
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return flask_caching_suite.fetched(tmp_path_factory.mktemp("sdists"))
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        pytest.skip("PyPI cannot be reached")


@pytest.mark.parametrize("package", flask_caching_suite.PACKAGES)
def test_what_passes_on_the_stock_cache_passes_on_ours(package: str, folder: Path) -> None:
    passed, lost = flask_caching_suite.compare(package, folder)
    assert passed > 200
    assert [test for test in lost if not flask_caching_suite.reason(test)] == []
