"""The tests of cachelib and of Flask-Caching, first with their `SimpleCache`, then with ours in its place.

``python flask_caching_suite.py`` fetches the sdists of the installed versions from PyPI; with ``FOLDER``, what is
unpacked there. The status is 1 if a test passes on the stock cache only, unless it is one of EXCLUDED.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("cachelib", "Flask-Caching")
FILES = {
    "cachelib": ("test_simple_cache.py", "test_base_cache.py", "test_serializers.py"),
    "Flask-Caching": (".",),
}
"""Where in the tests; the rest of cachelib's wants servers, and no `SimpleCache`."""

EXCLUDED = {
    "test_threshold_zero_defaults_to_500": "0 entries: an error that says what to write, not 500",
    "test_purge": "a cache for 2 entries that holds 3; ours holds 2",
    "test_deprecated_ignore_errors": "an argument that Flask-Caching will remove",
    "test_values_are_stored_in_the_configured_format": "the stored pair (deadline, value) in a private attribute",
}
"""Tests that insist on what ours is not, each with what it insists on."""


def reason(test: str) -> str | None:
    """Why a test is excluded, if it is."""
    return EXCLUDED.get(test.rpartition("::")[2].partition("[")[0])


def fetched(folder: Path) -> Path:
    """The sdists, unpacked in a folder."""
    packages = [f"{package}=={version(package)}" for package in PACKAGES]
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", *packages]
    subprocess.run([*command, "-d", folder], check=True, timeout=300)
    for archive in folder.glob("*.tar.gz"):
        with tarfile.open(archive) as sdist:
            sdist.extractall(folder, filter="data")
    return folder


def outcomes(package: str, folder: Path, ours: bool) -> dict[str, str]:
    """Test -> how it ended."""
    tests = next(folder.glob(f"{package.lower().replace('-', '_')}-*/tests"))
    with tempfile.TemporaryDirectory() as place:
        report = Path(place, "report.json")
        environment = {
            **os.environ,
            "SUITE_REPORT": str(report),
            "SUITE_OURS": package if ours else "",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")])),
        }
        command = [sys.executable, "-m", "pytest", "-q", "-p", "flask_caching_suite", "-p", "no:cacheprovider"]
        command += ["-o", "asyncio_default_fixture_loop_scope=function"]
        subprocess.run([*command, *FILES[package]], cwd=tests, env=environment, timeout=600, check=False)
        found: dict[str, str] = json.loads(report.read_text())
        return found


# The plugin, in the child.

_found: dict[str, str] = {}


def pytest_configure() -> None:
    package = os.environ["SUITE_OURS"]
    if not package:
        return
    import cachelib.simple
    import flask_caching.backends.simplecache
    from ullage.integrations.flask_caching import BoundedCache

    def timer() -> float:
        """Flask-Caching's tests put a clock into cachelib that they turn, from a day in the past on."""
        clock = cachelib.simple.time
        return time.monotonic() + (0 if clock is time.time else clock() - 1.7e9)

    class SimpleCache(BoundedCache):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, timer=timer, **options)

    places = {
        "cachelib": (cachelib, cachelib.simple),
        "Flask-Caching": (flask_caching.backends, flask_caching.backends.simplecache),
    }
    for module in places[package]:
        module.SimpleCache = SimpleCache  # type: ignore[attr-defined]


def pytest_runtest_logreport(report: Any) -> None:
    if report.when == "call" or report.outcome != "passed":
        _found[report.nodeid] = report.outcome


def pytest_unconfigure() -> None:
    Path(os.environ["SUITE_REPORT"]).write_text(json.dumps(_found))


def compare(package: str, folder: Path) -> tuple[int, list[str]]:
    """How many tests pass on the stock cache, and which of them do not pass on ours."""
    stock, ours = outcomes(package, folder, ours=False), outcomes(package, folder, ours=True)
    passed = [test for test, outcome in stock.items() if outcome == "passed"]
    return len(passed), [test for test in passed if ours.get(test) != "passed"]


def main() -> int:
    unexplained = 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(sys.argv[1]) if sys.argv[1:] else fetched(Path(place))
        for package in PACKAGES:
            passed, lost = compare(package, folder)
            print(f"{package} {version(package)}: {passed} tests pass on the stock cache, {passed - len(lost)} on ours")
            for test in lost:
                print(f"  {test}: {reason(test) or 'NOT EXCLUDED'}")
                unexplained += not reason(test)
    return int(unexplained > 0)


if __name__ == "__main__":
    sys.exit(main())
