"""The back end for Flask-Caching and cachelib, in the real packages."""

from __future__ import annotations

import math
import os
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import ullage
from ullage.testing import ManualClock

pytest.importorskip("flask_caching", reason="Flask-Caching is not installed: pip install Flask-Caching")
from cachelib import serializers
from flask import Flask
from flask_caching import Cache
from ullage.integrations.flask_caching import BoundedCache

sys.path.insert(0, str(Path(__file__).parents[1]))
from child import run

pytestmark = pytest.mark.integration


def backend(**config: Any) -> BoundedCache:
    """What Flask-Caching makes of a configuration."""
    app = Flask("app")
    cache = Cache(app, config={"CACHE_TYPE": "ullage.integrations.flask_caching.BoundedCache", **config})
    made: Any = app.extensions["cache"][cache]
    assert isinstance(made, BoundedCache)
    return made


def together(count: int, work: Any) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_flask_caching_makes_it_of_its_own_settings() -> None:
    cache = backend(CACHE_THRESHOLD=7, CACHE_DEFAULT_TIMEOUT=11, CACHE_IGNORE_ERRORS=True)
    assert cache.stats().maxsize == 7
    assert (cache.default_timeout, cache.ignore_delete_many_errors) == (11, True)
    assert backend(CACHE_OPTIONS={"max_bytes": "2 MiB"}).stats().maxsize == 2 << 20
    assert backend(CACHE_ARGS=[9]).stats().maxsize == 9


@pytest.mark.skipif(not hasattr(serializers, "JSONSerializer"), reason="Flask-Caching has CACHE_SERIALIZER since 2.5")
def test_the_serializer_may_be_another() -> None:
    cache = backend(CACHE_SERIALIZER=serializers.JSONSerializer)
    assert cache.set("key", {"a": (1, 2)}) and cache.get("key") == {"a": [1, 2]}


def test_no_part_of_its_name_has_flask_caching_call_it_without_the_configuration() -> None:
    assert "cachelib" not in f"{BoundedCache.__module__}.{BoundedCache.__name__}"


def test_reports_show_it_under_the_name_of_the_application() -> None:
    cache = backend()
    cache.set("key", 1)
    assert "Flask-Caching of app" in str(ullage.report())


def test_a_view_is_cached_until_its_timeout() -> None:
    clock, calls = ManualClock(), []
    app = Flask("app")
    config = {
        "CACHE_TYPE": "ullage.integrations.flask_caching.BoundedCache",
        "CACHE_OPTIONS": {"timer": clock, "max_bytes": "1 MiB"},
    }
    cache = Cache(app, config=config)

    @app.route("/")
    @cache.cached(timeout=50)
    def view() -> str:
        calls.append(1)
        return f"answer {len(calls)}"

    client = app.test_client()
    assert [client.get("/").text, client.get("/").text] == ["answer 1"] * 2
    clock.advance(51)
    assert client.get("/").text == "answer 2"


def test_the_bound_in_entries_is_never_passed_and_what_was_read_stays() -> None:
    cache = BoundedCache(100)
    cache.set("hot", "read again and again", timeout=0)
    for number in range(1_000):
        cache.set(f"{number}", number, timeout=3_600)
        assert cache.get("hot") is not None
        assert cache.stats().entries <= 100


def test_the_bound_in_bytes_holds_whatever_threads_store() -> None:
    cache = BoundedCache(max_bytes="1 MiB")

    def work() -> None:
        for number in range(500):
            cache.set(f"{threading.get_ident()}:{number}", os.urandom(number * 10))
            assert cache.stats().weight <= 1 << 20

    together(8, work)
    assert cache.stats().evictions > 0


def test_what_is_stored_is_nobodys_to_change() -> None:
    cache, answer = BoundedCache(), ["a"]
    cache.set("key", answer)
    answer.append("b")
    cache.get("key").append("c")
    assert cache.get("key") == ["a"]


def test_without_a_serializer_objects_are_kept_as_they_are() -> None:
    cache, lock = backend(CACHE_OPTIONS={"serializer": None}), threading.Lock()
    assert cache.set("lock", lock) and cache.get("lock") is lock
    assert cache.set("none", None) and cache.has("none") and cache.get("none") is None
    assert not cache.add("none", 1)


def test_one_thread_adds_and_no_count_is_lost() -> None:
    cache, added = BoundedCache(), []

    def work() -> None:
        added.append(cache.add("key", 1))
        for _ in range(200):
            cache.inc("up", 2)
            cache.dec("down")

    together(8, work)
    assert sorted(added) == [False] * 7 + [True]
    assert (cache.get("up"), cache.get("down")) == (3_200, -1_600)


def test_keys_without_a_value_count_as_deleted() -> None:
    cache = backend()
    cache.set_many({"a": 1, "b": 2})
    assert cache.delete_many("a", "absent", "b") == ["a", "absent", "b"]
    assert cache.stats().entries == 0


def test_timeouts() -> None:
    clock = ManualClock()
    cache = BoundedCache(default_timeout=10, timer=clock)
    cache.set("default", 1)
    cache.set("half", 1, timeout=0.5)
    cache.set("minute", 1, timeout=timedelta(minutes=1))
    cache.set("ever", 1, timeout=0)
    cache.set("ever, too", 1, timeout=timedelta())
    cache.set("over", 1)
    assert cache.set("over", 2, timeout=-1) and not cache.has("over")
    clock.advance(0.5)
    assert not cache.has("half") and not cache.delete("half") and cache.add("half", 2, timeout=0)
    clock.advance(9.5)
    assert not cache.has("default") and cache.has("minute")
    clock.advance(1e9)
    assert cache.get_dict("minute", "ever", "ever, too", "half") == {
        "minute": None,
        "ever": 1,
        "ever, too": 1,
        "half": 2,
    }


def test_what_cannot_be_stored_leaves_no_old_value() -> None:
    cache = BoundedCache(max_bytes=10_000)
    cache.set("key", "old")
    assert cache.set("key", b"x" * 10_000) is False and cache.get("key") is None
    assert cache.add("key", b"x" * 10_000) is False
    assert cache.set_many({"light": 1, "heavy": b"x" * 10_000}) == ["light"]


def test_what_cannot_be_pickled_raises_and_nothing_changes() -> None:
    cache = BoundedCache()
    cache.set("key", "old")
    with pytest.raises(TypeError, match="pickle"):
        cache.set("key", threading.Lock())
    assert cache.get("key") == "old"


@pytest.mark.parametrize("timeout", [True, "60", [], math.nan])
def test_a_timeout_that_is_none_is_refused_and_nothing_changes(timeout: Any) -> None:
    cache = BoundedCache()
    cache.set("key", "old")
    with pytest.raises((TypeError, ValueError), match="must be"):
        cache.set("key", "new", timeout=timeout)
    assert cache.get("key") == "old"


@pytest.mark.parametrize("bound", [0, -1, True, 1.5, "many", math.nan])
def test_a_bound_that_is_none_is_refused(bound: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="threshold must be"):
        backend(CACHE_THRESHOLD=bound)
    with pytest.raises((TypeError, ValueError), match="max_bytes must be"):
        backend(CACHE_OPTIONS={"max_bytes": "0 B" if bound is True else bound or "0"})


def test_a_finalizer_may_use_the_cache_that_lets_its_object_go() -> None:
    cache = BoundedCache(1, serializer=None)

    class Leaving:
        def __del__(self) -> None:
            cache.inc("gone")

    for _ in range(3):
        cache.set("key", Leaving())
    cache.set("other", None)
    ullage.flush()
    assert cache.stats().entries == 1


def test_a_child_of_a_fork_stores_though_another_thread_was_storing() -> None:
    run(
        """
        import os, threading
        from ullage.integrations.flask_caching import BoundedCache

        inside, leave = threading.Event(), threading.Event()

        class Slow:
            def dumps(self, value):
                return b"1"

            def loads(self, stored):
                inside.set()
                leave.wait(20)
                return 1

        cache = BoundedCache(serializer=Slow())
        cache.set("count", 1)
        counting = threading.Thread(target=cache.inc, args=("count",))
        counting.start()
        inside.wait(20)
        child = os.fork()
        if not child:
            cache.set("child", 1)
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        leave.set()
        counting.join()
        """
    )


def test_cachelib_needs_no_flask() -> None:
    run(
        """
        import sys

        class Uninstalled:
            def find_spec(self, name, *where):
                if name == "flask_caching":
                    raise ModuleNotFoundError(name=name)

        sys.meta_path.insert(0, Uninstalled())
        import cachelib
        from ullage.integrations.flask_caching import BoundedCache

        cache = BoundedCache(2)
        assert isinstance(cache, cachelib.BaseCache) and cache.set_many({"a": 1, "b": 2, "c": 3}) == ["a", "b", "c"]
        assert cache.get_many("a", "b", "c") == [None, 2, 3]
        assert "flask" not in sys.modules
        """
    )


def test_a_flask_caching_that_has_moved_its_back_ends_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "flask_caching").mkdir()
    (tmp_path / "flask_caching" / "__init__.py").touch()
    run(
        """
        try:
            import ullage.integrations.flask_caching
        except ModuleNotFoundError as error:
            assert error.name == "flask_caching.backends", error
        else:
            raise AssertionError("imported")
        """,
        PYTHONPATH=str(tmp_path),
    )
