"""Trains a compressor that chooses steps: networks over whole traces, on a frozen encoder.

The encoder reads each trace once; the networks then learn in minutes on a CPU. Seeds are fixed, so
a run with the same rows gives the same weights. Losses are the token classifier's (class-weighted,
focal), for steps needed, steps revoked, and the tokens of needed steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from extracot_training.compression.encoding import IGNORED
from extracot_training.compression.model import check_length
from extracot_training.compression.step_features import NAMES
from extracot_training.compression.step_model import StepsCard, load_encoder, save_steps
from extracot_training.compression.step_network import StepNetwork
from extracot_training.compression.step_scoring import StepEncoder, StepScorer
from extracot_training.config.compressor import CompressorConfig
from extracot_training.pipeline.markdown import table
from extracot_training.pipeline.stage import Counts, StageRun
from extracot_training.stages.compressor.loss import class_weights, f1_scores, token_loss
from extracot_training.stages.compressor.step_examples import StepExample, examples, sources


def work(config: CompressorConfig, stage: StageRun) -> Counts:
    """Stage ``compressor`` with ``strategy: steps``."""
    if config.threads:
        torch.set_num_threads(config.threads)
    encoder, tokenizer = load_encoder(config.encoder, config.layers)
    check_length(config.length, encoder)
    learnt, kept_back = sources(config)
    card = _card(config, int(encoder.config.hidden_size), len(learnt))
    reader = StepEncoder(encoder, tokenizer, card)
    train, held = examples(learnt, reader), examples(kept_back, reader)
    networks = [
        fit(train, config, card, seed=config.seed + number)
        for number in range(config.network.members)
    ]
    figures = {
        **_measure(StepScorer(networks, reader, card), held),
        "traces": len(train), "dev_traces": len(held),
        "marked": sum(example.marked for example in (*train, *held)),
    }  # fmt: skip
    save_steps(networks, card, stage.folder)
    stage.report(_report(config, figures), figures)
    return figures


def fit(
    rows: Sequence[StepExample], config: CompressorConfig, card: StepsCard, *, seed: int
) -> StepNetwork:
    """One network: ``epochs`` over all traces, then ``marked_epochs`` over the marked ones alone.

    The same rows, settings and seed give the same weights.
    """
    torch.manual_seed(seed)
    draw = torch.Generator().manual_seed(seed)
    network = StepNetwork(card.shape(config.network.dropout)).train()
    improve(network, rows, config, draw, config.epochs, config.learning_rate)
    marked = [row for row in rows if row.marked]
    if marked and len(marked) < len(rows) and config.network.marked_epochs:
        rate = config.learning_rate * config.network.marked_rate
        improve(network, marked, config, draw, config.network.marked_epochs, rate)
    return network.eval().requires_grad_(False)


def improve(
    network: StepNetwork, rows: Sequence[StepExample], config: CompressorConfig,
    draw: torch.Generator, epochs: float, rate: float,
) -> None:  # fmt: skip
    """Trains ``network`` on ``rows``: AdamW, a linear schedule with warm-up, clipped gradients."""
    weights = [_weights(config, [row.steps[:, head] for row in rows]) for head in (0, 1)]
    weights.append(_weights(config, [row.tokens for row in rows]))
    gamma = config.loss.gamma if config.loss.kind == "focal" else 0.0
    steps = math.ceil(math.ceil(len(rows) / config.batch_size) * epochs)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=config.weight_decay)
    warm = max(1, round(steps * config.warmup))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda at: min((at + 1) / warm, max(0.0, (steps - at) / max(1, steps - warm)))
    )
    order: list[int] = []
    for _ in range(steps):
        if len(order) < config.batch_size:
            order += torch.randperm(len(rows), generator=draw).tolist()
        taken, order = order[: config.batch_size], order[config.batch_size :]
        batch = [thinned(rows[i], config.network.step_dropout, draw) for i in taken]
        loss = _loss(network, batch, weights, gamma)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        clip_grad_norm_(network.parameters(), config.clip)
        optimizer.step()
        schedule.step()


@torch.no_grad()
def thinned(row: StepExample, share: float, draw: torch.Generator) -> _Tensors:
    """The example's tensors without a random ``share`` of its steps, so that no place is learnt by
    heart."""
    count = len(row.steps)
    stays = torch.rand(count, generator=draw) >= share
    if int(stays.sum()) < min(2, count):
        stays[:] = True
    number = torch.cumsum(stays.long(), 0) - 1
    inside = stays[row.encoded.owners]
    one = row.encoded
    return (
        one.text[stays], one.features[stays], one.refers[stays][:, stays], row.steps[stays],
        one.tokens[inside], number[one.owners[inside]], row.tokens[inside],
    )  # fmt: skip


_Tensors = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def _loss(
    network: StepNetwork, batch: Sequence[_Tensors], weights: Sequence[Tensor | None], gamma: float
) -> Tensor:
    """Mean loss of the three heads over a padded batch."""
    width = max(len(row[0]) for row in batch)

    def padded(part: int, fill: float = 0.0, square: bool = False) -> Tensor:
        rows = []
        for row in batch:
            lack = width - len(row[part])
            sides = (0, lack) if square else (0, 0)
            rows.append(torch.nn.functional.pad(row[part], (*sides, 0, lack), value=fill))
        return torch.stack(rows)

    mask = torch.stack([torch.arange(width) < len(row[0]) for row in batch])
    state = network(padded(0), padded(1), padded(2, square=True), mask)
    logits, labels = network.step_logits(state), padded(3, IGNORED).long()
    total = torch.zeros(())
    for head in (0, 1):
        total = total + _part(logits[..., head], labels[..., head], weights[head], gamma)
    marks = torch.cat([row[6] for row in batch])
    if not bool((marks != IGNORED).any()):
        return total
    tokens = torch.cat([
        network.token_logits(row[4], own[row[5]]) for row, own in zip(batch, state, strict=True)
    ])  # fmt: skip
    return total + 0.25 * _part(tokens, marks, weights[2], gamma)


def _part(logits: Tensor, labels: Tensor, weights: Tensor | None, gamma: float) -> Tensor:
    pairs = torch.stack([torch.zeros_like(logits), logits], dim=-1)
    loss, norm = token_loss(pairs, labels, weights, gamma)
    return loss / norm.clamp(min=1)


def _weights(config: CompressorConfig, labels: Sequence[Tensor]) -> Tensor | None:
    if config.loss.class_weights == "none" or not labels:
        return None
    joined = torch.cat(list(labels))
    counts = [int((joined == value).sum()) for value in (0, 1)]
    return torch.tensor(class_weights(counts)) if sum(counts) else None


def _measure(scorer: StepScorer, held: Sequence[StepExample]) -> dict[str, float]:
    """F1 of both heads on the held-out traces at the threshold 0.5."""
    scored = [scorer.score(row.encoded) for row in held]
    figures = {}
    for head, name in enumerate(("needed", "revoked")):
        chances = torch.cat([torch.tensor((one.needed, one.revoked)[head]) for one in scored])
        labels = torch.cat([row.steps[:, head] for row in held])
        scores = f1_scores((chances > 0.5).long().numpy(), labels.numpy())
        for key in ("precision_keep", "recall_keep", "f1_keep"):
            figures[f"{name}_{key.removesuffix('_keep')}"] = round(scores[key], 4)
    return figures


def _card(config: CompressorConfig, text: int, traces: int) -> StepsCard:
    network = config.network
    return StepsCard(
        encoder=config.encoder, layers=config.layers, length=config.length,
        question=config.question, overlap=config.overlap, asking=config.asking, text=text,
        width=network.width, network_layers=network.layers, heads=network.heads,
        members=network.members, caution=network.caution, features=NAMES,
        trained_on=f"{traces} traces: {config.input.name}"
        + "".join(f", {files.traces.name}" for files in config.marked),
    )  # fmt: skip


def _report(config: CompressorConfig, figures: dict[str, Any]) -> str:
    rows = (
        f"{name} | {figures[f'{name}_precision']:.3f} | {figures[f'{name}_recall']:.3f} | "
        f"{figures[f'{name}_f1']:.3f}"
        for name in ("needed", "revoked")
    )
    return "\n".join([
        "# Compressor of steps", "",
        f"Encoder `{config.encoder}`"
        + (f", first {config.layers} layers" if config.layers else "")
        + f", frozen; {config.network.members} networks. {figures['traces']} training traces, "
        f"{figures['dev_traces']} held out; {figures['marked']} of all are marked by hand.",
        "", *table("held-out steps | precision | recall | F1", rows), "",
    ])  # fmt: skip
