"""A pydantic model keeps a container and its bound, also by way of JSON, or says that it cannot."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from typing import Annotated, Any

import pytest

pytest.importorskip("pydantic", reason="pydantic is not installed")

from pydantic import BaseModel, BeforeValidator, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError
from ullage import HistoryRing, LRUCache, TransferMap
from ullage.testing import ManualClock


class Point(BaseModel):
    x: int


class State(BaseModel):
    cache: LRUCache[str, Point] = LRUCache(3)
    history: HistoryRing[bytes] = HistoryRing(2)
    transfers: TransferMap[tuple[str, int], Any] | None = None


class Named(LRUCache[str, Any]):
    pass


def bounds(container: Any) -> dict[str, Any]:
    return {name: getattr(container, name) for name in ("maxsize", "maxlen", "ttl", "name") if hasattr(container, name)}


def test_an_instance_is_kept_as_it_is() -> None:
    cache = LRUCache[str, Point](2, {"a": Point(x=1)})
    state = State(cache=cache)
    assert state.cache is cache
    assert state.model_copy().cache is cache
    assert state.model_dump()["cache"] is cache
    assert State.model_validate(state.model_dump()).cache is cache
    assert TypeAdapter(LRUCache[str, Point]).validate_python(cache) is cache


def test_a_default_is_copied_for_each_model() -> None:
    one, other = State(), State()
    one.history.extend([b"1", b"2", b"3"])
    assert other.history == []
    assert (one.history.maxlen, other.history.maxlen) == (2, 2)


def test_a_deep_copy_of_a_model_copies_the_container() -> None:
    state = State()
    twin = state.model_copy(deep=True)
    twin.cache["a"] = Point(x=1)
    assert len(state.cache) == 0
    assert twin.cache.maxsize == 3


@pytest.mark.parametrize("way", ["text", "dict"])
def test_json_keeps_contents_order_and_bounds(way: str) -> None:
    state = State(
        cache=LRUCache(2, {"a": Point(x=1), "b": Point(x=2)}, ttl=timedelta(minutes=1), name="points"),
        history=HistoryRing(3, [b"first", b"2", b"3", b"4"], keep_first=1),
        transfers=TransferMap(float("inf"), maxsize=5),
    )
    state.cache["a"]
    assert state.transfers is not None
    state.transfers["request", 1] = "handle"
    if way == "text":
        back = State.model_validate_json(state.model_dump_json())
    else:
        back = State.model_validate(state.model_dump(mode="json"))
    assert list(back.cache.items()) == [("b", Point(x=2)), ("a", Point(x=1))]
    assert bounds(back.cache) == {"maxsize": 2, "ttl": 60.0, "name": "points"}
    assert back.history == [b"first", b"3", b"4"]
    assert (back.history.maxlen, back.history.keep_first) == (3, 1)
    assert back.transfers is not None
    assert dict(back.transfers.items()) == {("request", 1): "handle"}
    assert (back.transfers.ttl, back.transfers.maxsize) == (None, 5)
    back.cache["c"] = Point(x=3)
    back.history.append(b"5")
    assert list(back.cache) == ["a", "c"]
    assert back.history == [b"first", b"4", b"5"]


def test_json_keeps_a_bound_in_bytes_and_the_weights() -> None:
    adapter = TypeAdapter(HistoryRing[str])
    ring = HistoryRing[str](max_bytes=1000, iterable=["x" * 300] * 9)
    back = adapter.validate_json(adapter.dump_json(ring))
    assert back == ring
    assert (back.max_weight, back.weight, back.maxlen) == (1000, ring.weight, None)


def test_json_keeps_what_is_left_of_a_lifetime() -> None:
    clock = ManualClock()
    adapter = TypeAdapter(LRUCache[str, int])
    cache = LRUCache[str, int](9, ttl=100, timer=clock)
    cache["a"] = 1
    clock.advance(60)
    left = adapter.validate_json(adapter.dump_json(cache)).expires_in("a")
    assert left is not None
    assert 30 < left <= 40


@pytest.mark.parametrize("value", [{}, {"a": 1}, [], None, {"ullage": "HistoryRing", "maxlen": 2, "contents": []}])
def test_what_has_no_bound_is_refused_with_advice(value: Any) -> None:
    with pytest.raises(ValidationError, match="no bound; pass LRUCache"):
        State(cache=value)


def test_a_validator_in_the_annotation_gives_the_bound() -> None:
    def bounded(value: Any) -> Any:
        return value if isinstance(value, LRUCache) else LRUCache(1, value)

    cache = TypeAdapter(Annotated[LRUCache[str, int], BeforeValidator(bounded)]).validate_python({"a": 1, "b": 2})
    assert cache == {"b": 2}
    assert cache.maxsize == 1


@pytest.mark.parametrize(
    ("settings", "contents"),
    [
        ({"maxsize": 0}, []),
        ({"maxsize": True}, []),
        ({"maxsize": -1}, []),
        ({}, []),
        ({"maxsize": 2, "max_bytes": 2}, []),
        ({"maxsize": 2, "unheard_of": 1}, []),
        ({"maxsize": 2, "on_evict": "print"}, []),
        ({"maxsize": 2, "iterable": {"a": 1}}, []),
        ({"maxsize": 2, "ttl": float("nan")}, []),
        ({"maxsize": 2}, None),
        ({"maxsize": 2}, [["a"]]),
        ({"maxsize": 2}, [["a", {"x": "no number"}, 1, None]]),
        ({"maxsize": 2}, [["a", {"x": 1}, -1, None]]),
        ({"maxsize": 2}, [["a", {"x": 1}, 2**64, None]]),
        ({"maxsize": 2}, [["a", {"x": 1}, 1, -1]]),
    ],
)
def test_damaged_json_is_a_validation_error(settings: dict[str, Any], contents: Any) -> None:
    with pytest.raises(ValidationError):
        State.model_validate({"cache": {"ullage": "LRUCache", **settings, "contents": contents}})


def test_json_holds_no_more_than_the_bound_says() -> None:
    rows = [[str(number), {"x": number}, 1, None] for number in range(9)]
    state = State.model_validate({"cache": {"ullage": "LRUCache", "maxsize": 2, "contents": rows}})
    assert list(state.cache) == ["7", "8"]


@pytest.mark.parametrize(
    "cache",
    [LRUCache(3, weigher=lambda key, value: 1), Named(3), LRUCache(3, {"a": object()})],
    ids=["a weigher", "a subclass", "a value"],
)
def test_what_json_cannot_keep_fails(cache: Any) -> None:
    state = State(cache=cache)
    with pytest.raises(PydanticSerializationError):
        state.model_dump_json()
    assert state.model_dump()["cache"] is cache


def test_what_a_subclass_adds_fails_in_json() -> None:
    cache = Named(3)
    cache.label = "x"  # type: ignore[attr-defined]
    with pytest.raises(PydanticSerializationError, match="Named adds"):
        TypeAdapter(Named).dump_json(cache)


def test_a_subclass_comes_back_as_itself() -> None:
    adapter = TypeAdapter(Named)
    back = adapter.validate_json(adapter.dump_json(Named(3, {"a": 1})))
    assert type(back) is Named
    assert back.maxsize == 3


def test_hooks_stay_behind() -> None:
    left: list[Any] = []
    adapter = TypeAdapter(HistoryRing[int])
    back = adapter.validate_json(adapter.dump_json(HistoryRing(1, [1], on_drop=left.append)))
    back.append(2)
    assert left == []


def test_a_closed_container_fails() -> None:
    state = State(cache=LRUCache(3))
    state.cache.close()
    with pytest.raises(PydanticSerializationError, match="closed"):
        state.model_dump_json()


def test_models_have_a_json_schema() -> None:
    for mode in ("validation", "serialization"):
        properties = State.model_json_schema(mode=mode)["properties"]
        assert "contents" in properties["cache"]["properties"]


def test_importing_ullage_does_not_import_pydantic() -> None:
    code = "import sys, ullage; sys.exit('pydantic_core' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
