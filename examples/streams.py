"""Four streams at once from one llama.cpp model: through a dict without a lock, through one whose lock is let go of too
early, and through a lease that lasts as long as the stream.

    pip install ullage gguf numpy
    CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_OPENMP=OFF" pip install llama-cpp-python
    python examples/streams.py

The model has random weights (100 MiB), and is written to a temporary folder. Each way runs in a process of its own,
since llama.cpp ends the process when two streams meet in one model.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WIDTH, FEED, LAYERS, HEADS = 512, 2048, 6, 8
STREAMS, WORDS, RUNS = 4, 16, 3


def write(path: Path) -> None:
    """A model of the Llama architecture that says random bytes."""
    import numpy as np
    from gguf import GGUFWriter, TokenType

    random = np.random.default_rng(5)
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    special = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL]
    model = GGUFWriter(path, "llama")
    model.add_context_length(256)
    model.add_embedding_length(WIDTH)
    model.add_block_count(LAYERS)
    model.add_feed_forward_length(FEED)
    model.add_head_count(HEADS)
    model.add_head_count_kv(HEADS)
    model.add_layer_norm_rms_eps(1e-5)
    model.add_rope_dimension_count(WIDTH // HEADS)
    model.add_tokenizer_model("llama")
    model.add_token_list(tokens)
    model.add_token_scores([0.0] * len(tokens))
    model.add_token_types([*special, *[TokenType.BYTE] * 256, TokenType.NORMAL])
    model.add_bos_token_id(1)
    model.add_eos_token_id(2)

    def matrix(name: str, rows: int, columns: int) -> None:
        weights = random.standard_normal((rows, columns), dtype=np.float32) / columns**0.5
        model.add_tensor(f"{name}.weight", weights.astype(np.float32))

    def norm(name: str) -> None:
        model.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))

    matrix("token_embd", len(tokens), WIDTH)
    norm("output_norm")
    matrix("output", len(tokens), WIDTH)
    for layer in range(LAYERS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrix(f"blk.{layer}.{name}", WIDTH, WIDTH)
        matrix(f"blk.{layer}.ffn_gate", FEED, WIDTH)
        matrix(f"blk.{layer}.ffn_up", FEED, WIDTH)
        matrix(f"blk.{layer}.ffn_down", WIDTH, FEED)
        norm(f"blk.{layer}.attn_norm")
        norm(f"blk.{layer}.ffn_norm")
    model.write_header_to_file()
    model.write_kv_data_to_file()
    model.write_tensors_to_file()
    model.close()


loads: list[Path] = []


def load(path: Path) -> Any:
    from llama_cpp import Llama

    loads.append(path)
    return Llama(str(path), n_ctx=256, n_threads=1, use_mmap=False, verbose=False)


def words(llama: Any) -> Iterator[str]:
    for piece in llama("to be", max_tokens=WORDS, stream=True):
        yield piece["choices"][0]["text"]


class UnlockedDict:
    """A singleton a file, looked up and used without a lock."""

    def __init__(self) -> None:
        self.models: dict[Path, Any] = {}

    def stream(self, path: Path) -> Iterator[str]:
        if path not in self.models:
            self.models[path] = load(path)
        yield from words(self.models[path])


class EarlyLock:
    """A lock around the load and around the call, which is over when it has returned a generator."""

    def __init__(self) -> None:
        self.models: dict[Path, Any] = {}
        self.lock = threading.Lock()

    def stream(self, path: Path) -> Iterator[str]:
        with self.lock:
            if path not in self.models:
                self.models[path] = load(path)
            answer = words(self.models[path])
        yield from answer


class Lease:
    """One load, and a lease for the whole stream. Leases are shared: a model that serves one at a time has a lock."""

    def __init__(self) -> None:
        from ullage import InstanceCache

        self.models: InstanceCache[Path, Any] = InstanceCache(
            lambda path: (load(path), threading.Lock()),
            budget="200 MiB",
            cost_hint=lambda path: path.stat().st_size,
            close=lambda model: model[0].close(),
        )

    def stream(self, path: Path) -> Iterator[str]:
        with self.models.lease(path) as (llama, turn), turn:
            yield from words(llama)


WAYS = {"a dict without a lock": UnlockedDict, "a lock around the call": EarlyLock, "a lease": Lease}


def serve(name: str, path: Path) -> None:
    """One stream, then four threads with one each. Prints how many loads there were, and how many of the four ended."""
    # llama.cpp closes and opens the standard output while it loads.
    answers, output = [], os.fdopen(os.dup(1), "w")
    way: Any = WAYS[name]()
    list(way.stream(path))

    def read() -> None:
        list(way.stream(path))
        answers.append(name)

    threads = [threading.Thread(target=read) for _ in range(STREAMS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(len(loads), len(answers), file=output, flush=True)


def outcome(name: str, path: Path) -> str:
    """How one process ended."""
    command = [sys.executable, __file__, "--way", name, "--path", str(path)]
    # A process that is killed would leave another behind, which prints its stack.
    environment = {**os.environ, "GGML_NO_BACKTRACE": "1"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment)
    except subprocess.TimeoutExpired:
        return "hangs"
    if done.returncode < 0:
        return f"killed by {signal.Signals(-done.returncode).name}"
    loaded, ended = done.stdout.split()
    return f"{ended} of {STREAMS} streams, {loaded} loads"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        serve(options.way, options.path)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.gguf"
        write(path)
        for name in WAYS:
            outcomes = [outcome(name, path) for _ in range(RUNS)]
            counts = [f"{outcomes.count(each)} x {each}" for each in dict.fromkeys(outcomes)]
            print(f"{name:<24} {'; '.join(counts)}", flush=True)


if __name__ == "__main__":
    main()
