"""DSPy's own tests, first with DSPy as it comes, then with `ullage.integrations.dspy` installed.

``python dspy_suite.py [FOLDER]`` runs the tests in FOLDER; without one, those that DSPy's sdist on PyPI holds, of the
version that is installed. The status is 1 if a test passes on the stock objects only, unless it is one of EXCLUDED.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

EXCLUDED = {
    "tests/clients/test_cache.py::test_initialization": "isinstance(memory_cache, cachetools.LRUCache)",
    "tests/clients/test_inspect_global_history.py::test_inspect_history_basic": "isinstance(history, list)",
    "tests/clients/test_inspect_global_history.py::test_inspect_empty_history": "isinstance(history, list)",
}
"""Tests that insist on what ours are not, each with what it insists on."""


def fetched(folder: Path) -> Path:
    """The tests in the sdist, unpacked in a folder."""
    package = f"dspy=={version('dspy')}"
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", package]
    subprocess.run([*command, "-d", folder], check=True, timeout=300)
    (archive,) = folder.glob("dspy-*.tar.gz")
    with tarfile.open(archive) as sdist:
        sdist.extractall(folder, filter="data")
    return next(folder.glob("dspy-*/tests"))


def outcomes(tests: Path, ours: bool) -> dict[str, str]:
    """Test -> how it ended."""
    with tempfile.TemporaryDirectory() as cache:
        report = Path(cache, "report.json")
        environment = {
            **os.environ,
            "DSPY_CACHEDIR": cache,
            "DSPY_SUITE_REPORT": str(report),
            "DSPY_SUITE_OURS": "1" if ours else "",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")])),
        }
        command = [sys.executable, "-m", "pytest", "-q", "-p", "dspy_suite", "-p", "no:cacheprovider", tests.name]
        subprocess.run(command, cwd=tests.parent, env=environment, timeout=1200, check=False)
        found: dict[str, str] = json.loads(report.read_text())
        return found


# The plugin, in the child.

_found: dict[str, str] = {}


def pytest_configure() -> None:
    if os.environ.get("DSPY_SUITE_OURS"):
        import dspy
        from ullage.integrations.dspy import install

        # DSPy has pools of its own since 3.4.
        install(engines=32 if "_engine_store" in dspy.LM.__init__.__code__.co_names else None)


def pytest_runtest_logreport(report: Any) -> None:
    if report.when == "call" or report.outcome != "passed":
        _found[report.nodeid] = report.outcome


def pytest_unconfigure() -> None:
    Path(os.environ["DSPY_SUITE_REPORT"]).write_text(json.dumps(_found))


def compare(tests: Path) -> tuple[int, list[str]]:
    """How many tests passed on the stock objects, and which of them do not pass on ours."""
    stock, ours = outcomes(tests, ours=False), outcomes(tests, ours=True)
    passed = [test for test, outcome in stock.items() if outcome == "passed"]
    return len(passed), [test for test in passed if ours.get(test) != "passed"]


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        passed, lost = compare(Path(sys.argv[1]) if sys.argv[1:] else fetched(Path(folder)))
    print(f"DSPy {version('dspy')}: {passed} tests pass on the stock objects, {passed - len(lost)} on ours")
    for test in lost:
        print(f"  {test}: {EXCLUDED.get(test.partition('[')[0], 'NOT EXCLUDED')}")
    return int(any(test.partition("[")[0] not in EXCLUDED for test in lost))


if __name__ == "__main__":
    sys.exit(main())
