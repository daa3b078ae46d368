"""The web page: right answers to HTTP, harmless whatever containers are called, and alive in a real browser."""

from __future__ import annotations

import asyncio
import gc
import html
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from child import run
from ullage import HistoryRing, LRUCache, TransferMap, _registry
from ullage.__main__ import main
from ullage._stats import CacheStats
from ullage.monitor import page

IMAGE = "<img src=x onerror=\"document.title='broken in'\"><b>bold</b>"
SCRIPT = "</td></script><script>document.title='broken in'</script>"


@pytest.fixture(autouse=True)
def only_these(monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers that other tests left do not count."""
    gc.collect()
    monkeypatch.setattr(_registry, "_all", [])


@pytest.fixture
def url() -> Iterator[str]:
    with page.serve(0) as serving:
        yield serving.url


def by_wsgi(method: str, path: str, mount: str = "") -> tuple[str, dict[str, str], bytes]:
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path, "SCRIPT_NAME": mount, "QUERY_STRING": ""}
    setup_testing_defaults(environ)
    started: list[Any] = []
    parts = validator(page.wsgi)(environ, lambda status, headers, exc_info=None: started.extend((status, headers)))
    body = b"".join(parts)
    parts.close()  # type: ignore[attr-defined]
    return started[0][:3], dict(started[1]), body


def by_asgi(method: str, path: str, mount: str = "") -> tuple[str, dict[str, str], bytes]:
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("there is nothing to receive")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": mount + path, "root_path": mount}
    asyncio.run(page.asgi(scope, receive, send))
    start, body = sent
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    assert all(name == name.lower() for name in headers)
    return str(start["status"]), {name.title(): value for name, value in headers.items()}, body["body"]


@pytest.fixture(params=[by_wsgi, by_asgi])
def ask(request: Any) -> Any:
    return request.param


@pytest.mark.parametrize("mount", ["", "/debug/ullage"])
def test_the_page_and_its_data(ask: Any, mount: str) -> None:
    cache = LRUCache(max_bytes="1 MiB", name="answers")
    cache["a"] = 1
    status, headers, body = ask("GET", "/", mount)
    assert (status, headers["Content-Type"]) == ("200", "text/html; charset=utf-8")
    assert body.startswith(b"<!doctype html>")
    status, headers, body = ask("GET", "/data.json", mount)
    assert (status, headers["Content-Type"]) == ("200", "application/json; charset=utf-8")
    (row,) = json.loads(body)["containers"]
    assert (row["name"], row["kind"], row["entries"]) == ("answers", "LRUCache", 1)
    assert (row["memory"], row["max_weight"]) == (cache.currsize, 1 << 20)


@pytest.mark.parametrize("path", ["/", "", "/data.json", "/nothing"])
def test_head_is_get_without_a_body(ask: Any, path: str) -> None:
    got, had = ask("GET", path), ask("HEAD", path)
    assert had[2] == b""
    assert got[0] == had[0]
    assert int(got[1]["Content-Length"]) == len(got[2])
    # Times differ by some digits.
    assert got[1].keys() == had[1].keys()


@pytest.mark.parametrize("path", ["/nothing", "/data.json/", "//", "/../page.py", "/data.jsonx", "data.json"])
def test_other_paths_are_not_found(path: str) -> None:
    for method in ("GET", "POST"):
        assert page.answer(method, path).status == "404 Not Found"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get", "NONSENSE"])
@pytest.mark.parametrize("path", ["/", "/data.json"])
def test_other_methods_are_not_allowed(path: str, method: str) -> None:
    found = page.answer(method, path)
    assert found.status == "405 Method Not Allowed"
    assert ("Allow", "GET, HEAD") in found.headers


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
def test_asgi_events_that_are_not_http_are_refused(kind: str) -> None:
    with pytest.raises(NotImplementedError, match=kind):
        asyncio.run(page.asgi({"type": kind}, None, None))  # type: ignore[arg-type]


def test_the_page_needs_nothing_from_elsewhere_and_may_ask_for_nothing() -> None:
    _, headers, body = by_wsgi("GET", "/")
    text = body.decode().replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|//\w+\.\w|@import|innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", text)
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert policy.count("sha256-") == 2
    assert "unsafe" not in policy


class Odd(LRUCache[Any, Any]):
    """A cache with a name and statistics of a test's own."""

    called: Any = None
    said: Any = None

    @property
    def name(self) -> Any:
        return self.called

    def stats(self) -> Any:
        if isinstance(self.said, Exception):
            raise self.said
        return (
            super().stats()
            if self.said is None
            else CacheStats(**dict.fromkeys(CacheStats.__dataclass_fields__, self.said))
        )


@pytest.mark.parametrize(
    "said", [RuntimeError("not today"), float("nan"), float("inf"), object(), {1: 2}, "text", 2**80, None]
)
@pytest.mark.parametrize("called", [IMAGE, SCRIPT, "\ud800\x00\u202e", 7, b"bytes", ["list"], None])
def test_the_data_are_json_whatever_containers_say(called: Any, said: Any) -> None:
    odd, other = Odd(5), HistoryRing(5, name="other")
    odd.called, odd.said = called, said

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    rows = json.loads(by_wsgi("GET", "/data.json")[2], parse_constant=refuse)["containers"]
    assert [row["kind"] for row in rows] == ["Odd", "HistoryRing"]
    assert rows[1]["name"] == other.name
    assert isinstance(rows[0]["name"], str | None)


def test_serving_ends_and_leaves_no_thread() -> None:
    before = threading.active_count()
    with page.serve(0) as serving, urlopen(serving.url, timeout=10) as answer:
        assert answer.status == 200
    serving.close()
    with pytest.raises(OSError):
        urlopen(serving.url, timeout=10)
    assert "ullage-page" not in [thread.name for thread in threading.enumerate()]
    assert threading.active_count() <= before + 1


def test_a_program_that_serves_ends() -> None:
    assert run("from ullage.monitor import page; print(page.serve(0).url)").stderr == ""


def test_a_forked_child_does_not_serve_and_ends() -> None:
    code = """
        import os, sys
        from urllib.request import urlopen
        from ullage.monitor import page

        serving = page.serve(0)
        child = os.fork()
        if not child:
            serving.close()
            sys.exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert urlopen(serving.url, timeout=10).status == 200
    """
    run(code)


def test_top_shows_the_table_of_another_program(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    cache = LRUCache(5, {1: 1}, name="answers")
    evil = LRUCache(5, name="\x1b[2J\nred [bold]")
    assert main(["top", url]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^answers +LRUCache +1 +- +5 ", shown, re.MULTILINE)
    assert "\x1b" not in shown
    assert "red [bold]" in shown
    assert len(cache) + len(evil) == 1


def test_top_looks_again_and_again(url: str) -> None:
    from ullage.monitor import top

    cache = LRUCache(5, name="answers")
    tables = top.tables(url, 0.01)
    for entries in range(1, 4):
        cache[entries] = 1
        assert f"{entries} " in str(next(tables))


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/", "nonsense", "file:///etc", ""])
def test_top_says_what_to_do_where_there_is_no_page(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", address]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "page.serve()" in error


@pytest.mark.parametrize("interval", ["0", "-1", "nan", "x", "1e9"])
def test_top_refuses_odd_intervals(interval: str) -> None:
    with pytest.raises(SystemExit):
        main(["top", "--interval", interval])


def browser() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("there is no browser here: apt-get install chromium")
    return found


def test_in_a_browser(url: str, tmp_path: Path) -> None:
    command = [browser(), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    command += ["--virtual-time-budget=10000", "--enable-logging=stderr", "--dump-dom", url]
    cache: LRUCache[Any, Any] = LRUCache(max_bytes="1 MiB", name="answers")
    evil = [LRUCache(5, name=name) for name in (IMAGE, SCRIPT)]
    failing = Odd(5)
    failing.called, failing.said = "failing", RuntimeError("not <i>today</i>")
    transfers = TransferMap(30.0, name="transfers")
    transfers.begin("a", 1)
    stop = threading.Event()

    def use() -> None:
        while not stop.wait(0.001):
            cache["a"] = cache.get("a")

    user = threading.Thread(target=use)
    user.start()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    finally:
        stop.set()
        user.join()
    document, said = done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert said == [], "the browser refused or missed something"
    for name in ("answers", "transfers", IMAGE, SCRIPT, "failing", "RuntimeError: not <i>today</i>"):
        assert html.escape(name, quote=False) in document
    assert "broken in</title>" not in document
    assert "<b>" not in document and "<i>t" not in document
    assert document.count("<tr>") == 3 + len(evil)
    assert re.search(r'class="line" d="M[\d.]+ [\d.]+L', document), "nothing is plotted"
    assert re.search(r"100\.0 %.*last 30 s", document)


def test_a_browser_says_when_the_program_is_gone(url: str, tmp_path: Path) -> None:
    command = [browser(), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    copy = tmp_path / "page.html"
    copy.write_bytes(by_wsgi("GET", "/")[2])
    command += ["--virtual-time-budget=5000", "--dump-dom", copy.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert re.search(r'class="lost"[^>]*>no answer', done.stdout)
