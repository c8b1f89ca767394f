"""Stage ``compressor``: fine-tunes an encoder to tell which tokens of a trace to keep.

The Hugging Face Trainer does the work, so ``accelerate launch`` and its DDP or FSDP settings apply
unchanged. Early stopping on macro-F1; a cut run goes on from its last checkpoint.
"""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Sequence
from typing import Any, TypedDict

import torch
from torch import Tensor
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainingArguments

from extracot_training.compression.encoding import (
    Layout,
    WindowEncoder,
    token_labels,
    window_labels,
)
from extracot_training.compression.model import (
    CompressorCard,
    check_length,
    new_model,
    pad_batch,
    save_compressor,
)
from extracot_training.config.compressor import CompressorConfig
from extracot_training.errors import StageError
from extracot_training.pipeline.checkpoints import CHECKPOINTS
from extracot_training.pipeline.records import Annotation, read_rows, rows_file
from extracot_training.pipeline.stage import Counts, StageResult, StageRun, run_stage
from extracot_training.policy.model_inputs import model_inputs
from extracot_training.policy.pretrained import load_tokenizer, pad_id
from extracot_training.policy.trainer import StepProgress, WholeCheckpoints, train
from extracot_training.stages.compressor import steps
from extracot_training.stages.compressor.loss import class_weights, f1_scores, loss_function
from extracot_training.stages.compressor.splitting import held_out


class _Row(TypedDict):
    """A window; the Trainer groups by the length of ``input_ids``, so it must be so called."""

    input_ids: tuple[int, ...]
    kinds: tuple[int, ...]
    offset: int
    labels: list[int]


def run(config: CompressorConfig, *, force: bool = False) -> StageResult:
    """Stage ``compressor``."""
    inputs = {"annotations": rows_file(config.input)} | model_inputs(config.encoder, "encoder")
    if config.strategy == "steps":
        for number, files in enumerate(config.marked):
            inputs[f"traces{number}"] = files.traces
            inputs |= {f"marks{number}.{i}": path for i, path in enumerate(files.marks)}
        return run_stage(
            "compressor", config, inputs, lambda stage: steps.work(config, stage), force=force
        )
    return run_stage("compressor", config, inputs, lambda stage: _work(config, stage), force=force)


def _work(config: CompressorConfig, stage: StageRun) -> Counts:
    if config.threads:
        torch.set_num_threads(config.threads)
    tokenizer = load_tokenizer(config.encoder)
    torch.manual_seed(config.seed)
    model = new_model(
        config.encoder, config.adapter, layers=config.layers,
        attention_dropout=config.attention_dropout,
    )  # fmt: skip
    check_length(config.length, model)
    layout = Layout(config.length, config.question, config.overlap, config.asking)
    rows, dev = _datasets(config, WindowEncoder(tokenizer, layout))
    counts = [sum(row["labels"].count(value) for row in rows) for value in (0, 1)]
    if not all(counts):
        raise StageError(f"{config.input}: every token is labelled alike; nothing to learn")
    trainer = _trainer(config, stage, model, pad_id(tokenizer), rows, dev, counts)
    train(trainer, stage.folder)
    figures = _figures(trainer.evaluate())
    if not trainer.is_world_process_zero():
        return figures
    card = CompressorCard(
        layers=config.layers,
        encoder=config.encoder,
        weights="adapter" if config.adapter else "whole",
        length=config.length,
        question=config.question,
        overlap=config.overlap,
        asking=config.asking,
        trained_on=f"{len(rows)} windows, annotations {config.input.name}",
    )
    save_compressor(trainer.model, tokenizer, card, stage.folder)
    figures = {**figures, "windows": len(rows), "dev_windows": len(dev), "kept_tokens": counts[1]}
    stage.report(_report(config, figures, counts, trainer.state.log_history), figures)
    shutil.rmtree(stage.folder / CHECKPOINTS, ignore_errors=True)
    return figures


def _datasets(config: CompressorConfig, encoder: WindowEncoder) -> tuple[list[_Row], list[_Row]]:
    """Training and held-out windows; a problem's samples all fall on one side."""
    train: list[_Row] = []
    dev: list[_Row] = []
    for row in read_rows(config.input, Annotation):
        encoded = encoder.encode(row.question, row.reasoning, overlap=0.0)
        labels = token_labels(encoded.spans, row.keep)
        side = dev if held_out(row.problem_id, config.dev_share) else train
        side.extend(
            _Row(
                input_ids=window.ids,
                kinds=window.kinds,
                offset=window.offset,
                labels=window_labels(window, labels),
            )
            for window in encoded.windows
        )
    if not train or not dev:
        raise StageError(
            f"{config.input}: {len(train)} training and {len(dev)} held-out windows; want both, "
            "so give more problems"
        )
    return train, dev


def _trainer(
    config: CompressorConfig,
    stage: StageRun,
    model: Any,
    pad: int,
    rows: list[_Row],
    dev: list[_Row],
    counts: Sequence[int],
) -> Any:
    def collate(batch_rows: Sequence[_Row]) -> dict[str, Tensor]:
        batch = pad_batch(
            [row["input_ids"] for row in batch_rows], [row["kinds"] for row in batch_rows],
            [row["offset"] for row in batch_rows], model, pad,
        )  # fmt: skip
        width = batch["input_ids"].shape[1]
        padded = [row["labels"] + [-100] * (width - len(row["labels"])) for row in batch_rows]
        return {**batch, "labels": torch.tensor(padded)}

    shown = [] if sys.stderr.isatty() else [StepProgress("compressor")]
    weights = None
    if config.loss.class_weights == "balanced":
        weights = torch.tensor(class_weights(counts))
    gamma = config.loss.gamma if config.loss.kind == "focal" else 0.0
    trainer = Trainer(
        model=model,
        args=_arguments(config, stage, len(rows)),
        data_collator=collate,
        train_dataset=rows,
        eval_dataset=dev,
        compute_loss_func=loss_function(weights, gamma),
        compute_metrics=lambda result: f1_scores(result.predictions, result.label_ids),
        preprocess_logits_for_metrics=lambda logits, _: logits.argmax(-1),
        callbacks=[EarlyStoppingCallback(config.patience), WholeCheckpoints(), *shown],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _arguments(config: CompressorConfig, stage: StageRun, windows: int) -> Any:
    on_gpu = torch.cuda.is_available()
    devices = max(1, torch.cuda.device_count())
    per_step = config.batch_size * config.accumulate * devices
    steps = math.ceil(math.ceil(windows / per_step) * config.epochs)
    every = max(1, steps // config.evaluations)
    return TrainingArguments(
        output_dir=str(stage.folder / CHECKPOINTS),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.eval_batch_size,
        gradient_accumulation_steps=config.accumulate,
        gradient_checkpointing=config.gradient_checkpointing,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        warmup_steps=round(steps * config.warmup),
        max_grad_norm=config.clip,
        lr_scheduler_type="linear",
        bf16=config.precision == "bfloat16",
        fp16=config.precision == "float16",
        use_cpu=not on_gpu,
        dataloader_pin_memory=on_gpu,
        train_sampling_strategy="group_by_length",
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="macro_f1",
        greater_is_better=True,
        logging_steps=config.logging_steps,
        remove_unused_columns=False,
        label_names=["labels"],
        report_to="none",
        disable_tqdm=not sys.stderr.isatty(),
        seed=config.seed,
        data_seed=config.seed,
    )


def _figures(metrics: dict[str, float]) -> dict[str, Any]:
    names = ("macro_f1", "f1_keep", "f1_drop", "precision_keep", "recall_keep")
    return {name: round(metrics[f"eval_{name}"], 4) for name in names}


def _report(
    config: CompressorConfig,
    figures: dict[str, Any],
    counts: Sequence[int],
    history: Sequence[dict[str, Any]],
) -> str:
    evaluations = [entry for entry in history if "eval_macro_f1" in entry]
    rows = [
        f"| {e['step']} | {e['eval_loss']:.4f} | {e['eval_macro_f1']:.4f} |" for e in evaluations
    ]
    kept = counts[1] / sum(counts)
    return "\n".join(
        [
            "# Compressor",
            "",
            f"Encoder `{config.encoder}`, "
            + (f"LoRA of rank {config.adapter.rank}" if config.adapter else "all weights")
            + f", {figures['windows']} training windows of {config.length} tokens, question "
            + (f"shown (up to {config.question} tokens)." if config.question else "not shown."),
            f"Share of trace tokens labelled keep: {kept:.3f}.",
            f"Held out ({figures['dev_windows']} windows): macro-F1 {figures['macro_f1']:.4f}, "
            f"keep precision {figures['precision_keep']:.4f}, recall {figures['recall_keep']:.4f}.",
            "",
            "| step | held-out loss | macro-F1 |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )
