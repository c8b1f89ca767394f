"""The report names the fields that a budget was read from, in any vendor's words."""

from __future__ import annotations

from typing import Any

import pytest

from extracot_server.api.exchange import MAX_SOURCES
from tests.server.live import Live
from tests.server.test_budget_words import BODIES, CAPS, CHAT, MESSAGES, RESPONSES, ask


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
