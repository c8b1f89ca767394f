"""Checks a published folder the way a server loads it: card, tokenizer, renderer, files.

And serves it once with ``extracot-serve``, a process of its own that it meets over HTTP only, and
asks for every budget of the card. That needs vLLM and the server's packages.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from extracot.card import BudgetCard
from extracot.control import Control, ControlKind
from extracot.errors import ExtracotError
from extracot.prompt import Message, PromptRenderer, Role, ThinkTags
from extracot_training.errors import StageError
from extracot_training.evaluation.serving import UNNAMED, ServingError, lacking, served
from extracot_training.policy.pretrained import load_tokenizer

QUESTION = "What is 12 * 3 + 4?"
_TOKENS = 48


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
        control_tokens=tuple(level.control()[0] for level in levels),
    )
    controls = {level.name: Control.level(level.control()[0]) for level in card.levels}
    if card.policy is not None:
        controls[card.policy.name] = Control.policy(card.policy.control()[0])
    controls |= {"native": Control.native(), "none": Control.none()}
    ids = {level.name: level.control()[1] for level in levels}
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


def check_serving(folder: Path, arguments: Sequence[str], timeout_s: float) -> dict[str, Any]:
    """Start the server on ``folder``, ask once per level, auto and native; figures per budget.

    Raises :class:`CheckError` in one line: vLLM is missing, the server does not start, a reply is
    not served by the level that was asked for.
    """
    if package := lacking():
        raise CheckError(f"self_check vllm needs the package {package}; or set it to files")
    card = BudgetCard.load(folder)
    try:
        with served(folder, arguments, timeout_s) as url:
            return ask_every(card, url, timeout_s)
    except ServingError as error:
        raise CheckError(f"self-check: {error}") from None


def ask_every(card: BudgetCard, url: str, timeout_s: float) -> dict[str, Any]:
    """One request per level of the card, auto and native. Raises :class:`CheckError`."""
    budgets: dict[str, float | str] = {
        level.name: (level.realised.mean if level.realised else level.ratio or 0.0)
        for level in card.levels
    }
    budgets |= {"auto": "auto"} if card.policy is not None else {}
    budgets["native"] = "native"
    with httpx.Client(base_url=url, timeout=timeout_s, trust_env=False) as client:
        model = card.model or UNNAMED
        return {name: _ask(client, model, name, budget) for name, budget in budgets.items()}


def _ask(client: httpx.Client, model: str, name: str, budget: float | str) -> dict[str, Any]:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": QUESTION}],
        "budget": budget,
        "max_tokens": _TOKENS,
        "seed": 1,
    }
    try:
        response = client.post("/v1/chat/completions", json=body)
    except httpx.HTTPError as error:
        raise CheckError(f"self-check: {name}: {type(error).__name__} {error}") from error
    if response.status_code != 200:
        raise CheckError(f"self-check: {name}: HTTP {response.status_code}: {response.text[:300]}")
    reply = response.json()
    report = reply["budget"]
    if report["level"] != name:
        raise CheckError(f"self-check: asked for {name}, served {report['level']}")
    kept = ("chosen", "control_token", "calibrated", "reasoning_tokens", "answer_tokens")
    return {
        **{key: report[key] for key in kept},
        "completion_tokens": reply["usage"]["completion_tokens"],
        "finish_reason": reply["choices"][0]["finish_reason"],
    }
