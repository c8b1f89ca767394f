"""A card without tokens, as ``extracot calibrate`` writes them, of the scripted model."""

from __future__ import annotations

from typing import Any

from extracot.card import BudgetCard, tokenizer_hash
from extracot_server.engine.scripted.tokenizer import ScriptedTokenizer

NATIVE = {"mean": 200.0, "p50": 190.0, "p90": 320.0}
SHORT = {"mean": 100.0, "p50": 90.0, "p90": 160.0}
RIGHT = {"mean": 0.8, "low": 0.7, "high": 0.9}


def level(name: str, mean: float, **fields: Any) -> dict[str, Any]:
    """One level; a cap of its name's ratio unless the fields say otherwise."""
    own = {"enforced_by": "cap", "ratio": float(name)} if "effort" not in fields else {}
    summary = {"mean": mean, "p10": 0.1, "p90": 1.5}
    return {"name": name, "realised": summary, "accuracy": RIGHT, "n": 60, **own, **fields}


def card_data(**changes: Any) -> dict[str, Any]:
    """The card as JSON data: short prompts up to 60 tokens, longer ones twice the reasoning."""
    bins = [
        {"max_prompt_tokens": limit, "n": 30, "reasoning": tokens, "answer": SHORT}
        for limit, tokens in ((60, SHORT), (None, NATIVE))
    ]
    levels = [
        level("0.2", 0.19),
        level("low", 0.3, enforced_by="effort", effort="low"),
        level("0.4", 0.38),
        level("0.6", 0.55, dominated_by="0.4"),
        level("1.0", 0.82),
    ]
    data = {
        "version": 1,
        "prompt_format": 1,
        "tokenizer_hash": tokenizer_hash(ScriptedTokenizer()),
        "base_model": "scripted",
        "model": "scripted",
        "instruction": "Think.",
        "levels": levels,
        "baseline": {"native": bins, "full": []},
        "native": {"n": 60, "reasoning": NATIVE, "accuracy": RIGHT, "reasoned": 1.0},
        "none": {
            "n": 60,
            "reasoning": {"mean": 0.0, "p50": 0.0, "p90": 0.0},
            "accuracy": RIGHT,
            "reasoned": 0.0,
        },
    }
    return {**data, **changes}


def card(**changes: Any) -> BudgetCard:
    """The card itself."""
    return BudgetCard.model_validate(card_data(**changes))
