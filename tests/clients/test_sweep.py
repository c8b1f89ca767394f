"""Sweeps: the calls against the real app, the files, the matching and the sums."""

from __future__ import annotations

import asyncio
import gc
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot.answers import same_answer
from extracot_client import (
    AsyncExtracot,
    Extracot,
    InvalidArgumentError,
    InvalidBudgetError,
    NotFoundError,
    RetryPolicy,
    ServerUnreachableError,
    Solution,
    SweepProblem,
    SweepRow,
)
from extracot_client.problem_files import SweepFileError, read_problems
from extracot_client.sweeps import sweep_rows
from tests.clients import fake_server as fake
from tests.clients.conftest import LiveServer
from tests.clients.fake_server import GOOD, FakeServer

PROBLEMS = [SweepProblem("a", "What is 2 + 2?", "4"), SweepProblem("b", "What is 3 * 5?")]


def test_every_problem_at_every_budget(live: LiveServer) -> None:
    with Extracot(live.url) as client:
        rows = list(client.sweep(PROBLEMS, [0.2, "auto", "native"], concurrency=3))
        one = client.solve(PROBLEMS[0].question, budget=0.2)
    assert {(row.problem_id, row.budget) for row in rows} == {
        (problem, budget) for problem in "ab" for budget in (0.2, "auto", "native")
    }
    row = next(row for row in rows if (row.problem_id, row.budget) == ("a", 0.2))
    assert (row.boxed, row.answer) == (one.boxed, one.answer)
    assert row.reasoning_tokens == one.report.reasoning_tokens
    assert row.correct is False and row.model == "scripted"
    assert all(row.correct is None for row in rows if row.problem_id == "b")
    assert all(row.error is None and row.total is not None for row in rows)


def test_both_twins_sweep_alike(live: LiveServer) -> None:
    async def sweep() -> list[SweepRow]:
        async with AsyncExtracot(live.url) as client:
            return [row async for row in client.sweep(["What is 2 + 2?"], [0.4, "none"])]

    def told(rows: list[SweepRow]) -> list[tuple[object, ...]]:
        return sorted((str(r.budget), r.answer, r.reasoning, r.fingerprint) for r in rows)

    with Extracot(live.url) as client:
        # Inside a running loop, as in a notebook: the sync sweep brings a thread of its own.
        async def inside() -> list[SweepRow]:
            return list(client.sweep(["What is 2 + 2?"], [0.4, "none"]))

        assert told(asyncio.run(sweep())) == told(asyncio.run(inside()))


def test_what_is_there_is_skipped(live: LiveServer) -> None:
    with Extracot(live.url) as client:
        first = list(client.sweep(PROBLEMS, [0.2], seed=1))
        marks = {(row.problem_id, row.fingerprint) for row in first}

        def skip(problem_id: str, budget: object, mark: str) -> bool:
            return (problem_id, mark) in marks

        assert list(client.sweep(PROBLEMS, [0.2], seed=1, skip=skip)) == []
        assert len(list(client.sweep(PROBLEMS, [0.2], seed=2, skip=skip))) == 2


def test_closing_a_sweep_aborts_what_runs(slow: LiveServer) -> None:
    with Extracot(slow.url) as client:
        rows = client.sweep(["What is 2 + 2?"], ["native", "auto", "none"], concurrency=3)
        # Without reasoning there is an answer at once; the two others reason on and on.
        assert next(rows).budget == "none"
        slow.wait_until(lambda: slow.in_flight() == 2)
        rows.close()
        slow.wait_until(lambda: slow.in_flight() == 0)


def test_cancelling_a_sweep_aborts_what_runs(slow: LiveServer) -> None:
    async def leave_early() -> None:
        async with AsyncExtracot(slow.url) as client:
            sweep = client.sweep(["What is 2 + 2?"], ["native", "auto"], concurrency=2)
            task = asyncio.ensure_future(anext(sweep))
            await asyncio.to_thread(slow.wait_until, lambda: slow.in_flight() == 2)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await sweep.aclose()

    asyncio.run(leave_early())
    slow.wait_until(lambda: slow.in_flight() == 0)


def test_a_failed_request_is_a_row_and_the_rest_goes_on() -> None:
    handlers = [fake.error(500, "oops", x_request_id="r1"), fake.stream(*GOOD)]
    with FakeServer(handlers) as server, Extracot(server.url, model="m") as client:
        rows = list(client.sweep(["x", "y"], [0.2], concurrency=1))
    assert rows[0].error == "ServerError: oops (HTTP 500, request r1)" and rows[0].answer is None
    assert rows[0].request_id == "r1"
    assert rows[1].error is None and rows[1].boxed == "4"


@pytest.mark.parametrize(
    ("options", "kind"),
    [({"budgets": ["fast"]}, InvalidBudgetError), ({"model": "gpt-9"}, NotFoundError)],
)
def test_what_all_would_meet_is_raised(
    live: LiveServer, options: dict[str, object], kind: type[Exception]
) -> None:
    arguments = {"budgets": [0.2], **options}
    with Extracot(live.url) as client, pytest.raises(kind):
        list(client.sweep(PROBLEMS, **arguments))  # type: ignore[arg-type]


def test_refusals_of_all_are_one_error() -> None:
    """Several requests fail at once: the first is raised, and none is left to the event loop."""
    left: list[dict[str, object]] = []

    async def refuse(*_: object, **__: object) -> Solution:
        raise InvalidBudgetError("no such budget")

    async def sweep() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, told: left.append(told))
        rows = sweep_rows(refuse, PROBLEMS, ["fast", "slow"], concurrency=4, skip=None)
        with pytest.raises(InvalidBudgetError):
            await anext(rows)
        gc.collect()

    asyncio.run(sweep())
    assert left == []


def test_no_server_ends_a_sweep(no_server: str) -> None:
    with Extracot(no_server, retry=RetryPolicy(max_retries=0), model="m") as client:
        with pytest.raises(ServerUnreachableError):
            list(client.sweep(PROBLEMS, [0.2]))
        with pytest.raises(InvalidArgumentError):
            list(client.sweep(PROBLEMS, [0.2], concurrency=0))


@pytest.mark.parametrize(
    ("found", "gold", "same"),
    [
        ("4", "4", True),
        (" 1,200 ", "1200.0", True),
        (r"\$18", "18", True),
        (r"\text{(B)}", "(B)", True),
        (r"\frac{1}{2}", "0.5", True),
        (r"-\dfrac{3}{4}", "-0.75", True),
        (r"\dfrac{x}{2}", r"\frac{x}{2}", True),
        ("50\\%", "50", True),
        ("3.", "3", True),
        ("4", "5", False),
        ("12,34", "1234", False),
        ("", "", False),
        (None, "4", False),
        ("1e999999999", "2", False),
        (r"\frac{1}{0}", "0", False),
        ("x+1", "1+x", False),
    ],
)
def test_answers_that_match(found: str | None, gold: str, same: bool) -> None:
    assert same_answer(found, gold) is same


@given(st.text(max_size=40), st.text(max_size=40))
def test_matching_takes_any_text(found: str, gold: str) -> None:
    assert same_answer(found, gold) == same_answer(gold, found)


def read(text: str, *, as_csv: bool = False) -> list[SweepProblem]:
    return read_problems(io.StringIO(text, newline=""), "in", as_csv=as_csv)


def test_problems_from_jsonl_and_csv() -> None:
    lines = ['{"question": "q", "answer": "w #### 4", "id": 7}', "", '"bare"', '{"prompt": "p"}']
    seven, bare, prompt = read("\n".join(lines))
    assert seven == SweepProblem("7", "q", "4")
    assert bare.question == "bare" and bare.answer is None and len(bare.id) == 12
    assert prompt.question == "p"
    table = 'id,problem,gold\nx,"two\nlines",3\ny,plain,\n'
    assert read(table, as_csv=True) == [
        SweepProblem("x", "two\nlines", "3"),
        SweepProblem("y", "plain", None),
    ]


@pytest.mark.parametrize(
    ("text", "as_csv", "words"),
    [
        ("", False, "in: holds no problem"),
        ("{}\n", False, "in:1: no field question"),
        ('"q"\n{broken', False, "in:2: not JSON"),
        ("[1]", False, "in:1: a problem is an object or a string"),
        ('{"question": "  "}', False, "in:1: the question is empty"),
        ('{"question": 5}', False, "in:1: the question is empty or no text"),
        ('{"id": 1, "question": "a"}\n{"id": 1, "question": "b"}', False, "already in in:1"),
        ("name\nx\n", True, "in:2: no column question"),
        ('question\n"open', True, "not CSV"),
        ('[{"question": "q"}]', False, "in:1: a problem is an object or a string, one a line"),
        ("\ufeff\n", False, "in: holds no problem"),
    ],
)
def test_bad_problem_files_name_the_line(text: str, as_csv: bool, words: str) -> None:
    with pytest.raises(SweepFileError) as caught:
        read(text, as_csv=as_csv)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("gold", "told"),
    [
        ('["$388$"]', "is a list"),
        ("[]", "is a list"),
        ('{"value": 4}', "is an object"),
        ("true", "is true"),
        ("null", "is null"),
        ("NaN", "is NaN"),
        ("-Infinity", "is -Infinity"),
        ("1e400", "is Infinity"),
        ("1e99", "is a number of 100 digits"),
        ('""', "holds no answer"),
        ('"  "', "holds no answer"),
        ('"$ $"', "holds no answer"),
        ('"work and no result ####"', "has nothing behind"),
        ('"NaN"', "is 'NaN'"),
        ("\"['388']\"", "want the bare answer"),
    ],
)
def test_golds_that_never_match_are_errors(gold: str, told: str) -> None:
    good = '{"question": "p", "answer": 5}\n'
    for name in ("answer", "gold", "final_answer"):
        with pytest.raises(SweepFileError) as caught:
            read(f'{good}{{"question": "q", "{name}": {gold}}}')
        message = str(caught.value)
        assert message.startswith(f"in:2: field '{name}' ")
        assert told in message and "want the bare answer as a text or a number" in message


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("42", "42"),
        ("0.5", "0.5"),
        ("1e3", "1000"),
        ("-7", "-7"),
        ('"$388$"', "$388$"),
        (r'"so \\boxed{\\frac{1}{2}}"', r"\frac{1}{2}"),
        ('"(1, 2]"', "(1, 2]"),
        ('"none"', "none"),
    ],
)
def test_golds_as_texts_and_numbers(gold: str, answer: str) -> None:
    (problem,) = read(f'{{"question": "q", "answer": {gold}}}')
    assert problem.answer == answer and same_answer(answer, problem.answer)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("question, answer\nq,4\n", "in:2: unknown column ' answer' (did you mean 'answer'?)"),
        ("question,Answer\nq,4\n", "unknown column 'Answer' (did you mean 'answer'?)"),
        ("question,answers\nq,4\n", "unknown column 'answers' (did you mean 'answer'?)"),
        ("question,final answer\nq,4\n", "did you mean 'final_answer'?"),
        (" question,answer\nq,4\n", "unknown column ' question' (did you mean 'question'?)"),
        ("question,answer,ID\nq,4,1\n", "unknown column 'ID' (did you mean 'id'?)"),
        ("question,answer,answer\nq,4,5\n", "in:1: column 'answer' is there twice"),
        ("question,answer\nq,1,000\n", "in:2: more cells than the 2 columns"),
        ("question,answer\nq\n", "in:2: no cell for column 'answer'"),
        ("question,answer\nq,  \n", "in:2: column 'answer' holds no answer"),
        ("question,answer\nq,nan\n", "in:2: column 'answer' is 'nan'"),
        ("question,answer\np,3\nq,\"['4']\"\n", "in:3: column 'answer' is"),
        ("question,answer,gold\nq,4,5\n", "column 'answer' and column 'gold' are different"),
        ("question;answer\nq;4\n", "no column question"),
    ],
)
def test_columns_that_hold_no_gold_are_errors(table: str, told: str) -> None:
    with pytest.raises(SweepFileError) as caught:
        read(table, as_csv=True)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"question": "q", "Answer": 4}', "unknown field 'Answer' (did you mean 'answer'?)"),
        ('{"question": "q", "answer": 4, "answer": 5}', "field 'answer' is there twice"),
        ('{"question": "q", "id": true}', "field 'id' is true; want a text or a whole number"),
        ('{"question": "q", "id": [1]}', "field 'id' is a list"),
        ('"q"\n"q"', "in:2: the same question was already in in:1; give each an id of its own"),
    ],
)
def test_fields_that_are_not_read_as_meant_are_errors(line: str, told: str) -> None:
    with pytest.raises(SweepFileError) as caught:
        read(line)
    assert told in str(caught.value)


def test_other_fields_and_a_byte_order_mark_do_no_harm() -> None:
    text = '\ufeff{"problem": "p", "solution": "s", "answer": "4", "level": 2, "final_answer": 4.0}'
    assert [(p.question, p.answer) for p in read(text)] == [("p", "4")]


def test_problems_of_ones_own_are_checked_before_any_is_asked() -> None:
    async def ask(*_: object, **__: object) -> Solution:
        raise AssertionError("asked")

    async def sweep(answer: object) -> None:
        problems = [*PROBLEMS, SweepProblem("c", "q", answer)]  # type: ignore[arg-type]
        with pytest.raises(InvalidArgumentError, match="The answer of problem 'c' is"):
            await anext(sweep_rows(ask, problems, [0.2], concurrency=1, skip=None))

    for answer in (4, ["4"], "", True):
        asyncio.run(sweep(answer))
