"""Budgets spent on whole steps, and marked traces judged."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot_training.compression.budget import RatioError, TokenCounter
from extracot_training.compression.choice import step_order
from extracot_training.compression.segment import join, segment, spans_of
from extracot_training.compression.structure import NEAR, outline, spend_on_steps
from extracot_training.errors import RowError, StageError
from extracot_training.evaluation.marks import MarkedTrace, Marks, agreed, judge, read_marked
from tests.training.tiny import word_tokenizer

COUNTER = TokenCounter(word_tokenizer())
RATIOS = [0.1, 0.2, 0.3, 0.5, 0.8, 1.0]
SENTENCES = st.sampled_from(
    ["So $x = 5$. ", "Wait, no. ", "Ana cannot be first, only if n > 2. ", "We add 3 + 4 = 7.\n",
     "That is a long way to say that nothing at all comes out of it. ", "中文。 "]
)  # fmt: skip
TEXTS = st.lists(SENTENCES, max_size=25).map("".join)


@given(TEXTS, st.randoms(use_true_random=False))
def test_budgets_are_met_kept_sets_nested_and_atoms_whole(text: str, rng: Any) -> None:
    plan = outline(text, segment(text))
    order = list(range(len(plan.spans)))
    rng.shuffle(order)
    weights = [rng.random() for _ in plan.atoms]
    found = spend_on_steps(text, plan, order, weights, RATIOS, COUNTER)
    costs = COUNTER.per_atom(text, plan.atoms)
    for small, large in pairwise(found):
        assert set(small.kept) <= set(large.kept)
    for one in found:
        assert one.text == (text if one.target == 1 else join(plan.atoms, one.kept))
        near = max(NEAR * one.tokens_full, max(costs, default=0) / 2)
        assert abs(one.tokens - one.target * one.tokens_full) <= near or len(one.kept) == 1


def test_steps_stay_whole_where_they_fit() -> None:
    text = "".join(f"Sentence {n} says that x = {n}. " for n in range(30))
    plan = outline(text, segment(text))
    order = [7, 21, 3, *[i for i in range(30) if i not in (3, 7, 21)]]
    (found,) = spend_on_steps(text, plan, order, [0.0] * len(plan.atoms), [0.1], COUNTER)
    assert found.kept == tuple(sorted(i for step in (7, 21, 3) for i in plan.members[step]))


def test_a_step_too_large_loses_its_least_important_words_and_never_a_negation() -> None:
    text = "Here the two of them sadly cannot be neighbours so that we keep 12 ways. Yes."
    plan = outline(text, segment(text))
    weights = [float(atom.body == "neighbours") for atom in plan.atoms]
    for ratio in (0.3, 0.4, 0.6):
        (found,) = spend_on_steps(text, plan, [0, 1], weights, [ratio], COUNTER)
        assert "cannot" in found.text
        assert "12" in found.text
        assert found.tokens < found.tokens_full
    assert "neighbours" in found.text


def test_the_answer_stays_and_ratios_outside_are_refused() -> None:
    text = "One two three four five six seven. So $x = 9$."
    plan = outline(text, segment(text))
    (found,) = spend_on_steps(
        text, plan, [0, 1], [0.0] * len(plan.atoms), [0.05], COUNTER,
        always=[len(plan.atoms) - 1],
    )  # fmt: skip
    assert found.text == "$x = 9$."
    with pytest.raises(RatioError, match=r"outside \(0, 1\]"):
        spend_on_steps(text, plan, [0, 1], [0.0] * len(plan.atoms), [0], COUNTER)


def test_revoked_steps_come_late_and_short_ones_before_long_ones() -> None:
    assert step_order([0.9, 0.5, 0.9, 0.2], [0, 0, 0.9, 0], [4, 4, 4, 4], 3) == [3, 0, 1, 2]
    assert step_order([0.8, 0.7], [0, 0], [90, 10], None) == [1, 0]
    assert step_order([0.8, 0.7], [0, 0], [90, 10], None, thrift=0) == [0, 1]


TRACE = MarkedTrace(
    id="t", question="q", answer="7",
    thinking="So $x = 5$. Wait, no. In fact $x = 6$, not less. So the answer is 7.",
)  # fmt: skip
MARKS = Marks(id="t", needed=((2,), (3,)), revoked=(0,), protected=((2, "not"),))


def _judged(*bodies: str) -> Any:
    plan = outline(TRACE.thinking, segment(TRACE.thinking))
    kept = [i for i, atom in enumerate(plan.atoms) if any(b in atom.text for b in bodies)]
    return judge(TRACE, MARKS, plan, spans_of(plan.atoms, kept))


def test_what_is_kept_is_held_against_the_marks() -> None:
    plan = outline(TRACE.thinking, segment(TRACE.thinking))
    whole = judge(TRACE, MARKS, plan, [(0, len(TRACE.thinking))])
    assert (whole.needed, whole.revoked, whole.contradictions, whole.negations) == (2, 1, 1, 0)
    part = _judged("In", "fact", "x = 6", "less", "answer")
    assert (part.needed, part.revoked, part.contradictions) == (0, 0, 0)
    assert (part.protected, part.negations) == (1, 1)
    assert judge(TRACE, MARKS, plan, []).protected == 0


def test_readers_agree_where_they_share_a_step() -> None:
    one = Marks(id="a", needed=((1,), (4, 9), (6,)), revoked=(2, 3), protected=((9, "not"),))
    two = Marks(id="a", needed=((9, 12), (1,)), revoked=(3, 5), protected=((6, "no"),))
    both = agreed([one, two])
    assert both.needed == ((1,), (4, 9, 12))
    assert both.revoked == (3,)
    assert both.protected == ((9, "not"),)


def test_bad_rows_are_named(tmp_path: Path) -> None:
    traces, marks = tmp_path / "t.jsonl", tmp_path / "m.jsonl"
    traces.write_text(TRACE.model_dump_json() + "\n", encoding="utf-8")
    marks.write_text(json.dumps({"id": "t", "needed": [["x"]]}) + "\n", encoding="utf-8")
    with pytest.raises(RowError, match=r"m\.jsonl:1: field 'needed"):
        read_marked(traces, [marks])
    marks.write_text(json.dumps({"id": "t", "needed": [[4]]}) + "\n", encoding="utf-8")
    with pytest.raises(StageError, match=r"t\.jsonl: t: marks name step 4 of 4"):
        read_marked(traces, [marks])
    marks.write_text(json.dumps({"id": "other", "needed": [[0]]}) + "\n", encoding="utf-8")
    assert read_marked(traces, [marks]) == []
