"""``python -m ullage replay``: hit ratios on traces made here, and an error for what is no trace."""

from __future__ import annotations

import gzip
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from ullage import replay
from ullage.__main__ import main


def skewed(requests: int, keys: int) -> list[str]:
    """A trace with a few popular keys and a long tail."""
    random = Random(7)
    return [f"key-{int(keys * random.random() ** 3)}" for _ in range(requests)]


def lru_hits(requests: list[str], capacity: int) -> int:
    """A plain LRU, for the number that is right."""
    cache: OrderedDict[str, None] = OrderedDict()
    hits = 0
    for key in requests:
        hits += key in cache
        cache[key] = None
        cache.move_to_end(key)
        if len(cache) > capacity:
            cache.popitem(last=False)
    return hits


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(content: bytes, name: str = "trace.gz") -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize("capacity", [1, 2, 17, 60, 10_000])
def test_hits_are_those_of_lru(capacity: int) -> None:
    requests = skewed(5_000, 300)
    result = replay.play(requests, capacity)
    assert result.hits == lru_hits(requests, capacity)
    assert result.bytes > 0


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_reads_gzip_and_plain_text_whatever_the_name(write: Callable[..., Path], zipped: bool, newline: str) -> None:
    text = newline.join(["a", "b", "", "a", "ü"]).encode()
    trace = replay.read(write(gzip.compress(text) if zipped else text))
    assert trace.requests == ["a", "b", "a", "ü"]
    assert trace.unique == 3
    assert trace.requests[0] is trace.requests[2]


def test_prints_a_row_for_each_capacity(write: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    requests = skewed(2_000, 100)
    path = write(gzip.compress("\n".join(requests).encode()))
    unique = len(set(requests))
    assert main(["replay", str(path), "--capacity", "10%", "--capacity", "25", "--capacity", "1_000_000"]) == 0
    title, _, _, *rows = capsys.readouterr().out.splitlines()
    assert title == f"trace.gz: 2,000 requests, {unique} unique keys, LRUCache"
    for row, share, entries in zip(rows, ("10 %", "", ""), (unique // 10, 25, unique), strict=True):
        expected = f"{share} {entries} {lru_hits(requests, entries) / 20:.1f} %".split()
        assert row.split()[: len(expected)] == expected


def test_default_capacities(write: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(write(b"a\nb\na\n"))]) == 0
    shares = [row[:5].strip() for row in capsys.readouterr().out.splitlines()[3:]]
    assert shares == ["1 %", "5 %", "10 %", "20 %", "50 %"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "holds no keys"),
        (b"\n\n", "holds no keys"),
        (b"\x1f\x8b", "damaged gzip"),
        (gzip.compress(b"a\n" * 1000, mtime=0)[:-9], "damaged gzip"),
        (gzip.compress(b"a\n", mtime=0) + b"rest", "damaged gzip"),
        (b"\x7fELF\xff\xfe\x00", "is not text"),
        (gzip.compress(b"\xff\xfe", mtime=0), "is not text"),
    ],
)
def test_a_bad_file_is_an_error_of_one_line(
    write: Callable[..., Path], capsys: pytest.CaptureFixture[str], content: bytes, reason: str
) -> None:
    assert main(["replay", str(write(content))]) == 2
    shown = capsys.readouterr()
    assert reason in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""


def test_a_missing_file_or_a_folder_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (tmp_path, tmp_path / "absent.gz"):
        assert main(["replay", str(path)]) == 2
        assert f"cannot read {path}" in capsys.readouterr().err


@pytest.mark.parametrize("capacity", ["0", "-1", "0%", "101%", "nan%", "inf%", "ten", "", "%", "1.5"])
def test_a_bad_capacity_is_an_error(
    write: Callable[..., Path], capsys: pytest.CaptureFixture[str], capacity: str
) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["replay", str(write(b"a\n")), f"--capacity={capacity}"])
    assert exit.value.code == 2
    assert f"{capacity!r} is no capacity" in capsys.readouterr().err


def test_no_command_or_an_unknown_one_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["rewind"]):
        with pytest.raises(SystemExit) as exit:
            main(arguments)
        assert exit.value.code == 2
