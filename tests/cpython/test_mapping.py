"""What the interpreter asks of mappings, of `dict` and of `OrderedDict`, asked of ours, made as a dict is."""

import ast
import importlib.util
import sys
import unittest
from pathlib import Path
from types import ModuleType
from typing import Any

from suites import exclude, load
from ullage import LRUCache, TransferMap


class Bounded(LRUCache):
    """Made as a dict is made, with a bound that these tests do not reach."""

    def __init__(self, iterable: Any = (), /, **more: Any) -> None:
        super().__init__(1 << 20, iterable)
        LRUCache.update(self, more)

    @classmethod
    def fromkeys(cls, iterable: Any, value: Any = None) -> Any:
        # LRUCache's own calls the class with a bound, which this one does not take.
        new = cls()
        for key in iterable:
            new[key] = value
        return new


class Transfers(TransferMap):
    """Made as a dict is made, with entries that never expire."""

    __slots__ = ()

    def __init__(self, iterable: Any = (), /, **more: Any) -> None:
        super().__init__(None)
        self.update(iterable, **more)


class Displays(ast.NodeTransformer):
    """Writes `dict({1: 2})` for `{1: 2}`, and likewise for comprehensions, so that displays too make what we test."""

    def visit_Dict(self, node: ast.Dict) -> ast.AST:
        self.generic_visit(node)
        return ast.copy_location(ast.Call(ast.Name("dict", ast.Load()), [node], []), node)

    visit_DictComp = visit_Dict


def load_with_displays(name: str) -> ModuleType:
    """A copy of a test module in which `dict`, called or displayed, means ours."""
    load(name)
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None
    tree = ast.fix_missing_locations(Displays().visit(ast.parse(Path(spec.origin).read_text("utf-8"))))
    module = ModuleType(f"displays_in_{name.replace('.', '_')}")
    vars(module)["dict"] = Bounded
    sys.modules[module.__name__] = module
    exec(compile(tree, spec.origin, "exec"), vars(module))
    return module


A_USE = "assignment, get and setdefault move an entry to the end"
NO_DICT = "an LRUCache is no dict, so dict's own methods do not take it"
REPR = "repr shows the class and the bound, and is shortened"
VIEW_REPR = "the views have names of their own"
ITERATORS = "iterators cannot be pickled"
TRACKED = "an LRUCache is always tracked by the collector"
INIT = "a subclass that does not call `super().__init__()` has no bound, and says so"
HASHED_BEFORE = "counts the hash that the display takes, too; test_reentrancy has the same test without one"

IN_ALL = {"test_popitem": "popitem(42) means popitem(last=True), as for OrderedDict, whose tests leave this one out"}
IN_MAPPING = {**IN_ALL, "test_repr": REPR}
IN_TRANSFERS = {"test_fromkeys": "a TransferMap has none, as a MutableMapping has none", "test_repr": REPR}

IN_ORDERED_DICT = {
    "test_copying": "`eval(repr(...))`: " + REPR,
    **dict.fromkeys(
        [f"test_dict_{name}" for name in ("clear", "delitem", "pop", "popitem", "setdefault", "setitem", "update")],
        NO_DICT,
    ),
    "test_equality": "equality takes no account of order, as with a dict",
    "test_init": "`__init__` called again begins anew, for it may change the bound",
    "test_issue24347": "a hash is taken once and kept, so a key whose hash changes breaks nothing",
    **dict.fromkeys(
        [
            "test_issue119004_" + name
            for name in (
                "attribute_error",
                "change_linked_list_by_clear",
                "change_linked_list_by_delete_key",
                "change_size_by_clear",
                "change_size_by_delete_key",
                "change_size_by_delete_key_in_dict_eq",
            )
        ],
        "what is compared is a snapshot, so a comparison that changes it breaks nothing; test_reentrancy has the like",
    ),
    "test_iterators_pickling": ITERATORS,
    "test_key_change_during_iteration": "a use never breaks an iteration",
    "test_overridden_init": INIT,
    "test_reduce_not_too_fat": "a pickle holds the bound, too",
    "test_repr": REPR,
    "test_repr_recursive": REPR,
    "test_setdefault": A_USE,
    "test_setitem": A_USE,
    "test_sizeof_exact": "about the nodes of an OrderedDict",
    "test_update": A_USE,
    "test_yaml_linkage": "a pickle holds the bound, too",
}

IN_DICT = {
    "test_itemiterator_pickling": ITERATORS,
    "test_items": VIEW_REPR,
    "test_iterator_pickling": ITERATORS,
    "test_keys": VIEW_REPR,
    "test_merge_and_mutate": "what is merged is a snapshot; the bound holds and nothing is lost",
    "test_missing": INIT,
    "test_repr": REPR,
    "test_reverseitemiterator_pickling": ITERATORS,
    "test_reverseiterator_pickling": ITERATORS,
    "test_reversevaluesiterator_pickling": ITERATORS,
    "test_setdefault_atomic": HASHED_BEFORE,
    "test_setitem_atomic_at_resize": HASHED_BEFORE,
    "test_store_evilattr": "the `__dict__` of an instance must be a dict",
    "test_track_dynamic": TRACKED,
    "test_track_literals": TRACKED,
    "test_values": VIEW_REPR,
    "test_valuesiterator_pickling": ITERATORS,
}

IN_DICTVIEWS = {
    "test_constructors_not_callable": "the views are classes as those of collections.abc are",
    "test_copy": "a copy of a view is a view on the same map",
    "test_dict_repr": VIEW_REPR,
    "test_pickle": "a view is pickled with its map",
}

mapping_tests = load("test.mapping_tests")
ordered = load("test.test_ordered_dict")
in_dict = load_with_displays("test.test_dict")
in_views = load_with_displays("test.test_dictviews")


def asked(case: type, exclusions: dict[str, str], **ours: Any) -> Any:
    """A test case of the interpreter's, with our class in it and without the tests named."""
    bases = (case,) if issubclass(case, unittest.TestCase) else (case, unittest.TestCase)
    return exclude(type(case.__name__, bases, {"__module__": __name__, **ours}), exclusions)


class Sub(Bounded):
    """A subclass that adds nothing."""


TestBasic = asked(mapping_tests.BasicTestMappingProtocol, IN_ALL, type2test=Bounded)
TestSubclass = asked(mapping_tests.BasicTestMappingProtocol, IN_ALL, type2test=Sub)
TestMapping = asked(mapping_tests.TestMappingProtocol, IN_ALL, type2test=Bounded)
TestHashMapping = asked(mapping_tests.TestHashMappingProtocol, IN_MAPPING, type2test=Bounded)
TestTransfers = asked(mapping_tests.TestMappingProtocol, IN_TRANSFERS, type2test=Transfers)
TestHashTransfers = asked(mapping_tests.TestHashMappingProtocol, IN_TRANSFERS, type2test=Transfers)
TestOrderedDict = asked(
    ordered.CPythonOrderedDictTests, IN_ORDERED_DICT, OrderedDict=Bounded, module=sys.modules[__name__]
)
TestDict = asked(in_dict.DictTest, IN_DICT)
TestViews = asked(in_views.DictSetTest, IN_DICTVIEWS)
if hasattr(ordered, "SimpleLRUCacheTests"):
    TestSimpleLRUCache = asked(
        ordered.SimpleLRUCacheTests, {}, type2test=type("Simple", (ordered.SimpleLRUCache, Bounded), {})
    )
