"""``extracot card``: a model's levels, trained or measured, and what they realise on average."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from extracot_client.commands.common import make_client, print_json
from extracot_client.formatting import baseline_words, cap_words, holdout_words, percent
from extracot_client.terminal import Style, printable, table
from extracot_client.types import BudgetCardPage, LevelInfo, number_at, value_at


def run(arguments: argparse.Namespace) -> int:
    """Print card and policy."""
    with make_client(arguments) as client:
        page = client.budget_card()
    if arguments.json:
        print_json(page.model_dump(mode="json"))
        return 0
    style = Style.of(sys.stdout)
    print(style.bright(printable(f"{page.model or 'the model'}: {page.mode or 'unknown'} mode")))
    if page.levels:
        head = ("level", "by", "ratio", "expected", "accuracy", "n", "allowed", "")
        print(table(head, [_cells(level, page) for level in page.levels], style, left=2))
    else:
        print(printable(f"no budget card: {cap_words(page)}"))
    for name, text in _known(page.card):
        print(style.dim(f"{name}: ") + printable(text))
    for name, value in (("allowed", page.allowed), ("policy", page.policy)):
        if value:
            print(style.dim(f"{name}: ") + printable(_words(value)))
    print(style.dim("baseline: ") + printable(baseline_words(page)))
    if (saving := holdout_words(page)) is not None:
        print(style.dim("measured saving: ") + printable(saving))
    return 0


def _known(card: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    """What the model has learnt, a question for it, and of which prompts the card speaks."""
    if isinstance(domain := value_at(card, "domain"), str):
        yield "knows", domain
    examples = value_at(card, "examples")
    if isinstance(examples, list) and examples:
        yield "for example", str(examples[0])
    low, high = (number_at(card, "prompts", f"{end}_characters") for end in ("min", "max"))
    if low is not None and high is not None:
        yield "speaks of", f"prompts in its problems' words, of {low:.0f} to {high:.0f} characters"


def _cells(level: LevelInfo, page: BudgetCardPage) -> list[str]:
    levels = value_at(page.card, "levels") or []
    on_card = next((entry for entry in levels if value_at(entry, "name") == level.name), None)
    return [
        level.name,
        level.control_token or level.effort or level.enforced_by or "–",
        "–" if level.ratio is None else f"{level.ratio:g}",
        "–" if level.expected_ratio is None else f"{level.expected_ratio:.2f}",
        percent(number_at(on_card, "accuracy", "mean")),
        str(value_at(on_card, "n") or "–"),
        "yes" if level.allowed_by_policy else "no",
        f"dominated by {level.dominated_by}" if level.dominated_by else "",
    ]


def _words(value: Any) -> str:
    if not isinstance(value, dict):
        return ", ".join(str(part) for part in value)
    return ", ".join(
        f"{name} ({_words(part)})" if isinstance(part, dict) else f"{name} {part}"
        for name, part in value.items()
        if part is not None
    )
