"""Stage ``sft``: completion-only fine-tuning with TRL, in full or by LoRA.

The rows are token ids already, rendered by stage ``mix``; nothing is tokenised or cut here. What
comes out is a Hugging Face model folder with ``renderer.json``. Distribution over devices is
accelerate's: ``accelerate launch -m extracot_training.cli sft …``.
"""

from __future__ import annotations

from typing import Any

from extracot_training.config.sft import SftConfig
from extracot_training.errors import StageError
from extracot_training.pipeline.checkpoints import LOG
from extracot_training.pipeline.distributed import is_first
from extracot_training.pipeline.records import read_rows, rows_file
from extracot_training.pipeline.stage import Counts, StageResult, StageRun
from extracot_training.policy.loading import check_mixed_rows
from extracot_training.policy.mixed_rows import MixedRow
from extracot_training.policy.prompt_settings import RENDERER_FILENAME, PromptSettings
from extracot_training.policy.trainer import load_for, run_training
from extracot_training.stages.sft.fit import fit


def run(config: SftConfig, *, force: bool = False) -> StageResult:
    """Stage ``sft``."""
    inputs = {
        "rows": rows_file(config.input),
        "renderer": config.input / RENDERER_FILENAME,
        "tokenizer": config.input / "tokenizer" / "tokenizer.json",
    }
    return run_training("sft", config, inputs, lambda stage: _work(config, stage), force=force)


def _work(config: SftConfig, stage: StageRun) -> Counts:
    prompt = PromptSettings.load(config.input)
    every = list(read_rows(config.input, MixedRow))
    rows = [row for row in every if row.length <= config.cutoff]
    if not rows:
        raise StageError(f"{config.input}: no row of at most {config.cutoff} tokens")
    model, tokenizer, tokens = load_for(config, prompt)
    check_mixed_rows(config.input, rows, prompt, tokenizer, tokens, model=config.model)
    figures = fit(config, stage.folder, rows, model, tokenizer, tokens)
    figures |= {"rows": len(rows), "over_cutoff": len(every) - len(rows)}
    if is_first():
        prompt.save(stage.folder)
        stage.report(_report(config, figures), figures)
    return figures


def _report(config: SftConfig, figures: dict[str, Any]) -> str:
    kind = "all weights" if config.lora is None else f"LoRA of rank {config.lora.rank}"
    loss = figures["final_loss"]
    return (
        "# Fine-tuning on the mixture\n\n"
        f"{figures['rows']} rows ({figures['over_cutoff']} over {config.cutoff} tokens left out), "
        f"{figures['steps']} steps, {kind}, {figures['trained_parameters']:,} trained of "
        f"{figures['parameters']:,}. Mean loss of the last log lines: "
        f"{'none' if loss is None else f'{loss:.4f}'}. The course is in `{LOG}`.\n"
    )
