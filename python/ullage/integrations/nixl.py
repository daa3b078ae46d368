"""Dynamo and NIXL whose polls stay as quick after a million transfers as after ten.

    from ullage.integrations import nixl
    nixl.install()

An agent keeps every notification that nobody removes, and Dynamo removes none: each poll walks all since the start.
With `install` a notification goes straight to the operation that waits for it, and what nobody waits for expires; so
does an embedding that no receiver asks for. `leases` is a map of transfers that releases what nobody ends.

For nixl 1.5, and for `dynamo.nixl_connect` and `NixlWriteEmbeddingSender` of Dynamo 1.6 where they are installed.
"""

from __future__ import annotations

import logging
import weakref
from asyncio import QueueEmpty
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from functools import partial
from importlib import import_module, metadata
from importlib.util import find_spec
from itertools import count
from threading import RLock
from typing import Any

from ullage import TransferMap
from ullage._times import Lifetime, nanoseconds
from ullage.integrations._patches import Patches

_AGENT = "nixl._api:nixl_agent"
_OPERATION = "dynamo.nixl_connect:PassiveOperation"
_SENDER = "dynamo.common.multimodal.embedding_transfer:NixlWriteEmbeddingSender"
_GONE = object()
_log = logging.getLogger(__name__)
_beginning = RLock()
_patches = Patches(
    {"nixl": "nixl", "dynamo.nixl_connect": "ai-dynamo-runtime", "dynamo.common": "ai-dynamo"}, "docs/nixl.md"
)
_agents: weakref.WeakSet[Any] = weakref.WeakSet()
_senders: weakref.WeakSet[Any] = weakref.WeakSet()


def install(*, ttl: Lifetime = 600, maxsize: int | None = 65_536, send_ttl: Lifetime = 120) -> None:
    """Lets what nobody claims expire, in every agent of this process. Again, with other bounds, is fine.

    Parameters
    ----------
    ttl: seconds that a notification waits for somebody who claims it.
    maxsize: the most that wait from one sender; beyond it the oldest go.
    send_ttl: seconds that Dynamo keeps an embedding that no receiver has asked for; what is being written stays.

    None is no bound; with `send_ttl=None` Dynamo's module of embeddings is not even imported. RuntimeError, and nothing
    is changed, if a package is not one that is known here.
    """
    if not _installed("nixl"):
        raise ModuleNotFoundError("nixl is not installed; pip install 'ullage[nixl]'")
    messages, tracker = partial(Messages, ttl, maxsize), partial(TransferMap, send_ttl, name="dynamo embeddings")
    messages()
    tracker()
    with _patches.anew():
        _patches.undo.append(_pour_back)
        _bound_agents(messages)
        # Dynamo cannot be imported without torch.
        if _installed("ai-dynamo-runtime") and find_spec("torch"):
            _bound_operations()
        if send_ttl is not None and _installed("ai-dynamo") and find_spec("torch"):
            _bound_senders(tracker)


def uninstall() -> None:
    """Puts back what `install` replaced, and what waits into plain dicts and lists."""
    _patches.put_back()


def _pour_back() -> None:
    for agent in list(_agents):
        agent.notifs = {sender: list(messages) for sender, messages in agent.notifs.items() if messages}
    for sender in list(_senders):
        inflight = sender.transfer_tracker
        while expired := inflight.pop_expired(1):
            _let_go(sender, *expired[0])
        sender.transfer_tracker = dict(inflight)
    _agents.clear()
    _senders.clear()


def leases(
    agent: Any,
    ttl: Lifetime,
    *,
    grace: Lifetime = 30,
    maxsize: int | None = None,
    timer: Callable[[], float] | None = None,
    name: str | None = None,
) -> TransferMap[Any, Lease]:
    """A `TransferMap` of what transfers hold, which releases what expires: `leases.begin(request, Lease(agent, ...))`.

    Expired is not safe to free: a transfer that is under way when its lease expires is kept `grace` seconds longer, and
    then aborted; one that NIXL refuses to abort is kept again. `complete(request).release()` ends one in time.
    """
    nanoseconds(grace, "grace")

    def expire(expired: list[tuple[Any, Lease]]) -> dict[Any, Lifetime]:
        kept: dict[Any, Lifetime] = {}
        for key, lease in expired:
            try:
                if lease._expire():
                    continue
            except Exception as error:
                _log.warning("the lease of %r is kept %s seconds longer, for its release failed: %r", key, grace, error)
            kept[key] = grace
        return kept

    return TransferMap(ttl, on_expire=expire, maxsize=maxsize, timer=timer, name=name)


class Lease:
    """What one transfer holds: handles, and memory registered for it. Each is released once."""

    __slots__ = ("_agent", "_handles", "_late", "_registered")

    def __init__(self, agent: Any, handles: Iterable[Any] = (), registered: Iterable[Any] = ()) -> None:
        self._agent, self._handles, self._registered = agent, list(handles), list(registered)
        self._late = False

    def active(self) -> bool:
        """Whether a transfer is under way, so that its memory is still read or written."""
        return any(_state(self._agent, handle) == "PROC" for handle in self._handles)

    def release(self) -> None:
        """Releases the handles, then the memory. What NIXL refuses is raised, and is held still."""
        for held, release in (
            (self._handles, self._agent.release_xfer_handle),
            (self._registered, self._agent.deregister_memory),
        ):
            while held:
                release(held[-1])
                held.pop()

    def _expire(self) -> bool:
        """Whether it is released; the first time, what is under way is not."""
        if not self._late and self.active():
            self._late = True
            return False
        self.release()
        return True


def _state(agent: Any, handle: Any) -> str | None:
    try:
        return str(agent.check_xfer_state(handle))
    except import_module("nixl._bindings").nixlNotPostedError:
        return None


class Messages(Collection[bytes]):
    """Notifications from one sender that nobody has claimed, in the order in which they came. They expire."""

    __slots__ = ("_numbers", "_waiting")

    def __init__(self, ttl: Lifetime, maxsize: int | None) -> None:
        self._numbers = count()
        self._waiting: TransferMap[int, bytes] = TransferMap(
            ttl, maxsize=maxsize, on_full="evict", on_expire=_forget, name="nixl notifications"
        )

    def append(self, message: bytes) -> None:
        self._waiting.begin(next(self._numbers), message)

    def claim(self, wanted: Callable[[bytes], bool]) -> bool:
        """Removes the first that is wanted; False if none is. O(n)."""
        pairs = self._waiting.items()
        return any(wanted(message) and self._waiting.complete(n, _GONE) is not _GONE for n, message in pairs)

    def remove(self, message: bytes) -> None:
        """As `list.remove`."""
        if not self.claim(message.__eq__):
            raise ValueError(f"{message!r} is not there; it may have expired: nixl.install(ttl=...) keeps it longer")

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._waiting.values())

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, message: object) -> bool:
        return message in self._waiting.values()

    def __repr__(self) -> str:
        return repr(list(self))


def _forget(expired: list[tuple[int, bytes]]) -> None:
    """Nobody claimed them in time."""


class Inbox(dict[str, Messages]):
    """Stands for `agent.notifs`: messages by sender, without those that somebody expects."""

    def __init__(self, messages: Callable[[], Messages], waiting: dict[str, Iterable[bytes]]) -> None:
        super().__init__()
        self._messages, self._lock = messages, RLock()
        self.expected: weakref.WeakValueDictionary[bytes, Any] = weakref.WeakValueDictionary()
        self.take(waiting)

    def take(self, new: dict[str, Iterable[bytes]]) -> None:
        """Hands each message to the operation that expects it, or keeps it. O(new messages)."""
        with self._lock:
            for sender, messages in new.items():
                for message in messages:
                    operation = self.expected.pop(message, None)
                    if operation is None:
                        self._from(sender).append(message)
                    else:
                        operation._status = type(operation._status).COMPLETE

    def claim(self, message: bytes) -> bool:
        with self._lock:
            return any(messages.claim(message.__eq__) for messages in self.values())

    def _from(self, sender: str) -> Messages:
        if sender not in self:
            # Agents come and go under ever new names.
            for gone in [name for name, messages in self.items() if not messages]:
                del self[gone]
            self[sender] = self._messages()
        return self[sender]


def _bound_agents(messages: Callable[[], Messages]) -> None:
    def inbox(agent: Any) -> Inbox:
        with _beginning:
            if not isinstance(agent.notifs, Inbox):
                agent.notifs = Inbox(messages, agent.notifs)
                _agents.add(agent)
            return agent.notifs

    def update(stock: Any, self: Any, backends: list[str] | None = None) -> Inbox:
        waiting = inbox(self)
        waiting.take(self.get_new_notifs(backends or []))
        return waiting

    def check(
        stock: Any,
        self: Any,
        remote_agent_name: str,
        lookup_tag: bytes,
        backends: Any = None,
        tag_is_prefix: bool = True,
    ) -> bool:
        def wanted(message: bytes) -> bool:
            return message.startswith(lookup_tag) if tag_is_prefix else lookup_tag in message

        waiting = update(stock, self, backends).get(remote_agent_name)
        return waiting is not None and waiting.claim(wanted)

    _uses(f"{_AGENT}.get_new_notifs", "agent", "getNotifs")
    _uses(f"{_AGENT}.check_xfer_state", "agent")
    for name in ("release_xfer_handle", "deregister_memory"):
        _patches.find(f"{_AGENT}.{name}")
    _patches.find("nixl._bindings:nixlNotPostedError")
    _swap(f"{_AGENT}.update_notifs", update, "notifs", "getNotifs")
    _swap(f"{_AGENT}.check_remote_xfer_done", check, "notifs", "getNotifs")


def _bound_operations() -> None:
    def begin(stock: Any, self: Any, *args: Any, **kwargs: Any) -> None:
        stock(self, *args, **kwargs)
        self._connection._nixl.update_notifs().expected[_key(self)] = self

    def status(stock: Any, self: Any) -> Any:
        known = type(self._status)
        if self._status not in (known.COMPLETE, known.ERRORED, known.CANCELLED):
            inbox, key = self._connection._nixl.update_notifs(), _key(self)
            # One that began before `install` may have been told already.
            if key not in inbox.expected and self._status is not known.COMPLETE:
                inbox.expected[key] = self
                if inbox.claim(key):
                    self._status = known.COMPLETE
        return self._status

    for state in ("COMPLETE", "ERRORED", "CANCELLED"):
        _patches.find(f"dynamo.nixl_connect:OperationStatus.{state}")
    _uses("dynamo.nixl_connect:AbstractOperation.__init__", "_notification_key", "_connection")
    _swap(f"{_OPERATION}.__init__", begin, "_status")
    _swap(f"{_OPERATION}.status", status, "_status", "_connection", "_nixl", "update_notifs", "_notification_key")


def _key(operation: Any) -> bytes:
    return operation._notification_key.encode()  # type: ignore[no-any-return]


def _bound_senders(tracker: Callable[[], TransferMap[Any, Any]]) -> None:
    def begin(stock: Any, self: Any, *args: Any, **kwargs: Any) -> None:
        stock(self, *args, **kwargs)
        self.transfer_tracker = tracker()
        _senders.add(self)

    def handshakes(stock: Any, self: Any) -> list[Any]:
        inflight = self.transfer_tracker
        if not isinstance(inflight, TransferMap):
            # One from before `install`: nobody knows which of its embeddings are being read.
            return stock(self)  # type: ignore[no-any-return]
        while expired := inflight.pop_expired(1):
            _let_go(self, *expired[0])
        # From here on the write ends it. One that comes too late finds nothing to be read.
        return [request for request in stock(self) if inflight.renew(request[2], float("inf"))]

    names = ("transfer_tracker", "registered_descs", "nixl_agent", "deregister_memory")
    _uses(f"{_SENDER}._complete_transfer", *names)
    _uses(f"{_SENDER}._state_update", "_get_receiver_handshakes", "transfer_queue", "_complete_transfer")
    _swap(f"{_SENDER}.__init__", begin, "transfer_tracker", "transfer_queue", "registered_descs")
    _swap(f"{_SENDER}._get_receiver_handshakes", handshakes, "nixl_agent", "get_new_notifs")


def _let_go(sender: Any, tensor: Any, transfer: Any) -> None:
    """As Dynamo ends a transfer: the memory goes once nothing else is sent from it, and the future is done."""
    sender.transfer_tracker.begin(tensor, transfer)
    sender._complete_transfer(tensor)
    with suppress(QueueEmpty):
        sender.transfer_queue.get_nowait()


# What the packages must have.


def _swap(where: str, ours: Callable[..., Any], *names: str) -> None:
    """Puts ours in the place of a function or a property that uses these names."""
    _uses(where, *names)
    _patches.swap(where, ours)


def _uses(where: str, *names: str) -> None:
    """That a function still works on these attributes, which instances only have once they are made."""
    found = _patches.find(where)[2]
    code = getattr(getattr(found, "fget", found), "__code__", None)
    for name in names:
        if code is None or name not in code.co_names:
            raise _patches.moved(f"{where}, or its use of {name}")


def _installed(package: str) -> bool:
    try:
        return bool(metadata.version(package))
    except metadata.PackageNotFoundError:
        return False
