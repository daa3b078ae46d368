"""Four ways to keep ONNX models in memory, with real files, the real onnxruntime, and memory as the kernel counts it.

    pip install "ullage[models-example]"
    python examples/models.py

Three models of 32, 64 and 96 MiB with random weights are written to a temporary folder. Each way then serves the same
requests in a fresh process: eight threads and fifty tasks ask for the first model at once; then the others are asked
for in turns, while a stream is still reading from the first. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

MIB = 1 << 20
WIDTH = 2048
MODELS = {"a": 32, "b": 64, "c": 96}
BUDGET = 128
THREADS, TASKS = 8, 50


def write(folder: Path) -> None:
    """A chain of matrices of 16 MiB each, as many as the model needs."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    for name, size in MODELS.items():
        random = np.random.default_rng(size)
        layers = size * MIB // (4 * WIDTH * WIDTH)
        weights = [random.standard_normal((WIDTH, WIDTH), dtype=np.float32) / WIDTH**0.5 for _ in range(layers)]
        ends = [helper.make_tensor_value_info(f"x{n}", TensorProto.FLOAT, [1, WIDTH]) for n in (0, layers)]
        nodes = [helper.make_node("MatMul", [f"x{n}", f"w{n}"], [f"x{n + 1}"]) for n in range(layers)]
        constants = [numpy_helper.from_array(weight, f"w{n}") for n, weight in enumerate(weights)]
        graph = helper.make_graph(nodes, name, ends[:1], ends[1:], constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(model, folder / f"{name}.onnx")


class Way:
    """How a program gets at its models: `lease(name)` is a context manager, and `alease` for a task."""

    loads = 0
    lock = threading.Lock()

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, name: str) -> Any:
        from onnxruntime import InferenceSession, SessionOptions  # type: ignore[import-untyped]

        with self.lock:
            self.loads += 1
        options = SessionOptions()
        options.intra_op_num_threads = 1
        return InferenceSession(self.folder / f"{name}.onnx", options, providers=["CPUExecutionProvider"])

    def size(self, name: str, model: object = None) -> int:
        return (self.folder / f"{name}.onnx").stat().st_size

    def lease(self, name: str) -> AbstractContextManager[Any]:
        raise NotImplementedError

    async def ask(self, name: str) -> None:
        """What a task does; a model that blocks is not for its event loop."""
        await asyncio.to_thread(answer, self, name)


class LoadPerQuery(Way):
    """A global that each query replaces: the old model goes when the new one is there."""

    model: Any = None

    def lease(self, name: str) -> AbstractContextManager[Any]:
        self.model = self.load(name)
        return nullcontext(self.model)


class UnlockedDict(Way):
    """A singleton a name: looked up, loaded and stored without a lock, kept for ever."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.models: dict[str, Any] = {}

    def lease(self, name: str) -> AbstractContextManager[Any]:
        if name not in self.models:
            self.models[name] = self.load(name)
        return nullcontext(self.models[name])


class LoadThenEvict(Way):
    """An `InstanceCache` that learns what a model takes when it has been loaded."""

    hint: Callable[[str], int] | None = None

    def __init__(self, folder: Path) -> None:
        from ullage import InstanceCache

        super().__init__(folder)
        self.closed: list[Any] = []
        # The files are a little larger than their weights.
        self.cache = InstanceCache(
            self.load,
            budget=BUDGET * MIB + 65_536,
            weigher=self.size,
            cost_hint=self.hint,
            close=lambda model: self.closed.append(0),
        )

    def lease(self, name: str) -> AbstractContextManager[Any]:
        return self.cache.lease(name)

    async def ask(self, name: str) -> None:
        async with self.cache.alease(name) as model:
            await asyncio.to_thread(run, model)


class EvictThenLoad(LoadThenEvict):
    """An `InstanceCache` that knows before: a model takes what its file takes."""

    @property
    def hint(self) -> Callable[[str], int]:  # type: ignore[override]
        return self.size


WAYS = {
    "a load a query": LoadPerQuery,
    "an unlocked dict": UnlockedDict,
    "InstanceCache, weigher only": LoadThenEvict,
    "InstanceCache, cost_hint": EvictThenLoad,
}


def run(model: Any) -> float:
    import numpy as np

    return float(model.run(None, {"x0": np.ones((1, WIDTH), np.float32)})[0].sum())


def answer(way: Way, name: str) -> float:
    with way.lease(name) as model:
        return run(model)


def stream(way: Way, name: str) -> Generator[float, None, None]:
    with way.lease(name) as model:
        while True:
            yield run(model)


def rush(way: Way) -> None:
    """Everybody asks for the first model at once."""

    async def tasks() -> None:
        await asyncio.gather(*(way.ask("a") for _ in range(TASKS)))

    threads = [threading.Thread(target=answer, args=(way, "a")) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    asyncio.run(tasks())
    for thread in threads:
        thread.join()


def turns(way: Way) -> None:
    """The models one after the other, with a stream from the first meanwhile."""
    answer(way, "b")
    words = stream(way, "a")
    first = next(words)
    answer(way, "c")
    if isinstance(way, LoadThenEvict):
        # The model leaves the cache in the middle of the stream, and is closed after it.
        closed = len(way.closed)
        way.cache.invalidate("a")
        assert next(words) == first and len(way.closed) == closed
        words.close()
        assert len(way.closed) == closed + 1
    assert first == answer(way, "a")
    words.close()
    for name in "bac":
        answer(way, name)


def resident(field: str) -> float:
    """MiB of this process: VmRSS now, VmHWM at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def measure(name: str, folder: Path) -> dict[str, Any]:
    """What one way takes, in this process: MiB beyond what the imports take."""
    way = WAYS[name](folder)
    import numpy  # noqa: F401
    import onnxruntime  # noqa: F401

    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    start = time.perf_counter()
    rush(way)
    loads = way.loads
    turns(way)
    return {
        "way": name,
        "rush": loads,
        "loads": way.loads,
        "seconds": round(time.perf_counter() - start, 1),
        "resident": round(resident("VmRSS") - before),
        "peak": round(resident("VmHWM") - before),
    }


def compare(folder: Path) -> Iterator[dict[str, Any]]:
    """Every way in a process of its own."""
    write(folder)
    # Freed weights go back to the system at once, so that what is resident is what is in use.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(MIB)}
    for name in WAYS:
        command = [sys.executable, __file__, "--way", name, "--folder", str(folder)]
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True, timeout=300)
        yield json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options.way, options.folder)))
        return
    print(f"{THREADS} threads, {TASKS} tasks; models of {list(MODELS.values())} MiB; a budget of {BUDGET} MiB\n")
    print(f"{'':<28} loads in the rush  in all  seconds  resident MiB  peak MiB")
    with tempfile.TemporaryDirectory() as folder:
        for row in compare(Path(folder)):
            print("{way:<28} {rush:>17} {loads:>7} {seconds:>8} {resident:>13} {peak:>9}".format(**row), flush=True)


if __name__ == "__main__":
    main()
