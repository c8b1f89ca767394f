"""Rows are of the server that answered them: another one's are refused, and nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from extracot_client import Extracot, SweepRow
from extracot_client.cli import main
from extracot_client.origins import Origin, origin_of, served_of
from extracot_client.types import BudgetCardPage
from extracot_server.engine.scripted.engine import ScriptedBehaviour, scripted_card
from tests.clients import fake_server as fake
from tests.clients.browser import free_port
from tests.clients.conftest import LiveServer, serve
from tests.clients.fake_server import GOOD, FakeServer

Captured = pytest.CaptureFixture[str]
BUDGETS = ["--budgets", "0.2,native"]


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    file = tmp_path / "in.jsonl"
    file.write_text('{"id": "a", "question": "What is 2 + 2?", "answer": "4"}\n')
    return file


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def sweep(url: str, problems: Path, kept: Path) -> int:
    return main(["sweep", str(problems), *BUDGETS, "--out", str(kept), "--base-url", url])


def test_rows_of_another_server_are_refused_and_stay(
    live: LiveServer, problems: Path, tmp_path: Path, capsys: Captured
) -> None:
    kept = tmp_path / "rows.jsonl"
    assert sweep(live.url, problems, kept) == 0
    before = kept.read_text()
    assert {row["server"] for row in lines(kept)} == {live.url}
    assert all(row["served"].startswith("mode=token card=") for row in lines(kept))
    with serve(ScriptedBehaviour()) as other:
        capsys.readouterr()
        assert sweep(other.url, problems, kept) == 2
        told = capsys.readouterr()
        assert f"comes from {live.url}, and this is {other.url}" in told.err
        assert "Name another --out" in told.err and told.out == ""
        assert kept.read_text() == before and not other.engine.requests
        # The same server at a new address, as the error says.
        kept.write_text(before.replace(live.url, other.url))
        assert sweep(other.url, problems, kept) == 0 and not other.engine.requests


@pytest.mark.parametrize("command", ["sweep", "adherence"])
def test_another_card_at_the_same_address_is_another_checkpoint(
    command: str, problems: Path, tmp_path: Path, capsys: Captured
) -> None:
    port, out = free_port(), tmp_path / "out.json"
    arguments = {
        "sweep": ["sweep", str(problems), *BUDGETS, "--out", str(out), "--base-url"],
        "adherence": ["adherence", "--problems", str(problems), "--caps", "9", "--out", str(out)],
    }[command]
    with serve(ScriptedBehaviour(), port=port) as server:
        assert main([*arguments, server.url]) == 0
    (kept,) = tmp_path.glob("out*.json*l") if command == "adherence" else [out]
    before = kept.read_text()
    new = scripted_card().model_copy(update={"domain": "sums"}).save(tmp_path)
    with serve(ScriptedBehaviour(), port=port, card=str(new)) as server:
        assert main([*arguments, server.url]) == 2
        assert "was made with another budget card. Name" in capsys.readouterr().err
        assert kept.read_text() == before and not server.engine.requests


def test_a_calibration_never_makes_a_card_of_another_servers_rows(
    problems: Path, tmp_path: Path, capsys: Captured
) -> None:
    out = tmp_path / "card.json"
    with (
        serve(ScriptedBehaviour(), card="none") as one,
        serve(ScriptedBehaviour(), card="none") as two,
    ):
        arguments = ["--problems", str(problems), "--out", str(out)]
        assert main(["calibrate", one.url, *arguments]) == 0
        (kept,) = tmp_path.glob("card.rows-*.jsonl")
        before = kept.read_text(), out.read_text()
        capsys.readouterr()
        for more in ([], ["--plan"]):
            assert main(["calibrate", two.url, *arguments, *more]) == 2
            assert f"comes from {one.url}" in capsys.readouterr().err
        assert (kept.read_text(), out.read_text()) == before and not two.engine.requests


def test_rows_that_do_not_say_who_answered_count_and_are_told(
    live: LiveServer, problems: Path, tmp_path: Path, capsys: Captured
) -> None:
    kept = tmp_path / "rows.jsonl"
    assert sweep(live.url, problems, kept) == 0
    old = [{k: v for k, v in row.items() if k not in ("server", "served")} for row in lines(kept)]
    kept.write_text("".join(json.dumps(row) + "\n" for row in old))
    live.engine.requests.clear()
    capsys.readouterr()
    assert sweep(live.url, problems, kept) == 0
    assert f"2 rows of {kept} do not say which server" in capsys.readouterr().err
    assert not live.engine.requests


def test_a_server_that_tells_nothing_is_known_by_its_address() -> None:
    for answer in (fake.error(404), fake.error(500), fake.reply(200, "<html>"), fake.reply(200)):
        with (
            FakeServer([answer, fake.stream(*GOOD)]) as server,
            Extracot(server.url, model="m") as client,
        ):
            origin = origin_of(client, "m", ratios=True)
            (row,) = client.sweep(["x"], [0.2])
            assert origin == Origin(server.url, None) and row.server == server.url
            assert origin.other(row) is None


def page(**more: Any) -> BudgetCardPage:
    told = {"mode": "cap", "policy": {"floor": None}, "baseline": {"assumed_reasoning_tokens": 512}}
    return BudgetCardPage.model_validate(told | more)


@pytest.mark.parametrize(
    ("more", "ratios", "says"),
    [
        ({}, True, None),
        ({"holdout": {"since": 9}, "policy": {"floor": None, "default": "auto"}}, True, None),
        ({"policy": {"floor": 0.2}}, True, "floor or ceiling"),
        ({"mode": "token", "card": {"a": 1}}, True, "mode and budget card"),
        ({"prompt": {"instruction": "x"}}, True, "instruction, tags or tokenizer"),
        ({"baseline": {"assumed_reasoning_tokens": 600}}, True, "assumed baseline"),
        ({"baseline": {"assumed_reasoning_tokens": 600}}, False, None),
        ({"mode": None}, True, None),
    ],
)
def test_what_decides_a_reply_tells_servers_apart(
    more: dict[str, Any], ratios: bool, says: str | None
) -> None:
    row = SweepRow(problem_id="a", budget=0.2, fingerprint="f", question="q")
    row = Origin("http://a", served_of(page(), ratios=ratios)).signed(row)
    found = Origin("http://a", served_of(page(**more), ratios=ratios)).other(row)
    assert found == (says and f"was made with another {says}")


def test_the_server_to_calibrate_is_named_once(
    live: LiveServer, problems: Path, tmp_path: Path, capsys: Captured
) -> None:
    arguments = ["--problems", str(problems), "--out", str(tmp_path / "card.json")]
    assert main(["calibrate", live.url, *arguments, "--base-url", "http://127.0.0.1:1"]) == 2
    assert f"the server is named already, {live.url}" in capsys.readouterr().err
