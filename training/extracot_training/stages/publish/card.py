"""Fills a budget card from a checkpoint's prompt settings, its tokenizer and an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from extracot.card import BudgetCard, LevelCard, Provenance, tokenizer_hash
from extracot.control import POLICY_TOKEN, level_token
from extracot.errors import CardError
from extracot_training.errors import StageError
from extracot_training.evaluation.card import CardFigures
from extracot_training.pipeline.records import first_problem
from extracot_training.policy.control_tokens import single_id
from extracot_training.policy.prompt_settings import PromptSettings
from extracot_training.stages.publish.lineage import Ancestor

AUTO = "auto"


def make_card(
    prompt: PromptSettings,
    tokenizer: Any,
    figures: CardFigures | None,
    *,
    base_model: str,
    model: str | None,
    weights: str,
    ancestors: Sequence[Ancestor],
    revision: str | None,
    domain: str | None = None,
    examples: Sequence[str] = (),
) -> BudgetCard:
    """The card; a draft without ``figures``.

    Raises :class:`StageError` if the figures are of another checkpoint or lack a level,
    :class:`~extracot.errors.CardError` if realised ratios do not increase, and
    :class:`~extracot.errors.ControlTokenError` if a control token is not one id.
    """
    hash_ = tokenizer_hash(tokenizer)
    if figures is not None and figures.tokenizer_hash not in (None, hash_):
        raise StageError("the evaluation is of another checkpoint: its tokenizer differs")
    if figures is not None and figures.weights not in (None, weights):
        raise StageError("the evaluation is of another checkpoint: its weights differ")
    levels = [_level(str(r), level_token(r), r, tokenizer, figures) for r in prompt.ratios]
    policy = _level(AUTO, POLICY_TOKEN, None, tokenizer, figures) if prompt.policy else None
    told = prompt.model_dump(include={"system_prompt", "instruction", "think_start", "think_end"})
    try:
        card = BudgetCard(
            tokenizer_hash=hash_,
            base_model=base_model,
            model=model,
            **told,
            domain=domain,
            examples=list(examples),
            sampling={} if figures is None else {**figures.sampling, "samples": figures.samples},
            levels=levels,
            policy=policy,
            baseline=None if figures is None else figures.baseline,
            prompts=None if figures is None else figures.prompts,
            provenance=Provenance.model_validate(
                {
                    "stages": [ancestor.name for ancestor in ancestors],
                    "config_hashes": {a.name: a.config_hash for a in ancestors},
                    "git_revision": revision,
                    "weights": weights,
                }
            ),
        )
    except ValidationError as error:
        field, message = first_problem(error)
        raise CardError(message, field=field) from error
    if figures is not None:
        card.check_increasing()
    return card


def _level(
    name: str, token: str, ratio: float | None, tokenizer: Any, figures: CardFigures | None
) -> LevelCard:
    """A level, or the policy, which has no ratio and may be unmeasured."""
    measured: dict[str, Any] = {}
    if figures is not None:
        found = figures.policy if ratio is None else figures.levels.get(name)
        if found is not None:
            measured = {**dict(found), "dataset": figures.dataset}
        elif ratio is not None:
            known = ", ".join(figures.levels) or "none"
            raise StageError(f"the evaluation lacks level {name}; it has: {known}")
    id_ = single_id(tokenizer, token)
    return LevelCard(name=name, token=token, token_id=id_, ratio=ratio, **measured)
