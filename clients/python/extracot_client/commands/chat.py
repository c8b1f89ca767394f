"""``extracot chat``: several turns. Ctrl-C stops a reply, not the session; Ctrl-D ends it.

Earlier turns are sent back as question and answer only, without their reasoning.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from extracot_client.client import Extracot
from extracot_client.commands.common import (
    make_client,
    note,
    options_of,
    parse_budget,
    print_json,
    print_reply,
)
from extracot_client.errors import (
    ExtracotAPIError,
    ExtracotClientError,
    InvalidArgumentError,
)
from extracot_client.formatting import summary_line
from extracot_client.requests import SolveOptions
from extracot_client.sweeps import budget_key
from extracot_client.terminal import is_terminal
from extracot_client.types import Budget, Solution

_HELP = "/budget B sets the budget, /reset starts a new conversation, exit or Ctrl-D ends it"


@dataclass(slots=True)
class ChatSession:
    """The state between turns."""

    budget: Budget
    options: SolveOptions
    as_json: bool
    messages: list[dict[str, str]] = field(default_factory=list)
    failed: bool = False


def run(arguments: argparse.Namespace) -> int:
    """Answer until the input ends: then, if it was piped, 1 if a turn failed. After ``exit`` 0."""
    chat = ChatSession(parse_budget(arguments.budget), options_of(arguments), arguments.json)
    live = is_terminal(sys.stdin)
    if live:
        note(_HELP)
    with make_client(arguments) as client:
        while True:
            try:
                line = _read_line(live)
            except EOFError:
                break
            if line.strip() and not _turn(client, chat, line.strip(), live):
                return 0
    return int(chat.failed and not live)


def _read_line(live: bool) -> str:
    if live:
        import readline  # noqa: F401  - gives input() its line editing

        return input("> ")
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line


def _turn(client: Extracot, chat: ChatSession, line: str, live: bool) -> bool:
    """One line of input; ``False`` ends the session."""
    if line.lower() in ("exit", "quit"):  # what other programs take
        return False
    if line.startswith("/"):
        return _command(client, chat, line)
    chat.messages.append({"role": "user", "content": line})
    try:
        solution = _reply(client, chat)
    except KeyboardInterrupt:
        chat.messages.pop()
        if not live:
            raise
        note("stopped")
    except ExtracotClientError as error:
        # Where the server said why the next turn may do better; without a server no line of a pipe
        # does, but somebody who sits there may wait for it and keep the conversation.
        if not (live or isinstance(error, ExtracotAPIError)):
            raise
        chat.messages.pop()
        note(str(error), bad=True)
        chat.failed = True
    else:
        chat.messages.append({"role": "assistant", "content": solution.answer})
    return True


def _reply(client: Extracot, chat: ChatSession) -> Solution:
    with client.stream(chat.messages, budget=chat.budget, **chat.options) as stream:
        if not chat.as_json:
            print_reply(stream, show_reasoning=is_terminal(sys.stdout))
        solution = stream.result()
    if chat.as_json:
        print_json(solution.to_dict())
        sys.stdout.flush()
    else:
        note(summary_line(solution))
    return solution


def _command(client: Extracot, chat: ChatSession, line: str) -> bool:
    name, _, value = line.partition(" ")
    match name:
        case "/quit" | "/exit":
            return False
        case "/reset":
            chat.messages.clear()
            note("a new conversation")
        case "/budget" if value.strip():
            _set_budget(client, chat, value)
        case _:
            note(_HELP)
    return True


def _set_budget(client: Extracot, chat: ChatSession, text: str) -> None:
    """Take what the server allows; of anything else say what it does, and keep the budget."""
    try:
        budget = parse_budget(text)
    except InvalidArgumentError as error:
        note(str(error), bad=True)
        chat.failed = True
        return
    try:
        allowed = client.budget_card(chat.options.get("model")).allowed
    except ExtracotClientError:  # Another OpenAI-compatible server, or none: a turn will tell.
        allowed = []
    if allowed and not _is_allowed(budget, allowed):
        now = budget_key(chat.budget)
        note(f"no budget: {text.strip()}. Allowed: {', '.join(allowed)}. It stays {now}", bad=True)
        chat.failed = True
        return
    chat.budget = budget
    note(f"budget {budget_key(budget)}")


def _is_allowed(budget: Budget, allowed: Sequence[str]) -> bool:
    if isinstance(budget, Mapping):  # Its other keys are the server's to check.
        return "ratio" not in budget or _is_allowed(budget["ratio"], allowed)
    if isinstance(budget, str):
        return budget in allowed and budget.isalnum()
    return budget is None or (not isinstance(budget, bool) and 0 < budget <= 1)
