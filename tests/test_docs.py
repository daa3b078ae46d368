"""The code in the README and in docs/ runs as it stands."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NEEDS = {"dspy.md": "dspy", "docsgpt.md": "flask_caching"}
"""The package that a page needs, where that is not ours."""
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_blocks_run(page: Path) -> None:
    if package := NEEDS.get(page.name):
        pytest.importorskip(package, reason=f"{page.name} needs {package}")
    text = page.read_text()
    names: dict[str, object] = {}
    for block in BLOCK.finditer(text):
        # Padded, so that a traceback names the line of the page.
        padding = "\n" * text.count("\n", 0, block.start(1))
        exec(compile(padding + block[1], str(page), "exec"), names)


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert link.startswith("https://") or (page.parent / link).exists(), f"{page}: {link}"


def test_there_is_code_to_run() -> None:
    assert sum(len(BLOCK.findall(page.read_text())) for page in PAGES) >= 5
