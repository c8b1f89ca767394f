"""Cards of models that were not trained for budgets: levels without tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from extracot import BudgetCard, CardError
from extracot_server.engine.scripted.tokenizer import ScriptedTokenizer
from tests.extracot import zoo
from tests.extracot.test_card import card_data as trained
from tests.measured_card import card, card_data, level


def load(folder: Path, data: dict[str, Any]) -> BudgetCard:
    file = folder / "measured.json"
    file.write_text(json.dumps(data))
    return BudgetCard.load(file)


def test_it_loads_fits_its_tokenizer_and_is_written_again(tmp_path: Path) -> None:
    found = load(tmp_path, card_data(later=1))
    found.check_tokenizer(ScriptedTokenizer())
    assert not found.is_trained and found.is_calibrated
    assert [one.enforced_by for one in found.levels] == ["cap", "effort", "cap", "cap", "cap"]
    written = json.loads(found.save_as(tmp_path / "again.json").read_text())
    assert written["later"] == 1 and written["levels"][3]["dominated_by"] == "0.4"
    assert "token" not in written["levels"][0] and "effort" not in written["levels"][0]
    assert BudgetCard.load(tmp_path / "again.json") == found


def test_a_trained_card_is_written_as_before(tmp_path: Path) -> None:
    found = load(tmp_path, trained())
    found.save_as(tmp_path / "again.json")
    text = (tmp_path / "again.json").read_text()
    assert found.is_trained and found.levels[0].control()[0] == zoo.LEVELS[0]
    for key in ("enforced_by", "effort", '"model"', "dominated_by", '"native": null', '"none"'):
        assert key not in text


def test_a_level_without_a_token_has_no_control() -> None:
    with pytest.raises(CardError, match=r"level 0\.2 has no control token"):
        card().levels[0].control()


@pytest.mark.parametrize(
    ("levels", "field", "says"),
    [
        ([level("0.2", 0.2, ratio=None), level("1", 1)], "levels[0].ratio", "or max_reasoning_tok"),
        ([level("0.2", 0.2, token="<A>"), level("1", 1)], "levels[0].token", "must be null"),
        ([level("0.2", 0.2, realised=None), level("1", 1)], "levels[0].realised", "required"),
        ([level("low", 0.2, effort=None), level("1", 1)], "levels[0].token", "required"),
        (
            [level("low", 0.2, enforced_by="effort", effort="a b"), level("1", 1)],
            "levels[0].effort",
            "pattern",
        ),
        (
            [level("x", 0.2, enforced_by="effort", effort="low")] * 2,
            "levels[1].name",
            "there before",
        ),
        (
            [level("none", 0.2, enforced_by="effort", effort="none"), level("1", 1)],
            "levels[0].name",
            "a budget of its own",
        ),
        ([level("0.2", 0.2, dominated_by="0.2"), level("1", 1)], "levels[0].dominated_by", "0.2"),
        ([level("0.2", 0.2, dominated_by="9"), level("1", 1)], "levels[0].dominated_by", "9"),
        (
            [level("0.2", 0.2), {"name": "t", "token": "<A>", "token_id": 1, "ratio": 1.0}],
            "levels[1].enforced_by",
            "no token",
        ),
    ],
)
def test_what_does_not_hold_together_is_one_line(
    levels: list[dict[str, Any]], field: str, says: str, tmp_path: Path
) -> None:
    with pytest.raises(CardError) as caught:
        load(tmp_path, card_data(levels=levels))
    assert caught.value.field == field and says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"model": None}, "model"),
        ({"baseline": None}, "baseline.native"),
        ({"policy": {"name": "auto", "token": "<P>", "token_id": 3}}, "policy"),
    ],
)
def test_what_caps_need_is_required(changes: dict[str, Any], field: str, tmp_path: Path) -> None:
    with pytest.raises(CardError) as caught:
        load(tmp_path, card_data(**changes))
    assert caught.value.field == field


def test_a_mixed_card_is_refused_from_either_side(tmp_path: Path) -> None:
    data = trained()
    data["levels"][2] = level("1.0", 1.0)
    with pytest.raises(CardError, match=r"levels\[2\]\.enforced_by: levels before it have a token"):
        load(tmp_path, data)


def test_a_card_of_another_model_is_one_line() -> None:
    card().check_model("mine", "scripted")
    with pytest.raises(CardError, match=r"model: the card is of the model scripted, and this is m"):
        card().check_model("mine", "other")
    BudgetCard.model_validate(trained()).check_model("any")
