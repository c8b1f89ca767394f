"""The server with a scripted engine that makes a token every so many milliseconds, as models do.

    python -m benchmarks.paced 20 --engine scripted --port 8000 …

Everything after the first argument is for `extracot-serve`.
"""

from __future__ import annotations

import sys
from functools import partial

from extracot_server import cli
from extracot_server.engine.scripted import engine
from extracot_server.engine.scripted.model import ScriptedBehaviour


def main() -> int:
    """Takes the interval of tokens from the command line, and leaves the rest to the server."""
    behaviour = ScriptedBehaviour(token_interval_seconds=float(sys.argv.pop(1)) / 1000)
    vars(engine)["ScriptedEngine"] = partial(engine.ScriptedEngine, behaviour)
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
