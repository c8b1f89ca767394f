"""Budgets in other vendors' words, on every API: read as ours or refused, never dropped."""

from __future__ import annotations

from typing import Any

import pytest

from extracot_server.api.budget_words import WORDS, check_inside
from extracot_server.api.request_context import MAX_IGNORED
from extracot_server.errors import BudgetError
from tests.server.live import QUESTION, Live, read_chunks, user

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
COUNT, TOKENIZE = "/v1/messages/count_tokens", "/v1/tokenize"
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": user()},
    RESPONSES: {"input": QUESTION},
    MESSAGES: {"messages": user(), "max_tokens": 3000},
}
OFF: list[dict[str, Any]] = [
    {"enable_thinking": False},
    {"enableThinking": False},
    {"enable_reasoning": False},
    {"think": False},
    {"think": "none"},
    {"thinking": {"type": "disabled"}},
    {"reasoning_config": {"type": "disabled"}},
    {"chat_template_kwargs": {"enable_thinking": False}},
    {"chat_template_kwargs": {"thinking": False}},
    {"reasoning": {"enabled": False}},
    {"reasoning": {"type": "disabled"}},
    {"reasoning": {"effort": "none"}},
    {"reasoning": {"max_tokens": 0}},
    {"thinking_budget": 0},
    {"max_reasoning_tokens": 0},
    {"thinking_config": {"thinking_budget": 0}},
    {"google": {"thinking_config": {"thinkingBudget": 0}}},
    {"extra_body": {"enable_thinking": False}},
    {"extra_body": {"google": {"thinking_config": {"thinking_budget": 0}}}},
    {"output_config": {"effort": "none"}},
    {"effort": "none"},
]
CAPS: list[dict[str, Any]] = [
    {"max_reasoning_tokens": 7},
    {"maxReasoningTokens": 7},
    {"max_thinking_tokens": 7},
    {"reasoning_max_tokens": 7},
    {"reasoning_budget": 7},
    {"budget_tokens": 7},
    {"thinking_budget": 7},
    {"thinkingBudget": 7},
    {"thinking_token_budget": 7},
    {"thinking_budget_tokens": 7},
    {"thinking": {"type": "enabled", "budget_tokens": 7}},
    {"thinking": {"type": "adaptive", "budget_tokens": 7}},
    {"thinking": {"type": "adaptive", "token_budget": 7}},
    {"reasoning": {"max_tokens": 7}},
    {"reasoning": {"maxTokens": 7}},
    {"thinking_config": {"thinkingBudget": 7, "includeThoughts": True}},
    {"thinkingConfig": {"thinkingBudget": 7}},
    {"nvext": {"max_thinking_tokens": 7}},
    {"generation_config": {"thinking_config": {"thinking_budget": 7}}},
    {"generationConfig": {"thinkingConfig": {"thinkingBudget": 7}}},
    {"google": {"thinking_config": {"thinking_budget": 7}}},
    {"extra_body": {"google": {"thinking_config": {"thinking_budget": 7}}}},
    {"chat_template_kwargs": {"thinking_budget": 7}},
    {"chat_template_kwargs": {"enable_thinking": True, "thinking_budget": 7}},
]
FREE: list[dict[str, Any]] = [
    {"enable_thinking": True},
    {"think": True},
    {"thinking": {"type": "adaptive"}},
    {"thinking_budget": -1},
    {"thinking_token_budget": -1},
    {"thinking_budget_tokens": -1},
    {"reasoning_budget": -1},
    {"reasoning": {"enabled": True}},
    {"chat_template_kwargs": {}},
    {"chat_template_kwargs": {"enable_thinking": True}},
    {"extra_body": {}},
    {"nvext": {}},
    {"reasoning": {}},
]
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"enable_thinking": "no"}, "enable_thinking"),
    ({"enable_thinking": 0}, "enable_thinking"),
    ({"think": "hard"}, "think"),
    ({"think": 3}, "think"),
    ({"thinking": "off"}, "thinking"),
    ({"reasoning_config": {"type": "off"}}, "reasoning_config.type"),
    ({"thinking_budget": -2}, "thinking_budget"),
    ({"thinking_budget": 1.5}, "thinking_budget"),
    ({"thinking_budget": True}, "thinking_budget"),
    ({"thinking_budget": "100"}, "thinking_budget"),
    ({"max_reasoning_tokens": -1}, "max_reasoning_tokens"),
    ({"max_reasoning_tokens": "few"}, "max_reasoning_tokens"),
    ({"reasoning": {"max_tokens": "few"}}, "reasoning.max_tokens"),
    ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
    ({"reasoning": {"effort": 3}}, "reasoning.effort"),
    ({"reasoning": {"enabled": "yes"}}, "reasoning.enabled"),
    ({"reasoning": {"type": "off"}}, "reasoning.type"),
    ({"reasoning": {"budget": 100}}, "reasoning.budget"),
    ({"reasoning": {"budget_tokens": 100}}, "reasoning.budget_tokens"),
    ({"reasoning": "high"}, "reasoning"),
    ({"thinking_config": {"thinking_tokens": 3}}, "thinking_config.thinking_tokens"),
    ({"chat_template_kwargs": {"thinking_mode": "off"}}, "chat_template_kwargs.thinking_mode"),
    ({"chat_template_kwargs": "none"}, "chat_template_kwargs"),
    ({"nvext": {"max_thinking_tokens": None, "annotations": []}}, "nvext.annotations"),
    ({"google": {"cached_content": "c"}}, "google.cached_content"),
    ({"generation_config": {"temperature": 0}}, "generation_config.temperature"),
    ({"extra_body": {"budget": 0.2}}, "extra_body"),
    ({"extra_body": {"zebra": 1}}, "extra_body"),
    ({"extra_body": "x"}, "extra_body"),
    ({"task_budget": {"type": "tokens", "total": 9}}, "task_budget"),
    ({"output_config": {"task_budget": {"type": "tokens", "total": 9}}}, "output_config"),
    ({"output_config": {"max_effort": "low"}}, "output_config.max_effort"),
]
CONFLICTS: list[dict[str, Any]] = [
    {"enable_thinking": False, "budget": 0.4},
    {"enable_thinking": False, "budget": {"max_reasoning_tokens": 9}},
    {"enable_thinking": False, "model": "scripted@0.4"},
    {"enable_thinking": False, "thinking_budget": 100},
    {"enable_thinking": True, "budget": "none"},
    {"enable_thinking": True, "budget": {"max_reasoning_tokens": 0}},
    {"enable_thinking": True, "model": "scripted@none"},
    {"enable_thinking": True, "thinking_budget": 0},
    {"enable_thinking": True, "think": False},
    {"thinking_budget": 100, "budget": {"max_reasoning_tokens": 9}},
    {"thinking_budget": 100, "reasoning_budget": 99},
    {"reasoning": {"effort": "low"}, "think": "high"},
    {"reasoning": {"effort": "low", "enabled": False}},
    {"reasoning": {"max_tokens": 9, "enabled": False}},
    {"reasoning": {"effort": "none", "enabled": True}},
]
NOBODY_S = [
    "disable_reasoning",
    "no_think",
    "noThink",
    "thinking_mode",
    "max_thoughts",
    "thinking_enabled",
    "reasoning_tokens",
    "reasoning_length_limit",
    "token_budget",
    "budgetTokenz",
    "enable_thinkng",
    "effort_level",
    "reasoning_options",
    "reasoning_strength",
    "deepThink",
    "nothink",
    "thinking-buget",
    "max_reasonning_tokens",
    "cot_budget",
]


def ask(live: Live, path: str, fields: dict[str, Any]) -> Any:
    reply = live.http.post(path, json={**BODIES[path], **fields})
    assert reply.status_code == 200, reply.text
    return reply.json()


def refused(live: Live, path: str, fields: dict[str, Any]) -> str:
    """The message of a 400, before anything was generated."""
    before = len(live.engine.requests)
    reply = live.http.post(path, json={**BODIES[path], **fields})
    assert reply.status_code == 400, reply.text
    assert len(live.engine.requests) == before
    message: str = reply.json()["error"]["message"]
    return message


def reasoned(reply: Any) -> int:
    """Reasoning tokens, as its API's usage has them."""
    usage = reply["usage"]
    details = usage.get("completion_tokens_details") or usage["output_tokens_details"]
    return int(details.get("reasoning_tokens", details.get("thinking_tokens")))


def for_path(path: str, fields: dict[str, Any]) -> dict[str, Any]:
    """What Anthropic's own `thinking` needs beside."""
    thinking = fields.get("thinking")
    if path == MESSAGES and thinking == {"type": "enabled"}:
        return {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    return fields


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("fields", OFF, ids=str)
def test_no_reasoning(token_server: Live, path: str, fields: dict[str, Any]) -> None:
    reply = ask(token_server, path, fields)
    assert (reasoned(reply), reply["budget"]["level"]) == (0, "none")
    assert reply["budget"]["source"] in ("budget", "reasoning_effort")
    assert reply["budget"]["ignored_fields"] == []


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("fields", CAPS, ids=str)
def test_a_cap(cap_server: Live, path: str, fields: dict[str, Any]) -> None:
    reply = ask(cap_server, path, fields)
    report = reply["budget"]
    assert 0 < reasoned(reply) <= 7
    assert (report["max_reasoning_tokens"], report["source"]) == (7, "budget")
    assert report["requested"] == {"max_reasoning_tokens": 7}
    assert report["ignored_fields"] == []


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("fields", FREE, ids=str)
def test_reasoning_without_a_bound(token_server: Live, path: str, fields: dict[str, Any]) -> None:
    report = ask(token_server, path, fields)["budget"]
    assert (report["level"], report["ignored_fields"]) == ("native", [])
    both = ask(token_server, path, {**fields, "budget": 0.4})["budget"]
    assert (both["level"], both["source"]) == ("0.4", "budget")


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(("fields", "param"), WRONG, ids=str)
def test_wrong_values_name_their_field_and_ours(
    token_server: Live, path: str, fields: dict[str, Any], param: str
) -> None:
    message = refused(token_server, path, fields)
    assert f"`{param}" in message
    ours = ("budget", "Allowed: ", "top level", "include_reasoning")
    assert any(word in message for word in ours), message


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("fields", CONFLICTS, ids=str)
def test_fields_that_disagree(token_server: Live, path: str, fields: dict[str, Any]) -> None:
    message = refused(token_server, path, fields)
    assert any(f"`{name}" in message for name in fields), message


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("name", NOBODY_S)
def test_what_looks_like_a_budget_is_not_dropped(token_server: Live, path: str, name: str) -> None:
    message = refused(token_server, path, {name: 5})
    assert f"`{name}`" in message and "budget" in message


@pytest.mark.parametrize("path", BODIES)
def test_null_says_nothing(token_server: Live, path: str) -> None:
    skipped = {"thinking", "output_config", "reasoning"}  # known fields of some API, null as well
    nothing = dict.fromkeys(sorted(set(WORDS) - skipped))
    report = ask(token_server, path, nothing)["budget"]
    assert (report["level"], report["ignored_fields"]) == ("native", [])
    inner = {
        "chat_template_kwargs": {"enable_thinking": None},
        "nvext": {"max_thinking_tokens": None},
    }
    assert ask(token_server, path, inner)["budget"]["level"] == "native"


@pytest.mark.parametrize("path", BODIES)
def test_an_effort(token_server: Live, path: str) -> None:
    for fields in (
        {"think": "low"},
        {"thinking_level": "low"},
        {"output_config": {"effort": "low"}},
    ):
        report = ask(token_server, path, fields)["budget"]
        assert (report["level"], report["source"]) == ("0.4", "reasoning_effort")
        assert report["requested"] == "low"


def test_a_cap_goes_with_a_budget_an_alias_or_an_effort(token_server: Live) -> None:
    for fields in ({"budget": 0.4}, {"model": "scripted@0.4"}, {"reasoning_effort": "low"}):
        report = ask(token_server, CHAT, {**fields, "thinking_budget": 5})["budget"]
        assert (report["level"], report["max_reasoning_tokens"]) == ("0.4", 5)
    same = {"thinking_budget": 5, "budget": {"max_reasoning_tokens": 5}, "reasoning_budget": 5}
    assert ask(token_server, CHAT, same)["budget"]["max_reasoning_tokens"] == 5
    none = ask(token_server, CHAT, {"enable_thinking": False, "budget": "none"})["budget"]
    assert none["level"] == "none"


def test_streams_keep_to_the_words_as_well(cap_server: Live) -> None:
    fields = {"reasoning": {"max_tokens": 7}, "stream": True}
    reply = cap_server.http.post(CHAT, json={**BODIES[CHAT], **fields})
    report = [c for c in read_chunks(reply.text) if c.get("budget")][-1]["budget"]
    assert 0 < report["reasoning_tokens"] <= 7


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning": {"exclude": True}},
        {"include_thoughts": False},
        {"thinking_config": {"includeThoughts": False}},
        {"thinking": {"type": "adaptive", "display": "omitted"}},
        {"include_reasoning": False},
    ],
    ids=str,
)
def test_reasoning_is_hidden_in_any_words(token_server: Live, fields: dict[str, Any]) -> None:
    message = ask(token_server, CHAT, fields)["choices"][0]["message"]
    assert "reasoning" not in message and message["content"]
    kinds = [item["type"] for item in ask(token_server, RESPONSES, fields)["output"]]
    assert kinds == ["message"]
    block = ask(token_server, MESSAGES, fields)["content"][0]
    assert (block["type"], block["thinking"]) == ("thinking", "")
    shown = {**fields, "include_reasoning": True}
    if "include_reasoning" not in fields:
        assert "include_reasoning" in refused(token_server, CHAT, shown)


def test_what_only_advises_is_listed(token_server: Live) -> None:
    fields = {"thinking": {"type": "enabled", "keep": "all"}, "reasoning": {"context": "auto"}}
    report = ask(token_server, CHAT, fields)["budget"]
    assert report["ignored_fields"] == ["reasoning.context", "thinking.keep"]
    thinking = {"type": "adaptive", "block_binding": {}}
    report = ask(token_server, MESSAGES, {"thinking": thinking})["budget"]
    assert report["ignored_fields"] == ["thinking.block_binding"]


def test_no_report_repeats_more_names_than_it_may(token_server: Live) -> None:
    reasoning = {f"zebra{n}": 1 for n in range(5000)}
    for path in (CHAT, RESPONSES):
        report = ask(token_server, path, {"reasoning": reasoning})["budget"]
        assert len(report["ignored_fields"]) == MAX_IGNORED


@pytest.mark.parametrize(
    "name", ["reasoning_split", "reasoning_history", "billing", "next", "kind"]
)
def test_other_names_are_still_tolerated(token_server: Live, name: str) -> None:
    assert ask(token_server, CHAT, {name: 1})["budget"]["ignored_fields"] == [name]


def test_prompts_are_counted_and_tokenised_with_them(token_server: Live) -> None:
    plain, off = (
        token_server.http.post(TOKENIZE, json={"messages": user(), **fields}).json()
        for fields in ({"budget": "none"}, {"enable_thinking": False})
    )
    assert off == plain
    reply = token_server.http.post(TOKENIZE, json={"prompt": "x", "enable_thinking": False})
    assert reply.status_code == 400 and "enable_thinking" in reply.text
    reply = token_server.http.post(COUNT, json={"messages": user(), "thinking_budget": "x"})
    assert reply.status_code == 400 and "thinking_budget" in reply.text


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"options": {"think": False}}, "options.think"),  # Ollama's own API
        ({"parameters": {"enable_thinking": False}}, "parameters.enable_thinking"),  # DashScope's
        ({"custom_params": {"thinking_budget": 9}}, "custom_params.thinking_budget"),  # SGLang's
        (
            {"providerOptions": {"anthropic": {"thinking": {"type": "disabled"}}}},
            "providerOptions.anthropic.thinking",
        ),
        ({"model_kwargs": {"reasoning_effort": "low"}}, "model_kwargs.reasoning_effort"),
    ],
    ids=str,
)
def test_a_word_inside_an_unknown_object_is_not_dropped(
    token_server: Live, path: str, fields: dict[str, Any], where: str
) -> None:
    message = refused(token_server, path, fields)
    assert f"`{where}`" in message and "`budget`" in message


def test_notes_and_objects_without_such_words_are_listed(token_server: Live) -> None:
    fields = {
        "client_metadata": {"reasoning_effort": "low"},
        "options": {"num_ctx": 8192, "think": None},
        "context": {"a": {"b": [{"thinking": True}]}},
    }
    report = ask(token_server, CHAT, fields)["budget"]
    assert (report["level"], report["ignored_fields"]) == ("native", sorted(fields))


def test_no_thinking_goes_with_an_effort_of_anthropic_s(token_server: Live) -> None:
    fields: dict[str, Any] = {"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}
    assert ask(token_server, MESSAGES, fields)["budget"]["level"] == "none"
    fields["output_config"]["effort"] = "huge"
    assert "output_config.effort" in refused(token_server, MESSAGES, fields)


def test_two_caps_that_disagree_are_both_named(token_server: Live) -> None:
    message = refused(token_server, CHAT, {"max_reasoning_tokens": 30, "thinking_budget": 40})
    assert "`thinking_budget` and `max_reasoning_tokens` disagree" in message


def test_data_in_an_unknown_object_is_not_searched() -> None:
    many: Any = {f"k{n}": {"a": n} for n in range(300)}
    check_inside("zebra", many | {"think": False})
    check_inside("zebra", {f"k{n}": {f"l{m}": {} for m in range(200)} for n in range(200)})
    with pytest.raises(BudgetError):
        check_inside("zebra", {"a": {"b": {"c": {"think": False}}}})
