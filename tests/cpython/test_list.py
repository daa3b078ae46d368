"""What the interpreter asks of every sequence, of `list`, its sorting and `bisect`, asked of a ring without a bound."""

from collections.abc import Iterable
from typing import Any

from suites import exclude, load
from ullage import HistoryRing


class Ring(HistoryRing):
    """Made as a list is made."""

    __slots__ = ()

    def __init__(self, iterable: Iterable[Any] = (), /) -> None:
        super().__init__(None, iterable)


WORDING = "the message names the ring, not a list; the behaviour is tested with slices and indices in test_history_ring"

EXCLUDED = {
    "test_exhausted_iterator": "an iteration covers what was there when it began; what was appended is not met",
    "test_iterator_pickle": "an iteration is a place in a living ring, which cannot be pickled",
    "test_keywords_in_subclass": "a subclass whose `__new__` takes more arguments needs an `__init__` that does, too",
    "test_preallocation": "about the growth of a list's own array",
    "test_repr": "repr shows the class and the bound",
    "test_repr_large": "repr of a long ring is shortened",
    "test_reversed_pickle": "an iteration is a place in a living ring, which cannot be pickled",
    "test_setitem": WORDING,
}

# The whole of test_list, which contains list_tests and seq_tests: `list` in its text means a ring.
module = load("test.test_list", list=Ring)
TestList = exclude(module.ListTest, EXCLUDED)
TestList.type2test = Ring

TestDecorateSortUndecorate = load("test.test_sort", list=Ring).TestDecorateSortUndecorate
bisect = load("test.test_bisect", UserList=Ring)
TestBisectC, TestInsortC = bisect.TestBisectC, bisect.TestInsortC
