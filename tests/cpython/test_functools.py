"""What the interpreter asks of `lru_cache` and `cache`, asked of ours: of its two flavours the stricter, that for C."""

import unittest

import ullage
from suites import load

in_functools = load("test.test_functools")
# A copy of functools that only these tests see.
functools = in_functools.c_functools
functools.lru_cache, functools.cache = ullage.lru_cache, ullage.cache


@ullage.lru_cache()
def cached_func(x: int, y: int) -> int:
    return 3 * x + y


class TestLRU(in_functools.TestLRU, unittest.TestCase):  # type: ignore[misc, name-defined]
    module = functools
    cached_func = (cached_func,)

    @ullage.lru_cache()
    def cached_meth(self, x: int, y: int) -> int:
        return 3 * x + y

    @staticmethod
    @ullage.lru_cache()
    def cached_staticmeth(x: int, y: int) -> int:
        return 3 * x + y


class TestCache(in_functools.TestCache, unittest.TestCase):  # type: ignore[misc, name-defined]
    module = functools
