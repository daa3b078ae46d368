"""Two million transfers between two agents of NIXL, of which some never end: Dynamo as it comes, and with ullage.

    pip install "ullage[nixl,demo]" ai-dynamo-runtime
    python examples/nixl_transfers.py [--quick] [--transfers N] [--maxsize N] [--json FILE] [--png FILE]

Each side runs in a process of its own, with two real agents. A transfer has a real handle and a lease, and ends with a
real notification; 1 in 100 never ends. 1 in 10 is renewed, and lifetimes differ, so that they end out of order. 1 in 50
has memory of its own registered, and all that never end have. At 20 points a real read by `dynamo.nixl_connect` moves
data, and its status is polled: the quickest of three, so that nothing new has come. Leases go by a clock of the load's
own, 100 transfers a second, so that both sides see the same. Times are those of the processor.
"""

import argparse
import asyncio
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable
from statistics import median
from time import process_time, thread_time
from typing import Any

os.environ.setdefault("UCX_TLS", "tcp,self,sm")
os.environ.setdefault("NIXL_LOG_LEVEL", "ERROR")

import numpy as np
import psutil
from dynamo import nixl_connect
from sides import Side, compare, markdown
from ullage.integrations import nixl
from ullage.testing import ManualClock

POINTS = 20
SIZE = 4096
LOST, OWN_MEMORY, RENEWED = 100, 50, 10
TTL, LONG, RENEWAL = 30.0, 480.0, 60.0
IN_FLIGHT = 500
RATE = 100


class Wire:
    """Two connectors of Dynamo, with the agent of each, and what one transfer takes from them."""

    async def open(self, transfers: int) -> None:
        self.here, self.there = nixl_connect.Connector(), nixl_connect.Connector()
        self.agent = (await self.here._create_connection())._nixl
        connection = await self.there._create_connection()
        self.peer = connection._nixl
        self.pages = np.zeros((transfers // OWN_MEMORY + 1, SIZE), np.uint8)
        self.source = np.full(SIZE, 7, np.uint8)
        self.memory = self.agent.register_memory(self.region(self.source), "DRAM")
        self.target = np.zeros(SIZE, np.uint8)
        self.peer.register_memory(self.region(self.target), "DRAM")
        self.agent.add_remote_agent(self.peer.get_agent_metadata())
        self.peer.add_remote_agent(self.agent.get_agent_metadata())
        # Or Dynamo forgets the agent when its last read is done.
        connection.acquire_remote_ref(self.agent.name)
        self.local = self.agent.prep_xfer_dlist("", [(self.source.ctypes.data, SIZE, 0)], "DRAM")
        far = [(self.target.ctypes.data, SIZE, 0)]
        self.remote = self.agent.prep_xfer_dlist(self.peer.name, far, "DRAM")
        self.registrations = 0
        self.released: Counter[int] = Counter()

    @staticmethod
    def region(array: Any) -> list[tuple[int, int, int, str]]:
        return [(array.ctypes.data, array.nbytes, 0, "")]

    def lease(self, number: int) -> Any:
        """A handle; and for some, memory of their own, registered."""
        handle = self.agent.make_prepped_xfer("WRITE", self.local, [0], self.remote, [0], b"")
        if number % OWN_MEMORY:
            return nixl.Lease(self.agent, [handle])
        self.registrations += 1
        memory = self.agent.register_memory(self.region(self.pages[number // OWN_MEMORY]), "DRAM")
        return Counted(self, number, [handle], [memory])

    async def read(self) -> tuple[float, float]:
        """A read by Dynamo: milliseconds of one poll of the side that is read from, and of the whole."""
        start = process_time()
        readable = await self.here.create_readable(nixl_connect.Descriptor((np.full(SIZE, 7, np.uint8), "cpu")))
        assert readable.status is nixl_connect.OperationStatus.INITIALIZED  # takes in what came since the last
        polls = []
        for _ in range(3):
            polled = thread_time()
            assert readable.status is nixl_connect.OperationStatus.INITIALIZED
            polls.append(thread_time() - polled)
        target = np.zeros(SIZE, np.uint8)
        with await self.there.begin_read(readable.metadata(), nixl_connect.Descriptor((target, "cpu"))) as reading:
            await reading.wait_for_completion()
        await readable.wait_for_completion()
        assert (target == 7).all()
        return min(polls) * 1000, (process_time() - start) * 1000


class Counted(nixl.Lease):
    """A lease whose memory is counted when it is released."""

    __slots__ = ("number", "wire")

    def __init__(self, wire: Wire, number: int, handles: list[Any], registered: list[Any]) -> None:
        super().__init__(wire.agent, handles, registered)
        self.wire, self.number = wire, number

    def release(self) -> None:
        super().release()
        self.wire.registrations -= 1
        self.wire.released[self.number] += 1


class Stock:
    """Dynamo's `transfer_tracker`: a dict, whose entries leave when they complete."""

    def __init__(self) -> None:
        self.live: dict[int, Any] = {}
        self.begin: Callable[[int, Any, float], object] = lambda number, lease, ttl: self.live.update({number: lease})
        self.renew: Callable[[int, float], object] = lambda number, ttl: None
        self.unseen = self.expired = 0

    def complete(self, number: int) -> None:
        self.live.pop(number).release()

    def settle(self) -> None:
        """Nobody tells it of what never ended."""


class Ours:
    """The leases of `ullage.integrations.nixl`, and its inbox."""

    def __init__(self, wire: Wire, clock: ManualClock, maxsize: int) -> None:
        nixl.install(maxsize=maxsize, send_ttl=None)
        self.clock = clock
        self.live = nixl.leases(wire.agent, TTL, timer=clock)
        self.begin = lambda number, lease, ttl: self.live.begin(number, lease, ttl=ttl)
        self.renew = self.live.renew

    def complete(self, number: int) -> None:
        self.live.complete(number).release()

    def settle(self) -> None:
        self.clock.advance(LONG + RENEWAL)
        len(self.live)

    @property
    def expired(self) -> int:
        return self.live.stats().expired

    @property
    def unseen(self) -> int:
        return self.live.stats().unseen


async def play(options: argparse.Namespace) -> Side:
    transfers = options.transfers
    wire, clock = Wire(), ManualClock()
    await wire.open(transfers)
    tracker = Stock() if options.side == "stock" else Ours(wire, clock, options.maxsize)
    memory = psutil.Process().memory_info
    samples = []
    ends = {transfers * point // POINTS for point in range(1, POINTS + 1)}
    start, reading = process_time(), 0.0
    under_way: deque[int] = deque()
    for number in range(transfers):
        clock.advance(1 / RATE)
        tracker.begin(number, wire.lease(number), LONG if number % 7 == 0 else TTL)
        earlier = number - IN_FLIGHT // 2
        if earlier >= 0 and earlier * 7 % RENEWED == earlier // LOST % RENEWED:
            tracker.renew(earlier, RENEWAL)
        if number % LOST:
            under_way.append(number)
        if len(under_way) > IN_FLIGHT:
            ended = under_way.popleft()
            wire.peer.send_notif(wire.agent.name, b"transfer %d" % ended)
            tracker.complete(ended)
        if number + 1 in ends:
            poll, read = await wire.read()
            reading += read
            samples.append((number + 1, poll, read, memory().rss / (1 << 20)))
    per_transfer = ((process_time() - start) * 1000 - reading) / transfers * 1000
    for ended in under_way:
        wire.peer.send_notif(wire.agent.name, b"transfer %d" % ended)
        tracker.complete(ended)
    while b"transfer %d" % ended not in wire.agent.update_notifs().get(wire.peer.name, ()):
        await asyncio.sleep(0.01)
    tracker.settle()
    return {
        "side": options.side,
        "samples": samples,
        "transfer_us": per_transfer,
        "lost": len(range(0, transfers, LOST)),
        "stranded": len(tracker.live),
        "expired": tracker.expired,
        "unseen": tracker.unseen,
        "released_once": sum(times == 1 for number, times in wire.released.items() if number % LOST == 0),
        "released_twice": sum(times > 1 for times in wire.released.values()),
        "registrations": wire.registrations,
        "notifications": sum(map(len, wire.agent.notifs.values())),
    }


def table(sides: list[Side]) -> str:
    def column(side: Side) -> list[str]:
        samples = side["samples"]
        middle = samples[len(samples) // 2 - 1]
        return [
            side["side"],
            f"{samples[0][1]:,.3f} ms",
            f"{middle[1]:,.3f} ms",
            f"{samples[-1][1]:,.3f} ms",
            f"{median(poll for _, poll, *_ in samples):,.3f} ms, {max(poll for _, poll, *_ in samples):,.3f} ms",
            f"{side['notifications']:,}",
            f"{samples[-1][3] - samples[0][3]:,.0f} MiB",
            f"{side['stranded']:,} of {side['lost']:,}",
            f"{side['released_once']:,} of {side['lost']:,}, {side['released_twice']:,} twice",
            f"{side['unseen']:,}",
            f"{side['registrations']:,}",
            f"{side['transfer_us']:.1f} µs",
        ]

    points = [sides[0]["samples"][index][0] for index in (0, POINTS // 2 - 1, -1)]
    names = [
        "",
        *(f"one poll after {done:,} transfers" for done in points),
        "median and slowest poll",
        "notifications held at the end",
        "memory that came with them",
        "leases left of transfers that never ended",
        "of those, released once",
        "expired unseen",
        "registrations left",
        "one transfer without polls",
    ]
    return markdown(zip(names, *map(column, sides), strict=True))


def curves(side: Side) -> Iterable[Any]:
    done, poll, _, memory = zip(*side["samples"], strict=True)
    return done, memory, poll


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--transfers", type=int, default=2_000_000)
    parser.add_argument("--quick", action="store_const", dest="transfers", const=100_000, help="100,000 transfers")
    parser.add_argument("--maxsize", type=int, default=65_536, help="notifications that may wait")
    compare(parser, play, ["nixl", "ai-dynamo-runtime"], table, curves, ("transfers", "one poll"))


if __name__ == "__main__":
    main()
