"""Code that could hang or kill the interpreter runs in one of its own."""

import os
import subprocess
import sys
from textwrap import dedent


def run(code: str, timeout: float = 30, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a script in a fresh interpreter, with these variables. Fails unless it ends in time with exit code 0."""
    command = [sys.executable, "-X", "faulthandler", "-c", dedent(code)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=os.environ | environment)
    except subprocess.TimeoutExpired as hung:
        raise AssertionError(f"still running after {timeout} s: {hung.stdout!r} {hung.stderr!r}") from None
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done
