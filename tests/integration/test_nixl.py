"""The real NIXL and the real Dynamo: two agents on this machine, with notifications and transfers that expire."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from threading import Event, Thread
from typing import Any
from uuid import uuid4

import pytest

pytest.importorskip("nixl", reason="NIXL is not installed: ullage[nixl]")
# Between processes of one machine, and within one.
os.environ.setdefault("UCX_TLS", "tcp,self,sm")

import numpy as np
from example import played
from nixl._api import nixl_agent
from places import held, owner_of
from ullage import TransferMap
from ullage.integrations import nixl
from ullage.testing import ManualClock

pytestmark = pytest.mark.integration

SIZE = 4096
SECONDS = 60
REPLACED = ["nixl._api:nixl_agent.update_notifs", "nixl._api:nixl_agent.check_remote_xfer_done"]
BUILT_ON = [
    *REPLACED,
    "nixl._api:nixl_agent.get_new_notifs",
    "nixl._api:nixl_agent.check_xfer_state",
    "nixl._api:nixl_agent.release_xfer_handle",
    "nixl._api:nixl_agent.deregister_memory",
    "nixl._bindings:nixlNotPostedError",
]
DYNAMO = ["dynamo.nixl_connect:PassiveOperation.__init__", "dynamo.nixl_connect:PassiveOperation.status"]


class Pair:
    """Two agents that know each other; the second writes into a buffer of the first."""

    def __init__(self) -> None:
        self.reader, self.writer = nixl_agent(f"reader-{uuid4()}"), nixl_agent(f"writer-{uuid4()}")
        self.target, self.source = np.zeros(SIZE, np.uint8), np.full(SIZE, 7, np.uint8)
        self.of_reader, self.of_writer = register(self.reader, self.target), register(self.writer, self.source)
        self.writer.add_remote_agent(self.reader.get_agent_metadata())
        self.reader.add_remote_agent(self.writer.get_agent_metadata())

    def handle(self, message: bytes) -> Any:
        local = self.writer.prep_xfer_dlist("", [(self.source.ctypes.data, SIZE, 0)], "DRAM")
        remote = self.writer.prep_xfer_dlist(self.reader.name, [(self.target.ctypes.data, SIZE, 0)], "DRAM")
        return self.writer.make_prepped_xfer("WRITE", local, [0], remote, [0], message)

    def send(self, *messages: bytes) -> None:
        for message in messages:
            self.writer.send_notif(self.reader.name, message)

    def received(self) -> list[bytes]:
        return list(self.reader.update_notifs().get(self.writer.name, ()))


def register(agent: Any, array: Any) -> Any:
    return agent.register_memory([(array.ctypes.data, array.nbytes, 0, "")], "DRAM")


def until(happened: Callable[[], object]) -> None:
    async def wait() -> None:
        while not happened():
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(wait(), SECONDS))


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    nixl.uninstall()


@pytest.fixture
def pair() -> Pair:
    return Pair()


# Agents.


def test_a_write_is_seen_once_and_its_notification_is_gone(pair: Pair) -> None:
    nixl.install()
    handle = pair.handle(b"written")
    pair.writer.transfer(handle)
    until(lambda: pair.writer.check_xfer_state(handle) == "DONE")
    until(lambda: pair.reader.check_remote_xfer_done(pair.writer.name, b"written"))
    assert (pair.target == 7).all()
    assert not pair.reader.check_remote_xfer_done(pair.writer.name, b"written")
    assert pair.received() == []


def test_notifications_wait_in_order_with_those_that_are_equal_until_they_are_removed(pair: Pair) -> None:
    nixl.install()
    pair.send(b"a", b"b", b"a", b"c1")
    until(lambda: len(pair.received()) == 4)
    assert pair.received() == [b"a", b"b", b"a", b"c1"]
    waiting = pair.reader.notifs[pair.writer.name]
    waiting.remove(b"a")
    assert list(waiting) == [b"b", b"a", b"c1"] and b"a" in waiting and repr(waiting) == "[b'b', b'a', b'c1']"
    assert pair.reader.check_remote_xfer_done(pair.writer.name, b"c")
    assert not pair.reader.check_remote_xfer_done(pair.writer.name, b"1", tag_is_prefix=False)
    assert not pair.reader.check_remote_xfer_done("nobody", b"a")
    with pytest.raises(ValueError, match=r"nixl.install\(ttl=...\)"):
        waiting.remove(b"c1")


def test_a_notification_that_nobody_claims_expires_without_traffic(pair: Pair) -> None:
    nixl.install(ttl=0.05)
    pair.send(b"lost")
    until(lambda: pair.writer.name in pair.reader.update_notifs())
    waiting = pair.reader.notifs[pair.writer.name]
    until(lambda: len(waiting) == 0)


def test_no_more_than_maxsize_wait_and_the_oldest_go(pair: Pair) -> None:
    nixl.install(maxsize=3)
    pair.send(*(b"%d" % number for number in range(10)))
    until(lambda: pair.received()[-1:] == [b"9"])
    assert pair.received() == [b"7", b"8", b"9"]


def test_senders_that_are_gone_leave_nothing(pair: Pair) -> None:
    nixl.install(ttl=0.05)
    inbox = pair.reader.update_notifs()
    for number in range(100):
        inbox.take({f"sender {number}": [b"hello"]})
        until(lambda name=f"sender {number}": not inbox[name])
    assert len(inbox) == 1


def test_what_waited_before_install_waits_after_it_and_after_uninstall(pair: Pair) -> None:
    pair.send(b"early")
    until(lambda: pair.received() == [b"early"])
    nixl.install()
    assert pair.received() == [b"early"]
    pair.send(b"late")
    until(lambda: len(pair.received()) == 2)
    nixl.uninstall()
    assert pair.reader.notifs == {pair.writer.name: [b"early", b"late"]}
    assert type(pair.reader.notifs) is dict
    pair.send(b"stock")
    until(lambda: pair.received() == [b"early", b"late", b"stock"])


def test_threads_that_poll_one_agent_lose_nothing_and_claim_nothing_twice(pair: Pair) -> None:
    nixl.install()
    wanted = [b"%d" % number for number in range(2000)]
    claimed: list[bytes] = []
    stop = Event()

    def poll() -> None:
        while not stop.is_set():
            for message in pair.received():
                with suppress(ValueError):
                    pair.reader.notifs[pair.writer.name].remove(message)
                    claimed.append(message)

    threads = [Thread(target=poll, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    pair.send(*wanted)
    try:
        until(lambda: len(claimed) >= len(wanted))
    finally:
        stop.set()
        for thread in threads:
            thread.join(SECONDS)
    assert sorted(claimed) == sorted(wanted)


# Leases.


def test_each_expired_lease_is_released_once_and_the_others_stay(pair: Pair) -> None:
    clock = ManualClock()
    released: list[Any] = []
    deregister = pair.reader.deregister_memory
    pair.reader.deregister_memory = lambda memory: (released.append(memory), deregister(memory))
    leases = nixl.leases(pair.reader, 30, timer=clock)
    buffers = np.zeros((5, SIZE), np.uint8)
    memory = [register(pair.reader, buffer) for buffer in buffers]
    for number, ttl in enumerate((30, 480, 5, 30, 30)):
        leases.begin(number, nixl.Lease(pair.reader, registered=[memory[number]]), ttl=ttl)
    leases.renew(0, 100)
    leases.complete(3).release()
    clock.advance(31)
    assert list(leases) == [0, 1] and released == [memory[3], memory[2], memory[4]]
    clock.advance(70)
    assert list(leases) == [1] and released[3:] == [memory[0]]
    clock.advance(400)
    assert list(leases) == [] and released[4:] == [memory[1]]


def test_a_transfer_that_is_under_way_is_kept_for_the_grace_and_then_aborted(stalled: Any) -> None:
    writer, handle, memory = stalled
    clock = ManualClock()
    leases = nixl.leases(writer, 30, grace=10, timer=clock)
    lease = nixl.Lease(writer, [handle], [memory])
    leases.begin("write", lease)
    clock.advance(31)
    assert "write" in leases and lease.active() and not handle._released
    clock.advance(11)
    assert "write" not in leases and not lease.active() and handle._released
    assert leases.stats().kept == 1 and leases.stats().callback_errors == 0


def test_what_nixl_refuses_to_release_is_kept_and_the_rest_is_not_released_twice(pair: Pair) -> None:
    clock = ManualClock()
    leases = nixl.leases(pair.reader, 30, grace=10, timer=clock)
    buffers = np.zeros((2, SIZE), np.uint8)
    unknown, known = (register(pair.reader, buffer) for buffer in buffers)
    pair.reader.deregister_memory(unknown)
    lease = nixl.Lease(pair.reader, registered=[unknown, known])
    leases.begin("request", lease)
    leases.begin("no lease", object())
    clock.advance(31)
    assert "request" in leases and "no lease" in leases and len(lease._registered) == 1
    unknown = register(pair.reader, buffers[0])
    clock.advance(11)
    assert "request" not in leases and not lease._registered


def test_a_handle_that_was_never_posted_is_released(pair: Pair) -> None:
    handle = pair.handle(b"never")
    lease = nixl.Lease(pair.writer, [handle])
    assert not lease.active()
    lease.release()
    lease.release()
    assert handle._released


@pytest.mark.parametrize("wrong", [0, -1, "30", float("nan"), True])
def test_a_grace_that_is_no_time_is_refused(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        nixl.leases(object(), 30, grace=wrong)


STALLED = """
import sys
import numpy as np
from nixl._api import nixl_agent
agent, target = nixl_agent("stalled"), np.zeros(1 << 26, np.uint8)
agent.register_memory([(target.ctypes.data, target.nbytes, 0, "")], "DRAM")
print("ready", agent.get_agent_metadata().hex(), target.ctypes.data, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def stalled() -> Iterator[Any]:
    """A write to a process that is stopped: it stays under way."""
    import signal

    over_tcp = os.environ | {"UCX_TLS": "tcp,self", "NIXL_LOG_LEVEL": "ERROR"}
    with subprocess.Popen(
        [sys.executable, "-c", STALLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=over_tcp
    ) as peer:
        try:
            words = next(line.split() for line in peer.stdout or () if line.startswith("ready"))
            before, os.environ["UCX_TLS"] = os.environ["UCX_TLS"], "tcp,self"
            writer = nixl_agent(f"writer-{uuid4()}")
            os.environ["UCX_TLS"] = before
            source = np.zeros(1 << 26, np.uint8)
            memory = register(writer, source)
            writer.add_remote_agent(bytes.fromhex(words[1]))
            local = writer.prep_xfer_dlist("", [(source.ctypes.data, source.nbytes, 0)], "DRAM")
            remote = writer.prep_xfer_dlist("stalled", [(int(words[2]), source.nbytes, 0)], "DRAM")
            first, second = (writer.make_prepped_xfer("WRITE", local, [0], remote, [0]) for _ in range(2))
            writer.transfer(first)
            until(lambda: writer.check_xfer_state(first) == "DONE")
            os.kill(peer.pid, signal.SIGSTOP)
            assert writer.transfer(second) == "PROC"
            yield writer, second, memory
        finally:
            peer.kill()


# Dynamo.


@pytest.fixture
def connect() -> Any:
    pytest.importorskip("torch", reason="dynamo.nixl_connect needs torch")
    return pytest.importorskip("dynamo.nixl_connect", reason="ai-dynamo-runtime is not installed")


async def read(connect: Any, passive: Any, active: Any) -> Any:
    """One read of 4 KiB from one connector by another; the operation that was read from."""
    source, target = np.full(SIZE, 7, np.uint8), np.zeros(SIZE, np.uint8)
    readable = await passive.create_readable(connect.Descriptor((source, "cpu")))
    with await active.begin_read(readable.metadata(), connect.Descriptor((target, "cpu"))) as reading:
        await reading.wait_for_completion()
    assert (target == 7).all()
    return readable


def test_dynamo_reads_leave_no_notification_and_no_registration(connect: Any) -> None:
    nixl.install()

    async def main() -> None:
        passive, active = connect.Connector(), connect.Connector()
        for _ in range(20):
            operation = await read(connect, passive, active)
            await operation.wait_for_completion()
            assert operation.status is connect.OperationStatus.COMPLETE
        inbox = operation.connection._nixl.notifs
        assert sum(map(len, inbox.values())) == 0 and not inbox.expected
        operation._release()
        assert not operation._local_desc_list.is_registered

    asyncio.run(asyncio.wait_for(main(), SECONDS))


def test_an_operation_that_is_looked_at_late_has_its_notification_whatever_the_ttl(connect: Any) -> None:
    nixl.install(ttl=0.01)

    async def main() -> None:
        passive, active = connect.Connector(), connect.Connector()
        operation = await read(connect, passive, active)
        other = await read(connect, passive, active)
        await other.wait_for_completion()
        await asyncio.sleep(0.05)
        assert operation.status is connect.OperationStatus.COMPLETE

    asyncio.run(asyncio.wait_for(main(), SECONDS))


def test_an_operation_that_began_before_install_completes_after_it(connect: Any) -> None:
    async def main() -> None:
        passive, active = connect.Connector(), connect.Connector()
        told, untold = await read(connect, passive, active), await read(connect, passive, active)
        agent = told.connection._nixl
        while len(agent.update_notifs().get(f"{active.name}-1", ())) < 2:
            await asyncio.sleep(0.001)
        nixl.install()
        late = await passive.create_readable(connect.Descriptor((np.zeros(SIZE, np.uint8), "cpu")))
        await told.wait_for_completion()
        await untold.wait_for_completion()
        assert late.status is connect.OperationStatus.INITIALIZED
        assert sum(map(len, agent.notifs.values())) == 0

    asyncio.run(asyncio.wait_for(main(), SECONDS))


def test_an_operation_that_is_dropped_is_expected_no_more(connect: Any) -> None:
    nixl.install()

    async def main() -> None:
        passive = connect.Connector()
        operation = await passive.create_readable(connect.Descriptor((np.zeros(SIZE, np.uint8), "cpu")))
        expected = operation.connection._nixl.notifs.expected
        assert list(expected.values()) == [operation]
        del operation
        gc.collect()
        assert not expected

    asyncio.run(asyncio.wait_for(main(), SECONDS))


@pytest.fixture
def embeddings(connect: Any) -> Any:
    return pytest.importorskip(
        "dynamo.common.multimodal.embedding_transfer", reason="ai-dynamo is not installed", exc_type=ImportError
    )


def test_embeddings_that_no_receiver_asks_for_are_released_and_the_others_arrive(embeddings: Any) -> None:
    torch = import_module("torch")
    nixl.install(send_ttl=0.2)

    async def main() -> None:
        sender, receiver = embeddings.NixlWriteEmbeddingSender(), embeddings.NixlWriteEmbeddingReceiver(1 << 20)
        tensor = torch.arange(1024.0)

        async def arrives() -> None:
            request, done = await sender.send_embeddings(tensor, stage_embeddings=True)
            # However slow this machine is now.
            sender.transfer_tracker.renew(next(reversed(sender.transfer_tracker)), SECONDS)
            tensor_id, received = await receiver.receive_embeddings(request)
            assert torch.equal(received, tensor)
            receiver.release_tensor(tensor_id)
            await done

        lost = [await sender.send_embeddings(torch.zeros(1024), stage_embeddings=True) for _ in range(50)]
        await arrives()
        await asyncio.gather(*(future for _, future in lost))
        assert isinstance(sender.transfer_tracker, TransferMap)
        assert len(sender.transfer_tracker) == len(sender.registered_descs) == 0
        assert sender.transfer_queue.qsize() <= 1
        # One that comes too late is not served, and stops no other.
        with pytest.raises(TimeoutError):
            await receiver.receive_embeddings(lost[0][0], receive_timeout=0.2)
        await arrives()
        nixl.uninstall()
        assert type(sender.transfer_tracker) is dict
        sender._state_update_task.cancel()

    asyncio.run(asyncio.wait_for(main(), SECONDS))


# Install.


def test_uninstall_restores_what_install_replaced() -> None:
    before = held(REPLACED)
    nixl.install()
    nixl.install(ttl=5)
    assert all(ours is not stock for ours, stock in zip(held(REPLACED), before, strict=True))
    nixl.uninstall()
    nixl.uninstall()
    assert held(REPLACED) == before


def test_uninstall_restores_dynamo(connect: Any) -> None:
    before = held(DYNAMO)
    nixl.install()
    assert all(ours is not stock for ours, stock in zip(held(DYNAMO), before, strict=True))
    nixl.uninstall()
    assert held(DYNAMO) == before


@pytest.mark.parametrize("where", BUILT_ON)
def test_install_fails_loudly_when_a_name_has_moved(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fails_without(where, "nixl", monkeypatch)


@pytest.mark.parametrize("where", [*DYNAMO, "dynamo.nixl_connect:OperationStatus"])
def test_install_fails_loudly_when_dynamo_has_moved(where: str, connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fails_without(where, "ai-dynamo-runtime", monkeypatch)


def fails_without(where: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = held(REPLACED)
    monkeypatch.delattr(*owner_of(where))
    with pytest.raises(RuntimeError, match=rf"{package} \d.* has no {where.replace(':', '.')}"):
        nixl.install()
    monkeypatch.undo()
    assert held(REPLACED) == before


def test_install_fails_loudly_when_a_function_works_on_other_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nixl_agent, "update_notifs", lambda self, backends=(): {})
    with pytest.raises(RuntimeError, match=r"update_notifs, or its use of notifs"):
        nixl.install()


@pytest.mark.parametrize("wrong", [{"ttl": 0}, {"ttl": -1}, {"ttl": "10"}, {"maxsize": 0}, {"send_ttl": float("nan")}])
def test_bad_bounds_are_refused_before_anything_is_changed(wrong: dict[str, Any]) -> None:
    before = held(REPLACED)
    with pytest.raises((TypeError, ValueError)):
        nixl.install(**wrong)
    assert held(REPLACED) == before


# The example.


def test_polls_stay_flat_no_lease_is_stranded_and_registrations_go_back_to_zero(connect: Any, tmp_path: Path) -> None:
    stock, ours = played("nixl_transfers", tmp_path, "--transfers", 40_000, "--maxsize", 1000)["sides"]
    assert stock["notifications"] >= 39_600 and ours["notifications"] <= 1000
    assert stock["stranded"] == stock["lost"] == ours["lost"] == ours["expired"] == 400
    assert ours["stranded"] == ours["unseen"] == ours["registrations"] == 0
    assert ours["released_once"] == 400 and ours["released_twice"] == 0 and stock["registrations"] == 400
