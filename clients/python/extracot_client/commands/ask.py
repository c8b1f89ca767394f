"""``extracot ask``: one problem, streamed; answer on standard output, summary on standard error."""

from __future__ import annotations

import argparse
import sys

from extracot_client.commands.common import (
    make_client,
    note,
    options_of,
    parse_budget,
    print_json,
    print_reply,
    read_problem,
)
from extracot_client.formatting import summary_line
from extracot_client.terminal import is_terminal


def run(arguments: argparse.Namespace) -> int:
    """Ask and print; errors are raised to the command."""
    problem = read_problem(arguments.problem)
    budget = parse_budget(arguments.budget)
    shown = arguments.reasoning == "show"
    if arguments.reasoning == "auto":
        shown = is_terminal(sys.stdout)
    with (
        make_client(arguments) as client,
        client.stream(problem, budget=budget, **options_of(arguments)) as stream,
    ):
        if arguments.json:
            print_json(stream.result().to_dict())
            return 0
        print_reply(stream, show_reasoning=shown)
        if not arguments.quiet:
            note(summary_line(stream.result()))
    return 0
