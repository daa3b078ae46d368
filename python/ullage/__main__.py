"""``python -m ullage``: see what the containers do, from a shell."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from ullage import demo, replay
from ullage.monitor import top

COMMANDS = {"demo": demo, "replay": replay, "top": top}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ullage", description="Bounded containers, seen from a shell.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").splitlines()[0]
        command = commands.add_parser(name, help=summary, description=summary)
        module.add_arguments(command)
        command.set_defaults(run=module.run, command=command)
    options = parser.parse_args(argv)
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (`| head`) left: what is still buffered has nowhere to go, and exit would try once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    return status


if __name__ == "__main__":
    sys.exit(main())
