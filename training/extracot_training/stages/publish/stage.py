"""Stage ``publish``: a folder to serve, checked before it appears.

Published again with an evaluation of it, the folder keeps its weights and gets a measured card.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from extracot.card import BudgetCard
from extracot_training.config.publish import PublishConfig
from extracot_training.evaluation.card import REPORT_FILENAME, CardFigures
from extracot_training.pipeline.files import write_atomic
from extracot_training.pipeline.markdown import table
from extracot_training.pipeline.replacing import replace_stage
from extracot_training.pipeline.settings import DifferenceSettings
from extracot_training.pipeline.stage import Counts, Manifest, StageResult, StageRun
from extracot_training.policy.model_folder import model_files, put_model, weights_hash
from extracot_training.policy.pretrained import load_tokenizer
from extracot_training.policy.prompt_settings import PromptSettings
from extracot_training.stages.publish.card import make_card
from extracot_training.stages.publish.check import check_files, check_serving
from extracot_training.stages.publish.difference import (
    MERGED,
    WHOLE,
    measure,
    merge,
    put_difference,
)
from extracot_training.stages.publish.lineage import (
    base_model_of,
    chooses_a_level,
    data_sources,
    lineage,
)
from extracot_training.stages.publish.readme import readme


def run(config: PublishConfig, *, force: bool = False) -> StageResult:
    """Fill ``config.out``. Raises :class:`StageError` (no model, another checkpoint's evaluation, a
    folder that is not this stage's) and :class:`~extracot.errors.CardError` (levels whose realised
    ratios do not increase)."""
    files = model_files(config.model)
    inputs = dict(files)
    if config.evaluation is not None:
        inputs["evaluation"] = config.evaluation / REPORT_FILENAME
    PromptSettings.load(config.model)  # says what is missing

    def work(stage: StageRun, planned: Manifest) -> Counts:
        told = config.difference
        if not stage.resumed:
            if told is None:
                put_model(files, stage.folder, dtype=config.dtype)
            else:
                put_difference(files, stage.folder, told, config.dtype)
        card = _write_card(config, planned, stage.folder)
        served = stage.folder if told is None else merge(stage.folder, told)
        checked: dict[str, Any] = {"files": check_files(served), "served": None}
        if config.self_check == "vllm":
            checked["served"] = check_serving(
                served, config.serve_arguments, config.serve_timeout_s
            )
        draft = config.evaluation is None
        report = {
            "draft": draft,
            "difference": None if told is None else _measured(stage, config, told),
            "weights": weights_hash(planned.inputs),
            "self_check": checked,
            "card": json.loads(card.model_dump_json()),
        }
        stage.report(_report(config, report), report)
        return {"levels": len(card.levels), "draft": draft}

    def lacking(folder: Path) -> bool:
        report = json.loads((folder / REPORT_FILENAME).read_text(encoding="utf-8"))
        return config.self_check == "vllm" and report["self_check"]["served"] is None

    later = {"evaluation"}
    return replace_stage("publish", config, inputs, work, force=force, later=later, lacking=lacking)


def _measured(stage: StageRun, config: PublishConfig, told: DifferenceSettings) -> dict[str, Any]:
    """What the difference costs; a folder that only got a card keeps what was measured. Removes
    the folders that were compared."""
    if stage.resumed:
        report = json.loads((stage.folder / REPORT_FILENAME).read_text(encoding="utf-8"))
        found: dict[str, Any] = report["difference"]
    else:
        found = measure(stage.folder, config, told)
    for name in (WHOLE, MERGED):
        shutil.rmtree(stage.folder / name, ignore_errors=True)
    return found


def _write_card(config: PublishConfig, planned: Manifest, folder: Path) -> BudgetCard:
    """The budget card and the model card."""
    ancestors = lineage(config.model)
    own = ancestors[-1].manifest.git_revision if ancestors else None
    prompt = PromptSettings.load(config.model)
    if prompt.policy and not chooses_a_level(ancestors):
        prompt = prompt.model_copy(update={"policy": False})
    card = make_card(
        prompt,
        load_tokenizer(str(config.model)),
        None if config.evaluation is None else CardFigures.load(config.evaluation),
        base_model=config.base_model or base_model_of(ancestors) or "not recorded",
        model=config.name,
        weights=weights_hash(planned.inputs),
        ancestors=ancestors,
        revision=own or planned.git_revision,
        domain=config.domain,
        examples=config.examples,
    )
    card.save(folder)
    page = readme(
        card,
        name=config.name or config.out.name,
        folder=config.out.name,
        license=config.license,
        data=data_sources(ancestors),
        ancestors=ancestors,
    )
    write_atomic(folder / "README.md", page)
    return card


def _report(config: PublishConfig, report: Mapping[str, Any]) -> str:
    check = report["self_check"]
    kind = "draft, nothing measured" if report["draft"] else f"measured by {config.evaluation}"
    lines = [
        "# Published",
        "",
        f"Card: {kind}. Files: the card fits the tokenizer and every budget renders "
        f"({', '.join(check['files']['prompt_tokens'])}).",
        "",
        *_difference_lines(report["difference"]),
    ]
    if check["served"] is None:
        return "\n".join([*lines, "Not served: self_check was `files`.", ""])
    rows = (
        f"{name} | {reply['chosen'] or reply['control_token'] or ''} "
        f"| {reply['reasoning_tokens']} | {reply['answer_tokens']} | {reply['finish_reason']}"
        for name, reply in check["served"].items()
    )
    served = table("budget | level | reasoning | answer | finish", rows)
    return "\n".join([*lines, "Served once by vLLM:", "", *served, ""])


def _difference_lines(found: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        return []
    lost = found["lost"]
    lines = [
        f"Told as a difference: {found['bytes'] / 1e6:.1f} MB in place of "
        f"{found['merged_bytes'] / 1e6:.1f}. Of what {found['changed_tensors']} tensors learnt, "
        f"{lost['mean']:.2%} is lost on average"
        + "".join(f", {share:.2%} of {name}" for name, share in [*lost["largest"].items()][:1])
        + " (norm of the error over that of the change)."
    ]
    if (rows := found["rows"]) is not None:
        lines += [
            f"On {rows['rows']} rows ({rows['tokens']} tokens of replies): loss "
            f"{rows['loss']['before']:.4f} before and {rows['loss']['after']:.4f} after, "
            f"KL divergence {rows['kl']:.5f}, the same likeliest token {rows['same']:.2%}."
        ]
    return [*lines, ""]
