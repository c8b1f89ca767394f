"""``extracot adherence``: two servers end to end, bad input, each figure on rows made for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from extracot.reasoning import ThinkTags
from extracot_client.adherence import FIELDS, Server
from extracot_client.adherence_figures import figures, opens_block, read_reply
from extracot_client.cli import main
from extracot_client.types import SweepRow
from extracot_server.engine.scripted.engine import ScriptedBehaviour
from tests.clients import fake_server as fake
from tests.clients.conftest import LiveServer, serve
from tests.clients.fake_server import FakeServer


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[LiveServer, LiveServer]]:
    """Two of the same model; the second adds no grace and no closing, which caps have none of."""
    with (
        serve(ScriptedBehaviour(), card="none") as one,
        serve(ScriptedBehaviour(tokens_per_delta=3), card="none") as two,
    ):
        yield one, two


def measure(servers: list[LiveServer] | list[str], out: Path, *more: str) -> int:
    urls = [one if isinstance(one, str) else one.url for one in servers]
    return main(["adherence", *urls, "--out", str(out), *more])


def test_two_servers_in_one_table(
    servers: tuple[LiveServer, LiveServer], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, picture = tmp_path / "report.json", tmp_path / "report.png"
    arguments = ["--field", "extracot", "--field", "vllm", "--name", "ours", "--name", "bare"]
    arguments += ["--caps", "20,40", "--limit", "10", "--seeds", "2", "--plot", str(picture)]
    assert measure([*servers], out, *arguments) == 0
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 8 and "realised: as the server reports it" in told.out
    report = json.loads(out.read_text())
    assert (report["definition"], report["problems"]["n"]) == ("adherence 3", 10)
    assert [one["field"] for one in report["servers"]] == ["extracot", "vllm"]
    found = {(one["server"], one["requested"]): one for one in report["figures"]}
    assert set(found) == {(name, cap) for name in ("ours", "bare") for cap in (None, 20, 40)}
    for name in ("ours", "bare"):
        capped = found[name, 20]
        assert capped["n"] == 20 and capped["failed"] == 0
        assert 19 < capped["realised"]["mean"] <= 20 and 0.95 < capped["ratio"] <= 1
        assert (capped["within"]["mean"], capped["over"]["mean"]) == (1, 0)
        assert capped["within_binding"]["mean"] == 1
        assert (capped["empty"]["mean"], capped["escapes"]["mean"]) == (0, 0)
        assert found[name, None]["realised"]["mean"] > 40
        assert found[name, None]["within"] is None
    assert found["ours", 20]["accuracy_to_first"] is None
    assert found["bare", 20]["accuracy_to_first"]["mean"] == 0
    if picture.exists():
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_rows_are_kept_and_the_same_command_asks_nothing_again(
    servers: tuple[LiveServer, LiveServer], tmp_path: Path
) -> None:
    out = tmp_path / "report.json"
    arguments = ["--caps", "20", "--limit", "3"]
    assert measure([servers[0]], out, *arguments) == 0
    asked, first = len(servers[0].engine.requests), json.loads(out.read_text())
    assert measure([servers[0]], out, *arguments) == 0
    assert len(servers[0].engine.requests) == asked
    assert json.loads(out.read_text()) == first
    assert len(list(tmp_path.glob("report.*.jsonl"))) == 1


def test_caps_of_ones_own_are_shares_of_what_the_first_server_needs(
    servers: tuple[LiveServer, LiveServer], tmp_path: Path
) -> None:
    out = tmp_path / "report.json"
    assert measure([*servers], out, "--name", "a", "--name", "b", "--limit", "5") == 0
    report = json.loads(out.read_text())["figures"]
    mean = report[0]["realised"]["mean"]
    caps = [one["requested"] for one in report if one["server"] == "b"][1:]
    assert caps == [round(part * mean) for part in (0.2, 0.4, 0.6, 0.8)]


def test_tokens_are_recounted_with_a_tokenizer(
    servers: tuple[LiveServer, LiveServer], tmp_path: Path
) -> None:
    folder = Path("server/extracot_server/models/small")
    arguments = ["--caps", "20", "--limit", "3", "--tokenizer", str(folder)]
    assert measure([servers[0]], tmp_path / "report.json", *arguments) == 0
    capped = json.loads((tmp_path / "report.json").read_text())["figures"][1]
    assert capped["reported"] == 20 and capped["recounted"] != 20
    assert capped["realised"]["mean"] == capped["recounted"]


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    told = capsys.readouterr()
    assert told.out == ""
    return told.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--field", "a b"], "--field 'a b' is none of extracot, vllm, llama.cpp"),
        (["--field", "vllm"] * 3, "--field is there 3 times"),
        (["--name", "x"], "--name: want 2 different names"),
        (["--name", "x", "--name", "x"], "--name: want 2 different names"),
        (["--caps", "0"], "--caps 0: numbers of tokens"),
        (["--caps", "a"], "--caps a: numbers of tokens"),
        (["--seeds", "0"], "--seeds is 1 or more"),
        (["--problems", "nowhere.jsonl"], "nowhere.jsonl: No such file"),
        (["--prompt", "x"], "--prompt has no {question}"),
        (["--key-from", "NO_SUCH_KEY", "--key-from", "-"], "--key-from NO_SUCH_KEY: it is not"),
        (["--key-from", "HOME"], "--key-from is there 1 times; want it once for each of the 2"),
        (["--base-url", "http://127.0.0.1:1"], "--base-url: name the servers as arguments"),
        (["--tokenizer", "nowhere"], "nowhere: No such file"),
        (["--tokenizer", "README.md"], "--tokenizer README.md: "),
        (["--think-end", "<think>"], "both think tags are"),
        (["--think-end", " "], "is empty or has white space"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    servers: tuple[LiveServer, LiveServer],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    says: str,
) -> None:
    arguments = ["--limit", "1", *more]
    assert measure([*servers], tmp_path / "report.json", *arguments) == 2
    assert says in refused(capsys) and not (tmp_path / "report.json").exists()


def test_a_folder_and_nobody(
    servers: tuple[LiveServer, LiveServer],
    no_server: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert measure([*servers], tmp_path) == 2
    assert "no file can be written there" in refused(capsys)
    assert measure([servers[0]], tmp_path / "report.json", "--model", "gpt-9") == 1
    assert "The model `gpt-9` does not exist" in refused(capsys)
    assert measure([no_server], tmp_path / "report.json") == 1
    assert f"No server answers at {no_server}" in refused(capsys)


def test_a_server_that_refuses_the_field_fails_in_rows_and_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = fake.stream(*fake.GOOD)
    handlers = [fake.error(404), whole, fake.error(500, "no such thing")]
    with FakeServer(handlers) as server:
        arguments = ["--model", "m", "--caps", "5", "--limit", "1", "--concurrency", "1"]
        assert measure([server.url], tmp_path / "report.json", *arguments, "--field", "x.y") == 1
        assert [seen.json.get("x") for seen in server.seen[1:]] == [None, {"y": 5}]
    figures_ = json.loads((tmp_path / "report.json").read_text())["figures"]
    assert [(one["n"], one["failed"]) for one in figures_] == [(1, 0), (0, 1)]
    told = capsys.readouterr()
    assert figures_[1]["accuracy"] is None and "–" in told.out
    assert "1 of 2 requests failed; the same command asks them again\nfirst: 127" in told.err
    assert told.err.endswith("problem word-01: ServerError: no such thing (HTTP 500)\n")


def test_a_key_goes_to_its_own_server_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXTRACOT_API_KEY", "of-somebody-else")
    monkeypatch.setenv("SECOND_KEY", "of-the-second")
    handlers = [fake.error(404), *[fake.stream(*fake.GOOD)] * 2]
    with FakeServer(handlers) as one, FakeServer(handlers) as two:
        arguments = ["--model", "m", "--caps", "5", "--limit", "1", "--concurrency", "1"]
        arguments += ["--name", "a", "--name", "b"]
        keys = ["--key-from", "SECOND_KEY"]
        assert measure([one.url, two.url], tmp_path / "a.json", *arguments) == 0
        assert {seen.headers.get("authorization") for seen in (*one.seen, *two.seen)} == {None}
    with FakeServer(handlers) as one, FakeServer(handlers) as two:
        both = [*keys, "--key-from", "-"]
        assert measure([one.url, two.url], tmp_path / "c.json", *arguments, *both) == 0
        assert {seen.headers.get("authorization") for seen in two.seen} == {None}
        assert {seen.headers["authorization"] for seen in one.seen} == {"Bearer of-the-second"}
    with FakeServer(handlers) as one:
        assert measure([one.url], tmp_path / "b.json", *arguments[:-4], *keys) == 0
        assert {seen.headers["authorization"] for seen in one.seen} == {"Bearer of-the-second"}


@pytest.mark.parametrize("name", FIELDS)
def test_every_preset_says_the_number(name: str) -> None:
    said = Server("s", "u", "m", name).said(37)
    assert "37" in json.dumps(said)
    assert Server("s", "u", "m", "a.b.c").said(37) == {"a": {"b": {"c": 37}}}


TAGS = ThinkTags()


def row(problem: str, tokens: int | None, box: str | None = "1", **more: Any) -> SweepRow:
    fields = {"fingerprint": "f", "question": "q", "gold": "1", "answer": "It is one."}
    fields |= {"reasoning": "so it is.", "budget": None, "boxed": box, **more}
    return SweepRow(problem_id=problem, reasoning_tokens=tokens, **fields)


def figured(rows: list[SweepRow], requested: int | None = 10, **more: Any) -> Any:
    given = {"native": {}, "first": None, **more}
    return figures("s", requested, rows, **given)


def test_within_is_ten_per_cent_on_either_side() -> None:
    rows = [row(str(n), n) for n in (8, 9, 10, 11, 12)]
    found = figured(rows)
    assert (found.within.mean, found.over.mean, found.ratio) == (0.6, 0.4, 1.0)
    assert found.realised.mean == 10 and found.realised.low < 10 < found.realised.high


def test_recounted_text_may_be_two_tokens_over() -> None:
    rows = [row(str(n), 10, reasoning="word " * n) for n in (10, 12, 13)]
    found = figured(rows, count=lambda text: len(text.split()))
    assert found.over.mean == pytest.approx(1 / 3) and found.realised.mean > 11


def test_a_cap_binds_where_the_native_reply_is_no_shorter() -> None:
    rows = [row("short", 4), row("long", 10)]
    found = figured(rows, native={"short": 4.0, "long": 30.0})
    assert (found.within.mean, found.binding, found.within_binding.mean) == (0.5, 1, 1.0)


def test_a_server_that_does_not_count_is_not_counted() -> None:
    found = figured([row("a", None)])
    assert (found.realised, found.within, found.over, found.reported) == (None, None, None, None)
    counted = figured([row("a", None)], count=lambda text: len(text.split()))
    assert (counted.realised.mean, counted.reported, counted.recounted) == (3, None, 3)


def test_reported_and_recounted_may_differ_by_two_tokens_or_two_per_cent() -> None:
    rows = [row("a", 102), row("b", 103), row("c", 0, reasoning="")]
    found = figured(rows, count=lambda text: 100 if text else 0)
    assert found.agreeing.mean == pytest.approx(2 / 3)


def test_empty_escaped_wrong_undecided_failed() -> None:
    rows = [
        row("a", 10, None, answer=" \n"),
        row("b", 10, "2", answer="Wait, it is not one."),
        row("c", 10, "x+1", gold="1+x"),
        row("d", None, None, error="ServerError: oops"),
        row("e", 10),
    ]
    found = figured(rows)
    assert (found.n, found.failed, found.undecided) == (4, 1, 1)
    assert found.accuracy.mean == pytest.approx(1 / 3)
    assert (found.empty.mean, found.escapes.mean) == (0.25, 0.25)


def test_an_escape_that_only_the_server_knows_counts() -> None:
    known, unknown, fine = (
        row(str(n), 10, escaped=told) for n, told in enumerate((True, None, False))
    )
    found = figured([known, unknown, fine])
    assert found.escapes is not None and found.escapes.mean == pytest.approx(1 / 3)
    assert found.kept is not None and found.kept.mean == pytest.approx(2 / 3)


def test_an_escape_is_right_by_more_than_was_asked_for() -> None:
    rows = [row("a", 10), row("b", 10, answer="Wait, so it is 1."), row("c", 10, "2")]
    found = figured(rows, first=[read_reply(one, None, ThinkTags()) for one in rows[:1]])
    assert (found.accuracy.mean, found.kept.mean) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert (found.accuracy_to_first.mean, found.kept_to_first.mean) == (0, 0)


def test_the_length_of_an_answer() -> None:
    rows = [row("a", 10, completion_tokens=14)]
    assert figured(rows).answer_tokens == 4
    assert figured(rows, count=lambda text: len(text.split())).answer_tokens == 3


def test_accuracy_is_compared_over_the_same_problems() -> None:
    rows = [row(str(n), 10, "1" if n < 30 else "2") for n in range(60)]
    first = [read_reply(row(str(n), 10), None, ThinkTags()) for n in range(50)]
    found = figured(rows, first=first)
    assert found.accuracy_to_first.mean == pytest.approx(-0.4)
    assert found.accuracy_to_first.high < -0.2


def test_tags_that_a_server_leaves_in_the_text_are_taken_out() -> None:
    told = read_reply(
        row("a", None, answer="<think>one and one</think>\nIt is 2.", reasoning=""),
        lambda text: len(text.split()),
        ThinkTags(),
    )
    assert (told.recounted, told.empty, told.escaped) == (3, False, False)
    opened = row("a", None, answer="one and one\n</think>\n", reasoning=None)
    told = read_reply(opened, lambda text: len(text.split()), ThinkTags())
    assert (told.recounted, told.empty) == (3, True)


@pytest.mark.parametrize(
    ("text", "box", "right"),
    [
        ("<think>\nmaybe \\boxed{1}.\n</think>\n\nI cannot say.", None, False),
        ("maybe \\boxed{1}</think> the answer is one", None, False),
        ("<think>or \\boxed{2}</think>\n\\boxed{1}", "1", True),
    ],
)
def test_a_box_in_reasoning_that_stands_in_the_content_is_none(
    text: str, box: str | None, right: bool
) -> None:
    told = read_reply(row("a", None, "1", answer=text, reasoning="", first_answer=0.1), None, TAGS)
    assert told.correct is right and told.first_answer is None, "what came first was no answer"


def test_a_block_that_is_never_closed_is_reasoning() -> None:
    text = "<think>\nlet me see one two three"
    told = read_reply(
        row("a", None, None, answer=text, reasoning=""), lambda t: len(t.split()), TAGS
    )
    assert (told.realised, told.answer, told.empty, told.escaped) == (6, 0, True, False)


def test_first_answers_are_a_median_and_a_percentile() -> None:
    rows = [row(str(n), 10, first_answer=float(n)) for n in range(1, 12)]
    found = figured([*rows, row("x", 10)])
    assert (found.first_answer_p50, found.first_answer_p90) == (6.0, 10.0)


def native_fails_once() -> list[fake.Handler]:
    """Native replies of seven tokens, the first of two after it has failed once; and so on."""
    whole = fake.stream(*fake.GOOD)
    return [fake.error(404), fake.error(500, "once"), whole, fake.error(404), whole]


def test_caps_wait_for_all_native_replies_and_then_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeServer(native_fails_once()) as server:
        arguments = ["--model", "m", "--limit", "2", "--concurrency", "1", "--field", "x"]
        assert measure([server.url], tmp_path / "report.json", *arguments) == 1
        told = refused(capsys)
        assert "1 requests failed, the first for problem word-01: ServerError: once" in told
        assert "run the same command again, or give --caps" in told
        assert len(server.seen) == 3 and not (tmp_path / "report.json").exists()
        assert measure([server.url], tmp_path / "report.json", *arguments) == 0
        asked = [seen.json.get("x") for seen in server.seen[4:]]
        # The one that failed, and twice each 20, 40, 60 and 80 % of seven tokens.
        assert asked == [None, 1, 1, 3, 3, 4, 4, 6, 6]


def test_a_server_that_always_fails_is_told_by_its_own_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeServer([fake.error(500, "boom")]) as server:
        arguments = ["--model", "m", "--limit", "2", "--field", "x"]
        assert measure([server.url], tmp_path / "report.json", *arguments) == 1
        assert "2 requests failed, the first for problem word-0" in refused(capsys)
        picture = ["--caps", "5", "--plot", str(tmp_path / "x.png")]
        assert measure([server.url], tmp_path / "report.json", *arguments, *picture) == 1
    assert "no picture: all requests failed" in capsys.readouterr().err


def test_a_mean_is_over_replies_and_its_interval_over_problems() -> None:
    rows = [row("a", 100), row("a", 100), row("b", 10), row("b", None, error="x")]
    found = figured(rows, 100)
    assert found.realised.mean == found.reported == 70 and found.ratio == 0.7
    assert found.realised.low == 0, "two problems say little, and no length is below 0"
    alone = figured(rows[:2], 100).realised
    assert (alone.mean, alone.low, alone.high) == (100, None, None)
    wide = figured([row("a", 90), row("b", 110)], 100).realised
    assert wide.high == pytest.approx(100 + 12.7062 * 10, abs=0.01)


def test_a_reply_that_was_cut_in_the_templates_block_is_reasoning() -> None:
    """The tags stand in the content, and the start tag in the prompt."""
    ended = row("a", None, answer="one and one</think>It is \\boxed{1}", reasoning=None)
    cut = row("b", None, None, answer="one and", reasoning=None, finish_reason="length")
    plain = row("c", None, answer="It is 1", reasoning=None, finish_reason="stop")
    assert opens_block([ended, cut], TAGS) and not opens_block([cut, plain], TAGS)
    told = read_reply(cut, lambda text: len(text.split()), TAGS, opened=True)
    assert (told.realised, told.answer, told.empty) == (2, 0, True)
    assert not read_reply(plain, None, TAGS, opened=True).empty
    assert not read_reply(cut, None, TAGS).empty
