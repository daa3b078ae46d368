"""Examples, played as a reader would play them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[2] / "examples"
MIB = 1 << 20


def played(name: str, folder: Path, *arguments: object) -> Any:
    """The numbers of an example, which has drawn a picture of them as well."""
    numbers, picture = folder / "numbers.json", folder / "picture.png"
    command = [sys.executable, "-W", "ignore", EXAMPLES / f"{name}.py", *arguments, "--json", numbers, "--png", picture]
    done = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout, done.stderr
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 10_000
    return json.loads(numbers.read_text())


def assert_stock_grows_and_ours_stays_flat(story: dict[str, Any]) -> None:
    """By what the last sixth of the load added."""

    def growth(side: dict[str, Any]) -> int:
        memory = [rss for _, rss, *_ in side["windows"]]
        assert len(memory) == 60
        return int(memory[-1] - memory[-10])

    assert growth(story["stock"]) > 8 * MIB
    assert growth(story["ours"]) < 2 * MIB
