"""What the subcommands share: from parsed arguments to a client, options, budgets and a problem."""

from __future__ import annotations

import argparse
import json
import re
import sys
from typing import Any, TextIO

from extracot.control import DEFAULT_RATIOS
from extracot_client.client import Extracot
from extracot_client.errors import InvalidArgumentError, NotFoundError
from extracot_client.requests import SolveOptions
from extracot_client.terminal import Style, is_terminal, printable
from extracot_client.types import AnswerDelta, BudgetCardPage, BudgetValue, Event, ReasoningDelta

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def make_client(arguments: argparse.Namespace) -> Extracot:
    """The client that the arguments and variables ask for."""
    return Extracot(
        arguments.base_url,
        arguments.api_key,
        model=getattr(arguments, "model", None),
        timeout=arguments.timeout,
        max_connections=max(100, getattr(arguments, "concurrency", 0)),
    )


def options_of(arguments: argparse.Namespace) -> SolveOptions:
    """The sampling options, those that were given."""
    given: dict[str, Any] = vars(arguments)
    names = [name for name in SolveOptions.__annotations__ if given.get(name) is not None]
    options: SolveOptions = {}
    options.update({name: given[name] for name in names})  # type: ignore[typeddict-item]
    return options


def read_problem(argument: str) -> str:
    """The problem, or standard input for ``-``; raises :class:`InvalidArgumentError` if empty."""
    text = sys.stdin.read() if argument == "-" else argument
    if not text.strip():
        raise InvalidArgumentError("The problem is empty", param="problem")
    return text.strip("\n")


def parse_budget(text: str | None) -> BudgetValue | None:
    """A number becomes a ratio, ``{…}`` an object, all else a word: the server knows which."""
    if text is None:
        return None
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return float(text)
    if text.startswith("{"):
        try:
            value: dict[str, Any] = json.loads(text)
        except (ValueError, RecursionError):
            message = f"The budget is not JSON: {text[:80]!r}"
            raise InvalidArgumentError(message, param="budget") from None
        return value
    return text


def parse_budgets(text: str) -> list[BudgetValue | None]:
    """A comma-separated list, without doubles; raises :class:`InvalidArgumentError` if empty."""
    budgets: list[BudgetValue | None] = []
    for part in text.split(","):
        if part.strip() and (budget := parse_budget(part)) not in budgets:
            budgets.append(budget)
    if not budgets:
        raise InvalidArgumentError("No budget was given", param="budgets")
    return budgets


def server_budgets(client: Extracot) -> list[BudgetValue | None]:
    """The budgets worth comparing on this server."""
    try:
        page = client.budget_card()
    except NotFoundError:
        page = BudgetCardPage()
    return offered_budgets(page)


def offered_budgets(page: BudgetCardPage) -> list[BudgetValue | None]:
    """What a server offers: its levels, ``auto`` if its model was trained for that, native and
    none. A server without a card takes any ratio: the usual ones."""
    ratios = [level.ratio for level in page.levels if level.allowed_by_policy]
    budgets: list[BudgetValue | None] = [ratio for ratio in ratios if ratio is not None]
    if not page.levels:
        budgets = [*DEFAULT_RATIOS]
    if "auto" in page.allowed:
        budgets.append("auto")
    return [*budgets, "native", "none"]


def budgets_of(arguments: argparse.Namespace, client: Extracot) -> list[BudgetValue | None]:
    """``--budgets``, or what the server offers."""
    return parse_budgets(arguments.budgets) if arguments.budgets else server_budgets(client)


def print_json(value: object) -> None:
    """One JSON value and a line end on standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


class ReplyPrinter:
    """Writes a reply as it comes: reasoning dimmed, answer bright.

    Every piece is coloured by itself, so that an interruption never leaves a terminal dimmed.
    """

    def __init__(self, out: TextIO, *, show_reasoning: bool) -> None:
        self._out = out
        self._style = Style.of(out)
        self._terminal = is_terminal(out)
        self._show = show_reasoning
        self._in_reasoning = False
        self._at_start = True

    def show(self, event: Event) -> None:
        """Write what ``event`` brings."""
        match event:
            case ReasoningDelta(text) if self._show:
                self._in_reasoning = True
                self._write(text, self._style.dim)
            case AnswerDelta(text):
                if self._in_reasoning:
                    self._in_reasoning = False
                    self._out.write("\n" if self._at_start else "\n\n")
                self._write(text, self._style.bright)
            case _:
                return
        self._out.flush()

    def end(self) -> None:
        """Finish the last line."""
        if not self._at_start:
            self._out.write("\n")
            self._out.flush()

    def _write(self, text: str, colour: Any) -> None:
        if text:
            # Noted before it is written: Ctrl-C may come in between, and one line end too many
            # is better than none.
            self._at_start = text.endswith("\n")
            self._out.write(colour(printable(text) if self._terminal else text))
