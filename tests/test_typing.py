"""What type checkers say: of the stubs beside the installed package, of our own code, and of what users write."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import ullage

ROOT = Path(__file__).parents[1]
TYPING = Path("tests", "typing")
# A checker takes the stub where there is one; these hold code as well.
STUBBED = [f"_{name}.py" for name in ("cached", "lru", "history", "transfer", "views", "memo")]


def check(*command: str) -> None:
    checker = command[0].partition(".")[0]
    pytest.importorskip(checker, reason=f"{checker} is not installed; the extra `test` brings it")
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_stubs_say_what_runs() -> None:
    check("mypy.stubtest", "ullage", "--allowlist", str(TYPING / "stubtest-allowlist.txt"))


@pytest.mark.parametrize("files", [["."], STUBBED], ids=["package", "behind the stubs"])
def test_our_code_is_typed(files: list[str], tmp_path: Path) -> None:
    # Not among the other installed packages, which mypy would take for ours.
    copy = shutil.copytree(Path(ullage.__file__).parent, tmp_path / "ullage", ignore=shutil.ignore_patterns("*.so"))
    check("mypy", "--strict", *(str(copy / file) for file in files))


def test_users_code_for_mypy() -> None:
    check("mypy", "--strict", str(TYPING / "api.py"))


def test_users_code_for_pyright() -> None:
    check("basedpyright", "--project", str(TYPING), "--pythonpath", sys.executable)
