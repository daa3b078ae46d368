"""A service that keeps more than it has memory for: `memory_load.py LIMIT guarded|alone`; prints what a guard did.

LIMIT is the folder of a control group, which the process joins, or `RLIMIT_DATA=BYTES`.
"""

import os
import sys
import time
import warnings
from pathlib import Path

from ullage import HistoryRing, LRUCache, MemoryGuard, TransferMap

TURNS = 600

limit, guarded = sys.argv[1:]
if limit.startswith("RLIMIT_DATA="):
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (int(limit.partition("=")[2]),) * 2)
else:
    Path(limit, "cgroup.procs").write_text(str(os.getpid()))

warnings.simplefilter("always")
answers = LRUCache(None, name="answers")
prompts = HistoryRing(None, name="prompts")
transfers = TransferMap(None, name="transfers")
for number in range(100):
    transfers.begin(number, bytes(100_000))


def serve() -> None:
    """A mebibyte a turn: one large answer, and twenty prompts."""
    for turn in range(TURNS):
        answers[turn] = os.urandom(600_000)
        prompts.extend(f"{turn} {number} ".ljust(20_000, "x") for number in range(20))
        # Faster than any model answers.
        time.sleep(0.002)


if guarded == "guarded":
    with MemoryGuard(soft=0.5, hard=0.6, interval=0.05) as guard:
        serve()
    print(guard.stats())
else:
    serve()
assert len(transfers) == 100
assert TURNS - 1 in answers and prompts[-1].startswith(f"{TURNS - 1} 19 ")
print("lived")
