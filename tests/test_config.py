"""ullage.config() and ullage.configure(): what is in force, where it came from, and what a mistake is told."""

import math
import os

import pytest
import ullage
from child import run
from ullage.monitor import config
from ullage.monitor.config import KINDS, PROFILES, setting


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """No argument and no variable of ours is set."""
    monkeypatch.setattr(config, "_arguments", {})
    for name in list(os.environ):
        if name.startswith("ULLAGE_"):
            monkeypatch.delenv(name)


def origins() -> dict[str, str]:
    return {each.name: each.origin for each in ullage.config()}


def test_without_anything_the_profile_is_prod():
    assert ullage.config()["profile"].value == "prod"
    assert (setting("guard_soft"), setting("guard_hard"), setting("history_maxlen")) == (0.7, 0.85, 10_000)
    assert set(origins().values()) == {"default", "profile prod"}


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_is_valid(profile):
    found = ullage.configure(profile=profile)
    assert found["profile"].value == profile
    assert [each.name for each in found] == ["profile", *KINDS, "sweeper"]
    assert origins()["history_bytes"] == f"profile {profile}"


def test_an_argument_wins_over_a_variable_and_that_over_the_profile(monkeypatch):
    monkeypatch.setenv("ULLAGE_HISTORY_BYTES", "32 MiB")
    monkeypatch.setenv("ULLAGE_HISTORY_MAXLEN", "77")
    ullage.configure(profile="dev", history_bytes="1 MiB")
    assert setting("history_bytes") == 2**20
    assert setting("history_maxlen") == 77
    assert setting("cache_bytes") == 256 * 2**20
    found = origins()
    assert (found["history_bytes"], found["history_maxlen"]) == ("argument", "ULLAGE_HISTORY_MAXLEN")
    assert (found["cache_bytes"], found["profile"]) == ("profile dev", "argument")


def test_the_profile_may_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("ULLAGE_PROFILE", "notebook")
    assert (ullage.config()["profile"].origin, setting("history_maxlen")) == ("ULLAGE_PROFILE", 200)
    ullage.configure(profile="dev")
    assert (ullage.config()["profile"].origin, setting("history_maxlen")) == ("argument", 1_000)


def test_calls_add_up_and_none_takes_back():
    ullage.configure(profile="dev", guard_soft=0.5)
    ullage.configure(history_maxlen=5)
    assert (setting("guard_soft"), setting("history_maxlen"), ullage.config()["profile"].value) == (0.5, 5, "dev")
    ullage.configure(guard_soft=None, history_maxlen=None)
    assert (setting("guard_soft"), setting("history_maxlen")) == (0.8, 1_000)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("history_maxlen", " 12 ", 12),
        ("history_maxlen", "none", None),
        ("history_bytes", "5 kB", 5_000),
        ("cache_bytes", "1", 1),
        ("guard_soft", "55%", 0.55),
        ("guard_soft", "0.55", 0.55),
        ("guard_hard", "1", 1.0),
        ("guard_hard", "100%", 1.0),
        ("guard_interval", "0.5", 0.5),
        ("guard_warn_every", "30", 30.0),
        ("guard_trim", "1", True),
        ("guard_trim", "0", False),
    ],
)
def test_what_a_variable_may_say(monkeypatch, name, text, value):
    monkeypatch.setenv(f"ULLAGE_{name.upper()}", text)
    assert setting(name) == value
    monkeypatch.delenv(f"ULLAGE_{name.upper()}")
    ullage.configure(**{name: text})
    assert setting(name) == value


def test_a_share_of_the_memory_is_a_share_of_what_may_be_used():
    ullage.configure(history_bytes="10%", cache_bytes="20%")
    assert setting("cache_bytes") == pytest.approx(2 * setting("history_bytes"), abs=2)


BAD = [
    ("history_maxlen", ["0", "-1", "1.5", "many", "1e3", "\u0663", "1" * 30]),
    ("history_bytes", ["0", "much", "512 MB extra", "-1", "101%", "nan", "1 XB"]),
    ("cache_bytes", ["inf", "None"]),
    ("guard_soft", ["0", "1.1", "-0.5", "nan", "inf", "high", "0%", "101%", "1e-1", "0.9"]),
    ("guard_hard", ["0", "0.1", "2"]),
    ("guard_interval", ["0", "-1", "nan", "inf", "1 s", "soon"]),
    ("guard_warn_every", ["0"]),
    ("guard_trim", ["yes", "2", "true"]),
    ("profile", ["production", "Prod", "0"]),
]


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in BAD for text in texts])
def test_a_bad_variable_is_an_error_that_names_it(monkeypatch, name, text):
    variable = f"ULLAGE_{name.upper()}"
    monkeypatch.setenv(variable, text)
    for ask in (ullage.config, ullage.configure, lambda: setting("cache_bytes"), ullage.MemoryGuard):
        with pytest.raises(ValueError, match=f"{variable} (must be|cannot be)|must be less than.*{variable}"):
            ask()


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("history_maxlen", 0, ValueError),
        ("history_maxlen", True, TypeError),
        ("history_maxlen", 1.0, TypeError),
        ("history_bytes", math.nan, TypeError),
        ("history_bytes", -1, ValueError),
        ("history_bytes", True, TypeError),
        ("guard_soft", True, TypeError),
        ("guard_soft", math.nan, ValueError),
        ("guard_soft", math.inf, ValueError),
        ("guard_soft", 0, ValueError),
        ("guard_soft", 1.5, ValueError),
        ("guard_soft", 0.85, ValueError),
        ("guard_soft", [], TypeError),
        ("guard_hard", 0.7, ValueError),
        ("guard_hard", b"0.9", TypeError),
        ("guard_interval", 0, ValueError),
        ("guard_interval", math.inf, ValueError),
        ("guard_interval", True, TypeError),
        ("guard_trim", 1, ValueError),
        ("profile", "production", ValueError),
        ("profile", 3, ValueError),
        ("profile", [], ValueError),
    ],
)
def test_a_bad_argument_is_an_error_that_names_it_and_changes_nothing(name, value, error):
    ullage.configure(profile="prod", history_maxlen=5)
    before = ullage.config().as_dict()
    with pytest.raises(error, match=f"{name} must be|guard_soft must be less than guard_hard"):
        ullage.configure(**{name: value})
    assert ullage.config().as_dict() == before


def test_unknown_settings_are_named_beside_those_there_are():
    with pytest.raises(TypeError, match="no setting 'history_size'; there are profile, history_maxlen"):
        ullage.configure(history_size=5)
    with pytest.raises(KeyError, match="history_size"):
        setting("history_size")


def test_unknown_variables_are_named_beside_those_there_are(monkeypatch):
    monkeypatch.setenv("ULLAGE_HISTORY_SIZE", "5")
    with pytest.raises(ValueError, match=r"ULLAGE_HISTORY_SIZE is not a variable.*ULLAGE_HISTORY_BYTES.*'512 MiB'"):
        ullage.config()


def test_the_sweeper_is_a_variable_only(monkeypatch):
    assert (ullage.config()["sweeper"].value, ullage.config()["sweeper"].origin) == (True, "default")
    monkeypatch.setenv("ULLAGE_SWEEPER", "0")
    assert (ullage.config()["sweeper"].value, ullage.config()["sweeper"].origin) == (False, "ULLAGE_SWEEPER")
    monkeypatch.setenv("ULLAGE_SWEEPER", "off")
    with pytest.raises(ValueError, match="ULLAGE_SWEEPER must be"):
        ullage.config()
    with pytest.raises(TypeError, match="sweeper is a variable only, ULLAGE_SWEEPER"):
        ullage.configure(sweeper=False)


@pytest.mark.parametrize("name", ["ULLAGE_BENCH_QUICK", "ULLAGEX", "ullage_history_size"])
def test_variables_of_others_are_left_alone(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    ullage.config()


def test_an_empty_variable_is_not_set(monkeypatch):
    monkeypatch.setenv("ULLAGE_HISTORY_BYTES", "")
    assert origins()["history_bytes"] == "profile prod"


def test_a_bad_variable_does_not_keep_a_program_from_starting():
    run("""
        import os
        os.environ["ULLAGE_PROFILE"] = os.environ["ULLAGE_NONSENSE"] = "nonsense"
        from ullage import LRUCache, report
        LRUCache(3)[1] = 2
        str(report())
    """)


def test_the_table_names_every_setting_with_its_origin(monkeypatch):
    monkeypatch.setenv("ULLAGE_HISTORY_BYTES", "1 MiB")
    text = str(ullage.configure(profile="dev", cache_bytes="1000 kB"))
    lines = {line.split()[0]: line for line in text.splitlines()}
    assert set(lines) == {"setting", "profile", *KINDS, "sweeper"}
    assert "1 MiB  " in lines["history_bytes"] and "ULLAGE_HISTORY_BYTES" in lines["history_bytes"]
    assert "1000 kB = 977 KiB" in lines["cache_bytes"] and "argument" in lines["cache_bytes"]
    assert "profile dev" in lines["guard_soft"]
    rich = pytest.importorskip("rich.console")
    console = rich.Console(width=150, record=True)
    console.print(ullage.config())
    assert "ULLAGE_HISTORY_BYTES" in console.export_text()
