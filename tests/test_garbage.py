"""Cycles through containers are collected, nothing is walked in vain, and nothing leaks, error paths included."""

import copy
import gc
import operator
import pickle
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from child import run
from ullage import HistoryRing, LRUCache, TransferMap, _registry
from ullage.testing import ManualClock


class Node:
    """Something that a cycle goes through, that can be watched, called and hashed, and refers to anything."""

    def __init__(self) -> None:
        self.refers_to: list[Any] = []

    def __call__(self, *arguments: object) -> int:
        return 1


def entered(claim: Any) -> Any:
    claim.__enter__()
    return claim


def begun(walk: Any) -> Any:
    next(walk)
    return walk


def waiting(node: Node) -> TransferMap:
    """A map with an expired entry that waits."""
    clock = ManualClock()
    transfers = TransferMap(1, timer=clock)
    transfers["a"] = node
    clock.advance(1)
    transfers["b"] = 1
    return transfers


def gone(node: Node) -> TransferMap:
    """A map that only remembers a key."""
    transfers = TransferMap(1)
    transfers[node] = 1
    transfers.complete(node)
    return transfers


def filled(container: Any, *pairs: Any) -> Any:
    container.update(pairs)
    return container


CYCLES: dict[str, Callable[[Node], Any]] = {
    "LRUCache value": lambda node: LRUCache(3, {1: node}),
    "LRUCache key": lambda node: LRUCache(3, {node: 1}),
    "LRUCache replaced": lambda node: filled(LRUCache(3, {1: 1}), (1, node)),
    "LRUCache setdefault": lambda node: [cache := LRUCache(3), cache.setdefault(1, node)][0],
    "LRUCache tuple": lambda node: LRUCache(3, {(1, (node,)): "text"}),
    "LRUCache on_evict": lambda node: LRUCache(3, on_evict=node),
    "LRUCache weigher": lambda node: LRUCache(3, weigher=node),
    "LRUCache timer": lambda node: LRUCache(3, timer=node, ttl=1),
    "LRUCache bound method": lambda node: LRUCache(3, on_evict=node.__call__),
    "LRUCache iterator": lambda node: iter(LRUCache(3, {node: 1})),
    "LRUCache iterator, begun": lambda node: begun(iter(LRUCache(3, {node: 1, 2: 2}))),
    "LRUCache keys": lambda node: LRUCache(3, {node: 1}).keys(),
    "LRUCache values": lambda node: LRUCache(3, {1: node}).values(),
    "LRUCache items": lambda node: reversed(LRUCache(3, {1: node}).items()),
    "HistoryRing item": lambda node: HistoryRing(3, [1, node]),
    "HistoryRing appendleft": lambda node: [ring := HistoryRing(3), ring.appendleft(node)][0],
    "HistoryRing insert": lambda node: [ring := HistoryRing(3), ring.insert(0, node)][0],
    "HistoryRing [] =": lambda node: [ring := HistoryRing(3, [1]), ring.__setitem__(0, node)][0],
    "HistoryRing [:] =": lambda node: [ring := HistoryRing(3), ring.__setitem__(slice(None), [node])][0],
    "HistoryRing [::2] =": lambda node: [ring := HistoryRing(3, "a"), ring.__setitem__(slice(0, 1, 2), [node])][0],
    "HistoryRing on_drop": lambda node: HistoryRing(3, on_drop=node),
    "HistoryRing weigher": lambda node: HistoryRing(3, weigher=node),
    "HistoryRing timer": lambda node: HistoryRing(3, timer=node, ttl=1),
    "HistoryRing iterator": lambda node: iter(HistoryRing(3, [node])),
    "HistoryRing iterator, begun": lambda node: begun(reversed(HistoryRing(3, [node, 1]))),
    "TransferMap handle": lambda node: filled(TransferMap(3), (1, node)),
    "TransferMap key": lambda node: filled(TransferMap(3), (node, 1)),
    "TransferMap waiting": waiting,
    "TransferMap gone": gone,
    "TransferMap early": lambda node: [transfers := TransferMap(3), transfers.complete(node, None)][0],
    "TransferMap on_expire": lambda node: TransferMap(3, on_expire=node),
    "TransferMap timer": lambda node: TransferMap(3, timer=node),
    "TransferMap iterator": lambda node: iter(filled(TransferMap(3), (1, node))),
    "TransferMap values": lambda node: filled(TransferMap(3), (1, node)).values(),
    "TransferMap claim": lambda node: filled(TransferMap(3), (1, node)).claim(1),
    "TransferMap claim of the key": lambda node: TransferMap(3).claim(node),
    "TransferMap claim, entered": lambda node: entered(filled(TransferMap(3), (1, node)).claim(1)),
    "in one another": lambda node: LRUCache(3, {1: HistoryRing(3, [filled(TransferMap(3), (1, node))])}),
}


@pytest.mark.parametrize("cycle", CYCLES)
def test_cycles_are_collected(cycle: str) -> None:
    node = Node()
    node.refers_to.append(CYCLES[cycle](node))
    watched = weakref.ref(node)
    gc.collect()
    assert watched() is node
    del node
    gc.collect()
    assert watched() is None


@pytest.mark.parametrize("cls", [LRUCache, HistoryRing, TransferMap])
def test_attributes_of_subclasses_are_collected(cls: type) -> None:
    class Sub(cls):  # type: ignore[misc]
        pass

    box = Sub(3)
    box.itself = box
    watched = weakref.ref(box)
    del box
    gc.collect()
    assert watched() is None
    kind = weakref.ref(Sub)
    del Sub
    gc.collect()
    assert kind() is None


def containers() -> list[Any]:
    """One of each kind, with the function that puts something in."""
    cache, ring, transfers = LRUCache(None), HistoryRing(None), TransferMap(60)
    return [
        (cache, lambda key, value: cache.__setitem__(key, value)),
        (ring, lambda key, value: (ring.append(key), ring.append(value))),
        (transfers, lambda key, value: transfers.begin(key, value)),
    ]


def test_a_container_goes_at_once_when_it_is_in_no_cycle() -> None:
    gc.disable()
    try:
        for box, put in containers():
            node = Node()
            watched = [weakref.ref(box), weakref.ref(node)]
            put(1, node)
            list(box), repr(box), box == box, copy.copy(box)
            walk = iter(box)
            next(walk)
            del box, put, node, walk
            # The loop's own list is gone after it.
        del watched[:]
    finally:
        gc.enable()
    for make in (
        lambda node: LRUCache(3, {1: node}),
        lambda node: HistoryRing(3, [node]),
        lambda node: filled(TransferMap(3), (1, node)),
    ):
        node = Node()
        box = make(node)
        watched = [weakref.ref(box), weakref.ref(node)]
        walk = begun(iter(box))
        gc.disable()
        try:
            del node, box
            assert all(ref() for ref in watched)
            del walk
            assert [ref() for ref in watched] == [None, None]
        finally:
            gc.enable()


def test_weak_references_hear_of_the_end() -> None:
    for make in (lambda: LRUCache(3), lambda: HistoryRing(3), lambda: TransferMap(3)):
        heard: list[Any] = []
        box = make()
        watched = weakref.ref(box, heard.append)
        assert watched() is box
        del box
        assert heard == [watched]


@pytest.mark.parametrize("n", [10, 10_000])
def test_strings_and_numbers_are_not_walked(n: int) -> None:
    for box, put in containers():
        for i in range(n):
            put(f"key {i}", [f"value {i}", i * 1000, i / 3, b"bytes", True, None][i % 6])
        referents = gc.get_referents(box)
        assert len(referents) <= 5
        assert not any(isinstance(each, str | int | float | bytes) for each in referents)
        mine = Node()
        put("node", mine)
        referents = gc.get_referents(box)
        assert len(referents) >= n
        assert any(each is mine for each in referents)


def test_what_only_remembers_strings_is_not_walked() -> None:
    transfers = TransferMap(60)
    for i in range(1000):
        transfers.begin(f"key {i}", i)
        transfers.complete(f"key {i}")
        transfers.complete(f"early {i}", None)
    assert len(gc.get_referents(transfers)) <= 5


def test_each_reference_is_visited_once() -> None:
    """A collector that meets a reference twice takes what is alive for dead."""
    for box, put in containers():
        mine = Node()
        put(1, mine)
        put(2, mine)
        assert sum(each is mine for each in gc.get_referents(box)) == 2
    node = Node()
    cache = LRUCache(3, on_evict=node, weigher=node, timer=node, ttl=5)
    ring = HistoryRing(3, on_drop=node, weigher=node, timer=node, ttl=5)
    transfers = TransferMap(3, on_expire=node, timer=node)
    for box, hooks in ((cache, 3), (ring, 3), (transfers, 2)):
        # What the core holds; the settings that hold it too are a dict of their own.
        assert sum(each is node for each in gc.get_referents(box)) == hooks


def test_collecting_while_threads_work() -> None:
    run(
        """
        import gc, sys, threading
        from ullage import HistoryRing, LRUCache, TransferMap
        sys.setswitchinterval(1e-6)
        gc.set_threshold(50, 2, 2)
        cache, ring, transfers = LRUCache(100), HistoryRing(100), TransferMap(1e-4, maxsize=500, on_full="evict")
        errors = []

        class Node:
            alive = 0
            def __init__(self):
                self.itself = self
                Node.alive += 1
            def __hash__(self):
                return id(self) % 13
            def __eq__(self, other):
                return self is other
            def __del__(self):
                Node.alive -= 1
                cache.get(1), len(ring), transfers.get(1)

        def work(n):
            try:
                for i in range(1500):
                    cache[Node()] = cache[i % 50] = Node()
                    ring.append(Node())
                    ring[len(ring) // 2 :] = [Node(), [iter(ring), iter(cache), cache.items()]]
                    transfers[i] = transfers[i % 50] = Node()
                    transfers.pop_expired()
                    cache.pop(i % 49, None)
                    if i % 100 == 0:
                        list(cache.items()) if n < 0 else cache.copy(), list(ring), list(transfers.items())
            except BaseException as error:
                errors.append(error)

        def collect():
            while working:
                gc.collect()

        working = True
        collector = threading.Thread(target=collect)
        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in [collector, *threads]:
            thread.start()
        for thread in threads:
            thread.join()
        working = False
        collector.join()
        assert not errors, errors
        for container in (cache, ring, transfers):
            container.clear()
        gc.collect()
        assert Node.alive == 0, Node.alive
        """,
        timeout=120,
    )


def test_a_collection_in_the_middle_of_every_call() -> None:
    run(
        """
        import gc
        from ullage import HistoryRing, LRUCache, TransferMap
        gc.set_threshold(1, 1, 1)
        for _ in range(300):
            cache = LRUCache(5, on_evict=lambda *left: left)
            ring = HistoryRing(5, on_drop=lambda items: items)
            transfers = TransferMap(1e-5, on_expire=lambda batch: {batch[0][0]: 1e-5})
            for i in range(10):
                for container in (cache, transfers):
                    container[i] = [container, ring]
                    container.setdefault((i, 1), [container])
                    container[i,] = container
                ring.append([ring, cache])
                list(cache), cache.coldest(3), list(cache.items()), cache.stats(), cache.copy(), cache.evict()
                list(ring), ring[1:3], ring[::2], ring.copy(), ring.stats()
                ring[:] = [[ring], [ring]]
                list(transfers), transfers.pop_expired(), transfers.stats(), transfers.copy()
                with transfers.claim(i) if i in transfers else cache_or_nothing():
                    pass
        """.replace("cache_or_nothing()", '__import__("contextlib").nullcontext()'),
        timeout=120,
    )


# Leaks. Each operation is done a thousand times, whatever it raises; then the counts of references are what they were.


class Key:
    """A key that is compared by Python code."""

    def __init__(self, n: int, raises: bool = False) -> None:
        self.n, self.raises = n, raises

    def __hash__(self) -> int:
        return 7

    def __eq__(self, other: object) -> bool:
        if self.raises or (isinstance(other, Key) and other.raises):
            raise ZeroDivisionError
        return isinstance(other, Key) and self.n == other.n


FAILING = Key(1, raises=True)


def fail(*arguments: object) -> Any:
    raise ZeroDivisionError


MAP_CALLS: dict[str, Callable[[Any, Any, Any], object]] = {
    "[] =": lambda box, key, value: box.__setitem__(key, value),
    "[] = twice": lambda box, key, value: (box.__setitem__(key, value), box.__setitem__(key, value)),
    "[]": lambda box, key, value: box[key],
    "[] after [] =": lambda box, key, value: (box.__setitem__(key, value), box[key]),
    "get": lambda box, key, value: box.get(key, value),
    "get by name": lambda box, key, value: box.get(key=key, default=value),
    "get too much": lambda box, key, value: box.get(key, value, value),
    "get unknown name": lambda box, key, value: box.get(key, nonsense=value),
    "peek": lambda box, key, value: box.peek(key, value),
    "in": lambda box, key, value: key in box,
    "del": lambda box, key, value: box.__delitem__(key),
    "del after [] =": lambda box, key, value: (box.__setitem__(key, value), box.__delitem__(key)),
    "pop": lambda box, key, value: box.pop(key),
    "pop after [] =": lambda box, key, value: (box.__setitem__(key, value), box.pop(key)),
    "pop with default": lambda box, key, value: box.pop(key, value),
    "popitem": lambda box, key, value: (box.__setitem__(key, value), box.popitem()),
    "popitem of nothing": lambda box, key, value: (box.clear(), box.popitem()),
    "setdefault": lambda box, key, value: box.setdefault(key, value),
    "setdefault twice": lambda box, key, value: (box.setdefault(key, value), box.setdefault(key, [])),
    "update": lambda box, key, value: box.update([(key, value)], more=value),
    "update that fails": lambda box, key, value: box.update([(key, value), key]),
    "unhashable": lambda box, key, value: box.__setitem__([key], value),
    "incomparable [] =": lambda box, key, value: (box.__setitem__(key, value), box.__setitem__(FAILING, value)),
    "incomparable []": lambda box, key, value: (box.__setitem__(key, value), box[FAILING]),
    "incomparable setdefault": lambda box, key, value: (box.__setitem__(key, value), box.setdefault(FAILING, value)),
    "incomparable pop": lambda box, key, value: (box.__setitem__(key, value), box.pop(FAILING, value)),
    "iteration": lambda box, key, value: (box.__setitem__(key, value), list(box), list(box.items())),
    "iteration left": lambda box, key, value: (box.__setitem__(key, value), next(iter(box.values()))),
    "iteration backwards": lambda box, key, value: (box.__setitem__(key, value), list(reversed(box.items()))),
    "==": lambda box, key, value: (box.__setitem__(key, value), box == {key: value}),
    "repr": lambda box, key, value: (box.__setitem__(key, value), repr(box)),
    "views": lambda box, key, value: (box.__setitem__(key, value), box.keys() & {key}, value in box.values()),
    "copy": lambda box, key, value: (box.__setitem__(key, value), box.copy()),
    "deepcopy": lambda box, key, value: (box.__setitem__(1, [2]), copy.deepcopy(box)),
    "pickle": lambda box, key, value: (box.__setitem__(1, [2]), pickle.loads(pickle.dumps(box))),
    "weakref": lambda box, key, value: weakref.ref(box)(),
    "sizeof": lambda box, key, value: sys.getsizeof(box),
    "stats": lambda box, key, value: box.stats() - box.stats(),
    "init again": lambda box, key, value: (box.__setitem__(key, value), type(box).__init__(box, 60)),
    "close another": lambda box, key, value: (twin := box.copy(), twin.close(), twin.__setitem__(key, value)),
    "bad maxsize": lambda box, key, value: type(box)(60, maxsize=value),
}
CACHE_CALLS = {
    "set": lambda box, key, value: box.set(key, value, ttl=5),
    "set wrongly": lambda box, key, value: box.set(key, value, ttl=value),
    "touch": lambda box, key, value: (box.__setitem__(key, value), box.touch(key, ttl=5), box.touch(value)),
    "get_or_set": lambda box, key, value: box.get_or_set(key, lambda: value),
    "get_or_set that fails": lambda box, key, value: box.get_or_set(key, fail),
    "expires_in": lambda box, key, value: (box.set(key, value, ttl=5), box.expires_in(key), box.expires_in(value)),
    "evict": lambda box, key, value: (box.__setitem__(key, value), box.evict(5)),
    "coldest": lambda box, key, value: (box.__setitem__(key, value), box.coldest(5), box.hottest(5)),
    "move_to_end": lambda box, key, value: (box.__setitem__(key, value), box.move_to_end(key), box.move_to_end(value)),
    "expire": lambda box, key, value: (box.set(key, value, ttl=1e-9), box.expire(), box.get(key)),
    "maxsize": lambda box, key, value: (box.update(enumerate([value] * 9)), setattr(box, "maxsize", 2)),
    "overflow": lambda box, key, value: box.update(enumerate([value] * 200)),
    "fromkeys": lambda box, key, value: LRUCache.fromkeys([key, value], value),
    "union": lambda box, key, value: (box | {key: value}, {key: value} | box),
    "on_evict": lambda box, key, value: LRUCache(
        2, dict.fromkeys(range(9), value), on_evict=lambda *left: None
    ).clear(),
    "on_evict that fails": lambda box, key, value: LRUCache(2, dict.fromkeys(range(9), value), on_evict=fail),
    "weigher": lambda box, key, value: LRUCache(3, {key: value, value: key}, weigher=lambda key, value: 2),
    "weigher that fails": lambda box, key, value: LRUCache(3, {key: value}, weigher=fail),
    "too heavy": lambda box, key, value: LRUCache(3, {key: value}, weigher=lambda key, value: 4),
    "wrong weight": lambda box, key, value: LRUCache(3, {key: value}, weigher=lambda key, value: value),
    "timer that fails": lambda box, key, value: LRUCache(3, {key: value}, ttl=3, timer=fail),
    "__missing__": lambda box, key, value: type("Sub", (LRUCache,), {"__missing__": lambda s, k: value})(3)[key],
    "changed size": lambda box, key, value: (box.set(key, value), [box.set(object(), value) for _ in box]),
}
TRANSFER_CALLS = {
    "begin": lambda box, key, value: box.begin(key, value, ttl=5),
    "begin by name": lambda box, key, value: box.begin(key=key, handle=value),
    "begin wrongly": lambda box, key, value: box.begin(key, value, ttl=value),
    "begin too little": lambda box, key, value: box.begin(key),
    "begin incomparable": lambda box, key, value: (box.begin(key, value), box.begin(FAILING, value)),
    "complete": lambda box, key, value: (box.begin(key, value), box.complete(key), box.complete(key)),
    "complete early": lambda box, key, value: (box.complete(key, value), box.begin(key, value), box.state(key)),
    "fail": lambda box, key, value: (box.begin(key, value), box.fail(key), box.fail(key)),
    "renew": lambda box, key, value: (box.begin(key, value), box.renew(key), box.renew(key, 9), box.renew(value)),
    "remaining": lambda box, key, value: (
        box.begin(key, value),
        box.remaining(key),
        box.deadline(key),
        box.deadline(1),
    ),
    "state": lambda box, key, value: (box.begin(key, value), box.state(key), box.state(value), box.state(FAILING)),
    "claim": lambda box, key, value: (box.begin(key, value), entered(box.claim(key)).__exit__(None, None, None)),
    "claim left": lambda box, key, value: (box.begin(key, value), entered(box.claim(key))),
    "claim of nothing": lambda box, key, value: entered(box.claim(key)),
    "expiry": lambda box, key, value: (box.begin(key, value, ttl=1e-9), box.pop_expired()),
    "expiry unseen": lambda box, key, value: (box.begin(key, value, ttl=1e-9), box.begin(value, key), len(box)),
    "superseded": lambda box, key, value: (box.begin(key, value, ttl=1e-9), box.begin(key, value), box.pop_expired()),
    "evict": lambda box, key, value: TransferMap(60, maxsize=2, on_full="evict").update(enumerate([value] * 9)),
    "full": lambda box, key, value: TransferMap(60, maxsize=2).update(enumerate([value] * 9)),
    "on_expire": lambda box, key, value: expiring(key, value, lambda batch: None),
    "on_expire that keeps": lambda box, key, value: expiring(key, value, dict),
    "on_expire that keeps wrongly": lambda box, key, value: expiring(key, value, lambda batch: {key: value}),
    "on_expire that fails": lambda box, key, value: expiring(key, value, fail),
    "next_deadline": lambda box, key, value: (box.begin(key, value), box.next_deadline(), box.expire()),
}
RING_CALLS: dict[str, Callable[[Any, Any, Any], object]] = {
    "append": lambda box, key, value: box.append(value),
    "append too much": lambda box, key, value: [box.append(value) for _ in range(150)],
    "appendleft": lambda box, key, value: [box.appendleft(value) for _ in range(150)],
    "extend": lambda box, key, value: box.extend([key, value]),
    "extend that fails": lambda box, key, value: box.extend(fail() if each == 1 else value for each in range(2)),
    "insert": lambda box, key, value: box.insert(0, value),
    "insert when full": lambda box, key, value: HistoryRing(1, [key]).insert(0, value),
    "insert wrongly": lambda box, key, value: box.insert(value, value),
    "[]": lambda box, key, value: (box.append(value), box[0], box[-1], box[value]),
    "[] =": lambda box, key, value: (box.append(key), box.__setitem__(0, value)),
    "[] = out of range": lambda box, key, value: box.__setitem__(500, value),
    "del": lambda box, key, value: (box.append(value), box.__delitem__(0), box.__delitem__(5)),
    "slices": lambda box, key, value: (box.extend([key, value, key]), box[:], box[::2], box[::-1], box[1:1]),
    "slice =": lambda box, key, value: (box.extend([key] * 5), box.__setitem__(slice(1, 3), [value] * 200)),
    "slice step =": lambda box, key, value: (box.extend([key] * 4), box.__setitem__(slice(None, None, 2), [value] * 2)),
    "slice step = wrongly": lambda box, key, value: (
        box.append(key),
        box.__setitem__(slice(None, None, 2), [value] * 2),
    ),
    "slice = that fails": lambda box, key, value: box.__setitem__(slice(None), map(fail, [value])),
    "del slice": lambda box, key, value: (box.extend([key, value] * 5), box.__delitem__(slice(None, None, 3))),
    "pop": lambda box, key, value: (box.append(value), box.pop(), box.pop()),
    "popleft": lambda box, key, value: (box.append(value), box.popleft(), box.popleft()),
    "remove": lambda box, key, value: (box.append(value), box.remove(value), box.remove(value)),
    "search": lambda box, key, value: (
        box.append(value),
        value in box,
        box.count(value),
        box.index(value),
        box.index(9),
    ),
    "search that fails": lambda box, key, value: (box.append(key), box.index(FAILING)),
    "sort": lambda box, key, value: (box.extend([3, 1, 2]), box.sort(), box.sort(key=lambda n: -n), box.sort(key=fail)),
    "turn": lambda box, key, value: (box.extend([key, value]), box.reverse(), box.rotate(3), box.rotate(value)),
    "iteration": lambda box, key, value: (box.append(value), list(box), next(iter(box)), list(reversed(box))),
    "sums": lambda box, key, value: (
        box.append(value),
        operator.add(box, [key]),
        operator.add([key], box),
        box * 3,
        operator.add(box, 5),
    ),
    "comparison": lambda box, key, value: (box.append(value), box == [value], box < [value], box < 5),
    "repr": lambda box, key, value: (box.append(value), repr(box)),
    "copy": lambda box, key, value: (box.append(value), copy.copy(box)),
    "deepcopy": lambda box, key, value: (box.append([1]), copy.deepcopy(box)),
    "pickle": lambda box, key, value: (box.append([1]), pickle.loads(pickle.dumps(box))),
    "maxlen": lambda box, key, value: (
        box.extend([value] * 9),
        setattr(box, "maxlen", 2),
        setattr(box, "maxlen", value),
    ),
    "on_drop": lambda box, key, value: HistoryRing(2, [value] * 9, on_drop=lambda items: None),
    "on_drop that fails": lambda box, key, value: HistoryRing(2, [value] * 9, on_drop=fail),
    "weigher": lambda box, key, value: HistoryRing(None, [value] * 9, weigher=lambda item: 2, max_weight=5),
    "weigher that fails": lambda box, key, value: HistoryRing(None, [value], weigher=fail, max_weight=5),
    "too heavy": lambda box, key, value: HistoryRing(None, [value], weigher=lambda item: 9, max_weight=5),
    "pinned": lambda box, key, value: HistoryRing(3, [value] * 9, keep_first=1),
    "ttl": lambda box, key, value: len(HistoryRing(3, [value] * 2, ttl=1e-9)),
    "init again": lambda box, key, value: (box.append(value), box.__init__(5)),
    "close another": lambda box, key, value: (twin := box.copy(), twin.close(), twin.append(value)),
    "stats": lambda box, key, value: (box.stats(), sys.getsizeof(box)),
}


def expiring(key: object, value: object, on_expire: Callable[[list[Any]], Any]) -> None:
    clock = ManualClock()
    transfers = TransferMap(1, on_expire=on_expire, timer=clock)
    transfers[key] = value
    clock.advance(1)
    transfers.expire()


LEAKS = [
    *(("LRUCache", name, call) for name, call in {**MAP_CALLS, **CACHE_CALLS}.items()),
    *(("TransferMap", name, call) for name, call in {**MAP_CALLS, **TRANSFER_CALLS}.items()),
    *(("HistoryRing", name, call) for name, call in RING_CALLS.items()),
]
MAKE: dict[str, Callable[[], Any]] = {
    "LRUCache": lambda: LRUCache(100),
    "HistoryRing": lambda: HistoryRing(100),
    "TransferMap": lambda: TransferMap(60),
}


@pytest.mark.parametrize(("kind", "name", "call"), LEAKS, ids=[f"{kind} {name}" for kind, name, _ in LEAKS])
def test_nothing_leaks(kind: str, name: str, call: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "unraisablehook", lambda info: None)
    box, key, value = MAKE[kind](), Key(1), Key(2)

    def rounds(n: int) -> list[int]:
        for _ in range(n):
            try:
                call(box, key, value)
            except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError, MemoryError):
                pass
            except Exception as error:
                assert type(error).__name__ == "Full"
            if kind == "LRUCache":
                box.maxsize = 100
            elif kind == "HistoryRing":
                box.maxlen = 100
            box.clear()
        gc.collect()
        # As many of the dead may stand there as there are alive, from other tests.
        _registry._clear_out()
        return [sys.getrefcount(each) for each in (box, key, value, FAILING, fail, type(box))]

    before = rounds(20)
    blocks = sys.getallocatedblocks()
    # The sweeper may just be looking at one that was thrown away; what leaks leaks each time.
    assert any(rounds(1000) == before for _ in range(3))
    assert sys.getallocatedblocks() - blocks < 500


def test_a_container_that_dies_full_lets_everything_go() -> None:
    for make in (
        lambda: LRUCache(None, ((Node(), Node()) for _ in range(1000))),
        lambda: HistoryRing(None, (Node() for _ in range(1000))),
        lambda: filled(TransferMap(60), *((Node(), Node()) for _ in range(1000))),
    ):
        box = make()
        watched = [weakref.ref(each) for each in gc.get_objects() if isinstance(each, Node)]
        assert len(watched) >= 1000
        del box
        assert not any(ref() for ref in watched)
