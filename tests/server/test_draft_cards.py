"""A published draft is served by the name on its card and claims nothing that was not measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from extracot.card import BudgetCard
from extracot.errors import CardError
from extracot_server.engine.scripted.engine import scripted_card
from tests.server.live import serve


def draft(folder: Path, model: str | None) -> Path:
    """The scripted model's card as it was before it was measured."""
    card = scripted_card()
    levels = [
        level.model_copy(update={"realised": None, "accuracy": None, "n": None})
        for level in card.levels
    ]
    changes = {"model": model, "levels": levels, "baseline": None}
    unmeasured = BudgetCard.model_validate(card.model_copy(update=changes).model_dump())
    return unmeasured.save(folder)


def test_an_unmeasured_level_shows_no_expected_ratio(tmp_path: Path) -> None:
    with serve(card=str(draft(tmp_path, "mine"))) as live:
        listed = live.http.get("/v1/budget").json()["levels"]
        assert [level["ratio"] for level in listed][:2] == [0.2, 0.4]
        assert all(level["expected_ratio"] is None for level in listed)
        report = live.chat(budget=0.4)["budget"]
        assert (report["level"], report["applied_ratio"]) == ("0.4", 0.4)
        assert report["expected_ratio"] is None and not report["calibrated"]
        assert "extracot_card_expected_ratio{" not in live.http.get("/metrics").text


@pytest.mark.parametrize(
    ("model", "setting", "served"), [("mine", None, "mine"), ("mine", "theirs", "theirs")]
)
def test_the_cards_name_is_the_served_one(
    tmp_path: Path, model: str, setting: str | None, served: str
) -> None:
    with serve(card=str(draft(tmp_path, model)), served_model_name=setting) as live:
        names = [entry["id"] for entry in live.http.get("/v1/models").json()["data"]]
        assert names[0] == served
        assert live.chat(model=f"{served}@0.4")["budget"]["level"] == "0.4"


def test_a_name_that_clients_cannot_use_is_named(tmp_path: Path) -> None:
    wanted = pytest.raises(CardError, match=r"model: a model's name is 1 to 128 printable")
    with wanted, serve(card=str(draft(tmp_path, "my model"))):
        pass
