"""The clients before a server of several models: one has to be named, and can be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from extracot_client import Extracot, InvalidArgumentError
from extracot_client.base import base_models
from extracot_client.cli import main
from extracot_client.playground.backend import Backend
from extracot_client.types import ModelInfo
from extracot_server.engine.scripted.engine import ScriptedBehaviour, ScriptedEngine
from tests.clients.conftest import LiveServer, serve

PROBLEM = "What is 12 * 12?"
MODELS = [{"name": "small"}, {"name": "plain", "card": "none"}]
Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def several() -> Iterator[LiveServer]:
    """A model with a card and one without."""
    with serve(
        ScriptedBehaviour(), engines=[ScriptedEngine(), ScriptedEngine()], models=MODELS
    ) as s:
        yield s


@pytest.fixture
def at_several(several: LiveServer, monkeypatch: pytest.MonkeyPatch) -> LiveServer:
    monkeypatch.setenv("EXTRACOT_BASE_URL", several.url)
    return several


@pytest.mark.parametrize(
    ("argv", "code"), [(("ask", PROBLEM), 1), (("compare", PROBLEM), 1), (("card",), 1)]
)
def test_without_a_name_the_server_says_which_there_are(
    at_several: LiveServer, capsys: Captured, argv: tuple[str, ...], code: int
) -> None:
    assert main(argv) == code
    err = capsys.readouterr().err
    assert "small" in err and "plain" in err and err.count("\n") == 1


def test_a_sweep_does_not_pick_one_by_itself(
    at_several: LiveServer, capsys: Captured, tmp_path: Path
) -> None:
    problems = tmp_path / "in.jsonl"
    problems.write_text(json.dumps(PROBLEM) + "\n")
    command = ["sweep", str(problems), "--budgets", "0.2,native"]
    assert main(command) == 2
    assert "name one of small, plain" in capsys.readouterr().err
    with Extracot(at_several.url) as client, pytest.raises(InvalidArgumentError):
        list(client.sweep([PROBLEM], [0.2]))
    assert main([*command, "--model", "plain", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["model"], row["baseline_source"]) for row in rows] == [("plain", "assumed")] * 2


def test_each_model_has_its_own_card_and_budgets(at_several: LiveServer, capsys: Captured) -> None:
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["small", "token"], ["plain", "cap"]]
    assert main(["card", "--model", "small"]) == 0
    assert "small: token mode" in capsys.readouterr().out
    assert main(["compare", PROBLEM, "--model", "plain", "--json"]) == 0
    budgets = [row["budget"] for row in json.loads(capsys.readouterr().out)]
    assert budgets == [0.2, 0.4, 0.6, 0.8, 1.0, "native", "none"]
    with Extracot(at_several.url, model="small") as client:
        assert client.budget_card().mode == "token"
        assert client.budget_card("plain@0.4").mode == "cap"


@pytest.mark.anyio
async def test_the_playground_offers_the_choice(several: LiveServer) -> None:
    first = await Backend(several.url).describe()
    assert (first.models, first.model, first.auto) == (["small", "plain"], "small", True)
    other = await Backend(several.url).describe("plain")
    assert other.model == "plain" and not other.auto and "no budget card" in other.line
    fixed = await Backend(several.url, model="plain").describe()
    assert fixed.models == [] and "no budget card" in fixed.line


def test_names_of_servers_that_know_no_aliases() -> None:
    assert base_models([ModelInfo(id="a"), ModelInfo(id="b")]) == ["a", "b"]
    assert base_models([ModelInfo.model_validate({"id": "a@1", "parent": "a"})]) == ["a@1"]
