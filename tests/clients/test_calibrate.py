"""``extracot calibrate`` from end to end: asked, killed, taken up again, written, and served."""

from __future__ import annotations

import ast
import json
import operator
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from extracot.card import BudgetCard
from extracot_client import Extracot
from extracot_client.cli import main
from extracot_client.problem_files import read_problems
from extracot_server.engine.scripted.engine import ScriptedBehaviour, scripted_card
from tests.clients import fake_server as fake
from tests.clients.browser import free_port
from tests.clients.conftest import LiveServer, serve
from tests.clients.fake_server import WAIT, FakeServer
from tests.server.live import wait_for

PLAIN = ScriptedBehaviour()
SLOW = ScriptedBehaviour(token_interval_seconds=0.005)
SERVER = """
import sys
from tests.clients.conftest import serve
from tests.clients.test_calibrate import SLOW
with serve(SLOW, port=int(sys.argv[1]), card="none"):
    print("ready", flush=True)
    sys.stdin.read()
"""
SHIPPED = files("extracot_client") / "data" / "word_problems.jsonl"


@pytest.fixture(scope="module")
def plain() -> Iterator[LiveServer]:
    """A healthy server whose model has no card."""
    with serve(ScriptedBehaviour(), card="none") as server:
        yield server


@pytest.fixture(scope="module")
def problems(plain: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve problems; the scripted model is right in eight of them, whatever the budget."""
    rows = []
    with Extracot(plain.url) as client:
        for n in range(12):
            question = f"What is {n} + {n}?"
            prompt = f"{question}\n\nPut the final answer within \\boxed{{}}."
            box = client.solve(prompt, budget="none").boxed
            rows.append({"question": question, "answer": box if n < 8 else "-1", "id": f"p{n}"})
    file = tmp_path_factory.mktemp("problems") / "twelve.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def calibrate(server: LiveServer | str, problems: Path | str, out: Path, *more: str) -> int:
    url = server if isinstance(server, str) else server.url
    return main(["calibrate", url, "--problems", str(problems), "--out", str(out), *more])


def rows_of(out: Path) -> list[dict[str, Any]]:
    (file,) = out.parent.glob(f"{out.stem}.rows-*.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines() if line.endswith("}")]


def test_a_card_is_measured_and_then_used(
    plain: LiveServer, problems: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, picture = tmp_path / "card.json", tmp_path / "card.png"
    assert calibrate(plain, problems, out, "--plot", str(picture), "--seeds", "2") == 0
    told = capsys.readouterr()
    assert "168 requests (12 problems x 2 seeds x 7: native, none, 0.2" in told.err
    assert told.out.splitlines()[0].split() == [
        *("level", "by", "n", "right", "95%", "reasoning", "of", "native", "remarks")
    ]
    card = BudgetCard.load(out)
    assert (card.model, card.base_model, len(rows_of(out))) == ("scripted", "scripted", 168)
    assert [level.name for level in card.levels] == ["0.2", "0.4", "0.6", "0.8", "1.0"]
    assert all(level.accuracy and level.accuracy.mean == 8 / 12 for level in card.levels)
    assert card.none is not None and card.none.reasoned == 0
    realised = [level.expected_ratio for level in card.levels]
    assert realised == sorted(realised) and realised[0] == pytest.approx(0.2, abs=0.06)
    if picture.exists():
        assert picture.read_bytes().startswith(b"\x89PNG")
    with serve(ScriptedBehaviour(), card=str(out)) as server, Extracot(server.url) as client:
        report = client.solve("What is 2 + 2?", budget=0.4).report
        page = client.budget_card()
    assert (report.level, report.enforcement) == ("0.4", "cap")
    # Twelve problems are too few to say what prompts like them are, so nothing is claimed.
    assert "measured on 12 problems" in told.err
    assert (report.calibrated, report.no_saving) == (False, "unlike_card")
    assert report.expected_ratio == realised[1] and report.baseline_source == "card"
    assert report.saved_tokens_estimate is None
    assert [level.enforced_by for level in page.levels] == ["cap"] * 5


def test_what_is_asked_is_what_the_card_will_be_served_with(
    plain: LiveServer, problems: Path, tmp_path: Path
) -> None:
    assert calibrate(plain, problems, tmp_path / "card.json", "--limit", "6") == 0
    card = BudgetCard.load(tmp_path / "card.json")
    rows = {(row["problem_id"], row["level"]): row for row in rows_of(tmp_path / "card.json")}
    assert card.baseline is not None
    cap = round(0.4 * card.baseline.native[0].reasoning.mean)
    asked = {"ratio": pytest.approx(cap / 512)}
    prompt = "What is 3 + 3?\n\nPut the final answer within \\boxed{}."
    with (
        serve(ScriptedBehaviour(), card=str(tmp_path / "card.json")) as server,
        Extracot(server.url) as client,
    ):
        reply = client.solve(prompt, budget=0.4, seed=0)
    kept = [row for row in rows_of(tmp_path / "card.json") if row["budget"] == asked]
    assert len(kept) == 6 and len(rows) == 18  # native, none and cap
    assert reply.report.max_reasoning_tokens == cap
    assert reply.reasoning == next(row for row in kept if row["problem_id"] == "p3")["reasoning"]


def test_a_plan_asks_nothing(
    plain: LiveServer, problems: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(plain.engine.requests)
    assert calibrate(plain, problems, tmp_path / "card.json", "--plan") == 0
    assert len(plain.engine.requests) == before and not list(tmp_path.iterdir())
    told = capsys.readouterr()
    assert told.out == "" and "84 requests" in told.err and "for 512 (assumed" in told.err
    # 512 x (1 + 0.2 + 0.4 + 0.6 + 0.8 + 1) + 7 answers of 100, twelve times
    assert "about 32,976 generated tokens" in told.err


@contextmanager
def started(arguments: list[str]) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "extracot_client.cli", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_rows(out: Path, least: int) -> None:
    def there() -> bool:
        return any(out.parent.glob(f"{out.stem}.rows-*")) and len(rows_of(out)) >= least

    wait_for(there, WAIT)


def test_killed_and_taken_up_again(plain: LiveServer, problems: Path, tmp_path: Path) -> None:
    out, port = tmp_path / "card.json", free_port()
    with serve(SLOW, card="none", port=port) as slow:
        arguments = ["calibrate", slow.url, "--problems", str(problems), "--out", str(out)]
        with started(arguments) as process:
            wait_for_rows(out, 3)
            process.kill()
    kept = len(rows_of(out))
    assert 3 <= kept < 84 and not out.exists()
    before = rows_of(out)
    with serve(ScriptedBehaviour(), card="none", port=port) as again:
        assert calibrate(again, problems, out) == 0
    assert rows_of(out)[:kept] == before and len(rows_of(out)) == 84
    whole = tmp_path / "whole.json"
    assert calibrate(plain, problems, whole) == 0
    assert out.read_text() == whole.read_text()


def test_a_server_that_goes_away_in_the_middle_loses_nothing(
    plain: LiveServer, problems: Path, tmp_path: Path
) -> None:
    out, port = tmp_path / "card.json", free_port()
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None and server.stdout.readline() == "ready\n"
            arguments = ["--problems", str(problems), "--out", str(out)]
            with started(["calibrate", f"http://127.0.0.1:{port}", *arguments]) as process:
                wait_for_rows(out, 3)
                server.kill()
                _, told = process.communicate(timeout=WAIT)
        finally:
            server.kill()
    assert process.returncode == 1 and not out.exists()
    assert "the same command goes on from there" in told and "Traceback" not in told
    assert told.splitlines()[-1].startswith("extracot: ")
    before = rows_of(out)
    with serve(ScriptedBehaviour(), card="none", port=port) as again:
        assert calibrate(again, problems, out) == 0
    after = rows_of(out)
    assert after[: len(before)] == before
    assert sum(row["error"] is None for row in after) == 84


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    told = capsys.readouterr()
    last = told.err.splitlines()[-1]
    assert last.startswith("extracot: ") and told.out == ""
    return last


BAD: list[tuple[Callable[[Path], str], list[str], str]] = [
    (lambda folder: str(folder / "none.jsonl"), [], "No such file"),
    (lambda folder: str(folder), [], "Is a directory"),
    (lambda folder: write(folder, "no json\n"), [], "bad.jsonl:1: not JSON"),
    (lambda folder: write(folder, '{"question": "x"}\n'), [], "no problem has a known answer"),
    (lambda folder: write(folder, "é\n".encode("latin-1")), [], "not UTF-8"),
    (lambda _: "", ["--ratios", "0.4"], "two levels or more"),
    (lambda _: "", ["--ratios", "0.4,2"], "--ratios: 2.0 is not in (0, 1]"),
    (lambda _: "", ["--ratios", "0.4,low"], "--ratios 0.4,low: numbers in (0, 1]"),
    (lambda _: "", ["--ratios", " "], "two levels or more"),
    (lambda _: "", ["--seeds", "0"], "--seeds is 1 or more"),
    (lambda _: "", ["--limit", "0"], "--limit is 1 or more"),
    (lambda _: "", ["--concurrency", "0"], "concurrency is 1 or more"),
    (lambda _: "", ["--prompt", "hello"], "--prompt has no {question} in it"),
]


def write(folder: Path, text: str | bytes) -> str:
    file = folder / "bad.jsonl"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(file)


@pytest.mark.parametrize(("file", "more", "says"), BAD, ids=[says for _, _, says in BAD])
def test_what_cannot_be_used_is_one_line(
    plain: LiveServer,
    problems: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    file: Callable[[Path], str],
    more: list[str],
    says: str,
) -> None:
    out = tmp_path / "card.json"
    assert calibrate(plain, file(tmp_path) or problems, out, *more) == 2
    assert says in refused(capsys) and not out.exists()


def test_no_card_is_written_over_a_folder(
    plain: LiveServer, problems: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert calibrate(plain, problems, tmp_path) == 2
    assert "no file can be written there" in refused(capsys)
    out = tmp_path / "card.json"
    assert calibrate(plain, problems, out, "--plot", str(out)) == 2
    assert "named twice" in refused(capsys)
    assert calibrate(plain, problems, tmp_path / "no" / "card.json") == 2
    assert "no file can be written there" in refused(capsys)


def test_a_grader_that_cannot_tell_says_so(
    plain: LiveServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "algebra.jsonl"
    file.write_text('{"question": "What is a?", "answer": "x+1"}\n')
    assert calibrate(plain, file, tmp_path / "card.json") == 2
    assert "the grader can judge none of the answers" in refused(capsys)
    assert len(rows_of(tmp_path / "card.json")) == 7  # nothing that was answered is lost


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "is served with a budget card already; start the server with --card none"),
        ({"card": "none", "budget_floor": 0.2}, "The operator's floor"),
        ({"card": "none", "reasoning_tokens_ceiling": 9}, "The operator's reasoning_tokens_ceil"),
        ({"card": "none", "holdout_fraction": 0.5}, "The server's holdout"),
    ],
)
def test_a_server_that_would_do_something_else_is_refused(
    settings: dict[str, Any],
    says: str,
    problems: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with serve(ScriptedBehaviour(), **settings) as server:
        assert calibrate(server, problems, tmp_path / "card.json") == 2
        assert says in refused(capsys) and not server.engine.requests


def test_what_the_card_brings_is_named_where_the_server_is_to_go_without(
    problems: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = scripted_card().model_copy(
        update={"instruction": "Say it's so.", "system_prompt": "A\nB"}
    )
    with serve(ScriptedBehaviour(), card=str(told.save(tmp_path))) as server:
        assert calibrate(server, problems, tmp_path / "card.json") == 2
    flags = (
        """--card none --instruction 'Say it'"'"'s so.' --system-prompt '…' (as the card has it)"""
    )
    assert flags in refused(capsys)


def test_caps_beyond_what_the_server_assumes_say_what_to_set(
    problems: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, port = tmp_path / "card.json", free_port()
    with serve(PLAIN, card="none", port=port, assumed_reasoning_tokens=40) as server:
        assert calibrate(server, problems, out, "--limit", "4", "--ratios", "0.5,1") == 2
        assert len(rows_of(out)) == 8  # native and none, which are not asked again
    says = refused(capsys)
    flag = "--assumed-reasoning-tokens"
    assert "the server assumes 40" in says and flag in says
    assumed = int(says.split(flag)[1].split(",")[0])
    with serve(PLAIN, card="none", port=port, assumed_reasoning_tokens=assumed) as server:
        assert calibrate(server, problems, out, "--limit", "4", "--ratios", "0.5,1") == 0
    assert len(BudgetCard.load(out).levels) == 2 and len(rows_of(out)) == 16


def test_a_model_that_does_not_reason_has_no_card(
    problems: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve(ScriptedBehaviour(opens_think=False), card="none") as server:
        assert calibrate(server, problems, tmp_path / "card.json") == 2
    says = refused(capsys)
    assert "Natively the model reasons for 0 tokens" in says and "--open-think true" in says


def test_a_model_that_opens_no_block_is_measured_with_it_opened(
    problems: Path, tmp_path: Path
) -> None:
    out, quiet = tmp_path / "card.json", ScriptedBehaviour(opens_think=False)
    with serve(quiet, card="none", open_think=True) as server:
        assert calibrate(server, problems, out, "--limit", "4", "--ratios", "0.5,1") == 0
    assert [level.enforced_by for level in BudgetCard.load(out).levels] == ["cap", "cap"]


def test_a_baseline_that_was_cut_off_is_told(
    plain: LiveServer, problems: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--limit", "4", "--max-tokens", "30", "--ratios", "0.5,1"]
    assert calibrate(plain, problems, tmp_path / "card.json", *more) == 0
    told = capsys.readouterr().err
    assert "native replies were cut off: the baseline is too short" in told


def test_requests_that_fail_leave_no_card(
    problems: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, port = tmp_path / "card.json", free_port()
    with serve(ScriptedBehaviour(fail_after_tokens=30), card="none", port=port) as server:
        assert calibrate(server, problems, out) == 1
    assert "requests failed, the first for problem" in refused(capsys) and not out.exists()
    with serve(ScriptedBehaviour(), card="none", port=port) as server:
        assert calibrate(server, problems, out) == 0


def test_no_such_model_no_such_page_and_nobody(
    plain: LiveServer,
    no_server: str,
    problems: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert calibrate(plain, problems, tmp_path / "card.json", "--model", "gpt-9") == 1
    assert "The model `gpt-9` does not exist" in refused(capsys)
    handlers = [fake.error(404, "Not Found")]
    with FakeServer(handlers) as bare:
        assert calibrate(bare.url, problems, tmp_path / "card.json", "--model", "m") == 2
    assert "A card is measured through an Extra-CoT server" in refused(capsys)
    assert calibrate(no_server, problems, tmp_path / "card.json") == 1
    assert f"No server answers at {no_server}" in refused(capsys)


def test_the_shipped_problems_have_the_answers_they_say() -> None:
    operators: dict[type, Callable[[int, int], int]] = {
        ast.Add: operator.add,
        ast.Sub: operator.sub,
        ast.Mult: operator.mul,
        ast.FloorDiv: operator.floordiv,
        ast.Mod: operator.mod,
    }

    def value(node: ast.expr) -> int:
        if isinstance(node, ast.BinOp):
            left, right = value(node.left), value(node.right)
            if isinstance(node.op, ast.FloorDiv):
                assert left % right == 0, ast.unparse(node)
            return operators[type(node.op)](left, right)
        assert isinstance(node, ast.Constant) and isinstance(node.value, int)
        return node.value

    rows = [json.loads(line) for line in SHIPPED.read_text("utf-8").splitlines()]
    assert len(rows) == 60
    for row in rows:
        assert value(ast.parse(row["check"], mode="eval").body) == int(row["answer"]), row
    with SHIPPED.open("r", encoding="utf-8") as stream:
        found = read_problems(stream, "shipped", as_csv=False)
    assert all(problem.answer is not None for problem in found)
