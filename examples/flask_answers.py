"""Flask-Caching's memory cache before and after: a Flask application whose answers are cached, of which one in four was
asked for before.

pip install "ullage[flask-caching,demo]"
python examples/flask_answers.py --png flask_answers.png
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any, ClassVar

from flask import Flask
from flask_caching import Cache
from ullage.demo.example import main
from ullage.demo.story import MIB, Story

BOUND = 64 * MIB
ENTRIES = 10_000
ANSWER = 20_000
RECENT = 1_000


class Stock:
    """The application with Flask-Caching's own cache in memory."""

    config: ClassVar[dict[str, Any]] = {"CACHE_TYPE": "SimpleCache", "CACHE_THRESHOLD": ENTRIES}

    def __init__(self) -> None:
        app = Flask("answers")
        cache = Cache(app, config={"CACHE_DEFAULT_TIMEOUT": 3_600, **self.config})
        self.asked = self.answered = 0
        chance = random.Random(1)

        @app.get("/<int:question>")
        @cache.cached()
        def answer(question: int) -> bytes:
            self.answered += 1
            return chance.randbytes(ANSWER)

        self.client = app.test_client()

    def __call__(self, question: int) -> None:
        self.asked += 1
        self.client.get(f"/{question}")

    def outcome(self) -> str:
        return f"{1 - self.answered / self.asked:.1%} of the requests were hits"


class Bounded(Stock):
    """The same, configured otherwise."""

    config: ClassVar[dict[str, Any]] = {
        "CACHE_TYPE": "ullage.integrations.flask_caching.BoundedCache",
        "CACHE_OPTIONS": {"max_bytes": BOUND},
    }


def load(count: int) -> Iterator[int]:
    """New questions, and one in four that was among the last thousand."""
    chance = random.Random(8)
    for number in range(count):
        again = number > RECENT and chance.random() < 0.25
        yield number - chance.randint(1, RECENT) if again else number


STORY = Story(
    name="flask-answers",
    title="Flask-Caching: answers in memory",
    axis="requests",
    timed="one request to the application",
    price="Each answer is weighed when it is stored, and one that has left is computed again.",
    bound=BOUND,
    items=(20_000, 5_000),
    load=load,
    stock=Stock,
    stock_label=f"Flask-Caching {version('Flask-Caching')}, SimpleCache, {ENTRIES:,} entries",
    ours=Bounded,
    ours_label=f'BoundedCache, max_bytes="{BOUND // MIB} MiB"',
)

if __name__ == "__main__":
    main(STORY)
