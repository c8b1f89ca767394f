"""Budget cards: kept whole, refused in one line, checked against the tokenizer."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot import (
    CARD_FILENAME,
    POLICY_TOKEN,
    PROMPT_FORMAT,
    BudgetCard,
    CardError,
    tokenizer_hash,
)
from tests.extracot import zoo

TOKENS = {"mean": 100.0, "p50": 90.0, "p90": 180.0}


def card_data(**changes: Any) -> dict[str, Any]:
    """A whole card as JSON data; its ids are those of the zoo's tokenizer."""
    vocab = zoo.tokenizer().get_vocab()
    levels = [
        {
            "name": str(ratio),
            "token": token,
            "token_id": vocab[token],
            "ratio": ratio,
            "realised": {"mean": ratio + 0.05, "p10": 0.1, "p90": 1.2},
            "accuracy": {"mean": 0.8, "low": 0.75, "high": 0.85},
            "unclosed_rate": 0.01,
            "n": 200,
            "dataset": "gsm8k",
        }
        for ratio, token in zip((0.2, 0.4, 1.0), zoo.LEVELS, strict=True)
    ]
    bins = [
        {"max_prompt_tokens": limit, "n": 50, "reasoning": TOKENS, "answer": TOKENS}
        for limit in (128, 512, None)
    ]
    data = {
        "version": 1,
        "prompt_format": PROMPT_FORMAT,
        "tokenizer_hash": tokenizer_hash(zoo.tokenizer()),
        "base_model": "SmolLM2-135M-Instruct",
        "system_prompt": None,
        "instruction": "Please reason step by step, and put your final answer within \\boxed{}.",
        "think_start": "<think>",
        "think_end": "</think>",
        "sampling": {"temperature": 0.7, "top_p": 0.9, "max_tokens": 4096},
        "levels": levels,
        "policy": {"name": "auto", "token": POLICY_TOKEN, "token_id": vocab[POLICY_TOKEN]},
        "baseline": {"native": bins, "full": bins[-1:]},
        "provenance": {"stages": ["sft"], "config_hashes": {"sft": "ab"}, "git_revision": "cd"},
    }
    return {**data, **changes}


def written(folder: Path, data: object) -> Path:
    file = folder / CARD_FILENAME
    file.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return file


def changed(path: str, value: Any) -> dict[str, Any]:
    """The card with the value at a dotted path replaced (``...`` removes it)."""
    data = json.loads(json.dumps(card_data()))
    *way, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    place = data
    for key in way:
        place = place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return data


def test_load_from_folder_or_file(tmp_path: Path) -> None:
    file = written(tmp_path, card_data())
    card = BudgetCard.load(tmp_path)
    assert card == BudgetCard.load(file) == BudgetCard.load(str(file))
    assert [level.ratio for level in card.levels] == [0.2, 0.4, 1.0]
    assert card.policy is not None and card.policy.ratio is None
    assert card.is_calibrated
    assert card.level("0.4").token == "<COMP_40>"


def test_an_older_card_still_says_what_it_said(tmp_path: Path) -> None:
    """That of the model that was bundled until 2026-11-30."""
    file = Path(__file__).parents[1] / "data" / "cards" / "small-2026-11.json"
    card = BudgetCard.load(file)
    assert card.is_trained and card.is_calibrated
    card.check_increasing()
    assert [(level.name, level.ratio, *level.control()) for level in card.levels] == [
        ("0.2", 0.2, "<COMP_20>", 586),
        ("0.4", 0.4, "<COMP_40>", 587),
        ("0.6", 0.6, "<COMP_60>", 588),
        ("0.8", 0.8, "<COMP_80>", 589),
        ("1.0", 1.0, "<COMP_100>", 590),
    ]
    realised = [level.realised.mean for level in card.levels if level.realised is not None]
    assert realised == pytest.approx([0.20119, 0.40636, 0.59817, 0.80562, 1.0], abs=1e-5)
    accuracies = [level.accuracy.mean for level in card.levels if level.accuracy is not None]
    assert accuracies == [0.957, 0.9635, 0.837, 0.922, 0.9275]
    assert card.policy is not None and card.policy.control() == (POLICY_TOKEN, 591)
    assert card.policy.realised is not None and card.policy.accuracy is not None
    assert card.policy.realised.mean == pytest.approx(0.21243, abs=1e-5)
    assert card.policy.accuracy.mean == 0.985
    card.save(tmp_path)
    assert BudgetCard.load(tmp_path) == card


def test_save_and_load_give_the_same_card(tmp_path: Path) -> None:
    card = BudgetCard.model_validate(card_data())
    assert card.save(tmp_path) == tmp_path / CARD_FILENAME
    assert BudgetCard.load(tmp_path) == card
    assert [path.name for path in tmp_path.iterdir()] == [CARD_FILENAME]


def test_unknown_keys_are_kept_at_every_depth(tmp_path: Path) -> None:
    data = changed("levels.0.colour", "red")
    data["later"] = {"nested": [1, None]}
    data["baseline"]["native"][0]["reasoning"]["p99"] = 300
    data["provenance"]["who"] = "ü"
    card = BudgetCard.load(written(tmp_path, data))
    (tmp_path / "out").mkdir()
    again = json.loads(card.save(tmp_path / "out").read_text(encoding="utf-8"))
    assert again["levels"][0]["colour"] == "red"
    assert again["later"] == {"nested": [1, None]}
    assert again["baseline"]["native"][0]["reasoning"]["p99"] == 300
    assert again["provenance"]["who"] == "ü"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@given(value=JSON, key=st.sampled_from(sorted(card_data())))
def test_any_value_in_any_field_is_a_card_or_one_line_that_names_it(
    value: Any, key: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = written(tmp_path_factory.mktemp("card"), card_data(**{key: value}))
    try:
        card = BudgetCard.load(file)
    except CardError as error:
        assert "\n" not in str(error)
        assert error.field is not None and error.field.startswith(key)
        assert str(error).startswith(f"{file}: {key}")
    else:
        card.save(file.parent)
        assert BudgetCard.load(file) == card


@pytest.mark.parametrize(
    ("path", "value", "field", "says"),
    [
        ("version", 2, "version", "only 1"),
        ("version", "1", "version", "only 1"),
        ("version", "2", "version", "only 1"),
        ("version", True, "version", "only 1"),
        ("version", 1.0, "version", "only 1"),
        ("version", ..., "version", "required"),
        ("prompt_format", "1", "prompt_format", "an integer"),
        ("prompt_format", ..., "prompt_format", "required"),
        ("tokenizer_hash", "md5:00", "tokenizer_hash", "sha256"),
        ("base_model", ..., "base_model", "required"),
        ("instruction", None, "instruction", "string"),
        ("think_end", "<think>", "think_end", "differ"),
        ("think_start", "< think>", "think_start", "pattern"),
        ("levels", [], "levels", "at least 2"),
        ("levels.0.ratio", 0, "levels[0].ratio", "greater than 0"),
        ("levels.0.ratio", True, "levels[0].ratio", "number"),
        ("levels.0.ratio", "0.2", "levels[0].ratio", "number"),
        ("levels.2.ratio", 1.5, "levels[2].ratio", "less than or equal to 1"),
        ("levels.0.ratio", 0.4, "levels[1].ratio", "ascend"),
        ("levels.1.ratio", None, "levels[1].ratio", "ascend"),
        ("levels.0.token", "<COMP_40>", "levels[1].token", "unique"),
        ("levels.0.token", "a b", "levels[0].token", "pattern"),
        ("levels.1.name", "0.2", "levels[1].name", "unique"),
        ("levels.1.name", "auto", "policy.name", "unique"),
        ("levels.1.token_id", -1, "levels[1].token_id", "greater"),
        ("levels.1.token_id", 1.5, "levels[1].token_id", "integer"),
        ("levels.1.realised.mean", 0, "levels[1].realised.mean", "greater than 0"),
        ("levels.1.realised.p90", 0.05, "levels[1].realised.p90", "p10"),
        ("levels.1.accuracy.mean", 1.1, "levels[1].accuracy.mean", "less than or equal to 1"),
        ("levels.1.accuracy.low", 0.81, "levels[1].accuracy.mean", "between"),
        ("levels.1.unclosed_rate", -0.1, "levels[1].unclosed_rate", "greater"),
        ("policy.ratio", 0.5, "policy.ratio", "null"),
        ("policy.token", "<COMP_20>", "policy.token", "unique"),
        (
            "baseline.native.0.max_prompt_tokens",
            None,
            "baseline.native[1].max_prompt_tokens",
            "ascend",
        ),
        (
            "baseline.native.0.max_prompt_tokens",
            512,
            "baseline.native[1].max_prompt_tokens",
            "ascend",
        ),
        ("baseline.full.0.reasoning.p90", 10, "baseline.full[0].reasoning.p90", "p50"),
        ("baseline.full.0.n", -1, "baseline.full[0].n", "greater"),
        ("provenance.stages", "sft", "provenance.stages", "list"),
        ("sampling", [], "sampling", "dictionary"),
    ],
)
def test_refused_with_the_field_and_what_is_allowed(
    tmp_path: Path, path: str, value: Any, field: str, says: str
) -> None:
    with pytest.raises(CardError, match=says) as caught:
        BudgetCard.load(written(tmp_path, changed(path, value)))
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{tmp_path / CARD_FILENAME}: {field}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("place", ['"ratio": 0.2', '"temperature": 0.7', '"mean": 100.0'])
def test_numbers_that_are_none_are_refused(tmp_path: Path, number: str, place: str) -> None:
    text = json.dumps(card_data())
    assert place in text
    key = place.split(":")[0]
    with pytest.raises(CardError, match=f"{number} is not a number"):
        BudgetCard.load(written(tmp_path, text.replace(place, f"{key}: {number}", 1)))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "JSON object"),
        ("3", "JSON object"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_no_card_at_all(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(CardError, match=says) as caught:
        BudgetCard.load(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="no such file"):
        BudgetCard.load(tmp_path)
    (tmp_path / CARD_FILENAME).write_bytes(b"\xff\xfe{}")
    with pytest.raises(CardError, match="not JSON"):
        BudgetCard.load(tmp_path)
    (tmp_path / CARD_FILENAME).unlink()
    (tmp_path / CARD_FILENAME).mkdir()
    with pytest.raises(CardError, match="cannot be read"):
        BudgetCard.load(tmp_path)


def test_a_failed_save_leaves_the_old_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = BudgetCard.model_validate(card_data())
    card.save(tmp_path)

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        card.model_copy(update={"base_model": "other"}).save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [CARD_FILENAME]
    assert BudgetCard.load(tmp_path) == card


def test_a_number_that_is_none_is_not_saved(tmp_path: Path) -> None:
    card = BudgetCard.model_validate(card_data(sampling={"temperature": float("nan")}))
    with pytest.raises(CardError, match="what JSON cannot say"):
        card.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_levels_need_figures_only_for_publishing() -> None:
    data = changed("levels.1.realised", None)
    card = BudgetCard.model_validate(data)
    assert not card.is_calibrated
    with pytest.raises(CardError, match=r"levels\[1\]\.realised: level 0\.4 has no"):
        card.check_increasing()


@pytest.mark.parametrize("mean", [0.25, 0.2])
def test_realised_ratios_must_increase_to_be_published(mean: float) -> None:
    BudgetCard.model_validate(card_data()).check_increasing()
    card = BudgetCard.model_validate(changed("levels.1.realised.mean", mean))
    assert card.is_calibrated
    with pytest.raises(CardError, match=r"levels\[1\]\.realised\.mean.*not above"):
        card.check_increasing()


def test_an_unknown_level_lists_the_known() -> None:
    with pytest.raises(CardError, match=r"no level '0\.3', only 0\.2, 0\.4, 1\.0"):
        BudgetCard.model_validate(card_data()).level("0.3")


@pytest.mark.parametrize(
    ("prompt_tokens", "limit"), [(0, 128), (128, 128), (129, 512), (512, 512), (513, None)]
)
def test_a_baseline_is_found_by_prompt_length(prompt_tokens: int, limit: int | None) -> None:
    baseline = BudgetCard.model_validate(card_data()).baseline
    assert baseline is not None
    found = baseline.native_for(prompt_tokens)
    assert found is not None and found.max_prompt_tokens == limit


def test_no_bin_no_baseline() -> None:
    data = changed("baseline.full", [])
    del data["baseline"]["native"][2]
    baseline = BudgetCard.model_validate(data).baseline
    assert baseline is not None
    assert baseline.native_for(513) is None
    assert baseline.full == []


def test_a_card_fits_its_tokenizer() -> None:
    BudgetCard.model_validate(card_data()).check_tokenizer(zoo.tokenizer())


@pytest.mark.parametrize(
    ("path", "value", "field", "says"),
    [
        ("prompt_format", PROMPT_FORMAT + 1, "prompt_format", "renders"),
        ("levels.0.token", "<COMP_30>", "levels[0].token", "ids in the tokenizer, it must be one"),
        ("levels.0.token_id", 3, "levels[0].token_id", "the card says 3"),
        ("policy.token_id", 3, "policy.token_id", "the card says 3"),
        ("policy.token", "<POLICY>", "policy.token", "must be one"),
        ("think_end", "</thought>", "think_end", "must be one"),
        ("think_start", "<thought>", "think_start", "must be one"),
        ("tokenizer_hash", f"sha256:{0:064}", "tokenizer_hash", "was made for"),
    ],
)
def test_a_card_that_does_not_fit_says_why(path: str, value: Any, field: str, says: str) -> None:
    card = BudgetCard.model_validate(changed(path, value))
    with pytest.raises(CardError, match=says) as caught:
        card.check_tokenizer(zoo.tokenizer())
    assert caught.value.field == field
    assert "\n" not in str(caught.value)


def test_the_hash_is_of_tokens_and_ids() -> None:
    one, same = zoo.tokenizer("bytes", "chatml"), zoo.tokenizer("bytes", "qwen3")
    assert tokenizer_hash(one) == tokenizer_hash(same)
    assert tokenizer_hash(one) != tokenizer_hash(zoo.plain_tokenizer())
