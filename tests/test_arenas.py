"""Empty arenas of the interpreter's allocator: given back by the sweeper's thread, used again before, never lost."""

import sys

import pytest
from child import run

CHURN = """
import os, sys, threading, time, ullage

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def churn(values, items=20_000):
    '''Large values leave a small cache; ends with one of them held.'''
    cache = ullage.LRUCache(1)
    for i in range(values):
        cache[i] = [[j] for j in range(items)]
    return cache

cache = churn(3)
while len(os.listdir("/proc/self/task")) < 2:
    time.sleep(0.01)
"""
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")


@linux
def test_memory_goes_back_to_the_system_without_a_call() -> None:
    run(
        CHURN
        + """
large = [[j] for j in range(1_000_000)]
peak = resident()
del large
end = time.monotonic() + 30
while resident() > peak - (40 << 20):
    assert time.monotonic() < end, (peak, resident())
    time.sleep(0.02)
"""
    )


@linux
def test_memory_stays_level_while_large_values_come_and_go() -> None:
    run(
        CHURN
        + """
cache = churn(30)
base = resident()
cache = churn(150)
assert resident() - base < 64 << 20
"""
    )


@linux
@pytest.mark.parametrize("allocator", ["malloc", "pymalloc_debug", "malloc_debug"])
def test_other_allocators_work_as_before(allocator: str) -> None:
    run(CHURN + "churn(20)", PYTHONMALLOC=allocator)


@linux
def test_stacks_of_frames_are_no_arenas() -> None:
    run(
        CHURN
        + """
sys.setrecursionlimit(20_000)
def deep(n):
    return n and deep(n - 1) + 1
def work():
    for _ in range(20):
        assert deep(5000) == 5000
threading.stack_size(256 << 20)
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
churn(30)
for thread in threads:
    thread.join()
"""
    )


@linux
def test_forks_while_arenas_wait() -> None:
    run(
        CHURN
        + """
for _ in range(10):
    cache = churn(5)
    child = os.fork()
    if not child:
        assert len(churn(5)) == 1
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""
    )
