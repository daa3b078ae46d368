"""A language model for DSPy that answers at once, without a network."""

from __future__ import annotations

from dspy.lm15 import Message, Request, Response, TextPart, Usage


class OfflineEngine:
    """`calls` counts how often it was asked: what a cache answers does not come here."""

    def __init__(self, answer: int = 100) -> None:
        self.answer = answer
        self.calls = 0

    def complete(self, request: Request) -> Response:
        self.calls += 1
        text = f"[[ ## answer ## ]]\n{self.calls:08} ".ljust(self.answer, "y") + "\n\n[[ ## completed ## ]]"
        usage = Usage(input_tokens=7, output_tokens=3, total_tokens=10)
        message = Message.assistant([TextPart(text)])
        return Response(id=None, model="offline", message=message, finish_reason="stop", usage=usage)
