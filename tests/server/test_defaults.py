"""What a request gets that does not say it: the card's sampling, and a bound on its tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from extracot.errors import CardError
from extracot_server.budget.holdout import MIN_FOR_BASELINE, Arm
from extracot_server.budget.resolve import BudgetPolicy
from extracot_server.config.settings import Settings
from extracot_server.engine.base import SamplingParams
from extracot_server.engine.scripted.engine import ScriptedBehaviour, ScriptedEngine, scripted_card
from extracot_server.generation.defaults import ReplyDefaults, card_max_tokens, card_sampling
from extracot_server.model_registry.bundled import SMOLLM2
from extracot_server.model_registry.loading import serve_model
from tests.measured_card import card as measured_card
from tests.server.live import Live, serve

SAMPLING = {"temperature": 0.7, "top_p": 0.9, "top_k": 20, "max_tokens": 640, "samples": 2}


def card_file(folder: Path, sampling: dict[str, Any]) -> str:
    return str(scripted_card().model_copy(update={"sampling": sampling}).save(folder))


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """With a card that says how its replies were drawn."""
    with serve(card=card_file(tmp_path_factory.mktemp("card"), SAMPLING)) as running:
        yield running


def test_a_request_that_says_nothing_is_sampled_as_the_card_was_measured(live: Live) -> None:
    for budget in (0.2, "auto", "native", "none"):
        reply = live.chat(budget=budget)
        used = live.engine.requests[-1].sampling
        assert (used.temperature, used.top_p, used.top_k) == (0.7, 0.9, 20)
        assert reply["budget"]["max_tokens"] == 640


def test_what_a_request_says_holds(live: Live) -> None:
    assert live.chat(temperature=0, max_tokens=70)["budget"]["max_tokens"] == 70
    used = live.engine.requests[-1].sampling
    assert (used.temperature, used.top_p, used.top_k) == (0.0, 0.9, 20)
    live.chat(top_p=1.0, top_k=-1)
    used = live.engine.requests[-1].sampling
    assert (used.temperature, used.top_p, used.top_k) == (0.7, 1.0, -1)


def test_the_models_list_says_both(live: Live, cap_server: Live) -> None:
    entry = live.http.get("/v1/models").json()["data"][0]["budget"]
    assert entry["default_max_tokens"] == 640
    assert entry["default_sampling"] == {"temperature": 0.7, "top_p": 0.9, "top_k": 20}
    cap = cap_server.http.get("/v1/models").json()["data"][0]["budget"]
    assert (cap["default_max_tokens"], cap["default_sampling"]) == (800, {})


def test_cap_mode_ends_a_reply_that_does_not_end_by_itself() -> None:
    behaviour = ScriptedBehaviour(never_close=True)
    with serve(behaviour, card="none", assumed_reasoning_tokens=100) as live:
        reply = live.chat()
        assert reply["budget"]["max_tokens"] == 800
        assert reply["usage"]["completion_tokens"] <= 800
        # A cap on reasoning that the client itself sets has room beside its answer.
        held = live.chat(budget={"max_reasoning_tokens": 2000})["budget"]
        assert (held["max_tokens"], held["max_reasoning_tokens"]) == (2288, 2000)
        assert held["cap_reason"] == "client"


@pytest.mark.parametrize(("given", "held"), [(50, 50), (0, None), (100_000, None)])
def test_the_setting_beats_card_and_mode(tmp_path: Path, given: int, held: int | None) -> None:
    for card in (card_file(tmp_path, SAMPLING), "none"):
        with serve(card=card, default_max_tokens=given) as live:
            found = live.chat()["budget"]["max_tokens"]
            assert found == held if held is not None else found > 3000


def test_an_operators_ceiling_does_not_widen_the_bound() -> None:
    with serve(card="none", default_max_tokens=300, reasoning_tokens_ceiling=2000) as live:
        assert live.chat()["budget"]["max_tokens"] == 300


def test_a_measured_baseline_moves_the_bound() -> None:
    measured = BudgetPolicy(measured_baseline=1000.0)
    assert ReplyDefaults().bound(measured, has_card=False) == 8000
    assert ReplyDefaults().bound(measured, has_card=True) is None


def test_short_reasoning_that_is_measured_cuts_no_answer() -> None:
    behaviour = ScriptedBehaviour(answers=" ".join(["word"] * 200) + ".")
    with serve(behaviour, card="none", holdout_fraction=0.01) as live:
        (service,) = live.app.state.extracot.services.values()
        before = live.chat(budget="native")["budget"]["max_tokens"]
        for _ in range(MIN_FOR_BASELINE):
            service.holdout.record(Arm.HOLDOUT, 12.0, 900.0, [], complete=True)
        reply = live.chat(budget="native")
        assert reply["budget"]["baseline_tokens"] == 12.0
        assert reply["budget"]["max_tokens"] == before
        assert reply["choices"][0]["finish_reason"] == "stop"


def test_the_bundled_model_has_its_makers_sampling_and_ends_soon() -> None:
    engine = ScriptedEngine(model="smollm2")
    settings = Settings(engine="vllm", model="smollm2", card="none")
    served = serve_model(settings, engine)
    assert served.defaults.sampling == SMOLLM2.sampling
    assert served.defaults.fill(SamplingParams(temperature=1.0)).temperature == 1.0
    assert served.defaults.bound(BudgetPolicy(), has_card=False) == SMOLLM2.default_max_tokens


@pytest.mark.parametrize(("given", "bound"), [(512, 4096), (100, 1600)])
def test_a_measured_card_bounds_replies_by_what_was_measured(
    tmp_path: Path, given: int, bound: int
) -> None:
    file = str(measured_card().save_as(tmp_path / "measured.json"))  # natively 200 tokens
    with serve(card=file, assumed_reasoning_tokens=given) as live:
        entry = live.http.get("/v1/models").json()["data"][0]["budget"]
    assert entry["default_max_tokens"] == bound


def test_a_bundled_model_keeps_its_sampling_and_bound_with_a_measured_card(tmp_path: Path) -> None:
    of_model = measured_card(model="smollm2", base_model="smollm2")
    file = str(of_model.save_as(tmp_path / "measured.json"))
    settings = Settings(engine="vllm", model="smollm2", card=file)
    defaults = serve_model(settings, ScriptedEngine(model="smollm2")).defaults
    assert defaults.sampling == SMOLLM2.sampling
    assert defaults.max_tokens == SMOLLM2.default_max_tokens


OWN_PROFILE = """
name: mine
source: tried out
tags: {start: "<think>", end: "</think>"}
sampling: {temperature: 0.3, top_k: 40, source: our evaluation}
"""


def test_sampling_is_the_cards_then_the_profiles_then_the_models_own_files(tmp_path: Path) -> None:
    (place := tmp_path / "mine.yaml").write_text(OWN_PROFILE, encoding="utf-8")
    of_profile = {"temperature": 0.3, "top_k": 40}
    of_card = {"temperature": 0.7, "top_p": 0.9, "top_k": 20}
    silent = card_file(tmp_path, {"samples": 2})
    (tmp_path / "says").mkdir()
    cards = {
        "none": of_profile,
        silent: of_profile,
        card_file(tmp_path / "says", SAMPLING): of_card,
    }
    for card, expected in cards.items():
        with serve(card=card, profiles=place, profile="mine") as live:
            live.chat(budget="native")
            used = live.engine.requests[-1].sampling
            told = {name: getattr(used, name) for name in ("temperature", "top_p", "top_k")}
            # What neither says reaches the engine unset: it is generation_config.json's.
            assert told == {"temperature": None, "top_p": None, "top_k": None} | expected
            entry = live.http.get("/v1/models").json()["data"][0]
            assert entry["budget"]["default_sampling"] == expected
            shown = live.http.get("/v1/budget").json()["profile"]["sampling"]
            assert shown == {"values": of_profile, "source": "our evaluation"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", "hot"), ("top_p", 1.5), ("top_k", 2.5), ("min_p", True), ("temperature", -1)],
)
def test_a_card_with_sampling_that_cannot_be_is_refused(name: str, value: object) -> None:
    card = scripted_card().model_copy(update={"sampling": {name: value}})
    with pytest.raises(CardError, match=rf"sampling\.{name}"):
        card_sampling(card)


@pytest.mark.parametrize("value", [None, 0, -1, "many", True])
def test_a_card_may_leave_the_bound_open(value: object) -> None:
    card = scripted_card().model_copy(update={"sampling": {"max_tokens": value}})
    assert card_max_tokens(card) is None and card_sampling(card) == {}
