"""Loads the policy model and its tokenizer, ready for control tokens.

From a stage folder, any other Hugging Face folder, a hub name, or ``bundled:smollm2``. What later
stages load (sft, chrpo) already knows the tokens: then nothing is added and no row is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from extracot.errors import ControlTokenError
from extracot_training.errors import StageError
from extracot_training.policy.control_tokens import (
    ControlTokens,
    grow_embeddings,
    prepare_tokenizer,
    seed_words,
)
from extracot_training.policy.mixed_rows import MixedRow
from extracot_training.policy.pretrained import PretrainedError, load_tokenizer, open_causal_lm
from extracot_training.policy.prompt_settings import PromptSettings

SDPA = "sdpa"


def load_policy_tokenizer(name: str, prompt: PromptSettings) -> tuple[Any, ControlTokens]:
    """The tokenizer with every token that ``prompt`` names, and their ids.

    Raises :class:`PretrainedError` if it can't be loaded or has no end token, and
    :class:`ControlTokenError` if a token is not one id.
    """
    tokenizer = load_tokenizer(name)
    if tokenizer.eos_token_id is None:
        raise PretrainedError(f"tokenizer {name!r} has no end token to close a reply with")
    tokens = prepare_tokenizer(
        tokenizer,
        prompt.ratios,
        policy=prompt.policy,
        think=(prompt.think_start, prompt.think_end),
    )
    return tokenizer, tokens


def load_policy_model(
    name: str,
    prompt: PromptSettings,
    *,
    seed: int,
    dtype: str = "float32",
    attention: str = SDPA,
    words: bool = False,
) -> tuple[Any, Any, ControlTokens]:
    """``(model, tokenizer, tokens)``: a trainable causal model, in training mode, on the CPU.

    Rows of tokens that the model did not know are initialised from ``seed``, around those of
    ``words`` or around the mean. Raises what :func:`load_policy_tokenizer` raises.
    """
    import torch

    tokenizer, tokens = load_policy_tokenizer(name, prompt)
    # Without being asked the library takes sdpa too, and eager where a model has no other.
    asked = {} if attention == SDPA else {"attn_implementation": attention}
    model = open_causal_lm(name, dtype=getattr(torch, dtype), **asked)
    like = seed_words(tokens, prompt.ratios) if words else None
    grow_embeddings(model, tokenizer, tokens.added, seed=seed, words=like)
    return model.train(), tokenizer, tokens


def check_same_tokenizer(first: Any, second: Any, *, what: str) -> None:
    """Raise :class:`ControlTokenError` unless both know the same tokens by the same ids."""
    one, two = first.get_vocab(), second.get_vocab()
    if one == two:
        return
    differing = sorted(t for t in one.keys() | two.keys() if one.get(t) != two.get(t))
    raise ControlTokenError(
        f"{what}: {len(differing)} tokens differ, the first is {differing[0]!r} "
        f"(ids {one.get(differing[0])} and {two.get(differing[0])})"
    )


def check_mixed_rows(
    folder: Path,
    rows: Sequence[MixedRow],
    prompt: PromptSettings,
    tokenizer: Any,
    tokens: ControlTokens,
    *,
    model: str,
) -> None:
    """Raise unless ``rows`` of stage mix's ``folder`` are for this very tokenizer.

    :class:`ControlTokenError` for another tokenizer, :class:`StageError` for a row that does not
    fit: every id has to be known, and a level's or policy row's reply begins with its level token.
    """
    mixed = load_tokenizer(str(folder / "tokenizer"))
    check_same_tokenizer(mixed, tokenizer, what=f"{folder} and {model}")
    first = dict(zip(prompt.ratios, tokens.levels, strict=True))
    known = len(tokenizer)
    for row in rows:
        largest = max(max(row.prompt_ids), max(row.reply_ids))
        if largest >= known:
            raise StageError(f"row {row.key}: id {largest}, but the model has {known} tokens")
        if row.level is not None and row.level not in first:
            raise StageError(f"row {row.key}: level {row.level:g} is not in renderer.json")
        if row.level is not None and row.reply_ids[0] != first[row.level]:
            raise StageError(
                f"row {row.key}: its reply begins with id {row.reply_ids[0]}, "
                f"not with level {row.level:g}'s {first[row.level]}"
            )
