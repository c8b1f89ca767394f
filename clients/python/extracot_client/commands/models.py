"""``extracot models``: what the server serves, and under which names."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from extracot_client.commands.common import make_client, print_json
from extracot_client.exchange import base_models
from extracot_client.terminal import Style, table
from extracot_client.types import ModelInfo


def run(arguments: argparse.Namespace) -> int:
    """Print the list."""
    with make_client(arguments) as client:
        models = client.models()
    if arguments.json:
        print_json([model.model_dump(mode="json") for model in models])
        return 0
    style = Style.of(sys.stdout)
    names = base_models(models)
    bases = [model for model in models if model.id in names]
    rows = [
        [
            model.id,
            str(_budget(model, "mode") or "–"),
            str(_extra(model, "max_model_len") or "–"),
            ", ".join(alias.removeprefix(model.id) for alias in _aliases(model, models)) or "–",
        ]
        for model in bases
    ]
    print(table(("model", "mode", "context", "aliases"), rows, style, left=2))
    return 0


def _extra(model: ModelInfo, name: str) -> object:
    return (model.model_extra or {}).get(name)


def _budget(model: ModelInfo, name: str) -> object:
    budget = _extra(model, "budget")
    return budget.get(name) if isinstance(budget, dict) else None


def _aliases(model: ModelInfo, models: Sequence[ModelInfo]) -> list[str]:
    return [other.id for other in models if _extra(other, "parent") == model.id]
