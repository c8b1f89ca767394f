"""The report names the fields that a budget was read from, in any vendor's words."""

from __future__ import annotations

from typing import Any

import pytest

from extracot_server.api.request_context import MAX_SOURCES
from tests.server.live import Live, user
from tests.server.test_budget_words import BODIES, CAPS, CHAT, MESSAGES, RESPONSES, ask

MESSAGE = "reasoning_budget_message"


@pytest.mark.parametrize(
    ("fields", "source", "names"),
    [
        ({}, "default", []),
        ({"enable_thinking": False}, "budget", ["enable_thinking"]),
        ({"enableThinking": True}, "default", ["enableThinking"]),
        ({"budget": 0.4}, "budget", ["budget"]),
        ({"budget": 0.4, "thinking_budget": 9}, "budget", ["budget", "thinking_budget"]),
        ({"model": "scripted@0.4"}, "alias", ["model"]),
        ({"think": "low"}, "reasoning_effort", ["think"]),
        ({"include_thoughts": False, "separate_reasoning": True}, "default", []),
        ({"reasoning": {"effort": "low"}}, "reasoning_effort", ["reasoning.effort"]),
        (
            {"chat_template_kwargs": {"reasoning_effort": "low"}},
            "reasoning_effort",
            ["chat_template_kwargs.reasoning_effort"],
        ),
        (
            {"extra_body": {"nvext": {"max_thinking_tokens": 9}}},
            "budget",
            ["extra_body.nvext.max_thinking_tokens"],
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("path", BODIES)
def test_the_report_names_the_fields_that_were_read(
    token_server: Live, path: str, fields: dict[str, Any], source: str, names: list[str]
) -> None:
    report = ask(token_server, path, fields)["budget"]
    assert (report["source"], report["source_fields"]) == (source, names)
    assert report["ignored_fields"] == []


def test_fields_of_each_api_s_own_are_named_as_it_calls_them(token_server: Live) -> None:
    thinking = {"type": "enabled", "budget_tokens": 9}
    for path, fields, names in (
        (CHAT, {"reasoning_effort": "low"}, ["reasoning_effort"]),
        (RESPONSES, {"reasoning": {"effort": "low"}}, ["reasoning.effort"]),
        (MESSAGES, {"output_config": {"effort": "low"}}, ["output_config.effort"]),
        (MESSAGES, {"thinking": thinking}, ["thinking.type", "thinking.budget_tokens"]),
    ):
        assert ask(token_server, path, fields)["budget"]["source_fields"] == names


def test_a_report_names_no_more_fields_than_it_may(token_server: Live) -> None:
    caps = {next(iter(one)): 7 for one in CAPS if list(one.values()) == [7]}
    report = ask(token_server, CHAT, caps | {"extra_body": caps})["budget"]
    assert len(report["source_fields"]) == MAX_SOURCES


# llama.cpp's closing -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", BODIES)
def test_a_message_for_the_end_of_the_budget_is_the_closing(cap_server: Live, path: str) -> None:
    fields = {"reasoning_budget": 7, "reasoning_budget_message": "Time is up."}
    report = ask(cap_server, path, fields)["budget"]
    ours = {"budget": {"max_reasoning_tokens": 7, "closing": "Time is up."}}
    own = ask(cap_server, path, ours)["budget"]
    assert report == {**own, "source_fields": [*fields]}
    assert report["closing_tokens"] > 0 and report["requested"] == ours["budget"]


@pytest.mark.parametrize(
    "others",
    [{"budget": 0.4}, {"model": "scripted@0.4"}, {"enable_thinking": False}, {"think": "low"}, {}],
    ids=str,
)
def test_it_goes_with_any_budget(token_server: Live, others: dict[str, Any]) -> None:
    alone = ask(token_server, CHAT, others)["budget"]
    both = ask(token_server, CHAT, {**others, MESSAGE: "Time is up."})["budget"]
    assert both["level"] == alone["level"]
    assert both["source_fields"] == [*alone["source_fields"], MESSAGE]


def test_a_wrong_one_is_named_as_the_client_wrote_it(token_server: Live) -> None:
    for wrong in (5, ["a"], "a" * 401, "so </think> it is", "<COMP_20>", "two " * 99):
        error = token_server.refused(messages=user(), **{MESSAGE: wrong})
        assert error["param"] == MESSAGE
    clash = {MESSAGE: "Time is up.", "budget": {"ratio": 0.4, "closing": "That will do."}}
    message = token_server.refused(messages=user(), **clash)["message"]
    assert f"`{MESSAGE}`" in message and "`budget.closing`" in message
    same = {MESSAGE: "Time is up.", "budget": {"ratio": 0.4, "closing": "Time is up."}}
    assert ask(token_server, CHAT, same)["budget"]["level"] == "0.4"
