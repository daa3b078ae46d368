"""Eight threads at each container, switched as often as can be: nothing lost, nothing too much, no deadlock.

Each scenario runs in a child, since a deadlock may keep the interpreter's lock.
"""

import os
from textwrap import dedent

import pytest
from child import run

PREAMBLE = """
import collections, copy, itertools, os, pickle, random, sys, threading, time
from ullage import Full, HistoryRing, LRUCache, TransferMap

sys.setswitchinterval(1e-6)
THREADS = 8


def hammer(*bodies, observe=None):
    '''Runs each body in a thread of its own, with its number; what one of them raises is raised here.'''
    errors, started, over = [], threading.Barrier(len(bodies) + (observe is not None)), threading.Event()

    def guard(body, *arguments):
        started.wait()
        try:
            body(*arguments)
        except BaseException as error:
            errors.append(error)

    def watch():
        while not over.is_set():
            observe()

    threads = [threading.Thread(target=guard, args=(body, n)) for n, body in enumerate(bodies)]
    watchers = [threading.Thread(target=guard, args=(watch,))] if observe else []
    for thread in threads + watchers:
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    for thread in watchers:
        thread.join()
    if errors:
        raise errors[0]


class Key:
    '''A key that is compared by Python code; there are few hashes.'''

    def __init__(self, n):
        self.n = n

    def __hash__(self):
        return self.n % 7

    def __eq__(self, other):
        return isinstance(other, Key) and self.n == other.n
"""

SCENARIOS = {
    # LRUCache
    "the bound of a cache holds at every instant": """
        cache = LRUCache(10)

        def body(n):
            dice = random.Random(n)
            for i in range(8000):
                key = make(dice.randrange(30))
                try:
                    match dice.randrange(12):
                        case 0 | 1 | 2 | 3: cache[key] = i
                        case 4: cache.setdefault(key, i)
                        case 5: cache.pop(key)
                        case 6: del cache[key]
                        case 7: cache.popitem()
                        case 8: cache.evict(2)
                        case 9: cache.update({make(k): k for k in range(3)})
                        case 10: cache[key], cache.get(key), cache.move_to_end(key)
                        case 11: cache.maxsize = dice.randint(5, 10)
                except KeyError:
                    pass

        def observe():
            assert len(cache) <= 10
            assert cache.currsize <= 10
            assert len(cache.coldest(100)) <= 10
            entries = cache.stats().entries
            assert entries <= 10
            repr(cache), copy.copy(cache), cache == {}

        for make in (int, str, Key):
            hammer(*[body] * THREADS, observe=observe)
            assert len(cache) == len(list(cache)) == len(cache.coldest(100)) <= 10
            cache.clear()
    """,
    "the weight of a cache holds at every instant": """
        cache = LRUCache(100, weigher=lambda key, value: value)

        def body(n):
            dice = random.Random(n)
            for _ in range(8000):
                key = dice.randrange(40)
                if dice.random() < 0.8:
                    cache[key] = dice.randint(0, 60)
                else:
                    cache.pop(key, None)

        def observe():
            assert cache.currsize <= 100
            assert sum(value for _, value in cache.coldest(1000)) <= 100

        hammer(*[body] * THREADS, observe=observe)
        assert cache.currsize == sum(cache.values())
    """,
    "no entry of a cache is lost": """
        for make, many in ((int, 8000), (str, 8000), (Key, 400)):
            cache = LRUCache(None)

            def body(n):
                for i in range(n, many, THREADS):
                    cache[make(i)] = i
                    assert cache[make(i)] == i

            hammer(*[body] * THREADS)
            assert len(cache) == many
            assert all(cache[make(i)] == i for i in range(many))
    """,
    "every entry leaves a cache once": """
        left = collections.deque()
        cache = LRUCache(10, on_evict=lambda key, value, cause: left.append(value))
        numbers = itertools.count()
        stored = collections.deque()

        def body(n):
            dice = random.Random(n)
            for _ in range(2000):
                value = next(numbers)
                stored.append(value)
                key = dice.randrange(25)
                match dice.randrange(4):
                    case 0: cache[key] = value
                    case 1:
                        if cache.setdefault(key, value) != value:
                            stored.remove(value)
                    case 2:
                        cache[key] = value
                        cache.pop(key, None)
                    case 3:
                        cache[key] = value
                        cache.evict()

        hammer(*[body] * THREADS)
        left.extend(cache.values())
        assert sorted(left) == sorted(stored), collections.Counter(left) - collections.Counter(stored)
        assert cache.stats().callback_errors == 0
    """,
    "setdefault decides once": """
        for cache in (LRUCache(None), TransferMap(60)):
            for make in (int, Key):
                answers = [[None] * THREADS for _ in range(500)]

                def body(n):
                    for i in range(500 if make is int else 100):
                        answers[i][n] = cache.setdefault(make(i), object())

                hammer(*[body] * THREADS)
                assert all(len(set(map(id, each))) == 1 for each in answers)
                cache.clear()
    """,
    "get_or_set gives all the same": """
        cache = LRUCache(None)
        answers = [[None] * THREADS for _ in range(500)]

        def body(n):
            for i in range(500):
                answers[i][n] = cache.get_or_set(i, object)

        hammer(*[body] * THREADS)
        assert all(len(set(map(id, each))) == 1 for each in answers)
    """,
    "popitem and pop take each once": """
        for container in (LRUCache(None), TransferMap(60)):
            container.update(zip(range(4000), range(4000)))
            taken = collections.deque()

            def body(n):
                dice = random.Random(n)
                while container:
                    try:
                        taken.append(container.popitem()[0] if n % 2 else container.pop(dice.randrange(4000)))
                    except KeyError:
                        pass

            hammer(*[body] * THREADS)
            assert sorted(taken) == list(range(4000))
    """,
    "iteration during changes": """
        cache, transfers, ring = LRUCache(50), TransferMap(60, maxsize=50, on_full="evict"), HistoryRing(50)

        def write(n):
            dice = random.Random(n)
            for i in range(1500):
                cache[dice.randrange(80)] = i
                try:
                    transfers[dice.randrange(80)] = i
                    transfers.complete(dice.randrange(80), None)
                except Full:
                    pass
                transfers.pop_expired()
                ring.append(i)
                if dice.random() < 0.1:
                    cache.pop(dice.randrange(80), None)

        def read(n):
            for _ in range(100):
                for walk in (iter(cache), reversed(cache), iter(cache.items())):
                    try:
                        met = list(walk)
                    except RuntimeError as error:
                        assert "changed size" in str(error)
                    else:
                        assert len(met) <= 50 and len(set(met)) == len(met)
                met = list(itertools.islice(transfers, 10_000))
                assert len(met) < 10_000
                list(itertools.islice(ring, 10_000)), list(itertools.islice(reversed(ring), 10_000))
                assert len(ring[:]) <= 50

        hammer(*[write] * 4, *[read] * 4)
    """,
    "iterators that threads share": """
        for shared in (LRUCache.fromkeys(range(10_000)), HistoryRing(None, range(10_000))):
            walk, met = iter(shared), collections.deque()
            hammer(*[lambda n: met.extend(walk)] * THREADS)
            assert sorted(met) == list(range(10_000))
    """,
    # HistoryRing
    "no item of a ring is lost": """
        ring = HistoryRing(None)
        hammer(*[lambda n: [ring.append((n, i)) for i in range(10_000)]] * THREADS)
        assert len(ring) == 10_000 * THREADS
        for n in range(THREADS):
            assert [i for m, i in ring if m == n] == list(range(10_000))
    """,
    "the bound of a ring holds at every instant": """
        ring = HistoryRing(10, keep_first=2)

        def body(n):
            dice = random.Random(n)
            for i in range(8000):
                try:
                    match dice.randrange(12):
                        case 0 | 1 | 2 | 3: ring.append(i)
                        case 4: ring.appendleft(i)
                        case 5: ring.pop()
                        case 6: ring.pop(0)
                        case 7: ring.insert(1, i)
                        case 8: ring[3:5] = [1, 2, 3, 4]
                        case 9: ring.extend(range(12))
                        case 10: del ring[::3]
                        case 11: ring.maxlen = dice.randint(5, 10)
                except IndexError:
                    pass

        def observe():
            assert len(ring) <= 10
            assert len(ring[:]) <= 10
            assert len(list(ring)) <= 10
            repr(ring), ring == [], ring.stats(), copy.copy(ring)

        hammer(*[body] * THREADS, observe=observe)
        assert len(ring) == len(list(ring)) == len(ring[:])
    """,
    "the weight of a ring holds at every instant": """
        ring = HistoryRing(None, weigher=lambda item: item, max_weight=100)

        def body(n):
            dice = random.Random(n)
            for _ in range(8000):
                ring.append(dice.randint(0, 60))
                if dice.random() < 0.2:
                    ring.appendleft(dice.randint(0, 60))
                try:
                    ring[0] = dice.randint(0, 60)
                except IndexError:
                    pass

        def observe():
            assert ring.weight <= 100
            assert sum(ring[:]) <= 100

        hammer(*[body] * THREADS, observe=observe)
        assert ring.weight == sum(ring)
    """,
    "every item falls off once": """
        told = collections.deque()
        ring = HistoryRing(10, on_drop=told.extend)
        hammer(*[lambda n: [ring.append((n, i)) for i in range(10_000)]] * THREADS)
        told.extend(ring)
        assert len(told) == len(set(told)) == 10_000 * THREADS
        assert ring.dropped == 10_000 * THREADS - 10
    """,
    "a queue between threads": """
        ring, taken = HistoryRing(None), collections.deque()

        def take(n):
            while len(taken) < 8000:
                try:
                    taken.append(ring.pop(0))
                except IndexError:
                    pass

        hammer(*[lambda n: [ring.append((n, i)) for i in range(2000)]] * 4, *[take] * 4)
        assert len(taken) == len(set(taken)) == 8000 and not ring
    """,
    "sorting and turning among appends": """
        ring = HistoryRing(20)

        def body(n):
            for i in range(500):
                ring.append(i)
                try:
                    (ring.sort, ring.reverse, ring.rotate)[n % 3]()
                except ValueError as error:
                    assert "modified" in str(error)

        def observe():
            assert len(ring) <= 20

        hammer(*[body] * THREADS, observe=observe)
    """,
    # TransferMap
    "every handle is handed over once": """
        for on_full in ("raise", "evict"):
            transfers = TransferMap(0.0005, maxsize=40, on_full=on_full)
            got, numbers, begun = collections.deque(), itertools.count(), collections.deque()
            got.extend(transfers.pop_expired())

            def body(n):
                dice = random.Random(n)
                for i in range(6000):
                    handle = next(numbers)
                    key = (n, dice.randrange(10))
                    try:
                        if key not in transfers and transfers.begin(key, handle, ttl=dice.choice([None, 0.002, 1e-6])):
                            begun.append(handle)
                    except Full:
                        pass
                    transfers.renew((n, dice.randrange(10)), 0.001)
                    key = (n, dice.randrange(10))
                    match dice.randrange(4):
                        case 0:
                            got.extend(pair[1] for pair in transfers.pop_expired(dice.choice([None, 1, 3])))
                        case 1:
                            if key in transfers:
                                handle = transfers.pop(key, None)
                                got.extend([handle] if handle is not None else [])
                        case 2:
                            try:
                                with transfers.claim(key):
                                    assert transfers.state(key) == "claimed"
                            except KeyError:
                                pass
                        case 3:
                            try:
                                got.append(transfers.fail(key))
                            except KeyError:
                                pass

            def observe():
                assert len(transfers) <= 40
                stats = transfers.stats()
                assert stats.live <= 40
                assert stats.unseen == 0

            hammer(*[body] * THREADS, observe=observe)
            time.sleep(0.01)
            got.extend(handle for _, handle in transfers.pop_expired())
            assert len(transfers) == 0
            assert sorted(got) == sorted(begun)
            stats = transfers.stats()
            assert stats.begun == len(begun)
            assert stats.completed + stats.failed + stats.expired == len(begun)
    """,
    "on_expire hears of every handle once": """
        heard = collections.deque()
        transfers = TransferMap(0.0005, on_expire=lambda batch: heard.extend(handle for _, handle in batch))

        def body(n):
            for i in range(10_000):
                transfers[n, i] = (n, i)
                len(transfers)

        hammer(*[body] * THREADS)
        # The sweeper may be at it still.
        end = time.monotonic() + 30
        while len(heard) < 10_000 * THREADS and time.monotonic() < end:
            time.sleep(0.01)
        assert len(heard) == len(set(heard)) == 10_000 * THREADS
        assert transfers.stats().callback_errors == 0
    """,
    "one completion each": """
        transfers = TransferMap(60)
        done = collections.deque()

        def begin(n):
            for i in range(10_000):
                transfers.begin((n, i), (n, i))

        def complete(n):
            for i in range(10_000):
                while transfers.state((n - 4, i)) == "unknown":
                    pass
                done.append(transfers.complete((n - 4, i)))

        hammer(*[begin] * 4, *[complete] * 4)
        assert len(set(done)) == len(done) == 40_000 and not transfers
    """,
    # All of them
    "two that are compared with each other": """
        pairs = [
            (LRUCache(None, {make(i): i for i in range(20)}), LRUCache(None, {make(i): i for i in range(20)}))
            for make in (int, Key)
        ]
        one, two = TransferMap(60), TransferMap(60)
        for transfers in (one, two):
            transfers.update((Key(i), i) for i in range(20))
        pairs += [(one, two), (HistoryRing(None, map(Key, range(20))), HistoryRing(None, map(Key, range(20))))]
        for a, b in pairs:
            def forth(n):
                for _ in range(100):
                    assert a == b

            def back(n):
                for _ in range(100):
                    assert b == a

            hammer(*[forth, back] * 4)
    """,
    "two that are updated from each other": """
        a, b = LRUCache(30, {Key(i): i for i in range(20)}), LRUCache(30, {Key(i): i for i in range(10, 30)})
        c, d = TransferMap(60), TransferMap(60)
        c.update(a), d.update(b)
        e, f = HistoryRing(30, range(20)), HistoryRing(30, range(20))

        def forth(n):
            for _ in range(50):
                a.update(b), c.update(d), a.update(c), e.extend(f)
                a | b

        def back(n):
            for _ in range(50):
                b.update(a), d.update(c), c.update(a), f.extend(e)
                b.__ior__(a)

        hammer(*[forth, back] * 4)
        assert len(a) <= 30 and len(b) <= 30 and len(e) <= 30 and len(f) <= 30
    """,
    "containers in each other": """
        a, b = LRUCache(3), LRUCache(3)
        a["other"], b["other"] = b, a

        def body(n):
            for i in range(100):
                (a if n % 2 else b)[i % 3] = HistoryRing(2, [a, b])
                repr(a), repr(b), sys.getsizeof(a)
                try:
                    a == b
                except RecursionError:
                    pass

        sys.setrecursionlimit(200)
        hammer(*[body] * 4)
    """,
    "copies and pickles of what changes": """
        cache, ring, transfers = LRUCache(20), HistoryRing(20), TransferMap(60, maxsize=200)

        def write(n):
            for i in range(1000):
                cache[n, i] = i
                ring.append(i)
                transfers[n, i % 20] = i

        def read(n):
            for _ in range(60):
                for container in (cache, ring, transfers):
                    for twin in (copy.copy(container), copy.deepcopy(container), pickle.loads(pickle.dumps(container))):
                        assert len(twin) <= (200 if twin.__class__ is TransferMap else 20)

        hammer(*[write] * 4, *[read] * 4)
    """,
    "clear and close under fire": """
        for end in ("clear", "close"):
            cache, ring, transfers = LRUCache(20), HistoryRing(20), TransferMap(60)

            def body(n):
                for i in range(2000):
                    for put in (lambda: cache.__setitem__(i, n), lambda: ring.append(i), lambda: transfers.begin(i, n)):
                        try:
                            put()
                        except RuntimeError as error:
                            assert end == "close" and "closed" in str(error), error

            def finish(n):
                for container in (cache, ring, transfers) * 20:
                    time.sleep(1e-4)
                    try:
                        getattr(container, end)()
                    except RuntimeError as error:
                        assert end == "close"

            hammer(*[body] * 7, finish)
            for container in (cache, ring, transfers):
                getattr(container, end)()
    """,
    "values that use their container when they die": """
        cache, ring, transfers = LRUCache(5), HistoryRing(5), TransferMap(60, maxsize=50)

        class Value:
            def __del__(self):
                cache.get(1), len(ring), transfers.get(1), cache.pop(2, None), transfers.pop(2, None)

        def body(n):
            for i in range(1000):
                cache[i % 9] = Value()
                ring.append(Value())
                transfers[i % 9] = Value()
                transfers.complete(i % 9, None)

        def observe():
            assert len(cache) <= 5 and len(ring) <= 5

        hammer(*[body] * THREADS, observe=observe)
    """,
    "a clock in Python": """
        clock = itertools.count()
        timer = lambda: next(clock) / 1000
        cache, ring = LRUCache(20, ttl=0.05, timer=timer), HistoryRing(20, ttl=0.05, timer=timer)
        transfers = TransferMap(0.05, timer=timer)

        def body(n):
            for i in range(1000):
                cache[i % 30] = i
                cache.get(i % 29)
                ring.append(i)
                transfers[i % 30] = i
                transfers.pop_expired(1)
                transfers.renew(i % 30)

        def observe():
            assert len(cache) <= 20 and len(ring) <= 20
            list(ring), cache.stats(), transfers.stats(), transfers.next_deadline()

        hammer(*[body] * THREADS, observe=observe)
    """,
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_threads(scenario: str) -> None:
    run(PREAMBLE + dedent(SCENARIOS[scenario]), timeout=60)


FORK = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
calls = []
cache = LRUCache(50, on_evict=lambda *left: calls.append(left), ttl=30)
weighed = LRUCache(max_bytes=100_000)
ring = HistoryRing(50, on_drop=calls.append, ttl=30)
transfers = TransferMap(0.01, on_expire=calls.append)
over = threading.Event()


def body(n):
    i = 0
    while not over.is_set():
        i += 1
        cache[Key(i % 80)] = weighed[i % 80] = transfers[i % 80] = i
        ring.append(i)
        cache.get(Key(3)), list(ring), transfers.pop_expired()
        calls.clear()


def use():
    for i in range(200):
        cache[Key(i)] = weighed[i] = transfers[i] = i
        ring.append(i)
    assert len(cache) == len(ring) == 50 and weighed
    assert cache[Key(199)] == ring[-1] == 199
    copy.copy(cache), pickle.dumps(weighed), repr(ring), list(weighed.items())
    time.sleep(0.02)
    transfers.expire()
    assert not transfers
    for container in (cache, weighed, ring, transfers):
        container.clear()
        container.close()


threads = [threading.Thread(target=body, args=(n,), daemon=True) for n in range(THREADS)]
for thread in threads:
    thread.start()
for _ in range(20):
    time.sleep(0.005)
    child = os.fork()
    if not child:
        try:
            use()
        except BaseException as error:
            os.write(2, repr(error).encode())
            os._exit(1)
        os._exit(0)
    for _ in range(2000):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.01)
    else:
        os.kill(child, 9)
        raise AssertionError("the child hangs")
    assert status == 0, status
over.set()
for thread in threads:
    thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_in_the_middle() -> None:
    run(PREAMBLE + FORK, timeout=120)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize(
    "place", ["__eq__", "__hash__", "__del__", "weigher", "timer", "on_evict", "on_drop", "on_expire"]
)
def test_a_fork_in_foreign_code(place: str) -> None:
    """Whatever runs foreign code holds no lock that the child would find taken."""
    run(f"""
        import os, sys
        from ullage import HistoryRing, LRUCache, TransferMap

        done = False

        def fork(*arguments):
            global done
            if not done and cache is not None:
                done = True
                child = os.fork()
                if not child:
                    for i in range(20):
                        cache[i] = transfers[i] = i
                        ring.append(i)
                    list(cache), list(ring), list(transfers), repr(cache), cache == dict(cache)
                    sys.stdout.write("fine")
                    sys.stdout.flush()
                    os._exit(0)
                assert os.waitpid(child, 0)[1] == 0
            return 1.0

        class Key:
            def __hash__(self):
                return fork() and 7 if {place!r} == "__hash__" else 7
            def __eq__(self, other):
                return bool({place!r} == "__eq__" and fork() and False)
            def __del__(self):
                if {place!r} == "__del__":
                    fork()

        cache = None
        hook = {{"weigher": lambda *a: int(fork()), "timer": lambda: fork()}}.get({place!r})
        options = {{}} if hook is None else {{{place!r}: hook}}
        timer = options.get("timer")
        transfers = TransferMap(1e-7, on_expire=fork if {place!r} == "on_expire" else None, timer=timer)
        ring = HistoryRing(5, on_drop=fork if {place!r} == "on_drop" else None, **options)
        cache = LRUCache(5, on_evict=fork if {place!r} == "on_evict" else None, **options)
        for i in range(10):
            cache[Key()] = transfers[Key()] = Key()
            ring.append(Key())
        transfers.expire()
        cache.clear(), ring.clear(), transfers.clear()
        assert done
    """)
