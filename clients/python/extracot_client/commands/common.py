"""What the subcommands share: from parsed arguments to a client, options, budgets and a problem."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from extracot.control import DEFAULT_RATIOS
from extracot_client.client import Extracot
from extracot_client.errors import InvalidArgumentError, NotFoundError
from extracot_client.problem_files import read_problems
from extracot_client.requests import SolveOptions
from extracot_client.sweeps import SweepProblem
from extracot_client.terminal import Style, is_terminal, printable
from extracot_client.types import AnswerDelta, Budget, BudgetCardPage, Event, ReasoningDelta

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


def check_files(arguments: argparse.Namespace, *options: str, read: str | None = None) -> None:
    """Refuse now what could not be written after hours of asking, or over the file that is read."""
    seen = {Path(read).resolve()} if read not in (None, "-") else set()
    for option in options:
        if not (name := getattr(arguments, option)):
            continue
        path = Path(name).resolve()
        if path.is_dir() or not path.parent.is_dir() or not _writable(path):
            raise InvalidArgumentError(
                f"--{option} {name}: no file can be written there", param=option
            )
        if path in seen:
            raise InvalidArgumentError(f"--{option} {name}: named twice", param=option)
        seen.add(path)


def _writable(path: Path) -> bool:
    """Whether a file can be made beside it, as one is that takes its place when it is whole."""
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            return not path.exists() or os.access(path, os.W_OK)
    except OSError:
        return False


def read_problems_of(name: str, limit: int | None) -> list[SweepProblem]:
    """The first problems of a file, or of standard input for ``-``."""
    if limit is not None and limit < 1:
        raise InvalidArgumentError("--limit is 1 or more", param="limit")
    if name == "-":
        return read_problems(sys.stdin, "standard input", as_csv=False)[:limit]
    with open(name, encoding="utf-8-sig", newline="") as stream:
        return read_problems(stream, name, as_csv=name.lower().endswith(".csv"))[:limit]


def parse_budget(text: str | None) -> Budget:
    """A number becomes a ratio, ``{…}`` an object, all else a word for the server to check."""
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


def parse_budgets(text: str) -> list[Budget]:
    """A comma-separated list, without doubles; raises :class:`InvalidArgumentError` if empty."""
    budgets: list[Budget] = []
    for part in _apart(text):
        if part.strip() and (budget := parse_budget(part)) not in budgets:
            budgets.append(budget)
    if not budgets:
        raise InvalidArgumentError("No budget was given", param="budgets")
    return budgets


def _apart(text: str) -> Iterator[str]:
    """What commas part, but not those of an object."""
    held: list[str] = []
    for part in text.split(","):
        held.append(part)
        whole = ",".join(held).strip()
        if not whole.startswith("{") or _is_json(whole):
            yield whole
            held = []
    yield ",".join(held)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def offered_budgets(page: BudgetCardPage) -> list[Budget]:
    """What a server offers: its levels, ``auto`` if its model was trained for that, native, and
    none unless it says that it cannot. A server without a card takes any ratio: the usual ones."""
    ratios = [
        level.ratio
        for level in page.levels
        if level.allowed_by_policy and level.dominated_by is None
    ]
    budgets: list[Budget] = [ratio for ratio in ratios if ratio is not None]
    if not page.levels:
        budgets = [*DEFAULT_RATIOS]
    if "auto" in page.allowed:
        budgets.append("auto")
    budgets.append("native")
    return [*budgets, "none"] if "none" in page.allowed or not page.allowed else budgets


def budgets_of(arguments: argparse.Namespace, client: Extracot) -> list[Budget]:
    """``--budgets``, or what the server offers."""
    if arguments.budgets:
        return parse_budgets(arguments.budgets)
    try:
        return offered_budgets(client.budget_card())
    except NotFoundError:  # another OpenAI-compatible server
        return offered_budgets(BudgetCardPage())


def print_json(value: object) -> None:
    """One JSON value and a line end on standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def note(text: str, *, bad: bool = False) -> None:
    """A line on standard error, beside the output."""
    style = Style.of(sys.stderr)
    line = printable(text)
    sys.stderr.write((style.bad(line) if bad else style.dim(line)) + "\n")
    sys.stderr.flush()


def print_reply(events: Iterable[Event], *, show_reasoning: bool) -> None:
    """Write a reply to standard output as it comes: reasoning dimmed, answer bright.

    Every piece is coloured by itself, so that an interruption never leaves a terminal dimmed.
    """
    out, style, terminal = sys.stdout, Style.of(sys.stdout), is_terminal(sys.stdout)
    in_reasoning, at_start = False, True
    try:
        for event in events:
            match event:
                case ReasoningDelta(text) if show_reasoning:
                    in_reasoning, colour = True, style.dim
                case AnswerDelta(text):
                    if in_reasoning:
                        out.write("\n" if at_start else "\n\n")
                    in_reasoning, colour = False, style.bright
                case _:
                    continue
            if text:
                # Noted before it is written: Ctrl-C may come in between, and one line end too
                # many is better than none.
                at_start = text.endswith("\n")
                out.write(colour(printable(text) if terminal else text))
            out.flush()
    finally:
        if not at_start:
            out.write("\n")
            out.flush()
