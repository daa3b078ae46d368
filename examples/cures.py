"""Every cure before and after: plays the examples whose packages are installed, and writes the page that shows them.

    pip install "ullage[dspy,demo]"        # or another of the extras; each fills in its own sections
    python examples/cures.py [--quick] [--runs FOLDER] [PAGE]

What is not installed is skipped, and keeps its section. What takes long can be taken from NAME.json and NAME.png, which
the example itself has left in FOLDER.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from platform import python_version
from types import ModuleType
from typing import Any

from sides import markdown
from ullage.demo.story import MIB, SIDES

EXAMPLES = Path(__file__).parent
HEAD = """# Cure your leak in one line

Five systems that only grow, each cured from outside. All numbers are from real runs, stock and with the line, each in a
process of its own, on two cores that others used too: take the ratios. The packages are those from PyPI. Language
models answer at once; DocsGPT is its three sets of objects, rebuilt as a small Flask application with stand-ins for the
models. This page is written by

    python examples/cures.py           # --quick, --runs FOLDER

in each environment that has one of the packages; what is not installed is skipped, and keeps its section. NIXL's run
takes eight minutes.
"""


@dataclass(frozen=True)
class Cure:
    example: str
    defect: str
    line: str  # and its import
    page: str


CURES = {
    "DSPy: histories": Cure(
        "dspy_history",
        "The last 10,000 calls are kept with their prompts: for the process, each model, each module, and in a trace.",
        'from ullage.integrations.dspy import install\n\ninstall(history_bytes="16 MiB")',
        "dspy.md",
    ),
    "DSPy: memory cache": Cure(
        "dspy_cache",
        "A million answers are kept, however large they are.",
        'from ullage.integrations.dspy import install\n\ninstall(cache_bytes="64 MiB")',
        "dspy.md",
    ),
    "LlamaIndex: workflows": Cure(
        "llama_index_workflow",
        "A run keeps each event that it has seen, for each checkpoint to replay, and holds them when it is over.",
        "from ullage.integrations import llama_index\n\n"
        "llama_index.install()  # and llama_index.clear(handler) when a run is kept",
        "llama_index.md",
    ),
    "Dynamo and NIXL: transfers": Cure(
        "nixl_transfers",
        "No notification is ever removed, each poll walks them all, and what a lost transfer holds is held for ever.",
        "from ullage.integrations import nixl\n\n"
        "nixl.install()  # and nixl.leases(agent, ttl=480) in place of a map of deadlines",
        "nixl.md",
    ),
    "DocsGPT: models and clients": Cure(
        "docsgpt",
        "Models and clients are in dicts that have no lock, no budget and no idea who is still reading.",
        "from ullage import InstanceCache\n\n"
        'models = InstanceCache(load_model, budget="128 MiB", cost_hint=size_of_file)',
        "docsgpt.md",
    ),
    "DocsGPT: answers in Flask-Caching": Cure(
        "flask_answers",
        "The cache in memory counts its answers and does not weigh them; once full, each new one sorts all the others.",
        'app.config["CACHE_TYPE"] = "ullage.integrations.flask_caching.BoundedCache"\n'
        'app.config["CACHE_OPTIONS"] = {"max_bytes": "64 MiB"}',
        "docsgpt.md",
    ),
}


def table(example: ModuleType, told: dict[str, Any]) -> str:
    """What an example found; stories have no table of their own that is fit for a page."""
    if hasattr(example, "table"):
        return f"{told['release']}:\n\n{example.table(told['sides'])}"
    story, sides = example.STORY, [told[side] for side in SIDES]
    rows = [
        ("", *(f"`{side['label']}`" for side in sides)),
        ("peak memory of the process", *(f"{side['steady'][1] / MIB:,.0f} MiB" for side in sides)),
        ("median, p99", *("{:,.0f} µs, {:,.0f} µs".format(*side["steady"][2:4]) for side in sides)),
        ("the object", *(side["outcome"] for side in sides)),
    ]
    load = f"{sides[0]['windows'][-1][0]:,} {story.axis}, Python {python_version()}. Timed: {story.timed}."
    return f"{load}\n\n{markdown(rows)}\n\n**The price:** {story.price}"


def section(title: str, cure: Cure, pictures: Path, quick: bool, runs: Path | None) -> str:
    example = import_module(cure.example)
    pictures.mkdir(parents=True, exist_ok=True)
    picture, numbers = pictures / f"{cure.example}.png", pictures / f"{cure.example}.json"
    if runs and (runs / numbers.name).exists():
        for file in (numbers, picture):
            shutil.copy(runs / file.name, file)
    else:
        command = [sys.executable, f"{EXAMPLES / cure.example}.py", *["--quick"] * quick]
        subprocess.run([*command, "--json", str(numbers), "--png", str(picture)], check=True)
    told = json.loads(numbers.read_text())
    numbers.unlink()
    shown = f"![{title}, stock and with ullage]({pictures.name}/{picture.name})"
    made = f"Made by `examples/{cure.example}.py{' --quick' * quick}`. More: [{cure.page}]({cure.page})."
    return "\n\n".join(["", cure.defect, f"```py\n{cure.line}\n```", table(example, told), shown, made, ""])


def sections(page: Path) -> dict[str, str]:
    parts = re.split(r"^## (.+)\n", page.read_text() if page.exists() else "", flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path, nargs="?", default=EXAMPLES.parent / "docs" / "cures.md")
    parser.add_argument("--quick", action="store_true", help="shorter loads")
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help="runs that are there already")
    options = parser.parse_args()
    for title, cure in CURES.items():
        try:
            body = section(title, cure, options.page.with_suffix(""), options.quick, options.runs)
        except ModuleNotFoundError as missing:
            print(f"{title}: skipped, {missing.name} is not installed", file=sys.stderr)
        else:
            found = {**sections(options.page), title: body}
            told = [f"## {each}\n\n{found[each].strip()}\n" for each in CURES if each in found]
            options.page.write_text("\n".join([HEAD, *told]))


if __name__ == "__main__":
    main()
