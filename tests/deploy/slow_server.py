"""``extracot-serve --engine scripted``, but a reply takes its time. Runs as a module, with flags.

So that replies are on their way when a server is told to stop.
"""

from __future__ import annotations

from typing import Any

from extracot_server.cli import main
from extracot_server.engine.scripted import engine as scripted


class SlowEngine(scripted.ScriptedEngine):
    """Some 25 tokens a second."""

    def __init__(self, **named: Any) -> None:
        super().__init__(scripted.ScriptedBehaviour(token_interval_seconds=0.04), **named)


if __name__ == "__main__":
    scripted.ScriptedEngine = SlowEngine  # type: ignore[misc]
    raise SystemExit(main())
