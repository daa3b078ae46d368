"""Transfers in flight, some of which never complete: a dict walked at each turn beside a map with deadlines."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from ullage import TransferMap
from ullage.demo.story import Story
from ullage.testing import ManualClock

BATCH = 10
"""Transfers begun in one turn of the engine."""
LATENCY = 5
"""Turns a transfer takes to complete."""
LOST = 25
"""One transfer in so many never completes: its peer went away."""
BUFFER = 16 << 10
TURN = 0.01
TTL = 30.0


class Transfer:
    """A buffer that a peer fills; `done` is what the network library would answer when asked."""

    __slots__ = ("buffer", "done")

    def __init__(self) -> None:
        self.buffer = bytearray(BUFFER)
        self.done = False


class Turn(NamedTuple):
    begun: list[tuple[int, Transfer]]
    completed: list[int]


def load(count: int) -> Iterator[Turn]:
    """Each turn begins some transfers and has news of those begun a few turns ago, but for the lost ones."""
    under_way: deque[list[tuple[int, Transfer]]] = deque()
    for number in range(count):
        begun = [(number * BATCH + position, Transfer()) for position in range(BATCH)]
        under_way.append([(key, transfer) for key, transfer in begun if key % LOST])
        landed = under_way.popleft() if len(under_way) > LATENCY else []
        for _, transfer in landed:
            transfer.done = True
        yield Turn(begun, [key for key, _ in landed])


class WalkedDict:
    """Dynamo's connector after its leak was fixed: every turn walks all entries for those that are done."""

    def __init__(self) -> None:
        self.transfers: dict[int, Transfer] = {}

    def __call__(self, turn: Turn) -> None:
        self.transfers.update(turn.begun)
        done = [key for key, transfer in self.transfers.items() if transfer.done]
        for key in done:
            del self.transfers[key]

    def outcome(self) -> str:
        return f"{len(self.transfers):,} held at the end, nobody told about the lost ones"


class DeadlineMap:
    """Time is the load's own, a hundred turns to the second, so that each run sees the same deadlines pass."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.transfers: TransferMap[int, Transfer] = TransferMap(TTL, timer=self.clock)
        self.aborted = 0

    def __call__(self, turn: Turn) -> None:
        self.clock.advance(TURN)
        for key, transfer in turn.begun:
            self.transfers.begin(key, transfer)
        for key in turn.completed:
            self.transfers.complete(key)
        self.aborted += len(self.transfers.pop_expired())

    def outcome(self) -> str:
        return f"{len(self.transfers):,} held at the end, {self.aborted:,} lost ones handed over to abort"


STORY = Story(
    name="transfers",
    title="Transfers, 1 in 25 never completed",
    axis=f"turns, {BATCH} transfers each",
    timed="begin 10, collect what is done",
    price="Each call costs more than one of dict: while few are lost, the walk is quicker. A dict that is told of each "
    "completion needs no walk at all, and still keeps the lost ones.",
    items=(30_000, 10_000),
    load=load,
    stock=WalkedDict,
    stock_label="dict, walked each turn",
    ours=DeadlineMap,
    ours_label=f"TransferMap(ttl={TTL:g})",
)
