"""The interpreter's own test modules, loaded once more with one of our classes where they test a builtin one."""

import builtins
import collections
import importlib
import importlib.util
import sys
import unittest
from types import ModuleType
from typing import Any

import pytest


def load(name: str, **replaced: Any) -> ModuleType:
    """A private copy of a module of the interpreter's test package, in which these builtin names mean other classes.

    Skips the importing test module where the interpreter comes without that package.
    """
    pytest.importorskip(name, reason="this interpreter comes without its own tests")
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None
    # A name of its own, under which pickle finds the classes that it defines.
    private = "private_" + name.replace(".", "_")
    copied = importlib.util.spec_from_file_location(private, spec.origin)
    assert copied is not None and copied.loader is not None
    module = importlib.util.module_from_spec(copied)
    with pytest.MonkeyPatch.context() as patch:
        for word, ours in replaced.items():
            if hasattr(builtins, word):
                setattr(module, word, ours)
            else:
                patch.setattr(collections, word, ours)
        sys.modules[private] = module
        copied.loader.exec_module(module)
    return module


def exclude(case: type[unittest.TestCase], reasons: dict[str, str]) -> type[unittest.TestCase]:
    """The test case without the tests named, each of which is reported as skipped, with its reason."""
    skipped = {
        test: unittest.skip(reason)(getattr(case, test)) for test, reason in reasons.items() if hasattr(case, test)
    }
    return type(case.__name__, (case,), {"__module__": case.__module__, **skipped})
