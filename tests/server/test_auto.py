"""``auto``: the model picks its level first, among those that are allowed, and says how surely."""

from __future__ import annotations

from collections import Counter

import pytest

from extracot.control import level_token
from extracot_server.engine.scripted.engine import ScriptedBehaviour
from tests.server.live import QUESTION, Live, collect, serve, user

LEVELS = ("0.2", "0.4", "0.6", "0.8", "1.0")


def test_the_choice_is_reported_with_its_probability(token_server: Live) -> None:
    reply = token_server.chat(budget="auto", temperature=0)
    report = reply["budget"]
    assert report["level"] == "auto"
    assert report["chosen"] in LEVELS
    assert report["control_token"] == level_token(float(report["chosen"]))
    assert 1 / 5 <= report["chosen_probability"] <= 1  # the likeliest of five
    assert report["applied_ratio"] is None
    assert report["expected_ratio"] == pytest.approx(float(report["chosen"]), abs=0.03)
    assert report["calibrated"] is True
    again = token_server.chat(budget="auto", temperature=0)["budget"]
    assert again == report


def test_a_seed_fixes_the_choice_and_seeds_differ(token_server: Live) -> None:
    chosen = [token_server.chat(budget="auto", seed=s)["budget"]["chosen"] for s in range(12)]
    again = [token_server.chat(budget="auto", seed=s)["budget"]["chosen"] for s in range(12)]
    assert chosen == again
    assert len(set(chosen)) > 1


def test_choices_follow_the_probabilities(token_server: Live) -> None:
    seen: Counter[str] = Counter()
    chances: dict[str, float] = {}
    for start in range(0, 160, 16):
        reply = token_server.chat(budget="auto", seed=start, n=16)
        for choice in reply["choices"]:
            seen[choice["budget"]["chosen"]] += 1
            chances[choice["budget"]["chosen"]] = choice["budget"]["chosen_probability"]
    assert sum(chances.values()) == pytest.approx(1, abs=0.15)  # a rare level may not have come
    for level, chance in chances.items():
        assert seen[level] / 160 == pytest.approx(chance, abs=0.15)


def test_the_two_steps_send_what_they_should(token_server: Live) -> None:
    before = len(token_server.engine.requests)
    token_server.chat(budget="auto", seed=7, temperature=0.3, top_p=0.9)
    first, second = list(token_server.engine.requests)[before:]
    vocabulary = token_server.engine.tokenizer.get_added_vocab()
    assert set(first.allowed_token_ids) == {vocabulary[level_token(float(r))] for r in LEVELS}
    assert (first.max_tokens, first.sampling.seed) == (1, 7)
    assert (first.sampling.temperature, first.sampling.top_p) == (0.3, 0.9)
    assert second.allowed_token_ids is None
    assert second.token_ids[: len(first.token_ids)] == first.token_ids
    assert second.token_ids[len(first.token_ids)] in first.allowed_token_ids


def test_each_choice_of_n_has_its_own(token_server: Live) -> None:
    reply = token_server.chat(budget="auto", n=8, seed=3)
    reports = [choice["budget"] for choice in reply["choices"]]
    assert len({report["chosen"] for report in reports}) > 1
    assert reply["budget"]["chosen"] is None  # they differ, so the whole has none
    total = sum(report["reasoning_tokens"] for report in reports)
    assert reply["budget"]["reasoning_tokens"] == total
    assert reply["usage"]["completion_tokens_details"]["reasoning_tokens"] == total
    alone = token_server.chat(budget="auto", seed=5)["budget"]["chosen"]
    assert reports[2]["chosen"] == alone  # choice i uses seed + i


def test_floor_and_ceiling_narrow_what_may_be_chosen() -> None:
    with serve(budget_floor=0.5, budget_ceiling=0.8) as live:
        reply = live.chat(budget="auto", n=16, seed=0)
        reports = [choice["budget"] for choice in reply["choices"]]
        chances = {report["chosen"]: report["chosen_probability"] for report in reports}
        assert set(chances) == {"0.6", "0.8"}
        assert sum(chances.values()) == pytest.approx(1)
    with serve(budget_floor=0.9, budget_ceiling=0.95) as live:  # no level in between
        report = live.chat(budget="auto")["budget"]
        assert (report["chosen"], report["chosen_probability"]) == ("1.0", 1.0)


def test_a_hard_cap_is_that_of_the_chosen_level(token_server: Live) -> None:
    for seed in range(6):
        report = token_server.chat(budget={"ratio": "auto", "enforce": "hard"}, seed=seed)["budget"]
        assert report["enforcement"] == "token+cap"
        expected = report["expected_ratio"] * 148  # the card's p90
        assert report["max_reasoning_tokens"] == pytest.approx(expected, abs=1)


def test_level_and_tags_are_overhead(token_server: Live) -> None:
    reply = token_server.chat(budget="auto", seed=1)
    report, usage = reply["budget"], reply["usage"]
    parts = report["reasoning_tokens"] + report["answer_tokens"] + report["overhead_tokens"]
    assert parts == usage["completion_tokens"] + report["injected_tokens"]
    chunks = token_server.chunks(budget="auto", seed=1)
    streamed = collect(chunks)
    assert streamed["budget"] == report
    assert "COMP" not in streamed["message"]["content"] + streamed["message"]["reasoning"]


@pytest.mark.parametrize("room", [1, 2, 3, 4, 10])
def test_room_for_the_answer(token_server: Live, room: int) -> None:
    reply = token_server.chat(budget="auto", max_tokens=room)
    assert reply["choices"][0]["message"]["content"]
    assert reply["usage"]["completion_tokens"] <= room


def test_a_model_without_a_policy_token_refuses(cap_server: Live) -> None:
    for fields in ({"budget": "auto"}, {"budget": {"ratio": "auto"}}, {"model": "scripted@auto"}):
        error = cap_server.refused(**fields)
        assert "policy token" in error["message"]


def test_an_engine_that_dies_while_choosing_is_a_503() -> None:
    with serve(ScriptedBehaviour(die_after_tokens=0)) as live:
        response = live.post(budget="auto", messages=user(QUESTION))
        assert response.status_code == 503
        assert live.http.get("/ready").status_code == 503
