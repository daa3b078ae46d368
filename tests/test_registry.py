"""The containers that live are known, from birth to death, and nothing is paid for it later."""

import copy
import gc
import os
import pickle
import threading

import pytest
from child import run
from ullage import HistoryRing, LRUCache, TransferMap, _registry

MAKERS = [lambda: LRUCache(3), lambda: HistoryRing(3), lambda: TransferMap(3)]


def known(container: object) -> bool:
    return any(each is container for each in _registry.live())


@pytest.mark.parametrize("make", MAKERS)
def test_a_container_is_known_while_it_lives(make):
    container = make()
    assert known(container)
    was = id(container), type(container)
    del container
    assert was not in [(id(each), type(each)) for each in _registry.live()]


@pytest.mark.parametrize("make", MAKERS)
def test_copies_are_known_too(make):
    container = make()
    copies = [copy.copy(container), copy.deepcopy(container), pickle.loads(pickle.dumps(container))]
    assert all(map(known, copies))


@pytest.mark.parametrize("make", MAKERS)
def test_one_that_is_initialised_twice_is_there_once(make):
    container = make()
    container.__init__(5)
    assert sum(each is container for each in _registry.live()) == 1


def test_a_container_in_a_cycle_goes_with_the_collector():
    cache = LRUCache(3)
    cache["self"] = cache
    was = id(cache)
    del cache
    gc.collect()
    assert was not in map(id, _registry.live())


def test_the_dead_are_cleared_out():
    kept = [LRUCache(1) for _ in range(10)]
    before = len(_registry.live())
    for _ in range(100_000):
        LRUCache(1)
    assert len(_registry._all) <= 2 * max(before, _registry._FEW)
    assert all(map(known, kept))


def test_no_thread_loses_a_container():
    made, go = [], threading.Barrier(4)

    def work():
        go.wait(10)
        mine = []
        for _ in range(5_000):
            LRUCache(1)
            mine.append(LRUCache(1))
            _registry.live()
            del mine[:-20]
        made.extend(mine)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(made) == 80
    assert {id(each) for each in made} <= {id(each) for each in _registry.live()}


def test_a_finaliser_may_make_containers_while_the_dead_are_cleared_out():
    run("""
        import gc
        from ullage import LRUCache, _registry

        made = []

        class Maker:
            def __del__(self):
                made.append(LRUCache(1))

        gc.set_threshold(1)
        for _ in range(2_000):
            cycle = [Maker(), LRUCache(1)]
            cycle.append(cycle)
        gc.collect()
        del cycle
        gc.collect()
        assert len(made) == 2_000
        assert {id(cache) for cache in made} <= {id(cache) for cache in _registry.live()}
    """)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_knows_what_it_inherits_and_what_it_makes():
    run("""
        import os
        from ullage import LRUCache, _registry

        inherited = LRUCache(1, name="inherited")
        # As if a thread had been clearing out at the fork.
        _registry._clearing.acquire()
        child = os.fork()
        if child == 0:
            for _ in range(1_000):
                LRUCache(1)
            own = LRUCache(1)
            fine = _registry.live() == [inherited, own] and len(_registry._all) <= 2 * _registry._FEW
            os._exit(0 if fine else 1)
        assert os.waitpid(child, 0)[1] == 0
    """)
