"""Stage ``publish``: builds the folder beside its place, tries it, and puts it there at once.

Whatever happens before the last step, ``out`` is what it was: a kill leaves a hidden folder beside
it, which the next run removes. An existing folder is replaced only if this stage made it, and with
``--force`` if it was made otherwise.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from extracot_training.config.publish import PublishConfig
from extracot_training.errors import StageError
from extracot_training.evaluation.card_figures import REPORT_FILENAME, CardFigures
from extracot_training.pipeline.stage import (
    Manifest,
    StageResult,
    StageRun,
    Status,
    difference,
    now,
    planned_manifest,
)
from extracot_training.policy.pretrained import load_tokenizer
from extracot_training.policy.prompt_settings import RENDERER_FILENAME, PromptSettings
from extracot_training.stages.publish.card import make_card
from extracot_training.stages.publish.check import check_files
from extracot_training.stages.publish.lineage import base_model_of, data_sources, lineage
from extracot_training.stages.publish.readme import readme
from extracot_training.stages.publish.serving import check_serving
from extracot_training.stages.publish.weights import model_files, put_model, weights_hash


def run(config: PublishConfig, *, force: bool = False) -> StageResult:
    """Fill ``config.out``. Raises :class:`StageError` (no model, another checkpoint's evaluation, a
    folder that is not this stage's) and :class:`~extracot.errors.CardError` (levels whose realised
    ratios do not increase)."""
    files = model_files(config.model)
    inputs = dict(files)
    if config.evaluation is not None:
        inputs["evaluation"] = config.evaluation / REPORT_FILENAME
    if f"model/{RENDERER_FILENAME}" not in files:
        PromptSettings.load(config.model)  # says what is missing
    planned = planned_manifest("publish", config, inputs)
    out = config.out.absolute()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with _locked(out):
            found = _existing(out)
            if found is not None and not force:
                if change := difference(found, planned, PublishConfig):
                    raise StageError(f"{out}: made with other {change}; pass --force to replace it")
                return StageResult(Status.UP_TO_DATE, config.out, found.counts)
            scratch = Path(tempfile.mkdtemp(prefix=_prefix(out), dir=out.parent))
            try:
                counts = _build(config, files, planned, scratch)
                _put_in_place(scratch, out)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        detail = error.strerror or str(error)
        raise StageError(f"stage 'publish' in {config.out}: {detail}") from error
    return StageResult(Status.DONE, config.out, counts)


def _build(
    config: PublishConfig, files: Mapping[str, Path], planned: Manifest, folder: Path
) -> dict[str, Any]:
    """Everything, in a folder nobody looks at yet."""
    prompt = PromptSettings.load(config.model)
    figures = None if config.evaluation is None else CardFigures.load(config.evaluation)
    ancestors = lineage(config.model)
    base = config.base_model or base_model_of(ancestors) or "not recorded"
    own = ancestors[-1].manifest.git_revision if ancestors else None
    card = make_card(
        prompt,
        load_tokenizer(str(config.model)),
        figures,
        base_model=base,
        weights=weights_hash(planned.inputs),
        ancestors=ancestors,
        revision=own or planned.git_revision,
    )
    put_model(files, folder, dtype=config.dtype)
    card.save(folder)
    name = config.name or config.out.name
    page = readme(
        card,
        name=name,
        license=config.license,
        data=data_sources(ancestors),
        ancestors=ancestors,
    )
    (folder / "README.md").write_text(page, encoding="utf-8")
    checked: dict[str, Any] = {"files": check_files(folder), "served": None}
    if config.self_check == "vllm":
        checked["served"] = check_serving(folder, config.serve_arguments, config.serve_timeout_s)
    report = {
        "draft": figures is None,
        "weights": weights_hash(planned.inputs),
        "self_check": checked,
        "card": json.loads(card.model_dump_json()),
    }
    StageRun(folder, resumed=False).report(_report(config, report), report)
    counts = {"levels": len(card.levels), "draft": figures is None}
    planned.model_copy(update={"finished": now(), "counts": counts}).save(folder)
    folder.chmod(0o755)  # mkdtemp's 0700 would hide the model from another user's server
    return counts


def _report(config: PublishConfig, report: Mapping[str, Any]) -> str:
    check = report["self_check"]
    kind = "draft, nothing measured" if report["draft"] else f"measured by {config.evaluation}"
    lines = [
        "# Published",
        "",
        f"Card: {kind}. Files: the card fits the tokenizer and every budget renders "
        f"({', '.join(check['files']['prompt_tokens'])}).",
        "",
    ]
    if check["served"] is None:
        return "\n".join([*lines, "Not served: self_check was `files`.", ""])
    lines += ["Served once by vLLM:", "", "| budget | level | reasoning | answer | finish |"]
    lines += ["|---|---|---|---|---|"]
    lines += [
        f"| {name} | {reply['chosen'] or reply['control_token'] or ''} "
        f"| {reply['reasoning_tokens']} | {reply['answer_tokens']} | {reply['finish_reason']} |"
        for name, reply in check["served"].items()
    ]
    return "\n".join([*lines, ""])


def _existing(out: Path) -> Manifest | None:
    """What is at ``out`` already; :class:`StageError` if it is not this stage's to replace."""
    if not out.exists():
        return None
    if not out.is_dir():
        raise StageError(f"{out}: is a file; choose another `out`")
    found = Manifest.load(out)
    if found is None:
        if any(out.iterdir()):
            raise StageError(f"{out}: not empty and no published folder; choose another `out`")
        return None
    if found.stage != "publish":
        raise StageError(f"{out}: belongs to stage {found.stage!r}; choose another `out`")
    return found


def _put_in_place(made: Path, out: Path) -> None:
    """One rename; an older folder is first moved aside, under a name the next run removes."""
    if out.exists() and any(out.iterdir()):
        old = Path(tempfile.mkdtemp(prefix=_prefix(out), dir=out.parent))
        os.replace(out, old)
        os.replace(made, out)
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.replace(made, out)


def _prefix(out: Path) -> str:
    return f".{out.name}.publishing-"


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Hold the place, and clear up what killed runs left; the kernel lets go at any end.

    A run killed between its two renames leaves whole folders beside an empty place: one of them is
    put there.
    """
    with (out.parent / f".{out.name}.lock").open("ab") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StageError(f"{out}: another process is publishing there") from error
        for left in sorted(out.parent.glob(f"{_prefix(out)}*")):
            found = Manifest.load(left)
            if not out.exists() and found is not None and found.finished is not None:
                os.replace(left, out)
            else:
                shutil.rmtree(left, ignore_errors=True)
        yield
