"""Grace: how far a ratio's cap may be exceeded for the end of a sentence, and where it ends."""

from __future__ import annotations

from typing import Any

import pytest

from extracot_server.engine.scripted.engine import ScriptedBehaviour
from extracot_server.engine.scripted.tokenizer import ScriptedTokenizer
from tests.server.live import Live, serve, user
from tests.server.test_closing import ANSWERED, CLOSING, adds_up

ENCODE = ScriptedTokenizer().encode


def sentences(count: int, words: int = 9) -> str:
    """Sentences of ``words`` + 2 ids each: the words, a number and the full stop."""
    return "".join(f" So{' the total' * ((words - 1) // 2)} {n % 10}." for n in range(count))


SAYS = ScriptedBehaviour(says=tuple(ENCODE("First." + sentences(200))))


def test_a_soft_ratio_ends_with_its_sentence(any_cap_server: Live) -> None:
    for seed in range(6):
        for ratio in (0.2, 0.31):
            budget = {"ratio": ratio, "grace": 40}
            reply = any_cap_server.chat(budget=budget, messages=user(f"What is {seed} + 2?"))
            report, cap = reply["budget"], round(100 * ratio)
            assert report["max_reasoning_tokens"] == cap
            over = report["reasoning_tokens"] - cap
            assert report["grace_tokens"] == max(0, over) <= 40
            assert (report["cap_reason"], adds_up(reply)) == ("budget", True)
            if report["closed_by"] == "server":
                assert report["cap_hit"]
                text = reply["choices"][0]["message"]["reasoning"]
                assert text.endswith((".", "\n")) or over == 40


def test_grace_is_a_quarter_of_the_cap_unless_asked_for() -> None:
    words = ScriptedBehaviour(says=tuple(ENCODE(" the total" * 900)))  # no sentence ever ends
    with serve(words, card="none", assumed_reasoning_tokens=100) as live:
        for budget, over in (
            (0.2, 5),
            (0.4, 10),
            ({"ratio": 0.4, "enforce": "soft"}, 10),
            ({"ratio": 0.4, "grace": 0}, 0),
            ({"ratio": 0.4, "grace": 200}, 200),
            ({"ratio": 0.4, "enforce": "hard"}, 0),
            ({"ratio": 0.4, "enforce": "hard", "grace": 50}, 0),
            ({"max_reasoning_tokens": 40}, 0),
            ({"max_reasoning_tokens": 40, "grace": 50}, 0),
            ({"ratio": 0.4, "max_reasoning_tokens": 43, "grace": 50}, 3),
            ({"ratio": 0.4, "max_reasoning_tokens": 40, "grace": 50}, 0),
        ):
            report = live.chat(budget=budget, max_tokens=2000)["budget"]
            cap = 20 if budget == 0.2 else 40
            assert (report["reasoning_tokens"], report["grace_tokens"]) == (cap + over, over)
            assert (report["max_reasoning_tokens"], report["cap_hit"]) == (cap, True)
    with serve(words, card="none", assumed_reasoning_tokens=1000, grace_tokens=7) as live:
        assert live.chat(budget=0.4)["budget"]["reasoning_tokens"] == 407


def test_grace_ends_where_the_sentence_does() -> None:
    with serve(SAYS, card="none", assumed_reasoning_tokens=100) as live:
        for cap in range(20, 60):
            budget = {"ratio": cap / 100, "grace": 40}
            reply = live.chat(budget=budget)
            text = reply["choices"][0]["message"]["reasoning"]
            assert text.endswith(".")
            assert reply["budget"]["grace_tokens"] < 14
            hard = live.chat(budget={**budget, "enforce": "hard"})
            assert text.startswith(hard["choices"][0]["message"]["reasoning"])
            assert hard["budget"]["reasoning_tokens"] == cap


@pytest.mark.parametrize("tags_as_text", [False, True])
def test_bundled_tokens_make_no_difference(tags_as_text: bool) -> None:
    def replies(size: int) -> list[Any]:
        behaviour = ScriptedBehaviour(tokens_per_delta=size, tags_as_text=tags_as_text)
        budget = {"grace": 25, "closing": CLOSING}
        with serve(behaviour, card="none", assumed_reasoning_tokens=100) as live:
            found = [live.chat(budget={**budget, "ratio": n / 20}) for n in range(2, 21, 2)]
        return [(reply["choices"][0]["message"], reply["budget"]) for reply in found]

    alone = replies(1)
    assert {report["cap_hit"] for _, report in alone} == {True, False}
    assert {report["grace_tokens"] > 0 for _, report in alone} == {True, False}
    assert replies(3) == replies(64) == alone


def test_no_grace_beyond_the_operators_ceilings_or_the_answers_room() -> None:
    words = ScriptedBehaviour(says=tuple(ENCODE(" the total" * 900)))
    own = {"card": "none", "assumed_reasoning_tokens": 100}
    asked = {"ratio": 0.4, "grace": 50}
    with serve(words, **own, budget_ceiling=0.45) as live:
        assert live.chat(budget=asked)["budget"]["reasoning_tokens"] == 45
        assert live.chat(budget={**asked, "ratio": 0.9})["budget"]["reasoning_tokens"] == 45
    with serve(words, **own, reasoning_tokens_ceiling=43) as live:
        assert live.chat(budget=asked)["budget"]["reasoning_tokens"] == 43
    with serve(words, **own, answer_reserve_tokens=10) as live:
        reply = live.chat(budget=asked, max_tokens=52)
        assert 40 <= reply["budget"]["reasoning_tokens"] <= 42
        assert reply["choices"][0]["message"]["content"].startswith(ANSWERED)


def test_a_block_that_the_model_closes_within_its_grace_is_its_own() -> None:
    says = ENCODE(" the total" * 12 + "\n</think>\n\nIt is 7.")
    with serve(ScriptedBehaviour(says=tuple(says)), card="none", closing=CLOSING) as live:
        reply = live.chat(budget={"ratio": 20 / 512, "grace": 40})
        report = reply["budget"]
        assert (report["max_reasoning_tokens"], report["reasoning_tokens"]) == (20, 24)
        assert (report["grace_tokens"], report["closing_tokens"]) == (4, 0)
        assert (report["closed_by"], report["cap_hit"]) == ("model", False)
        assert reply["choices"][0]["message"]["content"] == "It is 7."
