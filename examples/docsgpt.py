"""A Flask application that answers with local models, built as DocsGPT was, as it is, and with `InstanceCache`.

    pip install "ullage[flask-caching]" numpy matplotlib
    python examples/docsgpt.py --png docsgpt.png

DocsGPT keeps its llama.cpp models, its embeddings and its tool clients in module-level dicts, and serves them with 96
threads in one process. Here are three such sets of objects behind the same routes, each run in a process of its own:
a rush of eight threads at a cold start, traffic for three models of which not all fit, and users of a tool who do not
come back. The application and its threads are real, the models stand-ins: weights from a file that really take memory,
and can neither be read by two streams at a time nor after they were closed. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from flask import Flask, Response, request

MIB = 1 << 20
MODELS = {"small": 32, "medium": 64, "large": 96}
EMBEDDER = ("embedder", 16)
BUDGET = 128
THREADS, RUSH, WORDS = 96, 8, 8
REQUESTS, USERS = 600, 2_000
QUICK = 6


@dataclass
class Tally:
    """What happened."""

    counts: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, what: str, number: int = 1) -> None:
        with self.lock:
            self.counts[what] += number


class Llama:
    """Stands for llama.cpp's. Where that would end the process, this counts."""

    def __init__(self, path: Path, tally: Tally) -> None:
        tally.add(f"{'embedder' if path.stem == EMBEDDER[0] else 'model'} loads")
        self.tally = tally
        self.streams = 0
        self.weights: Any = np.fromfile(path, np.uint8)

    def stream(self, prompt: str) -> Iterator[str]:
        self.tally.add("streams that met", self.streams > 0)
        self.streams += 1
        try:
            for part in np.array_split(self.weights, 32)[:WORDS]:
                yield f"{prompt}{part.sum()} "
        finally:
            self.streams -= 1

    def embed(self, text: str) -> int:
        return int(self.weights[: len(text) * 1_000].sum())

    def close(self) -> None:
        self.tally.add("closed in use", self.streams > 0)
        self.weights = None


class Client:
    """Stands for a connection to a tool, in the name of a user."""

    def __init__(self, token: str, tally: Tally) -> None:
        self.tally = tally
        self.token = token
        self.buffer = bytearray(65_536)
        tally.add("clients open")

    def whoami(self) -> str:
        return self.token

    def close(self) -> None:
        self.tally.add("clients open", -1)


class Objects:
    """What the application loads once, or means to."""

    threads = THREADS
    has_tools = True

    def __init__(self, folder: Path, tally: Tally, clock: Callable[[], float]) -> None:
        self.folder, self.tally, self.clock = folder, tally, clock

    def load(self, name: str) -> Llama:
        return Llama(self.folder / f"{name}.bin", self.tally)

    def stream(self, name: str, prompt: str) -> Iterator[str]:
        raise NotImplementedError

    def embed(self, text: str) -> int:
        raise NotImplementedError

    def call(self, url: str, token: str) -> str:
        raise NotImplementedError


class Singletons(Objects):
    """As DocsGPT has it today: dicts without locks, kept for ever; a lock that is let go of before the stream is read;
    clients by the beginning of a token, and an age that is looked at when the same user comes again."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.models: dict[str, Llama] = {}
        self.clients: dict[tuple[str, str], tuple[Client, float]] = {}
        self.lock = threading.Lock()

    def singleton(self, name: str) -> Llama:
        if name not in self.models:
            self.models[name] = self.load(name)
        return self.models[name]

    def stream(self, name: str, prompt: str) -> Iterator[str]:
        llama = self.singleton(name)
        with self.lock:
            return llama.stream(prompt)

    def embed(self, text: str) -> int:
        return self.singleton(EMBEDDER[0]).embed(text)

    def call(self, url: str, token: str) -> str:
        key = (url, token[:10])
        if key not in self.clients or self.clock() - self.clients[key][1] > 300:
            self.clients[key] = Client(token, self.tally), self.clock()
        return self.clients[key][0].whoami()


class LoadPerQuery(Singletons):
    """As DocsGPT had it before 0.11: each query makes the model anew, and again for the conversation's title, while a
    global still holds the one before. Its workers had one thread."""

    threads = 1
    has_tools = False

    def singleton(self, name: str) -> Llama:
        kind = "embedder" if name == EMBEDDER[0] else "model"
        self.models[kind] = self.load(name)
        return self.models[kind]

    def stream(self, name: str, prompt: str) -> Iterator[str]:
        yield from super().stream(name, prompt)
        yield from super().stream(name, "a title for it: ")


class Instances(Objects):
    """With `InstanceCache`: loaded once, within a budget, leased for as long as the stream is read."""

    def __init__(self, *given: Any) -> None:
        from ullage import InstanceCache

        super().__init__(*given)
        self.models = InstanceCache(
            lambda key: (Llama(key[0], self.tally), threading.Lock()),
            budget=f"{BUDGET} MiB",
            cost_hint=lambda key: key[2],
            close=lambda model: model[0].close(),
            on_full="wait",
            name="models",
        )
        self.embedders = InstanceCache(self.load, maxsize=1, close=Llama.close, name="embedders")
        self.token: ContextVar[str] = ContextVar("token")
        self.clients = InstanceCache(
            lambda key: Client(self.token.get(), self.tally),
            maxsize=100,
            idle=300,
            close=Client.close,
            timer=self.clock,
            name="clients",
        )

    def stream(self, name: str, prompt: str) -> Iterator[str]:
        path = (self.folder / f"{name}.bin").resolve()
        # A file that was replaced is another model.
        file = path.stat()
        with self.models.lease((path, file.st_mtime_ns, file.st_size)) as (llama, turn), turn:
            yield from llama.stream(prompt)

    def embed(self, text: str) -> int:
        with self.embedders.lease(EMBEDDER[0]) as embedder:
            return embedder.embed(text)

    def call(self, url: str, token: str) -> str:
        from ullage import secret_key

        self.token.set(token)
        with self.clients.lease(secret_key(url, token)) as client:
            return client.whoami()


WAYS: dict[str, type[Objects]] = {
    "a load a query": LoadPerQuery,
    "dicts without locks": Singletons,
    "InstanceCache": Instances,
}


def application(objects: Objects) -> Flask:
    app = Flask(__name__)

    @app.post("/stream")
    def stream() -> Response:
        asked = request.get_json()
        found = objects.embed(asked["question"])
        return Response(objects.stream(asked["model"], f"{found}: "))

    @app.post("/tool")
    def tool() -> str:
        return objects.call("https://tool.example", request.headers["Authorization"])

    return app


class Traffic:
    """What users ask of the application, over its WSGI interface, from a pool of as many threads as it is served by."""

    def __init__(self, objects: Objects, tally: Tally) -> None:
        self.app = application(objects)
        self.tally = tally
        self.pool = ThreadPoolExecutor(objects.threads)

    def ask(self, model: str, leaves: bool = False) -> None:
        """A question; who leaves does so at the first word, and the server closes the stream."""
        response = self.app.test_client().post("/stream", json={"model": model, "question": "to be?"}, buffered=False)
        words = iter(response.response)
        next(words)
        if not leaves:
            for _ in words:
                pass
        response.close()
        self.tally.add("answers")

    def use_tool(self, token: str) -> None:
        answer = self.app.test_client().post("/tool", headers={"Authorization": token}).text
        self.tally.add("answers in another user's name", answer != token)

    def rush(self) -> None:
        start = threading.Barrier(min(RUSH, self.pool._max_workers))

        def ask() -> None:
            start.wait(60)
            self.ask("large")

        self.wait([self.pool.submit(ask) for _ in range(RUSH)])

    def serve(self, requests: int) -> None:
        names = [*MODELS]
        order = np.random.default_rng(5).choice(len(names), requests, p=[0.6, 0.3, 0.1])
        asked = [self.pool.submit(self.ask, names[which], n % 10 == 0) for n, which in enumerate(order)]
        self.wait(asked)

    def tools(self, users: int) -> None:
        """Half of the users have tokens that begin alike, as all JSON web tokens do."""
        tokens = [f"{'eyJhbGciOiJIUzI1NiJ9.' if n % 2 else ''}{n:010} of a user" for n in range(users)]
        self.wait([self.pool.submit(self.use_tool, token) for token in tokens])

    def wait(self, asked: list[Any]) -> None:
        for each in asked:
            each.result()


class Watch(threading.Thread):
    """What is resident, in MiB beyond what it was, now and then."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.before = self.resident()
        self.begun = time.monotonic()
        self.seen: list[tuple[float, float]] = []
        self.over = threading.Event()

    def resident(self) -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB

    def look(self) -> float:
        more = self.resident() - self.before
        self.seen.append((round(time.monotonic() - self.begun, 3), round(more, 1)))
        return more

    def run(self) -> None:
        while not self.over.wait(0.01):
            self.look()


def peak() -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def measure(name: str, folder: Path, quick: bool) -> dict[str, Any]:
    """One way, in this process."""
    from ullage.testing import ManualClock

    clock, tally = ManualClock(), Tally()
    traffic = Traffic(WAYS[name](folder, tally, clock), tally)
    watch = Watch()
    watch.start()
    Path("/proc/self/clear_refs").write_text("5")

    start = time.perf_counter()
    traffic.rush()
    rushed = time.perf_counter()
    cold = dict(tally.counts)
    traffic.serve(REQUESTS // QUICK if quick else REQUESTS)
    served = time.perf_counter()
    resident, most = watch.look(), peak() - watch.before
    watch.over.set()
    watch.join()
    tools: dict[str, int] | None = None
    if WAYS[name].has_tools:
        traffic.tools(USERS)
        tools = {"clients": tally.counts["clients open"], "answers": tally.counts["answers in another user's name"]}
        clock.advance(301)
        traffic.use_tool("one more user")
        tools["clients later"] = tally.counts["clients open"]
    traffic.pool.shutdown()
    return {
        "way": name,
        "rush": {
            "model loads": cold["model loads"],
            "embedder loads": cold["embedder loads"],
            "seconds": rushed - start,
        },
        "traffic": {**tally.counts, "seconds": served - rushed},
        "resident": resident,
        "peak": most,
        "tools": tools,
        "memory": watch.seen,
    }


def compare(quick: bool) -> Iterator[dict[str, Any]]:
    """Every way in a process of its own."""
    # Freed weights go back to the system at once, so that what is resident is what is in use.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(MIB)}
    with tempfile.TemporaryDirectory() as folder:
        for name, size in [*MODELS.items(), EMBEDDER]:
            np.random.default_rng(size).integers(0, 256, size * MIB, np.uint8).tofile(Path(folder, f"{name}.bin"))
        for name in WAYS:
            command = [sys.executable, __file__, "--way", name, "--folder", folder, *["--quick"] * quick]
            done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True, timeout=500)
            yield json.loads(done.stdout)


ROWS: dict[str, Callable[[dict[str, Any]], object]] = {
    f"model loads, {RUSH} cold requests": lambda run: run["rush"]["model loads"],
    "embedder loads": lambda run: run["rush"]["embedder loads"],
    "seconds": lambda run: f"{run['rush']['seconds']:.2f}",
    "model loads, traffic": lambda run: run["traffic"]["model loads"] - run["rush"]["model loads"],
    "streams that met in one model": lambda run: run["traffic"].get("streams that met", 0),
    "models closed in use": lambda run: run["traffic"].get("closed in use", 0),
    "seconds, traffic": lambda run: f"{run['traffic']['seconds']:.1f}",
    "resident MiB": lambda run: f"{run['resident']:.0f}",
    "peak MiB": lambda run: f"{run['peak']:.0f}",
    f"answers in another's name, of {USERS:,}": lambda run: run["tools"]["answers"] if run["tools"] else "",
    "clients open": lambda run: run["tools"]["clients"] if run["tools"] else "",
    "clients open, 301 s later": lambda run: run["tools"]["clients later"] if run["tools"] else "",
}


def table(runs: list[dict[str, Any]]) -> str:
    rows = [["", *(run["way"] for run in runs)], *([row, *map(str, map(cell, runs))] for row, cell in ROWS.items())]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---|--:|--:|--:|", *lines[1:]])


def draw(runs: list[dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), dpi=120, layout="constrained")
    axes = figure.subplots()
    for run, colour, width in zip(runs, ("#7a7a7a", "#c2571a", "#1a62a8"), (0.8, 2, 2), strict=True):
        seconds, more = zip(*run["memory"], strict=True)
        axes.plot(seconds, more, color=colour, linewidth=width, label=f"{run['way']}, {seconds[-1]:.1f} s")
    # The first takes long, and goes on as it begins.
    axes.set_xlim(0, 2 * runs[-1]["memory"][-1][0])
    bound = BUDGET + EMBEDDER[1]
    axes.axhline(bound, color="#1a62a8", linewidth=1, linestyle=":", label=f"budget and embedder: {bound} MiB")
    axes.set_title("Memory while the same requests are served", loc="left", weight="bold")
    axes.set_xlabel("seconds")
    axes.set_ylabel("MiB beyond what the imports take")
    axes.set_ylim(0)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less traffic")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the numbers go")
    parser.add_argument("--png", type=Path, metavar="FILE", help="where the picture goes")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options.way, options.folder, options.quick)))
        return
    print(f"{THREADS} threads; models of {[*MODELS.values()]} MiB, a budget of {BUDGET} MiB\n")
    runs = list(compare(options.quick))
    release = f"Flask {version('flask')}, Python {sys.version.split()[0]}"
    print(table(runs))
    if options.json:
        options.json.write_text(json.dumps({"name": "docsgpt", "release": release, "sides": runs}))
    if options.png:
        draw(runs, options.png)


if __name__ == "__main__":
    main()
