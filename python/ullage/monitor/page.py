"""A web page of the live containers, served by the program: as a WSGI app, as an ASGI app, or on a port of its own.

The page, one file without outside resources, asks for `data.json` beside it, again and again.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import socket
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import suppress
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, NamedTuple
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from ullage import _registry
from ullage.monitor.memory import usage
from ullage.monitor.report import Row, row

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PORT = 8585
"""Where `serve` serves and `python -m ullage top` looks, unless told otherwise."""

_HTML = Path(__file__).with_name("page.html").read_bytes()


def _hashes(tag: bytes) -> str:
    """What a browser may run, or apply: that which stands in the page, and nothing that a name could bring in."""
    found = re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), _HTML, re.DOTALL)
    return " ".join(f"'sha256-{b64encode(sha256(each).digest()).decode()}'" for each in found)


Message = MutableMapping[str, Any]

_HEADERS = (
    (
        "Content-Security-Policy",
        f"default-src 'none'; img-src data:; connect-src 'self'; script-src {_hashes(b'script')}; "
        f"style-src {_hashes(b'style')}; base-uri 'none'; form-action 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
)


_NUMBERS = ("entries", "weight", "max_weight", "max_entries", "memory", "hit_rate", "oldest", "retired")


def data() -> dict[str, Any]:
    """What the page shows, fit for JSON: the program, its memory, and a row for each container as in `ullage.report()`.

    `memory` of a container is there where weights are bytes: to estimate it otherwise takes longer than a glance may.
    """
    process = None
    with suppress(OSError, ValueError, NotImplementedError):
        process = asdict(usage())
    name = Path(next(iter(getattr(sys, "argv", ())), "")).name
    return {
        "program": f"{name or 'python'}, process {os.getpid()} on {socket.gethostname()}",
        "time": time.time(),
        "process": process,
        "containers": [_row(container) for container in _registry.live()],
    }


def _row(container: Any) -> dict[str, Any]:
    kind = type(container).__name__
    try:
        found = row(container, estimate=False)
        numbers = {name: value for name, value in found.stats.items() if isinstance(value, (int, float))}
        plain = asdict(replace(found, stats=numbers))
        if not all(isinstance(plain[name], (int, float, type(None))) for name in _NUMBERS):
            raise TypeError("its statistics are no numbers")
        json.dumps(plain, allow_nan=False)
    except Exception as error:
        plain = asdict(Row(None, kind, error=f"cannot be read: {type(error).__name__}"))
    return {"id": id(container)} | plain


class Answer(NamedTuple):
    """What HTTP is answered with."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes


def answer(method: str, path: str) -> Answer:
    """The page at the path of the app, the data at `data.json` beside it, and nothing else."""
    more: list[tuple[str, str]] = []
    if path not in ("", "/", "/data.json"):
        status, kind, body = "404 Not Found", "text/plain", b"There is nothing here but / and /data.json.\n"
    elif method not in ("GET", "HEAD"):
        status, kind, body = "405 Method Not Allowed", "text/plain", b"There is nothing to do here but GET and HEAD.\n"
        more = [("Allow", "GET, HEAD")]
    elif path == "/data.json":
        status, kind, body = "200 OK", "application/json", json.dumps(data(), allow_nan=False).encode()
    else:
        status, kind, body = "200 OK", "text/html", _HTML
    headers = [("Content-Type", f"{kind}; charset=utf-8"), ("Content-Length", str(len(body))), *_HEADERS, *more]
    return Answer(status, headers, b"" if method == "HEAD" else body)


def wsgi(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The page as a WSGI app, to be mounted under any path."""
    found = answer(environ["REQUEST_METHOD"], environ.get("PATH_INFO", ""))
    start_response(found.status, found.headers)
    return [found.body]


async def asgi(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """The page as an ASGI app, to be mounted under any path."""
    if scope["type"] != "http":
        # By the specification: servers go on without lifespan events, and refuse web sockets.
        raise NotImplementedError(f"the page speaks http, not {scope['type']}")
    found = answer(scope["method"], scope["path"].removeprefix(scope.get("root_path", "")))
    headers = [(name.lower().encode(), value.encode()) for name, value in found.headers]
    await send({"type": "http.response.start", "status": int(found.status[:3]), "headers": headers})
    await send({"type": "http.response.body", "body": found.body})


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    timeout = 30

    def log_message(self, *_: object) -> None:
        pass


class Serving:
    """A page that is served by a thread; `close()` ends that. Also a context manager."""

    def __init__(self, host: str, port: int) -> None:
        self._server = make_server(host, port, wsgi, _Server, _Quiet)
        self.url = f"http://{host}:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, name="ullage-page", daemon=True)
        self._thread.start()
        _running.add(self)

    def close(self) -> None:
        """Serves no more. May be called again."""
        _running.discard(self)
        # In a forked child there is no thread that could end.
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Serving:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


_running: set[Serving] = set()


@atexit.register
def _close_all() -> None:
    for serving in list(_running):
        serving.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_all)


def serve(port: int = PORT, host: str = "127.0.0.1") -> Serving:
    """Serves the page on a port of its own, by a daemon thread; 0 takes any that is free, `url` says which.

    Whoever can reach the port sees the names and numbers of the containers, never an entry: by default, this machine.
    A forked child does not serve: the port stays with the parent.
    """
    return Serving(host, port)
