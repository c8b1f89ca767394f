"""The session that every client plays: a question that needs the tool, then one that does not.

The scripted engine calls ``get_weather`` because the first question names it, answers once the tool
has, and puts a number in a box at the end of any answer.
"""

from __future__ import annotations

import re
from typing import Any

from tests.real_clients.recording import Recorded

ASK = "Please use get_weather for Bern."
THEN = "What is 12 * 3 + 4?"
WEATHER = "12 degrees and rain"
WORDS = {"ask": ASK, "then": THEN, "weather": WEATHER}
CALL = ["get_weather", {"city": "Bern"}]
BUDGET = 0.4
CONTROL = "<COMP_40>"
"""What the budget is in a prompt."""
SYSTEM = ("You are terse.", "It is Monday.", "Answer in English.")

Turn = dict[str, Any]


def check_turns(turns: list[Turn]) -> None:
    """What the user of a client sees: the call, its result, and an answer in both turns."""
    first, second = turns
    assert first["calls"] == [CALL] and second["calls"] == []
    assert first["results"] == [WEATHER] and second["results"] == []
    for turn in turns:
        assert re.search(r"\\boxed\{\d+\}", turn["text"]), turn


def check_prompts(server: Recorded, budget: bool = True, system: tuple[str, ...] = ()) -> None:
    """What the model read: each part of the session once, in its order, and the budget."""
    ask, answer, then = server.prompts()
    for prompt in (ask, answer, then):
        assert (CONTROL in prompt) == budget, prompt
        assert prompt.count(ASK) == 1, prompt
        places = [prompt.index(text) for text in (*system, ASK)]
        assert places == sorted(places), prompt
    assert WEATHER not in ask and answer.count(WEATHER) == then.count(WEATHER) == 1
    assert then.index(ASK) < then.index(WEATHER) < then.index("boxed{") < then.index(THEN)
    assert "<think>" not in then.partition(THEN)[0], "earlier reasoning is back in the prompt"
