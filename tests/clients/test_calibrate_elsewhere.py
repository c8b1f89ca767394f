"""`extracot calibrate` of a model whose servers are asked by chat messages, and what is offered."""

from __future__ import annotations

from pathlib import Path

import pytest

from extracot_client import Extracot
from extracot_client.calibration import check_page
from extracot_client.cli import main
from extracot_client.commands.common import offered_budgets
from extracot_client.types import BudgetCardPage
from tests.server.engine.chat_fakes import FakeChat, in_front_of


@pytest.mark.parametrize("kind", ["llama.cpp", "plain"])
def test_a_card_that_could_not_be_used_is_not_paid_for(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = FakeChat()
    with in_front_of(fake, upstream_offers={"kind": kind}) as live:
        assert main(["calibrate", live.url, "--out", str(tmp_path / "card.json")]) == 2
    told = capsys.readouterr().err.splitlines()
    assert "thinker can have no budget card" in told[-1] and "engine openai" in told[-1]
    assert not fake.bodies and not list(tmp_path.iterdir())


def test_a_server_that_says_nothing_of_cards_may_have_one() -> None:
    prompt = {"instruction": None, "system_prompt": None, "tokenizer_hash": "sha256:0"}
    check_page(BudgetCardPage.model_validate({"model": "m", "prompt": prompt}))


def test_none_is_offered_unless_the_server_cannot() -> None:
    assert offered_budgets(BudgetCardPage())[-2:] == ["native", "none"]
    with (
        in_front_of(FakeChat(), upstream_offers={"kind": "plain"}) as live,
        Extracot(live.url) as client,
    ):
        assert offered_budgets(client.budget_card())[-2:] == [1.0, "native"]
