"""The examples of DocsGPT's objects and of Flask-Caching's cache, before and after, show what their page says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from example import assert_stock_grows_and_ours_stays_flat, played

for package in ("flask_caching", "numpy", "matplotlib", "psutil", "rich"):
    pytest.importorskip(package, reason=f'{package} is missing: pip install "ullage[flask-caching,demo]" numpy')

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc"),
]


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return {run["way"]: run for run in played("docsgpt", tmp_path_factory.mktemp("docsgpt"), "--quick")["sides"]}


def test_eight_cold_threads_load_once(ways: dict[str, dict[str, Any]]) -> None:
    assert ways["InstanceCache"]["rush"]["model loads"] == ways["InstanceCache"]["rush"]["embedder loads"] == 1
    assert ways["a load a query"]["rush"]["model loads"] == 16
    assert ways["dicts without locks"]["rush"]["model loads"] > 1


def test_what_is_loaded_stays_within_the_budget(ways: dict[str, dict[str, Any]]) -> None:
    # The models' budget, the embedder, and what the threads and Flask take.
    assert ways["InstanceCache"]["peak"] < 128 + 16 + 32
    assert ways["InstanceCache"]["traffic"]["model loads"] >= 3
    for stock in ("a load a query", "dicts without locks"):
        assert ways[stock]["peak"] > 128 + 16 + 32
    assert ways["dicts without locks"]["resident"] > 32 + 64 + 96


def test_a_lease_lasts_as_long_as_the_stream(ways: dict[str, dict[str, Any]]) -> None:
    ours = ways["InstanceCache"]["traffic"]
    assert ours["answers"] == 8 + 100
    assert ours["streams that met"] == ours["closed in use"] == 0
    assert ways["dicts without locks"]["traffic"]["streams that met"] > 0


def test_clients_are_told_apart_by_the_whole_token_and_leave(ways: dict[str, dict[str, Any]]) -> None:
    assert ways["InstanceCache"]["tools"] == {"clients": 100, "answers": 0, "clients later": 1}
    stock = ways["dicts without locks"]["tools"]
    assert stock["answers"] > 900 and stock["clients later"] > stock["clients"] > 1_000


def test_cached_answers_keep_to_their_bytes(tmp_path: Path) -> None:
    assert_stock_grows_and_ours_stays_flat(played("flask_answers", tmp_path, "--quick"))
