"""A LlamaIndex workflow of thousands of turns, and finished runs that a server keeps: stock, and with ullage.

    pip install "ullage[llama-index,demo]"
    python examples/llama_index_workflow.py [--quick] [--turns N] [--every N] [--json FILE] [--png FILE]

Each side runs in a process of its own, with the garbage collector off: what goes, goes because nobody holds it. Times
are those of the processor, so that other programs do not count. The same file runs with llama-index-core 0.12.10.post1,
the release that the leak was reported for.
"""

import argparse
import asyncio
import gc
import warnings
import weakref
from collections.abc import Iterable
from time import process_time
from typing import Any

import psutil
from sides import Side, compare, markdown

try:
    from workflows import Workflow, step
    from workflows.events import Event, StartEvent, StopEvent

    PACKAGE = "llama-index-workflows"
except ModuleNotFoundError:
    from llama_index.core.workflow import Event, StartEvent, StopEvent, Workflow, step

    PACKAGE = "llama-index-core"

TURN = 16 << 10
RUNS, PAYLOAD = 40, 4 << 20
live: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


class Turn(Event):
    number: int
    text: str


class Answer(Event):
    payload: str


class Chat(Workflow):
    """A conversation: one event of 16 KiB a turn. `checkpoint` is called after each."""

    checkpoint: Any

    @step
    async def begin(self, ev: StartEvent) -> Turn:
        return Turn(number=ev.turns, text=" " * TURN)

    @step
    async def turn(self, ev: Turn) -> Turn | StopEvent:
        await asyncio.sleep(0)  # where a real step waits for a model
        self.checkpoint(ev.number)
        if ev.number == 0:
            return StopEvent(result="done")
        return Turn(number=ev.number - 1, text=f"{ev.number}".ljust(TURN))


class Request(Workflow):
    """One request whose 4 MiB travel in an event."""

    @step
    async def begin(self, ev: StartEvent) -> Answer:
        answer = Answer(payload="x" * PAYLOAD)
        live[id(answer)] = answer
        return answer

    @step
    async def end(self, ev: Answer) -> StopEvent:
        return StopEvent(result="done")


def rss() -> float:
    return psutil.Process().memory_info().rss / (1 << 20)


async def long_run(turns: int, every: int) -> dict[str, Any]:
    samples = []

    def checkpoint(number: int) -> None:
        done = turns - number
        if done % every == 0:
            start = process_time()
            handler.ctx.to_dict()
            samples.append((done, rss(), (process_time() - start) * 1000))

    workflow = Chat(timeout=None)
    workflow.checkpoint = checkpoint
    start = process_time()
    handler = workflow.run(turns=turns)
    await handler
    spent = process_time() - start - sum(took for _, _, took in samples) / 1000
    return {"samples": samples, "turn_ms": spent / turns * 1000}


async def finished_runs(clear: Any) -> dict[str, Any]:
    """How many payloads live on in runs that nobody keeps, and in runs that a server keeps and clears."""
    workflow = Request(timeout=None)
    for _ in range(RUNS):
        await workflow.run()
    await asyncio.sleep(0.01)
    dropped, before = len(live), rss()
    handlers = []
    for _ in range(RUNS):
        handler = workflow.run()
        await handler
        if hasattr(handler.ctx, "store"):
            await handler.ctx.store.clear()
        else:
            handler.ctx.data.clear()
        clear(handler)
        handlers.append(handler)
    return {"dropped": dropped, "kept": len(live) - dropped, "kept_mib": rss() - before}


async def play(options: argparse.Namespace) -> Side:
    warnings.simplefilter("ignore")
    clear: Any = id
    if options.side == "ullage":
        from ullage.integrations import llama_index

        llama_index.install()
        clear = llama_index.clear
    gc.disable()
    long = await long_run(options.turns, options.every)
    gc.collect()
    return {"side": options.side, "long": long, "runs": await finished_runs(clear)}


def table(sides: list[Side]) -> str:
    def column(side: Side) -> list[str]:
        samples, runs = side["long"]["samples"], side["runs"]
        last = samples[-1]
        return [
            side["side"],
            f"{max(took for *_, took in samples[1:]):,.0f} ms",
            f"{last[2]:,.0f} ms",
            f"{last[1] - samples[0][1]:,.0f} MiB",
            f"{side['long']['turn_ms']:.2f} ms",
            f"{runs['dropped']} of {RUNS}",
            f"{runs['kept']} of {RUNS}, {runs['kept_mib']:,.0f} MiB",
        ]

    turns = sides[0]["long"]["samples"][-1][0]
    names = [
        "",
        "slowest checkpoint",
        f"checkpoint after {turns:,} turns",
        "memory that came with them",
        "one turn without checkpoint",
        "payloads left of runs that nobody keeps",
        "payloads left of runs that are kept and cleared",
    ]
    return markdown(zip(names, *map(column, sides), strict=True))


def curves(side: Side) -> Iterable[Any]:
    return zip(*side["long"]["samples"], strict=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=4000)
    parser.add_argument("--quick", action="store_const", dest="turns", const=500, help="500 turns")
    parser.add_argument("--every", type=int, default=100, help="turns from one checkpoint to the next")
    compare(parser, play, [PACKAGE], table, curves, ("turns", "one checkpoint"))


if __name__ == "__main__":
    main()
