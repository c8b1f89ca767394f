"""``extracot models``: the served models and their aliases."""

from __future__ import annotations

import argparse
import sys

from extracot_client.base import base_models
from extracot_client.commands.common import make_client, print_json
from extracot_client.terminal import Style, table
from extracot_client.types import value_at


def run(arguments: argparse.Namespace) -> int:
    """Print the list."""
    with make_client(arguments) as client:
        models = client.models()
    if arguments.json:
        print_json([model.model_dump(mode="json") for model in models])
        return 0
    style = Style.of(sys.stdout)
    names, rows = base_models(models), []
    for name, known in ((model.id, model.model_extra) for model in models if model.id in names):
        mode, context = value_at(known, "budget", "mode"), value_at(known, "max_model_len")
        aliases = [other.id for other in models if value_at(other.model_extra, "parent") == name]
        short = ", ".join(alias.removeprefix(name) for alias in aliases)
        rows.append([name, str(mode or "–"), str(context or "–"), short or "–"])
    print(table(("model", "mode", "context", "aliases"), rows, style, left=2))
    return 0
