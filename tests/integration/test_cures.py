"""The page of all cures: each has its section, its line runs, and the command plays what is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "examples"))

from cures import CURES, Cure, sections

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "cures.md"
AROUND = {
    "docsgpt": ("load_model, size_of_file = str, len\n", "\nwith models.lease('a') as model: assert model == 'a'"),
    "flask_answers": (
        "from flask import Flask\nfrom flask_caching import Cache\napp = Flask('app')\n",
        "\nassert type(Cache(app).cache).__name__ == 'BoundedCache'",
    ),
}
"""What a program that takes over the line has before and after it."""


def test_each_system_has_its_section() -> None:
    assert list(sections(PAGE)) == [*CURES]


@pytest.mark.parametrize("title", CURES)
def test_a_section_has_defect_line_table_picture_and_link(title: str) -> None:
    section, cure = sections(PAGE)[title], CURES[title]
    assert cure.defect in section and f"```py\n{cure.line}\n```" in section and f"({cure.page})" in section
    assert (PAGE.parent / "cures" / f"{cure.example}.png").read_bytes().startswith(b"\x89PNG")
    head, rule, *rows = [line for line in section.splitlines() if line.startswith("|")]
    assert len(rows) >= 3 and {row.count("|") for row in (head, rule, *rows)} in ({4}, {5})


@pytest.mark.integration
@pytest.mark.parametrize("cure", CURES.values(), ids=lambda cure: cure.example)
def test_the_line_runs(cure: Cure) -> None:
    before, after = AROUND.get(cure.example, ("", ""))
    command = [sys.executable, "-c", before + cure.line + after]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if (said := done.stderr.rpartition("\nModuleNotFoundError: ")[2]) != done.stderr:
        assert "named 'ullage" not in said
        pytest.skip(said)
    assert done.returncode == 0, done.stderr


@pytest.mark.integration
def test_what_is_installed_is_played_and_what_is_not_keeps_its_section(tmp_path: Path) -> None:
    for package in ("matplotlib", "psutil", "rich"):
        pytest.importorskip(package, reason=f'examples need {package}: pip install "ullage[demo]"')
    page = tmp_path / "page.md"
    page.write_text("".join(f"## {title}\n\nof old\n\n" for title in CURES))
    command = [sys.executable, ROOT / "examples" / "cures.py", "--quick", page]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    for title, cure in CURES.items():
        skipped = f"{title}: skipped" in done.stderr
        section = sections(page)[title]
        assert (section.strip() == "of old") == skipped, done.stderr
        assert (tmp_path / "page" / f"{cure.example}.png").exists() != skipped
