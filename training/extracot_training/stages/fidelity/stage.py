"""Runs the measurement: for each trace, system and level a row; then statistics and the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from extracot_training.compression.answering import Reader, question_hash, questions_seen
from extracot_training.compression.budget import TokenCounter, allowance, spend, words
from extracot_training.compression.final_answer import redact
from extracot_training.compression.segment import FORMULAS, Atom, Kind, join, segment, spans_of
from extracot_training.config.fidelity import FidelityConfig
from extracot_training.errors import StageError
from extracot_training.math_text.equations import numbers_in
from extracot_training.pipeline.files import write_atomic
from extracot_training.pipeline.records import (
    CompressedTrace,
    JsonlWriter,
    SampleRecord,
    TraceText,
    read_rows,
    rows_file,
)
from extracot_training.pipeline.stage import Counts, Manifest, StageResult, StageRun, run_stage
from extracot_training.policy.model_inputs import model_inputs, tokenizer_inputs
from extracot_training.policy.pretrained import load_tokenizer
from extracot_training.stages.fidelity.report import (
    BLIND,
    EMPTY,
    FULL,
    HEAD_TAIL,
    LINGUA,
    OURS,
    RANDOM,
    FidelityRow,
    draw,
    figures_of,
    report_of,
)

ALL_ROWS = "all.jsonl"


@dataclass(frozen=True, slots=True)
class _Item:
    """A shortened text, and its row but for what the reader makes of it."""

    trace: TraceText
    text: str
    row: FidelityRow


def run(config: FidelityConfig, *, force: bool = False) -> StageResult:
    """Stage ``fidelity``. Raises :class:`StageError` when the reader is too weak to judge."""
    inputs = {"traces": rows_file(config.input)}
    inputs |= {name: folder / ALL_ROWS for name, folder in _folders(config).items()}
    inputs |= model_inputs(config.reader, "reader")
    inputs |= tokenizer_inputs(config.tokenizer, "tokenizer")
    return run_stage("fidelity", config, inputs, lambda stage: _work(config, stage), force=force)


def _work(config: FidelityConfig, stage: StageRun) -> Counts:
    if config.threads:
        import torch

        torch.set_num_threads(config.threads)
    reader = Reader.load(config.reader, device=config.device)
    bench = _Bench(config)
    seen = questions_seen(config.reader)
    left_out: Counter[str] = Counter()
    with JsonlWriter(stage.rows, FidelityRow) as writer:
        usable: list[TraceText] = []
        for trace in islice(read_rows(config.input, TraceText), config.limit):
            if not trace.reasoning.strip() or not bench.has(trace):
                left_out["not compressed"] += 1
            elif config.skip_given and _given(trace):
                left_out["answer given in the question"] += 1
            elif question_hash(trace.question) in seen:
                left_out["known to the reader"] += 1
            else:
                usable.append(trace)
        for begin in range(0, len(usable), config.batch):
            batch = usable[begin : begin + config.batch]
            items = (item for trace in batch for item in bench.items(trace))
            for row in _judged(reader, [item for item in items if item.row.key not in writer]):
                writer.write(row)
    rows = list(read_rows(stage.rows, FidelityRow))
    if not rows:
        raise StageError(f"{config.input}: no trace that could be judged: {dict(left_out)}")
    figures = figures_of(rows, config)
    figures["left_out"] = dict(left_out)
    stage.report(report_of(figures, config), figures)
    write_atomic(stage.folder / "report.png", draw(figures))
    full = figures["full"]["redacted"]["mean"]
    return {
        "traces": figures["traces"],
        "left_out": left_out.total(),
        "full_redacted": round(full, 4),
        "reader_fit": full >= config.least_full,
        "claim": figures["claim"]["holds"],
    }


def _folders(config: FidelityConfig) -> dict[str, Path]:
    """The compress folders to judge, by system."""
    named = {OURS: config.ours, LINGUA: config.lingua, BLIND: config.blind}
    return {name: folder for name, folder in named.items() if folder is not None}


class _Bench:
    """Every system's shortened texts for a trace."""

    def __init__(self, config: FidelityConfig) -> None:
        self._config = config
        self._tokenizer: Any = load_tokenizer(config.tokenizer)
        self._counter = TokenCounter(self._tokenizer)
        folders = _folders(config)
        self._compressed = {n: _compressed(f, config.levels) for n, f in folders.items()}
        self._units = {name: _units(folder) for name, folder in folders.items()}

    def has(self, trace: TraceText) -> bool:
        """Whether every compressed system has this trace at every level."""
        return all(
            (trace.key, level) in rows
            for rows in self._compressed.values()
            for level in self._config.levels
        )

    def items(self, trace: TraceText) -> Iterator[_Item]:
        text, levels = trace.reasoning, self._config.levels
        atoms = segment(text)
        limit = allowance(self._counter.per_atom(text, atoms))
        seed = f"{self._config.seed}:{trace.key}"
        systems = {
            RANDOM: random_atoms(text, atoms, levels, self._counter, seed),
            HEAD_TAIL: head_tail(text, levels, self._tokenizer),
        }
        for system in self._compressed:
            systems[system] = [self._read_back(trace, atoms, system, level) for level in levels]
        whole = Shortened(text, [(0, len(text))], 1.0)
        yield self._item(trace, atoms, FULL, 1.0, whole, limit)
        yield self._item(trace, atoms, EMPTY, 1.0, Shortened("", [], 0.0), limit)
        for system, shortened in systems.items():
            for level, short in zip(levels, shortened, strict=True):
                yield self._item(trace, atoms, system, level, short, limit)

    def _read_back(
        self, trace: TraceText, atoms: Sequence[Atom], system: str, level: float
    ) -> Shortened:
        """A compressed row with its spans. Raises :class:`StageError` if the row's text is not what
        its atoms say: then nothing measured by span would be true."""
        row = self._compressed[system][trace.key, level]
        units = list(atoms) if self._units[system] == "atoms" else words(trace.reasoning)
        if len(units) != row.n_atoms or join(units, row.kept_atoms) != row.text:
            raise StageError(f"{system}: row {row.key} does not match its trace")
        return Shortened(row.text, spans_of(units, row.kept_atoms), row.realised)

    def _item(
        self, trace: TraceText, atoms: Sequence[Atom], system: str, target: float,
        short: Shortened, limit: float,
    ) -> _Item:  # fmt: skip
        measured = wholeness(atoms, short.spans)
        row = FidelityRow(
            **trace.model_dump(include=set(SampleRecord.model_fields)),
            system=system,
            target=target,
            realised=short.realised,
            allowance=limit,
            formula_recall=measured.recall,
            broken=measured.broken,
        )
        return _Item(trace, short.text, row)


def _judged(reader: Reader, items: Sequence[_Item]) -> list[FidelityRow]:
    """One row per item; plain and redacted texts are answered in the same batches."""
    questions = [item.trace.question for item in items]
    golds = [item.trace.gold for item in items]
    hidden = [redact(item.text, item.trace.gold) for item in items]
    plain = reader.right(questions, [item.text for item in items], golds)
    redacted = reader.right(questions, hidden, golds)
    likely = reader.log_likelihoods(questions, hidden, golds)
    judged = zip(items, plain, redacted, likely, strict=True)
    return [
        FidelityRow.model_validate(
            item.row.model_dump() | {"plain": one, "redacted": two, "log_likelihood": three}
        )
        for item, one, two, three in judged
    ]


def _given(trace: TraceText) -> bool:
    """Whether the question already states the answer's number: hiding it would hide a given."""
    wanted = numbers_in(trace.gold)[:1]
    return bool(wanted) and wanted[0] in numbers_in(trace.question)


def _compressed(folder: Path, levels: Sequence[float]) -> dict[tuple[str, float], CompressedTrace]:
    return {
        (f"{row.problem_id}/{row.sample}", row.target): row
        for row in read_rows(folder / ALL_ROWS, CompressedTrace)
        if row.target in levels
    }


def _units(folder: Path) -> str:
    manifest = Manifest.load(folder)
    if manifest is None or manifest.stage != "compress":
        raise StageError(f"{folder}: not made by stage compress")
    return str(manifest.config.get("units", "atoms"))


@dataclass(frozen=True, slots=True)
class Shortened:
    """A shortened text, the character spans it kept, and its share of tokens."""

    text: str
    spans: list[tuple[int, int]]
    realised: float


def random_atoms(
    text: str, atoms: Sequence[Atom], ratios: Sequence[float], counter: TokenCounter, seed: str
) -> list[Shortened]:
    """Atoms in random order until the budget is spent; the same order for all ratios."""
    rng = Random(seed)
    scores = [rng.random() for _ in atoms]
    return [
        Shortened(one.text, spans_of(atoms, one.kept), one.realised)
        for one in spend(text, atoms, scores, ratios, counter)
    ]


def head_tail(text: str, ratios: Sequence[float], tokenizer: Any) -> list[Shortened]:
    """The first and the last half of the budget, cut between tokens."""
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True).offset_mapping
    found = []
    for ratio in ratios:
        budget = max(1, round(len(offsets) * ratio))
        if budget >= len(offsets):
            found.append(Shortened(text, [(0, len(text))] if text else [], 1.0))
            continue
        head = offsets[budget - budget // 2 - 1][1]
        tail = offsets[len(offsets) - budget // 2][0] if budget // 2 else len(text)
        spans = [(start, end) for start, end in ((0, head), (tail, len(text))) if start < end]
        joined = f"{text[:head].rstrip()} {text[tail:].lstrip()}".strip()
        found.append(Shortened(joined, spans, budget / len(offsets)))
    return found


@dataclass(frozen=True, slots=True)
class Wholeness:
    """``recall``: share of the original's different formulas that are there whole (1.0 if it has
    none). ``broken``: formulas and numbers of which a part was kept and a part was not."""

    recall: float
    broken: int


def wholeness(atoms: Sequence[Atom], spans: Sequence[tuple[int, int]]) -> Wholeness:
    """By character: ``spans`` (sorted, disjoint) are what was kept of the text of ``atoms``. White
    space does not count: a cut at white space that leaves out only a space breaks nothing."""
    there = {place for start, end in spans for place in range(start, end)}
    whole: set[str] = set()
    every: set[str] = set()
    broken = 0
    for atom in atoms:
        if atom.kind in (Kind.WORD, Kind.SPACE):
            continue
        signs = {i for i, sign in enumerate(atom.body, start=atom.start) if not sign.isspace()}
        broken += bool(signs & there and signs - there)
        if atom.kind in FORMULAS:
            every.add(atom.body)
            if signs <= there:
                whole.add(atom.body)
    return Wholeness(len(whole) / len(every) if every else 1.0, broken)
