"""The model card: ``README.md`` of a published folder. Says what was measured and what was not."""

from __future__ import annotations

import json
from collections.abc import Sequence

from extracot.card import BudgetCard, LevelCard
from extracot_training.pipeline.markdown import interval, table
from extracot_training.stages.publish.lineage import Ancestor, DataSource


def readme(
    card: BudgetCard,
    *,
    name: str,
    folder: str,
    license: str,
    data: Sequence[DataSource],
    ancestors: Sequence[Ancestor],
) -> str:
    """Markdown with a Hugging Face header."""
    return "\n".join(
        [
            *_header(card, license),
            f"# {name}",
            "",
            "A causal language model whose reasoning length is set per request. It was trained to "
            f"reason at {len(card.levels)} levels, each asked for by a control token"
            + (", and to pick a level itself (`auto`)." if card.policy else "."),
            "",
            f"Base model: {card.base_model}.",
            "",
            "## Levels",
            "",
            *_levels(card),
            "",
            *_use(card, name, folder),
            "",
            "## Training data",
            "",
            *_data(data),
            "",
            "## How it was made",
            "",
            *_provenance(card, ancestors),
            "",
        ]
    )


def _header(card: BudgetCard, license: str) -> list[str]:
    # JSON strings are YAML too, with whatever a name may hold quoted.
    lines = ["---", f"license: {json.dumps(license)}", "library_name: transformers"]
    lines += ["pipeline_tag: text-generation", "tags: [reasoning, token-budget, extracot]"]
    if not card.base_model.startswith("none") and ":" not in card.base_model:
        lines.append(f"base_model: {json.dumps(card.base_model)}")
    return [*lines, "---", ""]


def _levels(card: BudgetCard) -> list[str]:
    if not card.is_calibrated:
        return [
            "**Draft: nothing was measured.** The trained levels are "
            + ", ".join(f"`{level.token}` ({level.name})" for level in card.levels)
            + "; what they realise is not known."
        ]
    measured = card.levels[0]
    shown = [*card.levels, *([card.policy] if card.policy else [])]
    columns = "level | control token | realised ratio | p10 to p90 | accuracy | unclosed"
    numbers = sorted({level.n for level in shown if level.n is not None})
    many = " to ".join(map(str, dict.fromkeys(numbers[:1] + numbers[-1:]))) or "unstated"
    differ = " a level (those that were answered)" if len(numbers) > 1 else ""
    return [
        f"Measured on {measured.dataset}, {many} problems{differ}, "
        f"{json.dumps(card.sampling)}. The realised ratio is the level's reasoning tokens over "
        "those of level 1.0 on the same problems (ratio of sums; percentiles are over problems). "
        "Brackets are 95% bootstrap intervals.",
        "",
        *table(columns, map(_row, shown)),
    ]


def _row(level: LevelCard) -> str:
    ratio = spread = accuracy = unclosed = "not measured"
    if (realised := level.realised) is not None:
        ratio, spread = f"{realised.mean:.3f}", f"{realised.p10:.3f} to {realised.p90:.3f}"
    if (found := level.accuracy) is not None:
        accuracy = interval(dict(found))
    if level.unclosed_rate is not None:
        unclosed = f"{level.unclosed_rate:.3f}"
    return f"{level.name} | `{level.token}` | {ratio} | {spread} | {accuracy} | {unclosed}"


def _use(card: BudgetCard, name: str, folder: str) -> list[str]:
    dataset = card.levels[0].dataset
    known = f"like those of {dataset}" if dataset else "like those it was trained on"
    return [
        "## Use",
        "",
        "```bash",
        f"extracot-serve --model {folder}",
        "```",
        "",
        f"Then send an OpenAI chat request to `{name}` with `budget`: a number in (0, 1]"
        + (', `"auto"`' if card.policy else "")
        + ', `"native"` or `"none"`. `budget_card.json` tells the server which token stands for '
        "which level.",
        "",
        "Meant for short-answer reasoning problems whose final answer stands in `\\boxed{}`.",
        "",
        "## Limits",
        "",
        f"- The figures hold for problems {known}, with the card's system prompt, instruction and "
        "sampling; elsewhere levels may realise other ratios and accuracies.",
        "- A level is a target, not a ceiling: single replies differ (see the percentiles). For a "
        "ceiling use `max_reasoning_tokens`.",
        "- A shorter reasoning may drop steps that a reader would want; it is no full derivation.",
        "- Answers can be wrong at every level.",
    ]


def _data(data: Sequence[DataSource]) -> list[str]:
    if not data:
        return ["Not recorded beside this model."]
    rows = (
        f"{source.name} | {source.license or 'not stated'} "
        f"| {'yes' if source.synthetic else 'no, or in part'}"
        for source in data
    )
    return table("source | licence | synthetic", rows)


def _provenance(card: BudgetCard, ancestors: Sequence[Ancestor]) -> list[str]:
    if not ancestors:
        return ["The stages that made it are not recorded beside its weights."]
    revision = card.provenance.git_revision or "unknown"
    rows = (
        f"{one.name} | `{one.config_hash[:23]}` | {one.manifest.finished or 'not finished'}"
        for one in ancestors
    )
    head = f"Stages of `extracot-train` (revision {revision}):"
    return [head, "", *table("stage | settings | finished", rows)]
