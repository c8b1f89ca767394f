"""Tries a published folder as whoever loads it next would: card, tokenizer, renderer, files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from extracot.card import BudgetCard
from extracot.control import Control, ControlKind
from extracot.errors import ExtracotError
from extracot.prompt import Message, PromptRenderer, Role, ThinkTags
from extracot_training.errors import StageError
from extracot_training.policy.pretrained import load_tokenizer

QUESTION = "What is 12 * 3 + 4?"


class CheckError(StageError):
    """The published folder does not do what it should; nothing was put in place."""


def check_files(folder: Path) -> dict[str, Any]:
    """What was tried, for the report. Raises :class:`CheckError` in one line.

    The card loads and fits the tokenizer, the model has a row for every token, and the renderer
    makes a prompt for every level that ends as the level should.
    """
    try:
        card = BudgetCard.load(folder)
        tokenizer = load_tokenizer(str(folder))
        card.check_tokenizer(tokenizer)
        prompts = _prompts(card, tokenizer)
    except ExtracotError as error:
        raise CheckError(f"self-check: {error}") from error
    rows = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("vocab_size", 0)
    needed = max(tokenizer.get_vocab().values()) + 1
    if rows < needed:
        raise CheckError(f"self-check: the model has {rows} rows for {needed} tokens")
    return {
        "calibrated": card.is_calibrated,
        "vocabulary": {"tokens": needed, "rows": rows},
        "prompt_tokens": prompts,
    }


def _prompts(card: BudgetCard, tokenizer: Any) -> dict[str, int]:
    """Length of a prompt at every budget."""
    levels = [*card.levels, *([card.policy] if card.policy else [])]
    renderer = PromptRenderer(
        tokenizer,
        tags=ThinkTags(card.think_start, card.think_end),
        instruction=card.instruction,
        system_prompt=card.system_prompt,
        control_tokens=tuple(level.token for level in levels),
    )
    controls = {level.name: Control.level(level.token) for level in card.levels}
    if card.policy is not None:
        controls[card.policy.name] = Control.policy(card.policy.token)
    controls |= {"native": Control.native(), "none": Control.none()}
    ids = {level.name: level.token_id for level in levels}
    lengths: dict[str, int] = {}
    for name, control in controls.items():
        rendered = renderer.render([Message(Role.USER, QUESTION)], control)
        asked = ids.get(name)
        if asked is not None and asked not in rendered.prompt_ids:
            raise CheckError(f"self-check: the prompt of {name} lacks its control token")
        if control.kind is ControlKind.LEVEL and not rendered.in_reasoning:
            raise CheckError(f"self-check: the reply at {name} starts outside the think block")
        lengths[name] = len(rendered.token_ids)
    return lengths
