"""``extracot ask``: one problem, streamed; the answer on standard output, the receipt beside it."""

from __future__ import annotations

import argparse
import sys

from extracot_client.commands.common import (
    ReplyPrinter,
    make_client,
    options_of,
    parse_budget,
    print_json,
    read_problem,
)
from extracot_client.receipts import receipt
from extracot_client.terminal import Style, is_terminal, printable


def run(arguments: argparse.Namespace) -> int:
    """Ask and print; errors are raised to the command."""
    problem = read_problem(arguments.problem)
    budget = parse_budget(arguments.budget)
    shown = arguments.reasoning == "show"
    if arguments.reasoning == "auto":
        shown = is_terminal(sys.stdout)
    printer = ReplyPrinter(sys.stdout, show_reasoning=shown)
    with (
        make_client(arguments) as client,
        client.stream(problem, budget=budget, **options_of(arguments)) as stream,
    ):
        if arguments.json:
            print_json(stream.result().to_dict())
            return 0
        try:
            for event in stream:
                printer.show(event)
        finally:
            printer.end()
        if not arguments.quiet:
            line = printable(receipt(stream.result()))
            sys.stderr.write(Style.of(sys.stderr).dim(line) + "\n")
    return 0
