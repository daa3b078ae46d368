"""What the interpreter asks of `deque`, asked of a ring that is made as a deque is."""

from collections.abc import Iterable
from typing import Any

from suites import exclude, load
from ullage import HistoryRing


class Ring(HistoryRing):
    """Made as a deque is made."""

    __slots__ = ()

    def __init__(self, iterable: Iterable[Any] = (), maxlen: int | None = None) -> None:
        super().__init__(maxlen, iterable)


GIVES_A_LIST = "`+` and `*` give a list, which has no bound"
LIKE_A_LIST = "a search goes on when the ring changes meanwhile, as in a list"
NEVER_RAISES = "iteration goes on when the ring changes meanwhile"
NO_ZERO = "a bound of 0 is a ValueError"

EXCLUDED = {
    "TestBasic": {
        "test_add": GIVES_A_LIST,
        "test_comparisons": "a ring equals a list with the same items",
        "test_contains": LIKE_A_LIST,
        "test_contains_count_index_stop_crashes": LIKE_A_LIST,
        "test_contains_count_stop_crashes": LIKE_A_LIST,
        "test_copy": NO_ZERO,
        "test_count": LIKE_A_LIST,
        "test_index": LIKE_A_LIST,
        "test_iterator_pickle": "an iteration is a place in a living ring, which cannot be pickled",
        "test_maxlen": "repr names the bound first",
        "test_maxlen_attribute": NO_ZERO + "; maxlen can be set",
        "test_maxlen_zero": NO_ZERO,
        "test_mul": GIVES_A_LIST,
        "test_repr": "repr of a long ring is shortened",
        "test_reversed_new": "the class of the iterators cannot be called",
        "test_sizeof": "about the blocks that a deque is made of",
    },
    "TestVariousIteratorArgs": {
        "test_iter_with_altered_data": NEVER_RAISES,
        "test_runtime_error_on_empty_deque": NEVER_RAISES,
    },
    "TestSubclass": {
        "test_bug_31608": GIVES_A_LIST,
        "test_pickle_recursive": "pickling does not go through the `__iter__` of a subclass",
    },
    "TestSubclassWithKwargs": {},
    "TestSequence": {},
}

module = load("test.test_deque", deque=Ring)
TestBasic, TestVariousIteratorArgs, TestSubclass, TestSubclassWithKwargs, TestSequence = (
    exclude(getattr(module, name), reasons) for name, reasons in EXCLUDED.items()
)
