"""Sizes as users write them, and the memory that a share is a share of."""

import os
from decimal import Decimal
from fractions import Fraction

import pytest
from ullage import HistoryRing, LRUCache, _sizes

UNLIMITED = 9_223_372_036_854_771_712
GIB = 1024**3


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512 MiB", 512 * 1024**2),
        ("2GB", 2_000_000_000),
        ("1", 1),
        ("1B", 1),
        ("1 b", 1),
        ("1kB", 1000),
        ("1KB", 1000),
        ("1 KiB", 1024),
        ("1kib", 1024),
        ("1MB", 10**6),
        ("1mib", 1024**2),
        ("1 GIB", GIB),
        ("1TB", 10**12),
        ("1TiB", 1024**4),
        ("1PB", 10**15),
        ("1PiB", 1024**5),
        ("1EB", 10**18),
        ("1EiB", 1024**6),
        ("1.5 KiB", 1536),
        ("0.5kB", 500),
        ("0.29 kB", 290),
        ("1.9999 B", 1),
        ("007 kB", 7000),
        ("  64 MB  ", 64_000_000),
        ("64\tMB\n", 64_000_000),
        ("9007199254740993", 9_007_199_254_740_993),
        ("9007199254740993 B", 9_007_199_254_740_993),
        # More than anything can hold is no bound.
        ("100 EB", 2**63),
        ("9" * 400 + " EB", 2**63),
        (1, 1),
        (10**30, 10**30),
    ],
)
def test_sizes(text, size):
    assert _sizes.size(text, "max_bytes") == size
    assert type(_sizes.size(text, "max_bytes")) is int


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "MB",
        "%",
        "-1",
        "-5%",
        "+5 MB",
        "1e9",
        "1e3 MB",
        "0x10",
        "1_000",
        "1,5 GB",
        "1.",
        ".5 GB",
        "1.2.3 GB",
        "nan",
        "inf",
        "infinity%",
        "1 XB",
        "1 iB",
        "1 K",
        "1 Mi",
        "1 MBs",
        "1 MB 2",
        "1 M B",
        "5 %%",
        "\u0663 MB",
        "\uff11 MB",
        "1 \u212ab",
        "much",
        "0",
        "0 GB",
        "0%",
        "0.0%",
        "0.5 B",
        "0.0001 kB",
        "100.1%",
        "101%",
        "1000000%",
        "None",
        "None MB",
        "1 MB\0",
        0,
        -1,
        -(10**30),
    ],
)
def test_what_is_no_size_is_a_value_error_that_names_the_argument(text):
    with pytest.raises(ValueError, match=r"^max_bytes "):
        _sizes.size(text, "max_bytes")


@pytest.mark.parametrize(
    "bound", [None, True, False, 1.0, float("nan"), 1e9, b"1 MB", ["1 MB"], Decimal(5), Fraction(5), object(), int]
)
def test_what_is_neither_text_nor_an_integer_is_a_type_error(bound):
    with pytest.raises(TypeError, match=r"^max_bytes "):
        _sizes.size(bound, "max_bytes")


def test_text_of_a_subclass_and_integers_of_others():
    class Text(str):
        pass

    class Number:
        def __index__(self):
            return 5

    assert _sizes.size(Text("1 kB"), "max_bytes") == 1000
    assert _sizes.size(Number(), "max_bytes") == 5


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 64 GiB with files of its own: takes some, and says how much memory may be used."""
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 64 * GIB // 4096}
    monkeypatch.setattr(_sizes, "Path", lambda path: tmp_path / path.lstrip("/"))
    monkeypatch.setattr(os, "sysconf", pages.__getitem__, raising=False)

    def usable(files):
        for place, text in files.items():
            file = tmp_path / place.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return _sizes.usable_memory()

    return usable


CGROUP = "/proc/self/cgroup"
V2 = "/sys/fs/cgroup"
V1 = "/sys/fs/cgroup/memory"


@pytest.mark.parametrize(
    ("files", "usable"),
    [
        ({}, 64 * GIB),
        # Version 2: in a container the group is the root of what it sees.
        ({CGROUP: "0::/\n", f"{V2}/memory.max": f"{GIB}\n"}, GIB),
        ({CGROUP: "0::/\n", f"{V2}/memory.max": "max\n"}, 64 * GIB),
        ({f"{V2}/memory.max": f"{GIB}\n"}, GIB),
        # A group of a service, and the groups above it.
        ({CGROUP: "0::/a/b\n", f"{V2}/a/b/memory.max": f"{GIB}\n"}, GIB),
        ({CGROUP: "0::/a/b\n", f"{V2}/a/b/memory.max": "max\n", f"{V2}/a/memory.max": f"{2 * GIB}\n"}, 2 * GIB),
        ({CGROUP: "0::/a/b\n", f"{V2}/a/b/memory.max": f"{3 * GIB}\n", f"{V2}/a/memory.max": f"{2 * GIB}\n"}, 2 * GIB),
        ({CGROUP: "0::/a/b\n", f"{V2}/other/memory.max": f"{GIB}\n"}, 64 * GIB),
        # Version 1.
        ({CGROUP: "9:memory:/\n", f"{V1}/memory.limit_in_bytes": f"{GIB}\n"}, GIB),
        ({CGROUP: "9:memory:/\n", f"{V1}/memory.limit_in_bytes": f"{UNLIMITED}\n"}, 64 * GIB),
        ({CGROUP: "3:cpu:/x\n9:memory:/a/b\n", f"{V1}/a/b/memory.limit_in_bytes": f"{GIB}\n"}, GIB),
        ({CGROUP: "9:memory:/a/b\n", f"{V1}/a/memory.limit_in_bytes": f"{GIB}\n"}, GIB),
        ({CGROUP: "9:cpu,memory:/a\n0::/b\n", f"{V1}/a/memory.limit_in_bytes": f"{GIB}\n"}, GIB),
        # In a container the group's name may be that outside.
        ({CGROUP: "9:memory:/docker/1234\n", f"{V1}/memory.limit_in_bytes": f"{GIB}\n"}, GIB),
        ({CGROUP: "0::/../../elsewhere\n", f"{V2}/memory.max": f"{GIB}\n"}, GIB),
        # More than there is, and nonsense.
        ({f"{V2}/memory.max": f"{999 * GIB}\n"}, 64 * GIB),
        ({f"{V2}/memory.max": "0\n"}, 64 * GIB),
        ({f"{V2}/memory.max": "-1\n"}, 64 * GIB),
        ({f"{V2}/memory.max": ""}, 64 * GIB),
        ({f"{V2}/memory.max": "nonsense\n"}, 64 * GIB),
        ({CGROUP: "nonsense\n", f"{V2}/memory.max": f"{GIB}\n"}, GIB),
        ({CGROUP: "0::/a:b\n", f"{V2}/a:b/memory.max": f"{GIB}\n"}, GIB),
    ],
)
def test_the_memory_that_may_be_used(machine, files, usable):
    assert machine(files) == usable


def test_a_share(machine):
    assert machine({f"{V2}/memory.max": f"{10 * GIB}\n"}) == 10 * GIB
    for text, size in {"5%": GIB // 2, "50 %": 5 * GIB, "100%": 10 * GIB, "0.5%": GIB // 20}.items():
        assert _sizes.size(text, "max_bytes") == size
    assert HistoryRing(max_bytes="5%").max_weight == GIB // 2
    assert LRUCache(max_bytes="5%").maxsize == GIB // 2


def test_a_share_so_small_that_it_is_nothing(machine):
    machine({f"{V2}/memory.max": "4096\n"})
    with pytest.raises(ValueError, match="at least 1 byte"):
        _sizes.size("0.01%", "max_bytes")


def test_a_machine_whose_memory_is_unknown(monkeypatch):
    monkeypatch.delattr(os, "sysconf", raising=False)
    with pytest.raises(NotImplementedError, match="give a number of bytes"):
        _sizes.size("5%", "max_bytes")
    assert _sizes.size("5 MB", "max_bytes") == 5_000_000


@pytest.mark.skipif(not hasattr(os, "sysconf"), reason="the memory of this machine is not known")
def test_this_machine():
    assert 2**20 < _sizes.usable_memory() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert HistoryRing(max_bytes="5%").max_weight == int(_sizes.usable_memory() * 5 // 100)


@pytest.mark.parametrize("name", ["maxsize", "keep"])
def test_whole_numbers(name):
    assert _sizes.whole(0, name) == 0
    assert _sizes.whole(10**30, name) == 2**62
    for wrong, error in ((-1, ValueError), (True, TypeError), (1.0, TypeError), ("1", TypeError), (None, TypeError)):
        with pytest.raises(error, match=f"^{name} must be"):
            _sizes.whole(wrong, name)
