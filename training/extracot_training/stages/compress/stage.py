"""Compresses traces: the library call, and stage ``compress``.

    from extracot_training.stages.compress.stage import Compressor
    short = Compressor.load().compress(question, trace, [0.2, 0.4])
    print(short[0].text, short[0].realised)

Scores come from one encoder pass per window, whatever the number of ratios; budgets are spent in
the policy model's tokens.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from random import Random
from typing import Any

from extracot_training.compression.budget import (
    Selection,
    TokenCounter,
    checked_ratio,
    spend,
    words,
)
from extracot_training.compression.choice import step_order
from extracot_training.compression.final_answer import final_atoms, likely_final_atoms
from extracot_training.compression.loose_results import loose_results
from extracot_training.compression.scoring import CompressorScorer
from extracot_training.compression.segment import Atom, Kind, segment
from extracot_training.compression.step_model import CARD as STEPS_CARD
from extracot_training.compression.step_scoring import GraphScorer, ScoredSteps, StepScorer
from extracot_training.compression.structure import spend_on_steps
from extracot_training.config.compress import CleaningSettings, CompressConfig
from extracot_training.errors import StageError
from extracot_training.pipeline.markdown import counts, number, table
from extracot_training.pipeline.records import (
    CompressedTrace,
    JsonlWriter,
    TraceText,
    read_rows,
    rows_file,
    write_rows,
)
from extracot_training.pipeline.stage import Counts, StageResult, StageRun, lost, run_stage
from extracot_training.policy.model_inputs import tokenizer_inputs
from extracot_training.policy.pretrained import load_tokenizer

ALL_ROWS = "all.jsonl"
_WORDS = re.compile(r"\w+|[^\w\s]")
_STRAY = re.compile(r"([,;:!?])(?:\s*[,;:!?])+")
_LOOKED_AT = 500
_DOTS = re.compile(r"(?<!\.)\.\.(?!\.)|\.{4,}")


@dataclass(frozen=True, slots=True)
class RandomScorer:
    """The baseline that reads nothing: the same trace gets the same draws under the same seed."""

    seed: int = 0

    def atoms(
        self, items: Sequence[tuple[str, str]], cut: Callable[[str], list[Atom]]
    ) -> list[tuple[list[Atom], list[float]]]:
        """See :meth:`CompressorScorer.atoms`."""
        found = []
        for question, text in items:
            rng, atoms = Random(f"{self.seed}:{question}:{text}"), cut(text)
            found.append((atoms, [rng.random() for _ in atoms]))
        return found


@dataclass(frozen=True, slots=True)
class Compressor:
    """What scores atoms or steps, and a way to count. With scores of steps whole steps are chosen;
    ``units`` "words" is the baseline without formulas."""

    scorer: CompressorScorer | RandomScorer | StepScorer | GraphScorer
    counter: TokenCounter
    units: str = field(default="atoms", kw_only=True)

    @classmethod
    def load(
        cls, folder: Path | None = None, *, tokenizer: str | None = None, units: str = "atoms",
        batch: int = 8, device: str = "cpu", strategy: str | None = None,
    ) -> Compressor:  # fmt: skip
        """``folder``: a trained compressor (``None``: the shipped one). ``tokenizer``: the policy
        model's (``None``: the encoder's own). ``strategy``: "steps" or "atoms" (``None``: what the
        folder is for; of the shipped ones that of steps, for words that of atoms).

        Raises ``CompressorError``, ``PretrainedError``."""
        scorer: CompressorScorer | StepScorer
        if (strategy or _strategy_of(folder, units)) == "steps":
            scorer = StepScorer.load(folder, batch=batch, device=device)
        else:
            scorer = CompressorScorer.load(folder, batch=batch, device=device)
        counting = scorer.tokenizer if tokenizer is None else load_tokenizer(tokenizer)
        return cls(scorer, TokenCounter(counting), units=units)

    def compress(
        self, question: str, text: str, ratios: Sequence[float], *, answer: str | None = None
    ) -> list[Selection]:
        """``text`` shortened to each of ``ratios`` of its tokens, in their order.

        The atom that holds ``answer`` stays; without one, the last boxed or last number does.
        Raises ``RatioError`` for a ratio outside (0, 1].
        """
        return self.compress_many([(question, text, answer)], ratios)[0]

    def compress_many(
        self, items: Sequence[tuple[str, str, str | None]], ratios: Sequence[float]
    ) -> list[list[Selection]]:
        """As :meth:`compress` for many (question, text, answer); their windows share batches."""
        for ratio in ratios:
            checked_ratio(ratio)
        if isinstance(self.scorer, StepScorer | GraphScorer):
            read = self.scorer.steps(items)
            return [
                chosen_steps(text, one, ratios, self.counter)
                for (_, text, _), one in zip(items, read, strict=True)
            ]
        cut = segment if self.units == "atoms" else words
        scored = self.scorer.atoms([(question, text) for question, text, _ in items], cut)
        found = []
        for (_, text, answer), (atoms, scores) in zip(items, scored, strict=True):
            always: list[int] = []
            if self.units == "atoms":
                always = likely_final_atoms(atoms) if answer is None else final_atoms(atoms, answer)
            found.append(spend(text, atoms, scores, ratios, self.counter, always=always))
        return found


def _strategy_of(folder: Path | None, units: str) -> str:
    """What a compressor's folder is for; a folder without a card fails as one of atoms."""
    if units == "words":
        return "atoms"
    return "steps" if folder is None or (folder / STEPS_CARD).is_file() else "atoms"


def chosen_steps(
    text: str, scored: ScoredSteps, ratios: Sequence[float], counter: TokenCounter
) -> list[Selection]:
    """``text`` shortened to each ratio by whole steps, most needed first, its answer first."""
    read = scored.structure
    each = counter.per_atom(text, read.plan.atoms)
    costs = [sum(each[i] for i in own) for own in read.plan.members]
    order = step_order(scored.needed, scored.revoked, costs, read.final, caution=scored.caution)
    return spend_on_steps(
        text, read.plan, order, scored.weights, ratios, counter, always=read.always
    )


def run(config: CompressConfig, *, force: bool = False) -> StageResult:
    """Stage ``compress``."""
    inputs = {"traces": rows_file(config.input)}
    if config.compressor is not None:
        inputs["compressor"] = config.compressor
    inputs |= tokenizer_inputs(config.tokenizer, "tokenizer")
    return run_stage("compress", config, inputs, lambda stage: _work(config, stage), force=force)


def _work(config: CompressConfig, stage: StageRun) -> Counts:
    if config.threads:
        import torch

        torch.set_num_threads(config.threads)
    compressor = _compressor(config)
    with JsonlWriter(stage.folder / ALL_ROWS, CompressedTrace) as writer:
        unread: Counter[str] = Counter()
        traces = _pending(config, writer.done_keys(), unread)
        while batch := list(islice(traces, config.batch)):
            items = [(trace.question, trace.reasoning, trace.gold) for trace in batch]
            selected = compressor.compress_many(items, config.ratios)
            for trace, selections in zip(batch, selected, strict=True):
                for selection in selections:
                    row = _row(trace, selection, config)
                    if row.key not in writer:
                        writer.write(row)
    every = list(read_rows(stage.folder / ALL_ROWS, CompressedTrace))
    rows, dropped = clean_rows(every, config.ratios, config.bucket, config.cleaning)
    dropped |= unread
    if not rows:
        raise StageError(_nothing_left(config, every, dropped))
    write_rows(stage.rows, rows)
    sizes = {"all": len(every), "rows": len(rows)}
    figures = {**sizes, "left_out": dropped, "levels": _levels(every, _reasonings(config))}
    stage.report(_report(figures, config), figures)
    return sizes | lost(dropped)


def _nothing_left(
    config: CompressConfig, every: Sequence[CompressedTrace], dropped: Mapping[str, int]
) -> str:
    if not every:
        return f"{config.input}: no trace in it that is right and has a reasoning to shorten"
    return (
        f"none of {len(every)} shortened traces is left: {counts(dropped)}; see "
        f"{config.out / ALL_ROWS}, and set bucket or cleaning wider (with --force) or give longer "
        "traces"
    )


def _compressor(config: CompressConfig) -> Compressor:
    if config.scores == "random":
        counter = TokenCounter(load_tokenizer(config.tokenizer))
        return Compressor(RandomScorer(config.seed), counter, units=config.units)
    if config.scores == "graph":
        return Compressor(GraphScorer(), TokenCounter(load_tokenizer(config.tokenizer)))
    return Compressor.load(
        config.compressor, tokenizer=config.tokenizer, units=config.units, batch=config.batch,
        device=config.device, strategy=config.strategy,
    )  # fmt: skip


def _pending(
    config: CompressConfig, done: frozenset[str], unread: Counter[str]
) -> Iterator[TraceText]:
    """Traces whose rows are not all there yet (a cut run may have written some of them).
    ``unread`` counts those that have none to be shortened, by why."""
    for trace in islice(_right(config, unread), config.limit):
        if not trace.reasoning.strip():
            unread["traces without reasoning"] += 1
        elif any(f"{trace.key}@{ratio:g}" not in done for ratio in config.ratios):
            yield trace


def _right(config: CompressConfig, unread: Counter[str]) -> Iterator[TraceText]:
    for trace in read_rows(config.input, TraceText):
        if trace.correct is False:
            unread["wrong traces"] += 1
        else:
            yield trace


def _row(trace: TraceText, selection: Selection, config: CompressConfig) -> CompressedTrace:
    return CompressedTrace(
        **trace.model_dump(include=set(CompressedTrace.model_fields)),
        target=selection.target,
        text=selection.text,
        realised=round(selection.realised, 6),
        overshoot=round(selection.overshoot, 6),
        tokens_full=selection.tokens_full,
        tokens_kept=selection.tokens,
        kept_atoms=list(selection.kept),
        n_atoms=len((segment if config.units == "atoms" else words)(trace.reasoning)),
    )


def _reasonings(config: CompressConfig) -> dict[tuple[str, int], str]:
    """Of the first traces, by problem and sample."""
    first = islice(_right(config, Counter()), _LOOKED_AT)
    return {(trace.problem_id, trace.sample): trace.reasoning for trace in first}


def _levels(
    rows: Sequence[CompressedTrace], whole: Mapping[tuple[str, int], str]
) -> dict[str, dict[str, float | None]]:
    """By target. ``loose``: results whose calculation was left out, per row of the traces in
    ``whole``; ``None`` where there are none."""
    levels: dict[str, dict[str, float | None]] = {}
    for target in sorted({row.target for row in rows}):
        own = [row for row in rows if row.target == target]
        seen = [
            loose_results(row.question, reasoning, row.text)
            for row in own
            if (reasoning := whole.get((row.problem_id, row.sample))) is not None
        ]
        levels[f"{target:g}"] = {
            "n": len(own),
            "realised": round(sum(row.realised for row in own) / len(own), 4),
            "off": round(sum(abs(row.realised - target) for row in own) / len(own), 4),
            "tokens": round(sum(row.tokens_kept for row in own) / len(own), 1),
            "loose": round(sum(seen) / len(seen), 3) if seen else None,
        }
    return levels


def _report(figures: dict[str, Any], config: CompressConfig) -> str:
    lines = [
        "# Compressed traces",
        "",
        f"{figures['all']} rows in `{ALL_ROWS}`, {figures['rows']} of them fit for training in "
        f"`rows.jsonl`. Left out: {counts(figures['left_out'])}.",
        f"Tokens are those of `{config.tokenizer}`. *Loose results*: numbers a row takes from a "
        f"calculation that it left out, in the first {_LOOKED_AT} traces.",
        "",
        *table(
            "ratio | traces | mean realised | mean distance | mean tokens | loose results",
            (
                f"{name} | {of['n']} | {of['realised']:.3f} | {of['off']:.4f} | {of['tokens']:.0f}"
                f" | {number(of['loose'], 2)}"
                for name, of in figures["levels"].items()
            ),
        ),
    ]
    return "\n".join([*lines, ""])


def tidy(text: str) -> str:
    """Runs of stray punctuation become one sign; ``...`` stays. Formulas are not touched."""
    parts = []
    for atom in segment(text):
        if atom.kind is Kind.WORD:
            body = _STRAY.sub(r"\1", atom.body)
            body = _DOTS.sub(lambda match: "." if len(match.group()) == 2 else "...", body)
            parts.append(body + atom.trail)
        else:
            parts.append(atom.text)
    return "".join(parts)


def fault(text: str, ratio: float, tokens: int, limits: CleaningSettings) -> str | None:
    """Why a text is unfit at this ratio, or ``None``."""
    if tokens < limits.min_tokens:
        return "too short"
    found = _WORDS.findall(text.lower())
    strict = 0.7 + 0.3 * ratio
    if len(found) >= 8:
        if _repeats(found, 2) > limits.max_bigram_repeats * strict:
            return "repeated pairs"
        if _repeats(found, 3) > limits.max_trigram_repeats * strict:
            return "repeated triples"
        meaningful = [word for word in found if word.isalpha()] or found
        if Counter(meaningful).most_common(1)[0][1] / len(found) > limits.max_top_word * strict:
            return "one word too often"
    if max((len(list(run)) for _, run in groupby(found)), default=0) > limits.max_run:
        return "one word in a row"
    return None


def clean_rows(
    rows: Sequence[CompressedTrace],
    ratios: Sequence[float],
    bucket: float,
    limits: CleaningSettings,
) -> tuple[list[CompressedTrace], dict[str, int]]:
    """Rows that are fit, within ``bucket`` of their ratio, and whose sample has all ``ratios``.

    A compressed trace that repeats itself, or is too short to be reasoning, teaches a model to do
    the same. Returns them with the counts of what was left out and why. Ratio 1.0 is the trace
    itself and is not judged.
    """
    dropped: Counter[str] = Counter()
    fit: dict[str, dict[float, CompressedTrace]] = {}
    for row in rows:
        text = tidy(row.text) if row.target < 1 else row.text
        why = None
        if row.target < 1:
            why = fault(text, row.target, row.tokens_kept, limits)
            if why is None and abs(row.realised - row.target) > bucket:
                why = "outside its bucket"
        if why is not None:
            dropped[why] += 1
            continue
        sample = f"{row.problem_id}/{row.sample}"
        fit.setdefault(sample, {})[row.target] = row.model_copy(update={"text": text})
    kept: list[CompressedTrace] = []
    for levels in fit.values():
        if all(ratio in levels for ratio in ratios):
            kept.extend(levels[ratio] for ratio in ratios)
        else:
            dropped["not at every ratio"] += len(levels)
    return kept, dict(dropped)


def _repeats(found: Sequence[str], size: int) -> float:
    """Share of n-grams that occurred before."""
    grams = list(zip(*(found[i:] for i in range(size)), strict=False))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
