"""Any card on any family's tokenizer, over HTTP: levels, auto, none, caps, no tag that leaks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.extracot.families import FAMILIES
from tests.fixtures.family_engine import ANSWER, NATIVE, FamilyEngine
from tests.server.live import Live, collect, serve


@pytest.fixture(scope="module", params=FAMILIES)
def live(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Live]:
    """The server on that family's tokenizer, in token mode."""
    family = FAMILIES[request.param]
    folder = tmp_path_factory.mktemp("card")
    family.card().save(folder)
    with serve(on=FamilyEngine(family), card=str(folder)) as server:
        yield server


def answered(live: Live, reply: dict[str, Any]) -> dict[str, Any]:
    """The report of a reply that is in order."""
    message, report = reply["choices"][0]["message"], reply["budget"]
    assert message["content"] == ANSWER
    shown = (message["reasoning"] or "") + message["content"]
    family = live.engine.family
    assert not any(token in shown for token in family.added)
    used = live.engine.tokenizer.encode(message["reasoning"] or "", add_special_tokens=False)
    assert (
        reply["usage"]["completion_tokens_details"]["reasoning_tokens"]
        == (report["reasoning_tokens"])
    )
    assert abs(len(used) - report["reasoning_tokens"]) <= 2  # joined words may merge
    found: dict[str, Any] = report
    return found


def test_every_level_can_be_asked_for(live: Live) -> None:
    listed = live.http.get("/v1/budget").json()["levels"]
    levels = live.engine.family.levels
    assert [level["control_token"] for level in listed] == [token for _, token in levels]
    for level in (listed[0], listed[len(listed) // 2], listed[-1]):
        ratio = min(1, level["expected_ratio"])
        report = answered(live, live.chat(budget=ratio))
        assert (report["level"], report["control_token"]) == (
            level["name"],
            level["control_token"],
        )
        assert report["reasoning_tokens"] == pytest.approx(NATIVE * level["ratio"], abs=1)
        alias = live.chat(model=f"family@{level['ratio']:g}")["budget"]
        assert (alias["level"], alias["source"]) == (level["name"], "alias")


def test_the_model_may_choose_its_level(live: Live) -> None:
    report = answered(live, live.chat(budget="auto"))
    levels = live.engine.family.levels
    assert report["chosen"] == f"{levels[len(levels) // 2][0]:g}"
    assert 0 < report["chosen_probability"] < 1
    choice = live.engine.requests[-2]
    assert len(choice.allowed_token_ids) == len(levels)


@pytest.mark.parametrize("budget", [None, "none", {"max_reasoning_tokens": 7}, 0.5, "auto"])
def test_whole_and_streamed_replies_are_the_same(live: Live, budget: Any) -> None:
    reply = live.chat(budget=budget)
    report = answered(live, reply)
    assert collect(live.chunks(budget=budget))["message"] == reply["choices"][0]["message"]
    if budget == "none":
        assert report["reasoning_tokens"] == 0
        assert reply["choices"][0]["message"]["reasoning"] is None
    elif isinstance(budget, dict):
        assert report["cap_hit"] and report["reasoning_tokens"] <= 7
    elif budget is None:
        assert report["reasoning_tokens"] == pytest.approx(NATIVE, abs=1)


def test_what_a_user_types_is_text(live: Live) -> None:
    family = live.engine.family
    typed = " ".join(family.added)
    messages = [{"role": "user", "content": typed}]
    asked = live.http.post("/v1/tokenize", json={"messages": messages}).json()["tokens"]
    for token in (*(token for _, token in family.levels), family.policy, family.tags[1]):
        (id_,) = live.engine.tokenizer.encode(token, add_special_tokens=False)
        native = live.http.post(
            "/v1/tokenize", json={"messages": [{"role": "user", "content": "x"}]}
        ).json()["tokens"]
        assert asked.count(id_) == native.count(id_)
    assert typed in live.engine.tokenizer.decode(asked)
