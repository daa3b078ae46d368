"""Ways to wait: one `async def` serves a thread, which blocks, and a task, whose event loop goes on meanwhile."""

import os
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import copy_context
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, TypeVar

from ullage._signal import Signal

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from concurrent.futures import Future

    from ullage._flight import Flights

T = TypeVar("T")

# Seconds after which those who wait for another thread's event loop look whether it was closed.
_PATIENCE = 0.25


class Threads:
    """Blocks the calling thread. None of its coroutines ever suspends."""

    @staticmethod
    def run(coroutine: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine that waits in this way only."""
        try:
            coroutine.send(None)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        raise AssertionError("it waits in another way")

    @classmethod
    async def fly(cls, flights: "Flights", key: Any, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return flights.fly(key, lambda: cls.run(function()))

    @staticmethod
    async def call(function: Callable[[Any], Any], argument: Any, loop: "AbstractEventLoop | None") -> Any:
        """What a function returns or, if that can be awaited, brings: on `loop` if that runs, else on our own."""
        answer = function(argument)
        return result(*submit(answer, loop)) if isawaitable(answer) else answer

    @staticmethod
    def begin(function: Callable[[], object]) -> None:
        """Does what may block; does not wait for it if that can be helped."""
        function()

    @staticmethod
    async def work(function: Callable[[], T]) -> T:
        """Does what may block, and waits for it."""
        return function()

    @staticmethod
    def signal() -> Signal:
        """Something to wait for, set once, by any thread."""
        return Signal()

    @staticmethod
    async def wait(signal: Any, timeout: float) -> bool:
        """Waits until the signal is set; False if that took too long."""
        return bool(signal.wait(timeout))

    @staticmethod
    async def join(future: "Future[T]") -> T:
        return future.result()


class Tasks:
    """Lets the event loop go on. What blocks is done by a thread of its own, and is done to its end whatever happens
    to the task: a pool that is full of threads which wait for one another would never move again."""

    @staticmethod
    async def fly(flights: "Flights", key: Any, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return await flights.afly(key, function)

    @staticmethod
    async def call(function: Callable[[Any], Any], argument: Any, loop: "AbstractEventLoop | None") -> Any:
        answer = function(argument)
        return await answer if isawaitable(answer) else answer

    @staticmethod
    def begin(function: Callable[[], object]) -> None:
        start(function)

    @classmethod
    async def work(cls, function: Callable[[], T]) -> T:
        return await cls.join(start(function))

    @staticmethod
    def signal() -> "_LoopSignal":
        return _LoopSignal()

    @staticmethod
    async def wait(signal: Any, timeout: float) -> bool:
        from asyncio import wait

        done, _ = await wait([signal.future], timeout=timeout)
        return bool(done)

    @staticmethod
    async def join(future: "Future[T]") -> T:
        from asyncio import wrap_future

        return await wrap_future(future)


Way = type[Threads] | type[Tasks]


class _LoopSignal:
    """An event of a running loop that any thread may set."""

    def __init__(self) -> None:
        from asyncio import get_running_loop

        self.loop = get_running_loop()
        self.future: Any = self.loop.create_future()

    def set(self) -> None:
        # If the loop is closed, nobody waits there any more.
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(lambda: self.future.done() or self.future.set_result(None))


def me() -> object:
    """Who asks: the task that runs, or else the thread."""
    loop = running_loop()
    task = None if loop is None else sys.modules["asyncio"].current_task(loop)
    return task or threading.get_ident()


def running_loop() -> "AbstractEventLoop | None":
    """The event loop that this thread runs. asyncio is not imported for a program that does without."""
    find = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    return find() if find else None


def start(function: Callable[[], T]) -> "Future[T]":
    """Calls a function in a thread of its own and in a copy of this context. The future cannot be cancelled."""
    from concurrent.futures import Future

    future: Future[T] = Future()
    future.set_running_or_notify_cancel()
    context = copy_context()

    def body() -> None:
        try:
            future.set_result(context.run(function))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=body, name="ullage").start()
    return future


def submit(awaitable: Awaitable[T], loop: "AbstractEventLoop | None") -> "tuple[Future[T], AbstractEventLoop]":
    """Has something awaited by `loop` if that runs, else by our own."""
    from asyncio import run_coroutine_threadsafe

    async def bring() -> T:
        return await awaitable

    try:
        if loop is None or not loop.is_running():
            loop = own_loop()
    except RuntimeError:
        # The interpreter ends and starts no more threads.
        return _at_once(bring())
    return run_coroutine_threadsafe(bring(), loop), loop


def _at_once(coroutine: Coroutine[Any, Any, T]) -> "tuple[Future[T], AbstractEventLoop]":
    from asyncio import new_event_loop
    from concurrent.futures import Future

    loop = new_event_loop()
    future: Future[T] = Future()
    try:
        future.set_result(loop.run_until_complete(coroutine))
    except BaseException as error:
        future.set_exception(error)
    finally:
        loop.close()
    return future, loop


def result(future: "Future[T]", loop: "AbstractEventLoop", timeout: float = float("inf")) -> T:
    """Waits for what a loop of another thread brings. Raises RuntimeError if that was closed, TimeoutError."""
    from concurrent.futures import TimeoutError as Late

    while True:
        try:
            return future.result(min(timeout, _PATIENCE))
        except Late:
            if future.done():
                return future.result()
            timeout -= _PATIENCE
            if timeout <= 0:
                raise
            if loop.is_closed():
                raise RuntimeError("the event loop was closed before it was done") from None


_own: "AbstractEventLoop | None" = None
_lock = threading.Lock()


def own_loop() -> "AbstractEventLoop":
    """An event loop in a daemon thread, one a process: for coroutines that code without a loop asks for."""
    global _own
    from asyncio import new_event_loop

    with _lock:
        if _own is None:
            loop = new_event_loop()
            threading.Thread(target=loop.run_forever, name="ullage loop", daemon=True).start()
            _own = loop
        return _own


def _forked() -> None:
    global _own, _lock
    _own, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
