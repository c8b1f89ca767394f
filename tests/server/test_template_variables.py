"""``chat_template_kwargs``: the variables that the model's chat template takes, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from extracot_server.api.budget_readers import Say
from extracot_server.api.template_variables import said_by_variables, taken_by
from extracot_server.errors import BudgetError
from extracot_server.profiles.profile import Profile, Switch
from tests.fixtures.agent_engine import AgentEngine, AgentTokenizer
from tests.server.live import Live, serve, user
from tests.server.test_profile_prompts import own_prompt, serving
from tests.server.test_tools import WEATHER

KWARGS = "chat_template_kwargs"


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with serve(on=AgentEngine(), card="none", tool_parser="hermes") as server:
        yield server


def test_what_a_template_takes_is_what_it_looks_at() -> None:
    assert taken_by(AgentTokenizer()) == {"plain_tools", "keep_all", "enable_thinking"}
    source = (
        "{% generation %}{{ bos_token }}{% set a = b if b is defined else 1 %}{{ a }}"
        "{% for m in messages %}{% if m.role == c %}{% break %}{% endif %}{% endfor %}"
        "{{ raise_exception(strftime_now('%d')) }}{% endgeneration %}{{ documents }}{{ tools }}"
    )
    tokenizer: Any = SimpleNamespace(chat_template=source)
    assert taken_by(tokenizer) == {"b", "c"}
    tokenizer.chat_template = {"default": source, "tool_use": "{{ d }}"}
    assert taken_by(tokenizer) == {"b", "c", "d"}
    for broken in ("{% if %}", None):
        tokenizer.chat_template = broken
        assert taken_by(tokenizer) == frozenset()


@pytest.mark.parametrize("where", ["top level", "extra_body"])
def test_a_variable_reaches_the_template(live: Live, where: str) -> None:
    for plain in (True, False, None):
        fields: dict[str, Any] = {KWARGS: {"plain_tools": plain}}
        fields = {"extra_body": fields} if where == "extra_body" else fields
        live.chat(tools=[WEATHER], **fields)
        assert ("system\nTools:" in live.engine.prompt()) is bool(plain)


def test_a_switch_of_the_template_s_is_a_budget_too(live: Live) -> None:
    off = live.chat(**{KWARGS: {"enable_thinking": False}})
    assert live.engine.prompt().endswith("assistant\n<think>\n\n</think>\n\n")
    assert (off["budget"]["level"], off["budget"]["reasoning_tokens"]) == ("none", 0)
    on = live.chat(**{KWARGS: {"enable_thinking": True, "thinking_budget": 4}})
    assert (on["budget"]["max_reasoning_tokens"], on["budget"]["level"]) == (4, "native")
    assert on["budget"]["source_fields"] == [
        f"{KWARGS}.enable_thinking",
        f"{KWARGS}.thinking_budget",
    ]


@pytest.mark.parametrize(
    "name",
    [
        *("zebra", "messages", "tools", "documents", "add_generation_prompt", "tokenize"),
        *("chat_template", "continue_final_message", "bos_token", "eos_token", "raise_exception"),
        *("thinking_mode", "max_thinking_tokens", "", "a" * 200, "plain-tools", "Plain_Tools"),
    ],
)
def test_other_keys_are_refused_with_what_it_takes(live: Live, name: str) -> None:
    error = live.refused(messages=user(), **{KWARGS: {name: True}})
    assert error["param"] == f"{KWARGS}.{name[:64]}"
    assert "takes enable_thinking, keep_all, plain_tools" in error["message"]
    assert "`budget`" in error["message"]


def test_a_variable_that_is_set_twice_has_one_value(live: Live) -> None:
    once = {KWARGS: {"plain_tools": True}}
    live.chat(**once, extra_body=once)
    error = live.refused(messages=user(), **once, extra_body={KWARGS: {"plain_tools": 1}})
    assert f"`{KWARGS}.plain_tools`" in error["message"]
    assert f"`extra_body.{KWARGS}.plain_tools`" in error["message"]


def test_a_model_without_variables_says_so(token_server: Live) -> None:
    error = token_server.refused(messages=user(), **{KWARGS: {"plain_tools": True}})
    assert "takes none" in error["message"]
    assert token_server.chat(**{KWARGS: {"plain_tools": None}})["budget"]["ignored_fields"] == []


@pytest.mark.parametrize(
    "value",
    [[], {}, ["a"], {"a": 1}, "<|im_end|>", "</think>", "a\nb", "[INST]", "{{ x }}", "a" * 200],
    ids=str,
)
def test_a_value_can_spell_no_token(live: Live, value: Any) -> None:
    error = live.refused(messages=user(), **{KWARGS: {"plain_tools": value}})
    assert error["param"] == f"{KWARGS}.plain_tools"


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages", "/v1/tokenize"])
def test_every_api_passes_them_on(live: Live, path: str) -> None:
    body: dict[str, Any] = {"max_tokens": 50} if path == "/v1/messages" else {}
    body |= {"input": "Hello"} if path == "/v1/responses" else {"messages": user("Hello")}
    reply = live.http.post(path, json={**body, KWARGS: {"zebra": 1}})
    assert reply.status_code == 400 and f"{KWARGS}.zebra" in reply.text
    reply = live.http.post(path, json={**body, KWARGS: {"keep_all": True}})
    assert reply.status_code == 200
    counted = live.http.post("/v1/tokenize", json={"prompt": "x", KWARGS: {"keep_all": True}})
    assert counted.status_code == 400 and f"{KWARGS}.keep_all" in counted.text


# Real templates, and words of a family's own -----------------------------------------------------


def prompt_of(live: Live, kwargs: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    before = len(live.engine.requests)
    report = live.chat(max_tokens=8000, **{KWARGS: kwargs})["budget"]
    return live.engine.prompt(live.engine.requests[before]), report


def test_real_templates_get_what_their_users_send() -> None:
    with serving("gptoss") as oss:
        prompt, report = prompt_of(oss, {"reasoning_effort": "low", "model_identity": "You: Bo."})
        told = own_prompt(oss, reasoning_effort="low", model_identity="You: Bo.")
        assert prompt.startswith(told) and "You: Bo." in prompt
        assert (report["source"], report["requested"]) == ("reasoning_effort", "low")
        error = oss.refused(messages=user(), **{KWARGS: {"enable_reasoning_please": True}})
        for name in ("builtin_tools", "model_identity", "reasoning_effort"):
            assert name in error["message"]
    with serving("qwen3") as qwen:
        prompt, report = prompt_of(qwen, {"enable_thinking": False})
        assert prompt == own_prompt(qwen, enable_thinking=False)
        assert report["level"] == "none"
    with serving("nemotron_3_super") as nemotron:
        prompt, report = prompt_of(nemotron, {"low_effort": True})
        assert prompt == own_prompt(nemotron, low_effort=True) != own_prompt(nemotron)
        assert report["source"] == "default"


FAMILY = Profile(
    "family",
    switches={"thinking_mode": Switch(on="enabled", off="disabled"), "quick": Switch(off=True)},
    budget_switch="most_thoughts",
)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("thinking_mode", "disabled", [{"thinks": False}]),
        ("thinking_mode", "enabled", [{"thinks": True}]),
        ("thinking_mode", "adaptive", []),
        ("quick", True, [{"thinks": False}]),
        ("quick", 1, []),
        ("quick", False, []),
        ("most_thoughts", 9, [{"cap": 9}]),
        ("most_thoughts", -1, [{"thinks": True}]),
        ("other", "disabled", []),
    ],
)
def test_a_family_s_own_switches_are_budgets(name: str, value: Any, said: list[Any]) -> None:
    field = f"{KWARGS}.{name}"
    says = [Say(field, variable=(name, value))]
    assert said_by_variables(says, FAMILY) == [Say(field, **one) for one in said]


def test_a_family_s_own_budget_is_a_number() -> None:
    with pytest.raises(BudgetError) as caught:
        said_by_variables([Say("most", variable=("most_thoughts", "many"))], FAMILY)
    assert "`most`" in str(caught.value)
