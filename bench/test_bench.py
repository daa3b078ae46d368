"""Every benchmark as a pytest-benchmark test: ullage's lap is timed, and the ratios stand beside it in extra_info.

No test asserts a time: whether a target is met is for docs/benchmarks.md to show. With ULLAGE_BENCH_QUICK=1 in the
environment all of this only checks, in under a minute, that every benchmark runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import backends
import calls
import growth
import history
import instructions
import latency
import maps
import memory
import pytest
import samples
import sizing
import transfers
import watching
from rounds import PACE, Race
from table import Table

pytest.importorskip("ullage")

RACED = (maps, history, transfers, calls, backends)
RACES = [pytest.param(make, id=title) for module in RACED for title, make in module.races()]

TABLES = [
    pytest.param(transfers.burst, id="burst"),
    pytest.param(memory.tables, id="memory"),
    pytest.param(growth.tables, id="growth"),
    pytest.param(sizing.tables, id="sizing"),
    pytest.param(watching.tables, id="watching"),
    pytest.param(samples.tables, id="samples"),
    pytest.param(instructions.tables, id="instructions"),
    pytest.param(lambda: list(latency.tables()), id="latency"),
]


@pytest.mark.parametrize("make", RACES)
def test_race(make: Callable[[], Race], benchmark: Any) -> None:
    race = make()
    ours = next(entrant for entrant in race.entrants if entrant.role == "ours")
    results = race.run()
    benchmark.group = race.title
    benchmark.extra_info["operations a lap"] = ours.ops
    for entrant in race.entrants:
        benchmark.extra_info[f"÷ {entrant.name}"] = round(results.ratio(ours.name, entrant.name), 3)

    def fed() -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (ours.feed(ours.ops), *ours.names.values()), {}

    benchmark.pedantic(ours.run, setup=fed, rounds=PACE.rounds)


@pytest.mark.parametrize("make", TABLES)
def test_table(make: Callable[[], Table | list[Table]], benchmark: Any) -> None:
    made = benchmark.pedantic(make, rounds=1)
    for table in made if isinstance(made, list) else [made]:
        benchmark.extra_info[table.title] = [table.columns, *table.rows]
