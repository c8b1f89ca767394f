"""Annotators: what each keeps, and how they bear bad replies, dead endpoints and restarts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import HttpUrl

from extracot_training.compression.final_answer import final_atoms
from extracot_training.compression.segment import join, segment, sentences
from extracot_training.config.annotate import AnnotateConfig, LikelihoodSettings, LlmSettings
from extracot_training.math_text.equations import evaluate, read_equation
from extracot_training.pipeline.records import Annotation, Trace, read_rows, write_rows
from extracot_training.stages.annotate.base import AnnotatorError, Job
from extracot_training.stages.annotate.likelihood import LikelihoodAnnotator
from extracot_training.stages.annotate.llm import LlmAnnotator, ReplyCache
from extracot_training.stages.annotate.ranges import chunks, messages, parse_ranges, size
from extracot_training.stages.annotate.rules import RulesAnnotator
from extracot_training.stages.annotate.stage import Agreement, agreement, run
from tests.training.openai_server import completion as chat_reply
from tests.training.openai_server import serve
from tests.training.tiny import TRACE, annotation, trace


def job(text: str = TRACE, gold: str = "8") -> Job:
    return Job(trace(0, text, gold), segment(text))


def kept_by_rules(text: str = TRACE, gold: str = "8") -> str:
    one = job(text, gold)
    verdict = next(RulesAnnotator().annotate([one]))
    return join(one.atoms, verdict.keep)


# -- rules


def test_rules_keep_the_way_to_the_answer() -> None:
    kept = kept_by_rules()
    assert "3 × 4 = 12" in kept
    assert "20 - 12 = 8" in kept
    assert kept.endswith("8.")


def test_rules_drop_narration_hedges_and_double_checks() -> None:
    kept = kept_by_rules()
    for dropped in ("Okay", "Hmm", "8 + 12 = 20", "double-check", "Great"):
        assert dropped not in kept


def test_rules_keep_the_earliest_correct_equation() -> None:
    text = "First 3 × 4 = 11. No wait, 3 × 4 = 12. Again 4 × 3 = 12. So 12 - 2 = 10. It is 10."
    kept = kept_by_rules(text, "10")
    assert "3 × 4 = 12." in kept
    assert "= 11" not in kept
    assert "4 × 3 = 12" not in kept


def test_rules_drop_equations_that_lead_nowhere() -> None:
    kept = kept_by_rules("See 7 + 7 = 14. Then 2 + 3 = 5. Then 5 × 2 = 10. The answer is 10.", "10")
    assert "7 + 7" not in kept
    assert "2 + 3 = 5" in kept


def test_rules_read_a_fraction_whole_and_follow_symbols() -> None:
    text = (
        r"We have $x + y = 12$. Also $a + b = 3$. Of 36 tiles $40 - 4 = 36$ are left. "
        r"Since $y = \frac{24}{5}$, we get $x = 12 - \frac{24}{5} = \frac{36}{5}$. It is $7.2$."
    )
    kept = kept_by_rules(text, r"\frac{36}{5}")
    assert "x + y = 12" in kept
    assert r"y = \frac{24}{5}" in kept
    assert r"= \frac{36}{5}" in kept
    assert "40 - 4" not in kept, "36 is not 36/5"
    assert "a + b" not in kept, "a symbolic formula that leads nowhere"


def test_rules_tell_a_division_from_a_fraction() -> None:
    text = "We have 18 - 2 = 16. Also 9 - 7 = 2. Then 16 ÷ 2 = 8. The answer is 8."
    assert "18 - 2 = 16" in kept_by_rules(text)
    assert "9 - 7 = 2" in kept_by_rules(text)


@given(st.text(max_size=200), st.text(min_size=1, max_size=5).filter(str.strip))
def test_rules_take_any_text(text: str, gold: str) -> None:
    one = job(text, gold)
    verdict = next(RulesAnnotator().annotate([one]))
    assert verdict.scores is not None
    assert len(verdict.scores) == len(one.atoms)
    assert all(0 <= index < len(one.atoms) for index in verdict.keep)


@pytest.mark.parametrize(
    ("text", "value"),
    [("35 × 3", "105"), ("(2 + 3) * 4 - 1", "19"), ("$\\frac{1}{2} + 1", "3/2"), ("12 km ÷ 4", "3"),
     ("1,000 + 1", "1001"), ("x + 1", None), ("2 /0", None), ("(1", None), ("", None)],
)  # fmt: skip
def test_arithmetic_is_exact_or_unknown(text: str, value: str | None) -> None:
    found = evaluate(text)
    assert (None if found is None else str(found)) == value


def test_an_equation_is_right_wrong_or_unknown() -> None:
    assert [read_equation(t).correct for t in ("2 + 2 = 4", "2 + 2 = 5", "x = 5")] == [  # type: ignore[union-attr]
        True,
        False,
        None,
    ]
    assert read_equation("just 5") is None


def test_the_final_answer_is_found_boxed_first() -> None:
    atoms = segment("It is 8 pens, or $\\boxed{8}$, yes 8.")
    assert [atoms[i].body for i in final_atoms(atoms, "8")] == ["$\\boxed{8}$,"]
    atoms = segment("We get 5 + 3 = 8. Done with 9.")
    assert [atoms[i].body for i in final_atoms(atoms, "8")] == ["5 + 3 = 8."]
    assert final_atoms(segment("nothing here"), "8") == []


# -- likelihood


class Oracle:
    """Rates an answer by whether a word is there: stands in for a reader."""

    def __init__(self, word: str) -> None:
        self._word = word
        self.texts: list[str] = []

    def log_likelihoods(
        self, questions: Sequence[str], traces: Sequence[str], answers: Sequence[str]
    ) -> list[float]:
        self.texts.extend(traces)
        return [0.0 if self._word in text else -5.0 for text in traces]


def test_likelihood_keeps_what_the_answer_hangs_on() -> None:
    reader = Oracle("3 × 4")
    settings = LikelihoodSettings(reader="none", keep_rate=0.3)
    one = job()
    verdict = next(LikelihoodAnnotator(reader, settings).annotate([one]))
    assert [one.atoms[i].body for i in verdict.keep] == ["3 × 4 = 12.", "8."]
    assert verdict.scores is not None
    assert max(verdict.scores) == 5.0
    assert all("is 8" not in text for text in reader.texts), "the answer was not hidden"


def test_likelihood_tries_thinned_contexts() -> None:
    reader = Oracle("cost")
    settings = LikelihoodSettings(reader="none", contexts=3, thin=0.7)
    one = job()
    verdicts = [next(LikelihoodAnnotator(reader, settings).annotate([one])) for _ in range(2)]
    assert verdicts[0] == verdicts[1]
    # "cost" stands in the trace twice: with everything else there, neither one matters.
    assert verdicts[0].scores is not None
    assert max(verdicts[0].scores) > 0


# -- llm

SETTINGS = LlmSettings.model_validate(
    {"base_url": "http://annotator.test/v1", "model": "m", "first_wait_s": 0.001, "retries": 2}
)
Handler = Callable[[httpx.Request], httpx.Response]


def completion(content: str) -> httpx.Response:
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    return httpx.Response(
        200, json={"choices": [{"message": {"content": content}}], "usage": usage}
    )


def llm(tmp_path: Path, handler: Handler, settings: LlmSettings = SETTINGS) -> LlmAnnotator:
    return LlmAnnotator(
        settings, ReplyCache(tmp_path / "cache"), transport=httpx.MockTransport(handler)
    )


def test_llm_ranges_become_atoms_and_usage_is_counted(tmp_path: Path) -> None:
    asked: list[dict[str, object]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content))
        return completion('{"ranges": ["001-003", "010-010"]}')

    settings = SETTINGS.model_copy(update={"prompt_price": 1.0, "completion_price": 2.0})
    verdict = next(llm(tmp_path, handler, settings).annotate([job()]))
    assert verdict.keep[:4] == (0, 1, 2, 9)
    assert len(verdict.keep) == 5, "the final answer was not kept"
    assert verdict.usage.prompt_tokens == 100
    assert verdict.usage.cost == pytest.approx(120e-6)
    assert asked[0]["temperature"] == 0


def test_llm_pays_nothing_twice(tmp_path: Path) -> None:
    calls: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        return completion('{"ranges": ["001-004"]}')

    first = next(llm(tmp_path, handler).annotate([job()]))
    again = next(llm(tmp_path, handler).annotate([job()]))
    assert len(calls) == 1
    assert again.keep == first.keep
    assert (again.usage.cached, again.usage.calls) == (1, 0)


def test_llm_is_asked_again_after_an_empty_reply(tmp_path: Path) -> None:
    replies = ["", '{"ranges": []}', '{"ranges": [[2, 4]]}']
    seen: list[int] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(len(json.loads(request.content)["messages"]))
        return completion(replies[len(seen) - 1])

    verdict = next(llm(tmp_path, handler).annotate([job()]))
    assert seen == [2, 4, 6]
    assert verdict.keep[:3] == (1, 2, 3)
    assert verdict.usage.calls == 3


def test_llm_repeats_what_may_pass_and_nothing_else(tmp_path: Path) -> None:
    statuses = [503, 429, 200]
    seen: list[int] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(statuses[len(seen)])
        return completion("1-2") if seen[-1] == 200 else httpx.Response(seen[-1], text="busy")

    assert next(llm(tmp_path, handler).annotate([job()])).keep[:2] == (0, 1)
    assert seen == statuses

    def refuse(request: httpx.Request) -> httpx.Response:
        seen.append(401)
        return httpx.Response(401, text="who are you")

    with pytest.raises(AnnotatorError, match="HTTP 401: who are you"):
        list(llm(tmp_path / "other", refuse).annotate([job()]))
    assert seen.count(401) == 1


def test_a_dead_endpoint_is_one_clear_error(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"base_url": HttpUrl("http://127.0.0.1:9/v1")})
    with pytest.raises(AnnotatorError, match=r"annotator endpoint http://127\.0\.0\.1:9/v1"):
        list(LlmAnnotator(settings, ReplyCache(tmp_path)).annotate([job()]))


@pytest.mark.parametrize("body", ["[]", "nonsense", "{}", '{"choices": []}'])
def test_a_strange_endpoint_is_one_clear_error(tmp_path: Path, body: str) -> None:
    with pytest.raises(AnnotatorError, match="reply is no"):
        list(llm(tmp_path, lambda _: httpx.Response(200, text=body)).annotate([job()]))


def test_a_cut_stage_keeps_its_replies(tmp_path: Path) -> None:
    write_rows(tmp_path / "teach" / "rows.jsonl", [trace(n) for n in range(3)])
    config = AnnotateConfig(
        input=tmp_path / "teach",
        out=tmp_path / "out",
        annotator=SETTINGS.model_copy(update={"base_url": HttpUrl("http://127.0.0.1:9/v1")}),
    )
    with pytest.raises(AnnotatorError):
        run(config)
    # Addresses are no part of the result: the same folder goes on with another endpoint.
    moved = config.model_copy(update={"annotator": SETTINGS})
    assert moved.fingerprint() == config.fingerprint()


def test_a_stage_over_http_goes_on_without_asking_again(tmp_path: Path) -> None:
    write_rows(tmp_path / "teach" / "rows.jsonl", [trace(n, TRACE + " Yes." * n) for n in range(4)])

    def config(url: str) -> AnnotateConfig:
        settings = SETTINGS.model_copy(
            update={"base_url": HttpUrl(url), "retries": 0, "concurrency": 1}
        )
        return AnnotateConfig(
            input=tmp_path / "teach", out=tmp_path / "out", annotator=settings, batch=4
        )

    with serve(lambda _: chat_reply('{"ranges": ["001-009"]}')) as server:
        good, bodies = server.answer, server.bodies
        server.answer = lambda body: good(body) if len(bodies) <= 2 else (500, {}, {})
        with pytest.raises(AnnotatorError, match="HTTP 500"):
            run(config(server.url))
        answered = len(list((tmp_path / "out" / "cache").rglob("*.json")))
        assert answered == 2
    # Another server: a call that was under way when the first run failed can't be taken for a new
    # one. The address is no part of the result.
    with serve(good) as server:
        outcome = run(config(server.url))
        assert outcome.counts["rows"] == 4
        assert len(server.bodies) == 2, "paid for twice"
    usage = json.loads((tmp_path / "out" / "report.json").read_text())["usage"]
    assert usage["calls"] == 2
    assert usage["cached"] == 2


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('{"ranges": ["005-012", "020"]}', [(4, 11), (19, 19)]),
        ('```json\n{"ranges": ["1-2"]}\n```', [(0, 1)]),
        ("I keep 003-005 and 4-9.", [(2, 8)]),
        ('{"ranges": [[3, 1], 7, {"start": 9, "end": 10}]}', [(0, 2), (6, 6), (8, 9)]),
        ('{"ranges": ["25-99", "40-50"]}', [(24, 29)]),
        ('{"ranges": ["0-2"]}', [(0, 1)]),
        ('{"ranges": ["1-2", "3-4"]}', [(0, 3)]),
        ('<think>maybe 1-30</think>{"ranges": ["2-3"]}', [(1, 2)]),
        ('{"ranges": ["1-2", "3-', [(0, 2)]),
        ("no idea", []),
        ("", []),
        ('{"ranges": "all"}', []),
        ('{"ranges": [true, null, "x"]}', []),
    ],
)
def test_replies_are_read_tolerantly(reply: str, expected: list[tuple[int, int]]) -> None:
    assert parse_ranges(reply, 30) == expected


@given(st.text(), st.integers(1, 50))
def test_any_reply_gives_valid_ranges(reply: str, count: int) -> None:
    found = parse_ranges(reply, count)
    assert all(0 <= low <= high < count for low, high in found)
    assert all(a[1] + 1 < b[0] for a, b in pairwise(found))


def test_chunks_cover_all_atoms_and_hold_the_cap() -> None:
    text = " ".join(
        f"Then {n} + 1 = {n + 1} and $x_{n} = {n}.5$ km. It is 3.5 km." for n in range(200)
    )
    atoms = segment(text)
    found = chunks(atoms, target=64, cap=80)
    assert [i for chunk in found for i in chunk] == list(range(len(atoms)))
    sizes = [sum(size(atoms[i].text) for i in chunk) for chunk in found]
    assert max(sizes) <= 80
    assert min(sizes[:-1]) >= 40


def test_the_prompt_masks_formulas_and_counts_from_one() -> None:
    atoms = segment("So $x = 5$, yes. Then 2 + 3 = 5 holds.")
    shown = messages("What is x?", atoms, chunks(atoms, 512, 640)[0], "1 of 1")[1]["content"]
    assert "001 So\n002 [MATH_1]\n003 yes." in shown
    assert "005 2 + 3 = 5" in shown
    assert "[MATH_1] = $x = 5$," in shown
    assert "What is x?" in shown


def test_sentences_do_not_end_in_numbers_or_formulas() -> None:
    atoms = segment("It costs 3.5 km. e.g. $a.b$ or so. 1. First item here.\nNext")
    texts = ["".join(atoms[i].text for i in part).strip() for part in sentences(atoms)]
    assert texts == ["It costs 3.5 km.", "e.g. $a.b$ or so.", "1. First item here.", "Next"]


# -- agreement and the stage


def test_agreement_counts_atoms() -> None:
    half = len(TRACE) // 2
    atoms = segment(TRACE)
    cut = next(atom.end for atom in atoms if atom.end >= half)
    found = agreement([annotation(0, [(0, cut)])], [annotation(0, [(0, len(TRACE))])])
    assert (found.second_only, found.neither, found.first_only) == (found.atoms - found.both, 0, 0)
    same = agreement([annotation(0, [(0, cut)])], [annotation(0, [(0, cut)])])
    assert same.kappa == 1.0
    assert same.f1 == 1.0
    assert Agreement(10, 0, 0, 0).kappa is None
    assert agreement([annotation(0, [])], [annotation(1, [])]).traces == 0


def test_the_stage_annotates_resumes_and_compares(tmp_path: Path) -> None:
    rows = [trace(0), trace(1), trace(2, reasoning="  ")]
    wrong = Trace.model_validate({**trace(3).model_dump(), "correct": False})
    write_rows(tmp_path / "teach" / "rows.jsonl", [*rows, wrong])
    config = AnnotateConfig(input=tmp_path / "teach", out=tmp_path / "one")
    outcome = run(config)
    assert outcome.counts == {
        "rows": 2, "left_out_wrong": 1, "left_out_empty": 1, "left_out_keep_rate": 0,
        "lost": {"wrong": 1, "empty": 1},
    }  # fmt: skip
    assert run(config).status == "up to date"
    second = AnnotateConfig(
        input=tmp_path / "teach", out=tmp_path / "two", compare=(tmp_path / "one",)
    )
    run(second)
    report = json.loads((tmp_path / "two" / "report.json").read_text())
    assert report["agreement"][str(tmp_path / "one")]["kappa"] == 1.0
    for row in read_rows(tmp_path / "two", Annotation):
        atoms = segment(row.reasoning)
        edges = {atom.start for atom in atoms} | {atom.end for atom in atoms}
        assert all(start in edges and end in edges for start, end in row.keep)
