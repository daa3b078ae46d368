"""The end of the interpreter, with containers full, hooked, shared and in use: exit code 0, and nothing printed."""

from textwrap import dedent

import pytest
from child import run

PREAMBLE = """
import atexit, contextlib, gc, itertools, os, sys, threading, time
from ullage import Full, HistoryRing, LRUCache, TransferMap

class Node:
    '''What it refers to is used when it dies, however late that is.'''
    def __init__(self, *others):
        self.others = others
    def __del__(self):
        for other in self.others:
            use(other)

def use(box):
    if isinstance(box, HistoryRing):
        box.append(1), box.insert(0, 2) if len(box) < 3 else None, list(box), len(box), box == [1], box.copy()
        repr(box), box.stats()
        if not threading.current_thread().daemon:
            # Runs Python within a slot, and the interpreter ends a daemon thread there by force: a limit, documented.
            box[:] = [1]
    else:
        box[1] = 2
        box.get(1), 1 in box, list(box.items()), len(box), box == {}, box.pop(1, None), box.setdefault(3, 4)
        box.copy(), repr(box), box.stats(), box.update({5: 6})
    if isinstance(box, LRUCache):
        box.set(7, 8, ttl=60), box.evict(), box.touch(3)
    if isinstance(box, TransferMap):
        box.begin(9, 9, ttl=60), box.renew(9, 70), box.complete(9, None), box.pop_expired(), box.next_deadline()
"""

ENDS = {
    "full": """
        cache, ring, transfers = LRUCache(1000), HistoryRing(1000), TransferMap(60)
        for i in range(2000):
            cache[i] = [i]
            ring.append([i])
            transfers[i] = [i]
    """,
    "full of strings": """
        cache = LRUCache(None, ((str(i), i) for i in range(50_000)))
        ring = HistoryRing(None, map(str, range(50_000)))
        transfers = TransferMap(60)
        transfers.update((str(i), i) for i in range(50_000))
    """,
    "cycles": """
        cache, ring, transfers = LRUCache(3), HistoryRing(3), TransferMap(60)
        for i in range(3):
            cache[i] = transfers[i] = [cache, ring, transfers]
            ring.append([cache, ring, transfers, iter(cache), transfers.claim(i)])
        cache["main"] = sys.modules["__main__"]
    """,
    "hooks": """
        def hook(*arguments):
            return 1
        cache = LRUCache(3, dict.fromkeys(range(5)), on_evict=hook, weigher=hook)
        ring = HistoryRing(3, range(5), on_drop=hook, weigher=hook)
        transfers = TransferMap(1e-9, on_expire=hook, timer=time.monotonic)
        transfers[1] = 2
    """,
    "hooks that would print": """
        cache = LRUCache(3, {1: 1}, on_evict=print)
        ring = HistoryRing(3, [1], on_drop=print)
        transfers = TransferMap(0.5, on_expire=print, timer=itertools.count().__next__)
        transfers[1] = 2
    """,
    "hooks that would fail": """
        def hook(*arguments):
            raise ZeroDivisionError
        cache = LRUCache(3, {1: 1}, on_evict=hook)
        ring = HistoryRing(3, [1], on_drop=hook)
        transfers = TransferMap(0.5, on_expire=hook, timer=itertools.count().__next__)
        transfers[1] = 2
    """,
    "hooks that are methods": """
        class Service:
            def __init__(self):
                self.cache = LRUCache(3, on_evict=self.left, timer=self.time, ttl=5)
                self.ring = HistoryRing(3, on_drop=self.left, timer=self.time, ttl=5)
                self.transfers = TransferMap(3, on_expire=self.left, timer=self.time)
                for i in range(9):
                    self.cache[i] = self.transfers[i] = self
                    self.ring.append(self)
            def left(self, *arguments):
                self.cache.get(1)
            def time(self):
                return time.monotonic()
        service = Service()
    """,
    "values that use their container": """
        cache, ring, transfers = LRUCache(5), HistoryRing(5), TransferMap(60)
        for i in range(5):
            cache[i] = transfers[i] = Node(cache, ring, transfers)
            ring.append(Node(cache, ring, transfers))
        del cache, ring, transfers
    """,
    "values that use a container of the module": """
        cache, ring, transfers = LRUCache(5), HistoryRing(5), TransferMap(60)
        for box in (cache, ring, transfers):
            box_keeper = [Node(box), Node(cache, ring, transfers)]
    """,
    "values that need a hook": """
        cache = LRUCache(1, on_evict=lambda key, value, cause: cause == "size", ttl=60)
        transfers = TransferMap(60, maxsize=1, on_expire=lambda batch: {})
        ring = HistoryRing(1, on_drop=lambda items: None, ttl=60)
        class Last:
            def __del__(self):
                cache[2] = cache[3] = 4
                ring.extend([1, 2, 3])
                transfers[2] = 4
                try:
                    transfers[3] = 4
                except Full:
                    pass
        keep = Last()
        sys.keep = Last()
    """,
    "kept by other modules": """
        sys.cache, sys.ring, sys.transfers = LRUCache(5), HistoryRing(5), TransferMap(60)
        for box in (sys.cache, sys.transfers):
            box.update({i: Node(sys.cache, sys.ring) for i in range(5)})
        sys.ring.append(Node(sys.transfers))
        import builtins
        builtins.cache = sys.cache
    """,
    "iterators and claims left open": """
        cache, ring, transfers = LRUCache(5, {1: 1, 2: 2}), HistoryRing(5, "abc"), TransferMap(60)
        transfers.update(cache)
        walks = [iter(cache), iter(ring), iter(transfers), iter(cache.items())]
        for walk in walks:
            next(walk)
        claim = transfers.claim(1)
        claim.__enter__()

        def generator():
            with transfers.claim(2) as handle:
                for key in cache:
                    yield key
        going = generator()
        next(going)
    """,
    "subclasses": """
        class Sub(LRUCache):
            def __del__(self):
                self.get(1), len(self), self.clear()
        class SubRing(HistoryRing):
            def __del__(self):
                self.append(1), len(self), self.close()
        class SubTransfers(TransferMap):
            def __del__(self):
                self.pop_expired(), len(self), self.close()
        keep = Sub(3, {1: 1}), SubRing(3, [1]), SubTransfers(60)
        keep[2][1] = keep
    """,
    "atexit": """
        cache, ring, transfers = LRUCache(5), HistoryRing(5), TransferMap(60)
        atexit.register(use, cache)
        atexit.register(use, ring)
        atexit.register(use, transfers)
    """,
    "daemon threads": """
        cache, ring, transfers = LRUCache(50), HistoryRing(50), TransferMap(60)
        def work():
            while True:
                for box in (cache, ring, transfers):
                    with contextlib.suppress(RuntimeError):
                        use(box)
        for _ in range(4):
            threading.Thread(target=work, daemon=True).start()
        time.sleep(0.05)
    """,
    "threads that go on for a while": """
        cache, ring, transfers = LRUCache(50), HistoryRing(50), TransferMap(60)
        def work():
            until = time.monotonic() + 0.1
            while time.monotonic() < until:
                for box in (cache, ring, transfers):
                    # As with a dict, others may change it while it is iterated over.
                    with contextlib.suppress(RuntimeError):
                        use(box)
        for _ in range(4):
            threading.Thread(target=work).start()
    """,
    "sys.exit": """
        cache = LRUCache(1, on_evict=lambda *left: None)
        cache[1] = Node(cache)
        cache[2] = Node(cache)
        sys.exit(0)
    """,
    "os._exit": """
        cache = LRUCache(1, {1: 2})
        os._exit(0)
    """,
    "closed": """
        cache, ring, transfers = LRUCache(5, {1: 1}), HistoryRing(5, [1]), TransferMap(60)
        for box in (cache, ring, transfers):
            box.close()
    """,
    "never initialised": """
        keep = [cls.__new__(cls) for cls in (LRUCache, HistoryRing, TransferMap)]
    """,
    "no garbage collection": """
        gc.disable()
        cache, ring, transfers = LRUCache(5), HistoryRing(5), TransferMap(60)
        for box in (cache, transfers):
            box[1] = [box, ring]
        ring.append([ring, cache])
        del cache, ring, transfers, box
    """,
    "a frozen heap": """
        cache, ring, transfers = LRUCache(5), HistoryRing(5), TransferMap(60)
        cache[1] = transfers[1] = [cache, ring]
        gc.freeze()
    """,
    "made late": """
        class Late:
            def __del__(self):
                ullage.LRUCache(3, {1: 1}, ttl=5)[1] = ullage.HistoryRing(3, [1], ttl=5)
                ullage.TransferMap(60).begin(1, 2, ttl=60)
        import ullage
        keep = Late()
    """,
    "a big weigher": """
        cache = LRUCache(max_bytes="1 MiB")
        ring = HistoryRing(max_bytes="1 MiB")
        for i in range(100):
            cache[i] = ["x" * 1000, {i: cache}]
            ring.append([i, "x" * 1000])
        keep = Node(cache, ring)
    """,
}


@pytest.mark.parametrize("end", ENDS)
def test_the_interpreter_ends_in_silence(end: str) -> None:
    done = run(PREAMBLE + dedent(ENDS[end]))
    assert (done.stdout, done.stderr) == ("", "")


def test_nothing_is_left_when_imported_only() -> None:
    done = run("import ullage, sys; assert not [name for name in sys.modules if name.startswith('pydantic')]")
    assert (done.stdout, done.stderr) == ("", "")
