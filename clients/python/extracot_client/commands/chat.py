"""``extracot chat``: several turns. Ctrl-C stops a reply, not the talk; Ctrl-D ends it.

Earlier turns are sent back as question and answer only, without their reasoning.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field

from extracot_client.client import Extracot
from extracot_client.commands.common import (
    ReplyPrinter,
    make_client,
    options_of,
    parse_budget,
    print_json,
)
from extracot_client.errors import ExtracotAPIError, ExtracotClientError, ServerUnreachableError
from extracot_client.receipts import receipt
from extracot_client.requests import SolveOptions
from extracot_client.sweeps import budget_key
from extracot_client.terminal import Style, is_terminal, printable
from extracot_client.types import BudgetValue, Solution

_HELP = "/budget B sets the budget, /reset forgets the talk, /quit or Ctrl-D ends it"


@dataclass(slots=True)
class Talk:
    """The state between turns."""

    budget: BudgetValue | None
    options: SolveOptions
    as_json: bool
    messages: list[dict[str, str]] = field(default_factory=list)
    failed: bool = False


def run(arguments: argparse.Namespace) -> int:
    """Talk until the input ends; for piped input, 1 if a turn failed."""
    talk = Talk(parse_budget(arguments.budget), options_of(arguments), arguments.json)
    live = is_terminal(sys.stdin)
    if live:
        _note(_HELP)
    with make_client(arguments) as client:
        while True:
            try:
                line = _read_line(live)
            except EOFError:
                break
            if line.strip() and not _turn(client, talk, line.strip(), live):
                break
    return int(talk.failed and not live)


def _read_line(live: bool) -> str:
    if live:
        import readline  # noqa: F401  - gives input() its line editing

        return input("> ")
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line


def _turn(client: Extracot, talk: Talk, line: str, live: bool) -> bool:
    """One line of input; ``False`` ends the talk."""
    if line.startswith("/"):
        return _command(talk, line)
    talk.messages.append({"role": "user", "content": line})
    try:
        solution = _reply(client, talk)
    except KeyboardInterrupt:
        talk.messages.pop()
        if not live:
            raise
        _note("stopped")
        return True
    except ExtracotClientError as error:
        talk.messages.pop()
        if isinstance(error, ServerUnreachableError) or not isinstance(error, ExtracotAPIError):
            raise
        # The server is there and said why: the next turn may do better.
        _note(str(error), bad=True)
        talk.failed = True
        return True
    talk.messages.append({"role": "assistant", "content": solution.answer})
    return True


def _reply(client: Extracot, talk: Talk) -> Solution:
    printer = ReplyPrinter(sys.stdout, show_reasoning=is_terminal(sys.stdout))
    with client.stream(talk.messages, budget=talk.budget, **talk.options) as stream:
        if talk.as_json:
            solution = stream.result()
            print_json(solution.to_dict())
            sys.stdout.flush()
            return solution
        try:
            for event in stream:
                printer.show(event)
        finally:
            printer.end()
        solution = stream.result()
    _note(receipt(solution))
    return solution


def _command(talk: Talk, line: str) -> bool:
    name, _, value = line.partition(" ")
    match name:
        case "/quit" | "/exit":
            return False
        case "/reset":
            talk.messages.clear()
            _note("a new talk")
        case "/budget" if value.strip():
            talk.budget = parse_budget(value)
            _note(f"budget {budget_key(talk.budget)}")
        case _:
            _note(_HELP)
    return True


def _note(text: str, *, bad: bool = False) -> None:
    style = Style.of(sys.stderr)
    line = printable(text)
    sys.stderr.write((style.bad(line) if bad else style.dim(line)) + "\n")
    sys.stderr.flush()
