"""Redaction, baselines, broken atoms, statistics, the report, and the reader's training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from extracot_training.compression.answering import Reader, ReaderCard, question_hash
from extracot_training.compression.budget import TokenCounter
from extracot_training.compression.final_answer import MARK, redact
from extracot_training.compression.segment import join, segment, spans_of
from extracot_training.config.fidelity import FidelityConfig
from extracot_training.config.reader import ReaderConfig, ReaderModel, ReaderProblems
from extracot_training.errors import StageError
from extracot_training.pipeline.records import CompressedTrace, Trace, write_rows
from extracot_training.pipeline.stage import Manifest
from extracot_training.pipeline.statistics import estimate, normalised, paired
from extracot_training.policy.pretrained import load_causal_lm, load_tokenizer
from extracot_training.stages.fidelity import stage
from extracot_training.stages.fidelity.stage import head_tail, random_atoms, wholeness
from extracot_training.stages.reader import stage as train
from extracot_training.stages.reader.examples import (
    KINDS,
    ExampleMaker,
    build_tokenizer,
    corrupt,
    equation,
)
from extracot_training.synthetic import Generator
from tests.training.tiny import QUESTION, TRACE, save_causal, save_encoder, trace, word_tokenizer

TOKENIZER = word_tokenizer()
COUNTER = TokenCounter(TOKENIZER)

# -- hiding the answer


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        ("3 + 5 = 8. So 8, not 18.", "8", f"3 + 5 = {MARK}. So {MARK}, not 18."),
        ("8.5, 0.8, 8,000 and -8", "8", f"8.5, 0.8, 8,000 and -{MARK}"),
        ("\\boxed{8} and $8$", "8", f"\\boxed{{{MARK}}} and ${MARK}$"),
        ("1,250 or 1250 not 11,250", "1250", f"{MARK} or {MARK} not 11,250"),
        ("It is Tuesday. Tuesdays?", "Tuesday", f"It is {MARK}. Tuesdays?"),
        ("$\\frac{1}{2}$", "\\frac{1}{2}", f"${MARK}$"),
        ("nothing", "", "nothing"),
    ],
)  # fmt: skip
def test_every_occurrence_of_the_answer_is_hidden(text: str, answer: str, expected: str) -> None:
    assert redact(text, answer) == expected


# -- baselines and what is broken


@given(st.lists(st.sampled_from(["so ", "3 + 4 = 7. ", "$x = 9$ ", "12.5 km "]), min_size=1))
def test_random_atoms_break_nothing_and_nest(pieces: list[str]) -> None:
    text = "".join(pieces)
    atoms = segment(text)
    small, large = random_atoms(text, atoms, [0.3, 0.7], COUNTER, "seed")
    assert wholeness(atoms, small.spans).broken == wholeness(atoms, large.spans).broken == 0
    assert small.realised <= large.realised
    assert random_atoms(text, atoms, [0.3], COUNTER, "seed")[0] == small


def test_head_and_tail_fill_the_budget_and_may_break() -> None:
    text = "a b c d 1 + 2 = 3 e f g h"
    (half,) = head_tail(text, [0.5], TOKENIZER)
    assert half.text == "a b c f g h" or half.text.startswith("a b c")
    assert half.realised == pytest.approx(0.5, abs=0.05)
    (broken,) = head_tail("1 + 2 + 3 = 6 yes", [0.4], TOKENIZER)
    assert wholeness(segment("1 + 2 + 3 = 6 yes"), broken.spans).broken == 1
    assert head_tail("", [0.5], TOKENIZER)[0].spans == []


def test_wholeness_counts_formulas_and_broken_atoms() -> None:
    text = "So 3 + 4 = 7 and $x$ is 5 km"
    atoms = segment(text)
    start = text.index("3 +")
    assert wholeness(atoms, [(0, len(text))]).recall == 1.0
    assert wholeness(atoms, []).recall == 0.0
    partly = wholeness(atoms, [(start, start + 5)])
    assert (partly.recall, partly.broken) == (0.0, 1)
    # Every sign kept, only the spaces between left out: whole.
    pieces = [(start + i, start + i + 1) for i in range(0, 9, 2)]
    assert wholeness(atoms, pieces).broken == 0
    assert wholeness(atoms, pieces).recall == 0.5
    assert wholeness(segment("no formula"), []).recall == 1.0


# -- statistics


def test_paired_differences_know_about_pairing() -> None:
    ours = [float(i % 3 != 0) for i in range(300)]
    theirs = [float(i % 3 == 1) for i in range(300)]
    found = paired(ours, theirs, resamples=500, seed=1)
    assert found.mean == pytest.approx(1 / 3)
    assert found.low > 0.2
    same = paired(ours, ours, resamples=100, seed=1)
    assert (same.low, same.high) == (0.0, 0.0)
    assert estimate([1.0], resamples=100, seed=0).high == 1.0
    assert normalised(0.5, 0.25, 0.75) == 0.5
    assert normalised(0.5, 0.7, 0.7) is None


# -- the stage


class Clever:
    """A reader that answers if it is told how: the last equation must be there whole."""

    def right(
        self, questions: Sequence[str], traces: Sequence[str], golds: Sequence[str]
    ) -> list[bool]:
        return ["20 - 12 =" in text for text in traces]

    def log_likelihoods(
        self, questions: Sequence[str], traces: Sequence[str], answers: Sequence[str]
    ) -> list[float]:
        return [-0.1 if "20 - 12 =" in text else -3.0 for text in traces]


def prepared(tmp_path: Path, count: int = 20) -> FidelityConfig:
    """Traces, and "compressed" ones that keep the equations."""
    save_encoder(tmp_path / "policy")
    texts = [TRACE + " Good." * (n % 3) for n in range(count)]
    write_rows(tmp_path / "teach" / "rows.jsonl", [trace(n, t) for n, t in enumerate(texts)])
    for name in ("ours", "lingua"):
        rows = []
        for number, text in enumerate(texts):
            atoms = segment(text)
            keep = [i for i, a in enumerate(atoms) if ("=" in a.text) == (name == "ours")]
            for target in (0.2, 0.4):
                rows.append(compressed(trace(number, text), target, keep))
        write_rows(tmp_path / name / "all.jsonl", rows)
        Manifest(
            stage="compress", config={"units": "atoms"}, decisive={}, inputs={}, git_revision=None,
            version=None, started="", finished="now",
        ).save(tmp_path / name)  # fmt: skip
    (tmp_path / "clever").mkdir()
    return FidelityConfig(
        input=tmp_path / "teach", ours=tmp_path / "ours", lingua=tmp_path / "lingua",
        reader=str(tmp_path / "clever"), tokenizer=str(tmp_path / "policy"), out=tmp_path / "out",
        levels=(0.2, 0.4), resamples=200,
    )  # fmt: skip


def compressed(one: Trace, target: float, keep: list[int]) -> CompressedTrace:
    atoms = segment(one.reasoning)
    text, full = join(atoms, keep), COUNTER.count(one.reasoning)
    kept = COUNTER.count(text)
    return CompressedTrace(
        problem_id=one.problem_id, sample=one.sample, question=one.question, answer=one.answer,
        gold=one.gold, target=target, text=text, realised=kept / full,
        overshoot=max(0.0, kept / full - target), tokens_full=full, tokens_kept=kept,
        kept_atoms=keep, n_atoms=len(atoms),
    )  # fmt: skip


def test_the_report_compares_pairs_and_judges_the_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = prepared(tmp_path)
    monkeypatch.setattr(stage.Reader, "load", lambda *_, **__: Clever())
    outcome = stage.run(config)
    assert outcome.counts["traces"] == 20
    figures = json.loads((tmp_path / "out" / "report.json").read_text())
    cell = figures["levels"]["0.2"]
    assert cell["ours"]["redacted"]["mean"] == 1.0
    assert cell["lingua"]["redacted"]["mean"] == 0.0
    assert cell["differences"]["lingua"]["low"] == 1.0
    assert cell["ours"]["broken"] == 0
    assert figures["full"]["redacted"]["mean"] == 1.0
    report = (tmp_path / "out" / "report.md").read_text()
    assert "LLMLingua-2-style | 0.000" in report
    assert (tmp_path / "out" / "report.png").read_bytes().startswith(b"\x89PNG")
    # Ours keeps the same atoms at both levels, so it is far off target at one of them.
    assert not figures["claim"]["holds"]
    assert any("off target" in fault for fault in figures["claim"]["faults"])


def test_ours_without_the_question_is_shown_but_is_no_baseline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = prepared(tmp_path)
    monkeypatch.setattr(stage.Reader, "load", lambda *_, **__: Clever())
    # The same rows as ours: no difference, which would be a fault of any baseline.
    stage.run(config.model_copy(update={"blind": config.ours}))
    figures = json.loads((tmp_path / "out" / "report.json").read_text())
    cell = figures["levels"]["0.2"]
    assert cell["blind"]["redacted"] == cell["ours"]["redacted"]
    assert cell["differences"]["blind"]["high"] == 0.0
    assert not any("without the question" in fault for fault in figures["claim"]["faults"])
    assert "| ours without the question | 1.000" in (tmp_path / "out" / "report.md").read_text()
    # As a baseline the same rows are a fault.
    stage.run(config.model_copy(update={"lingua": config.ours}), force=True)
    figures = json.loads((tmp_path / "out" / "report.json").read_text())
    assert any("not above LLMLingua-2-style" in fault for fault in figures["claim"]["faults"])


def test_a_cut_report_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = prepared(tmp_path, 6).model_copy(update={"batch": 2})
    calls: list[int] = []

    class Mortal(Clever):
        def right(self, *args: Any) -> list[bool]:
            calls.append(1)
            if len(calls) == 3:
                raise StageError("power cut")
            return super().right(*args)

    monkeypatch.setattr(stage.Reader, "load", lambda *_, **__: Mortal())
    with pytest.raises(StageError, match="power cut"):
        stage.run(config)
    assert stage.run(config).counts["traces"] == 6
    assert len((tmp_path / "out" / "rows.jsonl").read_text().splitlines()) == 6 * (2 + 4 * 2)


def test_what_the_reader_learned_from_is_not_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = prepared(tmp_path, 3).model_copy(update={"reader": str(tmp_path / "reader")})
    (tmp_path / "reader").mkdir()
    (tmp_path / "reader" / "config.json").write_text("{}")
    (tmp_path / "reader" / "seen.txt").write_text(question_hash(QUESTION) + "\n")
    monkeypatch.setattr(stage.Reader, "load", lambda *_, **__: Clever())
    with pytest.raises(StageError, match="'known to the reader': 3"):
        stage.run(config)


def test_rows_that_do_not_match_their_trace_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = prepared(tmp_path, 4)
    monkeypatch.setattr(stage.Reader, "load", lambda *_, **__: Clever())
    path = tmp_path / "ours" / "all.jsonl"
    path.write_text(path.read_text().replace("20 - 12", "20 - 21"))
    with pytest.raises(StageError, match="does not match its trace"):
        stage.run(config)


# -- the reader


@pytest.mark.parametrize("kind", KINDS)
def test_corruption_only_takes_away(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tuple(int(name == kind) for name in KINDS)
    monkeypatch.setattr("extracot_training.stages.reader.examples.WEIGHTS", weights)
    for seed in range(5):
        left, done = corrupt(TRACE, Random(seed))
        assert done == kind
        rest = iter(TRACE.split())
        assert all(word in rest for word in left.split())


@given(st.integers(0, 10_000), st.integers(10, 60))
def test_bare_equations_are_true_and_small(seed: int, cap: int) -> None:
    from extracot_training.math_text.equations import numbers_in, read_equation

    text = equation(Random(seed), cap)
    found = read_equation(f"${text.rstrip('.')}$")
    assert found is not None
    assert found.correct
    assert max(numbers_in(text)) <= cap


def test_a_number_is_one_token() -> None:
    tokenizer = build_tokenizer(["So 3 + 4 = 7, $\\boxed{7}$."], 20)
    ids = tokenizer.encode(f"SO 13 + 4 = {MARK}.", add_special_tokens=False)
    assert tokenizer.convert_ids_to_tokens(ids) == ["so", "13", "+", "4", "=", MARK, "."]


def reader_config(out: Path) -> ReaderConfig:
    return ReaderConfig(
        out=out,
        problems=ReaderProblems(families=("marbles",)),
        model=ReaderModel(width=16, layers=1, heads=2, feed_forward=16),
        steps=4,
        arithmetic_steps=1,
        rows=4,
        evaluate_every=10,
        evaluate_on=4,
        checkpoint_every=1,
        threads=1,
    )


def test_a_resumed_reader_equals_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "VOCABULARY_PROBLEMS", 50)
    train.run(reader_config(tmp_path / "whole"))
    step = train._Training._step

    def mortal(self: Any, model: Any, optimizer: Any, number: int) -> float:
        if number == 2:
            raise StageError("power cut")
        return step(self, model, optimizer, number)

    monkeypatch.setattr(train._Training, "_step", mortal)
    with pytest.raises(StageError, match="power cut"):
        train.run(reader_config(tmp_path / "cut"))
    monkeypatch.setattr(train._Training, "_step", step)
    train.run(reader_config(tmp_path / "cut"))
    states = [load_causal_lm(str(tmp_path / name)).state_dict() for name in ("whole", "cut")]
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name
    assert not (tmp_path / "cut" / train.CHECKPOINT).exists()
    assert Reader.load(str(tmp_path / "cut")).answers(["How many?"], ["3 + 4 = [?]"])


def test_batching_does_not_change_answers_or_likelihoods(tmp_path: Path) -> None:
    name = str(save_causal(tmp_path / "reader", pad=False))
    model, tokenizer = load_causal_lm(name), load_tokenizer(name)
    card = ReaderCard(prompt="{question} : {trace} =", max_new_tokens=3)
    alone = Reader(model, tokenizer, card, batch_tokens=1)
    together = Reader(model, tokenizer, card)
    texts = ["a b c", "", "{1} + 2", TRACE]
    questions = ["what {is} it"] * 4
    assert alone.answers(questions, texts) == together.answers(questions, texts)
    first = alone.log_likelihoods(questions, texts, ["8", "12", "x", "8"])
    assert together.log_likelihoods(questions, texts, ["8", "12", "x", "8"]) == pytest.approx(
        first, abs=1e-4
    )
    assert all(value < 0 for value in first)


def test_a_texts_braces_are_text(tmp_path: Path) -> None:
    name = str(save_causal(tmp_path / "reader"))
    reader = Reader(
        load_causal_lm(name), load_tokenizer(name), ReaderCard(prompt="{question}|{trace}>")
    )
    assert reader.prompt("{trace} \\frac{1}{2}", "{question}") == "{trace} \\frac{1}{2}|{question}>"


def test_a_questions_numbers_can_be_hidden(tmp_path: Path) -> None:
    name = str(save_causal(tmp_path / "reader"))
    card = ReaderCard(prompt="{question}|{trace}", hide_numbers=True)
    reader = Reader(load_causal_lm(name), load_tokenizer(name), card)
    assert (
        reader.prompt("Ana has 1,250.5 km and 3 pens", "3 + 4") == "Ana has # km and # pens|3 + 4"
    )


def test_a_reader_may_see_only_the_sentences_that_ask() -> None:
    card = ReaderCard(sentences=2, hide_numbers=True)
    question = "Ana has 3 pens. Ben has 4.5 km to go! This is about Ana, 9.  How many?"
    assert card.shown(question) == "This is about Ana, #. How many?"
    assert card.model_copy(update={"sentences": 1}).shown("How many?") == "How many?"
    assert ReaderCard().shown(question) == question


def test_a_reader_of_threads_learns_from_the_asking_sentences(tmp_path: Path) -> None:
    wanted = ReaderProblems(threads=2, families=("baking", "savings"))
    generator = Generator(1, 20, (2, 3), ("baking", "savings"), threads=2)
    made = generator.problem(0)
    tokenizer = build_tokenizer([made.question, made.trace, made.terse], 20)
    settings = reader_config(tmp_path).model_copy(update={"problems": wanted})
    card = train._Training(settings, None)._card  # type: ignore[arg-type]
    maker = ExampleMaker(tokenizer, generator, card, redact_share=1.0)
    text = redact(made.trace, str(made.answer))
    example = maker.example(made, text)
    shown = tokenizer.decode(example.ids)
    asked = made.question.split(". ")
    assert asked[-1].lower().split("?")[0] in shown
    assert asked[0].lower() not in shown
    # It learns the answer behind each sign that hides it, and behind its own last equation.
    follow = [token for at, token, _ in example.targets if example.ids[at] == maker._mark]
    answer = tokenizer.convert_tokens_to_ids(str(made.answer))
    assert follow == [answer] * text.count(MARK)
    assert (len(example.ids) - 3, answer, 2) in example.targets


def test_spans_of_ours_are_whole_atoms() -> None:
    atoms = segment(TRACE)
    assert wholeness(atoms, spans_of(atoms, range(0, len(atoms), 2))).broken == 0
