"""One computation a key: threads, tasks and event loops mixed, and what happens when something goes wrong.

Each scenario runs in a child with a time-out: what fails here mostly hangs.
"""

import os
from textwrap import dedent

import child
import pytest

PREAMBLE = """
import asyncio, collections, contextlib, contextvars, faulthandler, gc, os, random, signal, sys, threading, time
import weakref
from ullage import _flight
from ullage._flight import MISSING, Flights

faulthandler.dump_traceback_later(45, exit=True)


def until(what):
    while not what():
        time.sleep(0.001)


def waiting(n):
    '''Waits until n callers wait for flights that are on.'''
    until(lambda: sum(len(flight.waits) for flight in list(_flight._on)) == n)


class Result:
    '''What a function does in a thread of its own.'''

    def __init__(self, function, *args):
        self.value = self.error = None
        self.thread = threading.Thread(target=self.body, args=(function, *args), daemon=True)
        self.thread.start()

    def body(self, function, *args):
        try:
            self.value = function(*args)
        except BaseException as error:
            self.error = error

    def get(self):
        self.thread.join(30)
        assert not self.thread.is_alive(), "still waiting"
        if self.error is not None:
            raise self.error
        return self.value


class Work:
    '''A computation that begins, and ends when it is told to.'''

    def __init__(self, outcome="value"):
        self.began, self.go, self.calls, self.outcome = threading.Event(), threading.Event(), 0, outcome

    def __call__(self, *args):
        self.calls += 1
        self.began.set()
        assert self.go.wait(30)
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    async def slowly(self, *args):
        self.calls += 1
        self.began.set()
        while not self.go.is_set():
            await asyncio.sleep(0.001)
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


def raised(kind, act):
    try:
        act()
    except kind as error:
        return error
    raise AssertionError(f"no {kind}")


def nothing_left():
    assert not _flight._on and not _flight._standing, (_flight._on, _flight._standing)


class Kept(Flights):
    '''Flights towards a dict.'''

    def __init__(self, **hooks):
        super().__init__("f")
        self.kept, self.dropped = {}, []
        for name, hook in hooks.items():
            setattr(self, name, hook)

    def find(self, key):
        return self.kept.get(key, MISSING)

    def keep(self, key, value):
        self.kept[key] = value

    def drop(self, key, value):
        self.dropped.append(self.kept.pop(key))


flights, work = Flights("f"), Work()
"""


def run(code: str, timeout: float = 60) -> str:
    return child.run(PREAMBLE + dedent(code) + "\nnothing_left()\n", timeout).stdout


# Sharing.


def test_threads_that_ask_for_one_key_share_one_computation():
    run("""
        results = [Result(flights.fly, "k", work) for _ in range(20)]
        waiting(19)
        other = Result(flights.fly, "other", str)  # another key does not wait
        assert other.get() == ""
        work.go.set()
        assert [result.get() for result in results] == ["value"] * 20 and work.calls == 1 and flights.shared == 19
        """)


def test_tasks_of_several_loops_and_threads_share_one_computation():
    for leader in ("thread", "task"):
        run(f"""
            async def ask(n):
                return await asyncio.gather(*(flights.afly("k", work.slowly) for _ in range(n)))

            leader = {leader!r}
            first = Result(flights.fly, "k", work) if leader == "thread" else Result(asyncio.run, ask(1))
            work.began.wait()
            loops = [Result(asyncio.run, ask(10)) for _ in range(3)]
            threads = [Result(flights.fly, "k", work) for _ in range(10)]
            waiting(40)
            work.go.set()
            assert first.get() in ("value", ["value"]) and work.calls == 1
            assert [loop.get() for loop in loops] == [["value"] * 10] * 3
            assert [thread.get() for thread in threads] == ["value"] * 10
            """)


def test_a_thousand_waiters():
    run("""
        async def ask():
            return await asyncio.gather(*(flights.afly("k", work.slowly) for _ in range(1000)))

        tasks, threads = Result(asyncio.run, ask()), [Result(flights.fly, "k", work) for _ in range(100)]
        waiting(1099)
        work.go.set()
        assert tasks.get() == ["value"] * 1000 and all(thread.get() == "value" for thread in threads)
        assert work.calls == 1
        """)


def test_none_is_a_value():
    run("""
        work.outcome = None
        results = [Result(flights.fly, "k", work) for _ in range(5)]
        waiting(4)
        work.go.set()
        assert [result.get() for result in results] == [None] * 5 and work.calls == 1
        """)


def test_equal_keys_are_one_key_and_keys_with_one_hash_are_not():
    run("""
        class Key:
            def __init__(self, n):
                self.n = n

            def __hash__(self):
                return 7

            def __eq__(self, other):
                time.sleep(0)  # lets others in
                return self.n == other.n

        works = [Work(n) for n in range(4)]
        results = [Result(flights.fly, Key(n), works[n]) for n in range(4) for _ in range(5)]
        waiting(16)
        for each in works:
            each.go.set()
        assert [result.get() for result in results] == [n for n in range(4) for _ in range(5)]
        assert [each.calls for each in works] == [1] * 4
        """)


@pytest.mark.parametrize("attribute", ["__hash__", "__eq__"])
def test_a_key_that_raises_is_an_error_of_that_call_alone(attribute):
    run(f"""
        class Key:
            hostile = False

            def __hash__(self):
                return self.boom("__hash__") or 7

            def __eq__(self, other):
                return self.boom("__eq__") or self is other

            def boom(self, attribute):
                if self.hostile and attribute == {attribute!r}:
                    raise ZeroDivisionError

        first = Result(flights.fly, Key(), work)
        work.began.wait()
        Key.hostile = True
        raised(ZeroDivisionError, lambda: flights.fly(Key(), str))
        work.go.set()
        assert first.get() == "value"
        """)


def test_a_key_whose_hash_changes_leaves_nothing_behind():
    run("""
        class Key:
            n = 0

            def __hash__(self):
                Key.n += 1
                return Key.n

        for _ in range(100):
            flights.fly(Key(), str)
        assert not flights._on
        """)


def test_an_unhashable_key_is_a_type_error():
    run("""
        raised(TypeError, lambda: flights.fly([], str))
        raised(TypeError, lambda: asyncio.run(flights.afly([], work.slowly)))
        """)


# Failure.


def test_those_who_waited_share_the_failure_and_the_next_one_tries_again():
    run("""
        work.outcome = ValueError("no")
        tasks = [Result(lambda: asyncio.run(flights.afly("k", work.slowly))) for _ in range(5)]
        results = [Result(flights.fly, "k", work) for _ in range(5)] + tasks
        waiting(9)
        work.go.set()
        assert all(raised(ValueError, result.get) is work.outcome for result in results) and work.calls == 1
        work.outcome = "value"
        assert flights.fly("k", work) == "value" and work.calls == 2
        """)


def test_a_shared_failure_does_not_grow_and_is_freed_without_the_collector():
    run("""
        gc.disable()

        class Failure(Exception):
            pass

        def depth(error):
            traceback, n = error.__traceback__, 0
            while traceback:
                traceback, n = traceback.tb_next, n + 1
            return n

        def fail(go):
            assert go.wait(30)
            raise Failure

        def ask(go, seen):
            try:
                flights.fly("k", fail, go)
            except Failure as error:
                seen.append((weakref.ref(error), depth(error)))

        for waiters in (1, 30):
            go, seen = threading.Event(), []
            results = [Result(ask, go, seen) for _ in range(waiters + 1)]
            waiting(waiters)
            go.set()
            for result in results:
                result.get()
            assert len(seen) == waiters + 1 and len({id(error) for error, _ in seen}) == 1
            assert [error() for error, _ in seen] == [None] * (waiters + 1)
            # Threads that raise at the same moment may see each other's frames, but these do not pile up.
            assert sorted(depths for _, depths in seen)[waiters // 2] <= 8, seen

        async def tasks(n):
            async def fail():
                await asyncio.sleep(0.01)
                raise Failure

            return await asyncio.gather(*(flights.afly("k", fail) for _ in range(n)), return_exceptions=True)

        def one_after_the_other(n):
            errors = asyncio.run(tasks(n))
            assert len(set(map(id, errors))) == 1
            return depth(errors[0])

        assert one_after_the_other(2) == one_after_the_other(50)
        """)


def test_a_failure_does_not_keep_the_frames_of_those_who_waited():
    run("""
        gc.disable()

        class Thing:
            pass

        def wait(outcome):
            thing = Thing()
            things.append(weakref.ref(thing))
            with contextlib.suppress(ValueError):
                flights.fly("k", work)

        work.outcome, things = ValueError(), []
        results = [Result(wait, None) for _ in range(5)]
        waiting(4)
        work.go.set()
        for result in results:
            result.get()
        work.outcome = None
        del results, result
        assert [thing() for thing in things] == [None] * 5
        """)


def test_a_stop_iteration_is_a_failure_as_any_other():
    run("""
        work.outcome = StopIteration(5)
        results = [Result(flights.fly, "k", work) for _ in range(3)]
        waiting(2)
        work.go.set()
        assert all(raised(StopIteration, result.get) is work.outcome for result in results)
        error = raised(RuntimeError, lambda: asyncio.run(flights.afly("k", work.slowly)))
        assert isinstance(error.__cause__, StopIteration)  # as of any coroutine
        """)


# Interruption.


def test_the_caller_that_computes_is_cancelled_and_one_that_waits_takes_over():
    run("""
        async def main():
            tasks = [asyncio.create_task(flights.afly("k", work.slowly)) for _ in range(10)]
            await asyncio.sleep(0)
            thread = Result(flights.fly, "k", work)
            until(lambda: len(next(iter(_flight._on)).waits) == 10)
            for n in range(3):
                # Cancels whoever computes now.
                calls = work.calls
                tasks[n].cancel()
                while work.calls == calls and not thread.value:
                    await asyncio.sleep(0.001)
                    if any(flight.loop is None for flight in list(_flight._on)):
                        work.go.set()
            work.go.set()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            assert done.count("value") >= 7, done
            assert all(isinstance(each, asyncio.CancelledError) for each in done if each != "value")
            return await asyncio.to_thread(thread.get)

        assert asyncio.run(main()) == "value" and 2 <= work.calls <= 4, work.calls
        """)


def test_every_caller_but_the_last_is_cancelled_while_it_computes():
    run("""
        async def main():
            tasks = [asyncio.create_task(flights.afly("k", work.slowly)) for _ in range(20)]
            for n, task in enumerate(tasks[:-1], 1):
                while work.calls < n:
                    await asyncio.sleep(0)
                (leader,) = _flight._on
                assert len(leader.waits) == 20 - n
                task.cancel()
                await asyncio.sleep(0)
            while work.calls < 20:
                await asyncio.sleep(0)
            work.go.set()
            return await asyncio.gather(*tasks, return_exceptions=True)

        *cancelled, last = asyncio.run(main())
        assert last == "value" and all(isinstance(each, asyncio.CancelledError) for each in cancelled)
        """)


def test_a_caller_that_waits_is_cancelled_and_nothing_else_happens():
    run("""
        async def main():
            tasks = [asyncio.create_task(flights.afly("k", work.slowly)) for _ in range(10)]
            await asyncio.sleep(0.01)
            for task in tasks[1:9]:
                task.cancel()
            await asyncio.sleep(0.01)
            (leader,) = _flight._on
            assert len(leader.waits) == 1
            work.go.set()
            return await asyncio.gather(*tasks, return_exceptions=True)

        done = asyncio.run(main())
        assert done[0] == done[9] == "value" and work.calls == 1
        assert all(isinstance(each, asyncio.CancelledError) for each in done[1:9])
        """)


def test_a_keyboard_interrupt_reaches_a_thread_that_waits_and_no_other():
    run("""
        leader, other = Result(flights.fly, "k", work), Result(flights.fly, "k", work)
        waiting(1)

        def interrupt():
            waiting(2)
            signal.raise_signal(signal.SIGINT) if os.name == "nt" else os.kill(os.getpid(), signal.SIGINT)

        Result(interrupt)
        raised(KeyboardInterrupt, lambda: flights.fly("k", work))
        waiting(1)
        work.go.set()
        assert leader.get() == other.get() == "value" and work.calls == 1
        """)


def test_a_keyboard_interrupt_while_it_computes_and_a_waiter_takes_over():
    run("""
        def interrupted():
            waiting(1)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(30)

        def wait_and_ask():
            until(lambda: _flight._on)
            return flights.fly("k", work)

        waiter = Result(wait_and_ask)
        raised(KeyboardInterrupt, lambda: flights.fly("k", interrupted))
        work.go.set()
        assert waiter.get() == "value" and work.calls == 1
        """)


@pytest.mark.skipif(os.name == "nt", reason="signals cannot be sent like this")
def test_keyboard_interrupts_at_any_moment_leave_nobody_waiting():
    run("""
        over = threading.Event()

        def ask():
            while not over.is_set():
                assert flights.fly("k", lambda: "value") == "value"

        threads = [Result(ask) for _ in range(3)]
        interrupted = 0
        for n in range(1000):
            try:
                signal.signal(signal.SIGALRM, signal.default_int_handler)
                signal.setitimer(signal.ITIMER_REAL, 1e-6 + random.random() * 0.0005)
                for _ in range(100):
                    flights.fly("k", lambda: "value")
            except KeyboardInterrupt:
                interrupted += 1
            finally:
                try:
                    signal.signal(signal.SIGALRM, signal.SIG_IGN)
                except KeyboardInterrupt:
                    signal.signal(signal.SIGALRM, signal.SIG_IGN)
        over.set()
        for thread in threads:
            thread.get()
        assert interrupted > 100, interrupted
        """)


def test_a_signal_handler_that_asks_for_the_key_being_computed_gets_an_error_at_once():
    run("""
        errors = []

        def handler(*_):
            errors.append(raised(RecursionError, lambda: flights.fly("k", str)))
            assert flights.fly("another", int) == 0

        signal.signal(signal.SIGALRM, handler)

        def body():
            signal.raise_signal(signal.SIGALRM)
            return "value"

        assert flights.fly("k", body) == "value" and len(errors) == 1
        """)


def test_system_exit_in_one_thread_is_not_that_of_others():
    run("""
        work.outcome = SystemExit(3)
        first = Result(flights.fly, "k", work)
        work.began.wait()
        second = Result(flights.fly, "k", lambda: "mine")
        waiting(1)
        work.go.set()
        raised(SystemExit, first.get)
        assert second.get() == "mine"
        """)


# Event loops that end.


def test_the_loop_that_computes_is_closed_and_others_take_over():
    run("""
        async def new():
            return "new"

        loop = asyncio.new_event_loop()
        task = loop.create_task(flights.afly("k", work.slowly))
        loop.run_until_complete(asyncio.sleep(0.01))
        results = [Result(flights.fly, "k", lambda: "new"), Result(lambda: asyncio.run(flights.afly("k", new)))]
        waiting(2)
        loop.close()  # the task will never go on, and never be told
        assert [result.get() for result in results] == ["new", "new"]
        """)


def test_a_newcomer_takes_over_from_a_closed_loop_at_once():
    run("""
        loop = asyncio.new_event_loop()
        task = loop.create_task(flights.afly("k", work.slowly))
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()
        _flight._PATIENCE = 1e6
        assert flights.fly("k", lambda: "new") == "new"
        """)


def test_a_task_that_is_thrown_away_leaves_its_key_to_others():
    run("""
        loop = asyncio.new_event_loop()
        loop.create_task(flights.afly("k", work.slowly))
        loop.run_until_complete(asyncio.sleep(0.01))
        thread = Result(flights.fly, "k", lambda: "mine")
        waiting(1)
        loop._ready.clear(), loop._scheduled.clear()
        gc.collect()
        assert thread.get() == "mine"
        loop.close()
        """)


def test_a_loop_that_is_closed_while_its_tasks_wait_harms_nobody():
    run("""
        leader = Result(flights.fly, "k", work)
        work.began.wait()
        loop = asyncio.new_event_loop()
        task = loop.create_task(flights.afly("k", work.slowly))
        loop.run_until_complete(asyncio.sleep(0.01))
        other = Result(lambda: asyncio.run(flights.afly("k", work.slowly)))
        waiting(2)
        loop.close()
        work.go.set()
        assert leader.get() == other.get() == "value" and work.calls == 1
        """)


# Circles.


def test_a_computation_that_needs_itself():
    run("""
        def body():
            return flights.fly(("a", 1), body)

        async def abody():
            return await flights.afly("k", abody)

        async def by_another_task():
            return await asyncio.gather(flights.afly("k", by_another_task))

        async def by_another_thread():
            return await asyncio.to_thread(flights.fly, "k", str)

        async def by_blocking():
            return flights.fly("k", str)

        def by_a_loop_within():
            return asyncio.run(flights.afly("k", abody))

        error = raised(RecursionError, lambda: flights.fly(("a", 1), body))
        assert str(error) == "waits in a circle: f(('a', 1)) needs f(('a', 1))"
        for each in (abody, by_another_task, by_another_thread, by_blocking):
            error = raised(RecursionError, lambda: asyncio.run(flights.afly("k", each)))
            assert "f('k') needs f('k')" in str(error), error
        raised(RecursionError, lambda: flights.fly("k", by_a_loop_within))
        """)


def test_a_call_that_would_block_the_loop_which_computes():
    run("""
        async def main():
            task = asyncio.create_task(flights.afly("k", work.slowly))
            await asyncio.sleep(0)
            raised(RecursionError, lambda: flights.fly("k", str))
            work.go.set()
            return await task

        assert asyncio.run(main()) == "value"
        """)


@pytest.mark.parametrize("size", [2, 3, 10])
@pytest.mark.parametrize("kind", ["threads", "tasks", "loops", "mixed"])
def test_waits_in_a_circle(kind, size):
    run(f"""
        size, kind = {size}, {kind!r}
        barrier, began = threading.Barrier(size), 0

        def body(n):
            barrier.wait()
            return flights.fly((n + 1) % size, str)

        async def abody(n):
            if kind == "tasks":
                global began
                began += 1
                while began < size:
                    await asyncio.sleep(0)
            else:
                barrier.wait()
            return await flights.afly((n + 1) % size, work.slowly)

        async def tasks():
            done = await asyncio.gather(*(flights.afly(n, abody, n) for n in range(size)), return_exceptions=True)
            return done

        if kind == "tasks":
            errors = asyncio.run(tasks())
        else:
            as_task = [kind == "loops" or kind == "mixed" and n % 2 for n in range(size)]
            results = [
                Result(lambda n=n: asyncio.run(flights.afly(n, abody, n)) if as_task[n] else flights.fly(n, body, n))
                for n in range(size)
            ]
            errors = [raised(RecursionError, result.get) for result in results]
        assert all(isinstance(error, RecursionError) for error in errors), errors
        # One of them closed the circle, the others share its failure.
        assert len(set(map(id, errors))) == 1
        assert all(f"f({{n}})" in str(errors[0]) for n in range(size)), errors[0]
        """)


def test_waits_that_are_no_circle_are_no_error():
    run("""
        # a waits for c, b waits for c; c needs d; and a task that outlives its computation asks for its key.
        deep = Work()
        c = lambda: flights.fly("d", deep)
        results = [Result(flights.fly, key, flights.fly, "c", c) for key in ("a", "b", "a", "b")]
        deep.began.wait()
        waiting(3)
        deep.go.set()
        assert [result.get() for result in results] == ["value"] * 4 and deep.calls == 1

        async def main():
            async def later():
                await asyncio.sleep(0.01)
                return await flights.afly("k", work.slowly)

            async def first():
                return asyncio.create_task(later())

            work.go.set()
            return await (await flights.afly("k", first))

        assert asyncio.run(main()) == "value"
        """)


def test_what_is_below_on_the_stack_is_not_waited_for():
    run("""
        # p computes q; a helper of p asks for r, which waits for q. Nobody waits for p.
        def r():
            return flights.fly("q", str)

        def q():
            other = Result(flights.fly, "r", r)
            waiting(1)
            helpers.append(Result(context.run, flights.fly, "r", str))
            waiting(2)
            return "q"

        def p():
            global context
            context = contextvars.copy_context()
            return flights.fly("q", q) + helpers[0].get()

        helpers = []
        assert flights.fly("p", p) == "qq"

        # The same with an event loop in place of q.
        async def inner():
            asked = asyncio.create_task(flights.afly("x", work.slowly))
            await asyncio.sleep(0)
            other = Result(flights.fly, "w", flights.fly, "x", str)
            while not sum(len(flight.waits) for flight in list(_flight._on)):
                await asyncio.sleep(0)
            work.go.set()
            return await flights.afly("v", lambda: asyncio.to_thread(flights.fly, "w", str)), await asked, other.get()

        assert flights.fly("p", lambda: asyncio.run(inner())) == ("value",) * 3
        """)


def test_recursion_over_other_keys_works_and_a_full_stack_leaves_nothing_behind():
    run("""
        def fib(n):
            return n if n < 2 else flights.fly(n - 1, fib, n - 1) + flights.fly(n - 2, fib, n - 2)

        assert fib(15) == 610

        def down(n):
            return 0 if n == 0 else flights.fly(n - 1, down, n - 1) + 1

        assert flights.fly(200, down, 200) == 200
        # Whatever frame is the one too many.
        for limit in range(300, 400):
            sys.setrecursionlimit(limit)
            raised(RecursionError, lambda: flights.fly(5000, down, 5000))
            nothing_left()
        """)


def test_where_the_stack_is_almost_full_others_are_woken_all_the_same():
    run("""
        def body():
            # Needs no frames of Python.
            began.release()
            go.acquire()
            return "value"

        def deep(n):
            return deep(n - 1) if n else flights.fly("k", body)

        sys.setrecursionlimit(250)
        computed = 0
        for n in range(180, 250):
            began, go = threading.Lock(), threading.Lock()
            began.acquire(), go.acquire()
            leader = Result(deep, n)
            until(lambda: not began.locked() or not leader.thread.is_alive())
            if began.locked():
                raised(RecursionError, leader.get)
                continue
            waiter = Result(lambda: asyncio.run(flights.afly("k", work.slowly)))
            waiting(1)
            go.release()
            assert leader.get() == waiter.get() == "value"
            computed += 1
        assert 0 < computed < 70, computed
        """)


# What is forgotten while it is computed.


def test_what_is_forgotten_while_it_is_computed_goes_to_those_who_waited_and_is_not_kept():
    run("""
        for forget in (lambda f: f.forget("k"), lambda f: f.forget_all()):
            flights = Kept()
            kept = flights.kept
            old, new = Work("old"), Work("new")
            before = [Result(flights.fly, "k", old) for _ in range(3)]
            waiting(2)
            forget(flights)
            after = [Result(flights.fly, "k", new) for _ in range(3)]
            waiting(4)
            old.go.set()
            assert [result.get() for result in before] == ["old"] * 3 and not kept
            new.go.set()
            assert [result.get() for result in after] == ["new"] * 3 and kept == {"k": "new"}
            assert old.calls == new.calls == 1
        """)


def test_what_is_forgotten_while_it_is_kept_is_dropped():
    run("""
        def keep(key, value):
            flights.forget_all()  # a hook of the same thread
            flights.kept[key] = value

        flights = Kept(keep=keep)
        assert flights.fly("k", lambda: "v") == "v" and flights.kept == {} and flights.dropped == ["v"]

        # One of another thread: forgetting waits for it, but not for ever.
        inside, go = threading.Event(), threading.Event()

        def keep(key, value):
            inside.set()
            go.wait(30)
            flights.kept[key] = value

        flights = Kept(keep=keep)
        leader = Result(flights.fly, "k", lambda: "v")
        inside.wait()
        flights.forget_all()
        go.set()
        assert leader.get() == "v" and flights.kept == {} and flights.dropped == ["v"]
        """)


def test_hooks_that_fail_are_failures():
    run("""
        def boom(*_):
            raise ZeroDivisionError

        for hook in ("find", "keep"):
            flights = Kept(**{hook: boom})
            raised(ZeroDivisionError, lambda: flights.fly("k", str))
            raised(ZeroDivisionError, lambda: asyncio.run(flights.afly("k", asyncio.sleep, 0)))
        """)


# Processes.


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_while_a_flight_is_on():
    run("""
        async def ask():
            return await flights.afly("task", work.slowly)

        threads = [Result(flights.fly, "k", work) for _ in range(3)]
        loop = Result(asyncio.run, ask())
        waiting(2)
        until(lambda: work.calls == 2)

        def body():
            # What this very thread computes goes on in the child.
            child = os.fork()
            if child == 0:
                try:
                    signal.alarm(20)
                    assert [flight.key for flight in _flight._on] == ["own"]
                    assert flights.fly("k", lambda: "new") == flights.fly("task", lambda: "new") == "new"
                    raised(RecursionError, lambda: flights.fly("own", str))
                    more = [Result(flights.fly, "more", lambda: "new") for _ in range(5)]
                    assert [each.get() for each in more] == ["new"] * 5
                    os._exit(0)
                finally:
                    os._exit(1)
            return os.waitpid(child, 0)[1]

        assert flights.fly("own", body) == 0
        work.go.set()
        assert [thread.get() for thread in threads] == ["value"] * 3 and loop.get() == "value"
        """)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forks_in_the_middle_of_traffic():
    run("""
        sys.setswitchinterval(1e-6)
        over = threading.Event()

        def traffic():
            while not over.is_set():
                flights.fly(random.randrange(3), time.sleep, 0)

        threads = [Result(traffic) for _ in range(4)]
        for _ in range(30):
            child = os.fork()
            if child == 0:
                signal.alarm(20)
                for key in range(3):
                    flights.fly(key, str)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        over.set()
        for thread in threads:
            thread.get()
        """)


# All at once.


def test_threads_and_tasks_that_ask_cancel_fail_and_forget_at_random():
    run(
        """
        sys.setswitchinterval(1e-6)
        end, lock = time.monotonic() + 6, threading.Lock()
        computing, most, answers = collections.Counter(), 0, collections.Counter()
        flights = Flights("f")

        def enter(key):
            with lock:
                computing[key] += 1
                assert computing[key] == 1, "two computations of one key"

        def leave(key):
            with lock:
                computing[key] -= 1

        def compute(key, dice):
            enter(key)
            try:
                if dice < 0.2:
                    raise ValueError(key)
                if dice < 0.4:
                    return flights.fly(key + 1, compute, key + 1, 1)
                return key
            finally:
                leave(key)

        async def acompute(key, dice):
            enter(key)
            try:
                await asyncio.sleep(0)
                if dice < 0.2:
                    raise ValueError(key)
                if dice < 0.4:
                    return await flights.afly(key + 1, acompute, key + 1, 1)
                return key
            finally:
                leave(key)

        def thread():
            dice = random.Random()
            while time.monotonic() < end:
                key = dice.randrange(5) * 10
                try:
                    assert flights.fly(key, compute, key, dice.random()) in (key, key + 1)
                except ValueError:
                    pass

        async def task():
            dice = random.Random()
            while time.monotonic() < end:
                key = dice.randrange(5) * 10 + 100
                asked = asyncio.ensure_future(flights.afly(key, acompute, key, dice.random()))
                if dice.random() < 0.3:
                    await asyncio.sleep(0)
                    asked.cancel()
                try:
                    assert await asked in (key, key + 1)
                except (ValueError, asyncio.CancelledError):
                    pass

        async def both():
            # A key of tasks, from threads, and the other way round.
            await asyncio.gather(*(task() for _ in range(10)))

        def blocking():
            dice = random.Random()
            while time.monotonic() < end:
                key = dice.randrange(5) * 10 + 100
                try:
                    assert flights.fly(key, compute, key, 1) in (key, key + 1)
                except ValueError:
                    pass

        results = [Result(thread) for _ in range(3)] + [Result(blocking) for _ in range(2)]
        results += [Result(lambda: asyncio.run(both())) for _ in range(2)]
        for result in results:
            result.get()
        """,
        timeout=90,
    )
