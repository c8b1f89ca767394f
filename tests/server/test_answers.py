"""The answer's own rules: stop strings, log-probabilities, formats, messages and what is shown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from extracot_server.engine.scripted.engine import ScriptedBehaviour
from tests.server.live import Live, collect, serve, user

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def schema_format(schema: Any) -> dict[str, Any]:
    """A ``response_format`` for a schema."""
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


@pytest.mark.parametrize("stop", [" is", ["zzz", "boxed"], "r is \\bo", ["{", " answer"]])
def test_stop_strings_cut_the_answer_wherever_tokens_end(token_server: Live, stop: Any) -> None:
    whole = token_server.chat(budget=0.2)["choices"][0]["message"]
    stops = [stop] if isinstance(stop, str) else stop
    cut = min(at for s in stops if (at := whole["content"].find(s)) >= 0)
    reply = token_server.chat(budget=0.2, stop=stop)
    choice = reply["choices"][0]
    assert choice["message"]["content"] == whole["content"][:cut]
    assert choice["message"]["reasoning"] == whole["reasoning"]
    assert choice["finish_reason"] == "stop"
    streamed = collect(token_server.chunks(budget=0.2, stop=stop))
    assert streamed["message"] == choice["message"]


def test_stop_strings_do_not_fire_inside_reasoning(any_cap_server: Live) -> None:
    for fields in ({}, {"budget": 0.5}):
        free = any_cap_server.chat(**fields)["choices"][0]["message"]
        words = free["reasoning"].split()
        word = next(word for word in words if word not in free["content"])
        stopped = any_cap_server.chat(stop=[word], **fields)["choices"][0]["message"]
        assert stopped == free


def test_a_stop_string_that_never_completes_is_shown(token_server: Live) -> None:
    whole = token_server.chat()["choices"][0]["message"]["content"]
    reply = token_server.chat(stop=[whole[-1] + "x", "boxed{x"])
    assert reply["choices"][0]["message"]["content"] == whole


@pytest.mark.parametrize("fields", [{}, {"stop": "boxed"}, {"budget": 0.2}, {"max_tokens": 9}])
def test_logprobs_are_aligned_with_content(any_cap_server: Live, fields: dict[str, Any]) -> None:
    reply = any_cap_server.chat(logprobs=True, top_logprobs=3, **fields)
    choice = reply["choices"][0]
    rows = choice["logprobs"]["content"]
    text = "".join(row["token"] for row in rows)
    assert text.lstrip().startswith(choice["message"]["content"])
    if "stop" not in fields:
        assert text.lstrip() == choice["message"]["content"]
        assert len(rows) == choice["budget"]["answer_tokens"]
    for row in rows:
        assert row["logprob"] <= 0
        assert bytes(row["bytes"]).decode() == row["token"]
        assert len(row["top_logprobs"]) == 3
        assert row["top_logprobs"][0]["logprob"] >= row["top_logprobs"][1]["logprob"]
    streamed = collect(any_cap_server.chunks(logprobs=True, top_logprobs=3, **fields))
    assert streamed["logprobs"]["content"] == rows


def test_logprobs_without_alternatives_and_without_asking(token_server: Live) -> None:
    rows = token_server.chat(logprobs=True)["choices"][0]["logprobs"]["content"]
    assert rows and all(row["top_logprobs"] == [] for row in rows)
    assert token_server.chat()["choices"][0]["logprobs"] is None
    assert token_server.refused(top_logprobs=2)["param"] == "top_logprobs"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {"$ref": "#/nowhere"},
        {"type": "object", "properties": [], "required": ["a"]},
        {"type": "string", "minLength": "long"},
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_bad_schema_is_refused_before_any_token(
    token_server: Live, schema: Any, stream: bool
) -> None:
    error = token_server.refused(
        response_format=schema_format(schema), budget=0.4, stream=stream, n=2
    )
    assert error["param"] == "response_format.json_schema.schema"
    assert "schema" in error["message"]


@pytest.mark.parametrize("budget", [None, 0.2, "none", "auto", {"max_reasoning_tokens": 5}])
@pytest.mark.parametrize("schema", [None, SCHEMA])
def test_json_only_in_the_answer(token_server: Live, budget: Any, schema: Any) -> None:
    wanted = schema_format(schema) if schema else {"type": "json_object"}
    reply = token_server.chat(budget=budget, response_format=wanted)
    message = reply["choices"][0]["message"]
    value = json.loads(message["content"])
    assert set(value) == ({"n"} if schema else {"answer"})
    assert bool(message["reasoning"]) is (budget != "none")
    assert reply["choices"][0]["finish_reason"] == "stop"
    report, usage = reply["budget"], reply["usage"]
    parts = report["reasoning_tokens"] + report["answer_tokens"] + report["overhead_tokens"]
    assert parts == usage["completion_tokens"] + report["injected_tokens"]


@pytest.mark.parametrize(
    "behaviour",
    [
        ScriptedBehaviour(opens_think=False),
        ScriptedBehaviour(tags_as_text=True),
        ScriptedBehaviour(tags_as_text=True, opens_think=False),
        ScriptedBehaviour(never_close=True),
        ScriptedBehaviour(eos_in_reasoning=4),
        ScriptedBehaviour(template_opens_think=True),
        ScriptedBehaviour(tokens_per_delta=7),
    ],
    ids=["no block", "text tags", "text tags, no block", "endless", "eos", "template", "bundles"],
)
@pytest.mark.parametrize("budget", [None, 0.3, "none"])
def test_json_whatever_the_model_does(behaviour: ScriptedBehaviour, budget: Any) -> None:
    with serve(behaviour, card="none", assumed_reasoning_tokens=100) as live:
        reply = live.chat(budget=budget, response_format={"type": "json_object"}, max_tokens=300)
        assert set(json.loads(reply["choices"][0]["message"]["content"])) == {"answer"}
        asked = live.engine.requests[-1]
        assert asked.answer_format is not None


def test_json_leaves_the_instruction_out(token_server: Live) -> None:
    def prompt(**fields: Any) -> str:
        token_server.chat(**fields)
        return str(token_server.engine.tokenizer.decode(token_server.engine.requests[-1].token_ids))

    assert "step by step" in prompt(budget=0.2)
    as_json = {"type": "json_object"}
    assert "step by step" not in prompt(budget=0.2, response_format=as_json)
    assert "step by step" in prompt(response_format=as_json, include_instruction=True)
    assert "step by step" not in prompt(budget=0.2, include_instruction=False)


def test_min_tokens_are_the_answers(token_server: Live) -> None:
    reply = token_server.chat(budget=0.2, min_tokens=30)
    assert reply["budget"]["answer_tokens"] >= 29
    free = token_server.chat(budget=0.2)
    assert reply["budget"]["reasoning_tokens"] == free["budget"]["reasoning_tokens"]
    tight = token_server.chat(budget=0.2, min_tokens=30, max_tokens=40)
    assert tight["usage"]["completion_tokens"] <= 40
    assert tight["budget"]["answer_tokens"] >= 19  # all that reasoning had left
    error = token_server.refused(min_tokens=50, max_tokens=40)
    assert error["param"] == "min_tokens"


def test_ignore_eos_goes_on_to_the_limit(token_server: Live) -> None:
    reply = token_server.chat(budget=0.2, ignore_eos=True, max_tokens=120)
    assert reply["usage"]["completion_tokens"] == 120
    assert reply["choices"][0]["finish_reason"] == "length"


def test_reasoning_has_two_names_and_can_be_hidden(token_server: Live) -> None:
    message = token_server.chat(budget=0.2)["choices"][0]["message"]
    assert message["reasoning"] == message["reasoning_content"] != ""
    hidden = token_server.chat(budget=0.2, include_reasoning=False)
    assert not {"reasoning", "reasoning_content"} & set(hidden["choices"][0]["message"])
    assert hidden["budget"]["reasoning_tokens"] > 0
    chunks = token_server.chunks(budget=0.2, include_reasoning=False)
    deltas = [c["delta"] for chunk in chunks for c in chunk["choices"]]
    assert not any({"reasoning", "reasoning_content"} & set(delta) for delta in deltas)
    assert "".join(d.get("content") or "" for d in deltas) == message["content"]


FIELDS = {
    "both": {"reasoning", "reasoning_content"},
    "reasoning": {"reasoning"},
    "reasoning_content": {"reasoning_content"},
}


def reasoning_fields(live: Live, **fields: Any) -> set[str]:
    """Under which names a reply has its reasoning: whole and as a stream they are the same."""
    names = FIELDS["both"]
    message = live.chat(budget=0.2, **fields)["choices"][0]["message"]
    deltas = [c["delta"] for chunk in live.chunks(budget=0.2, **fields) for c in chunk["choices"]]
    streamed = {name for delta in deltas for name in names & set(delta)}
    assert streamed == names & set(message)
    for name in streamed:
        assert "".join(delta.get(name, "") for delta in deltas) == message[name]
    return streamed


@pytest.mark.parametrize("setting", FIELDS)
def test_the_name_of_reasoning_is_a_setting_and_a_field(setting: str) -> None:
    with serve(reasoning_field=setting) as live:
        assert reasoning_fields(live) == reasoning_fields(live, reasoning_field=None)
        assert reasoning_fields(live) == FIELDS[setting]
        for asked, names in FIELDS.items():
            assert reasoning_fields(live, reasoning_field=asked) == names
            assert reasoning_fields(live, reasoning_field=asked, include_reasoning=False) == set()
        assert live.refused(reasoning_field="none")["param"] == "reasoning_field"


def test_earlier_reasoning_is_accepted_and_not_rendered(token_server: Live) -> None:
    def prompt(assistant: dict[str, Any]) -> tuple[int, ...]:
        messages = [*user("One?"), {"role": "assistant", **assistant}, *user("Two?")]
        token_server.chat(messages=messages, budget=0.2)
        ids: tuple[int, ...] = token_server.engine.requests[-1].token_ids
        return ids

    plain = prompt({"content": "Yes."})
    for name in ("reasoning", "reasoning_content"):
        assert prompt({"content": "Yes.", name: "Secret thoughts."}) == plain
    assert prompt({"content": "<think>\nSecret\n</think>\n\nYes."}) == plain
    levels = [token_server.engine.tokenizer.get_added_vocab()["<COMP_20>"]]
    assert sum(id_ in levels for id_ in plain) == 2  # the last user turn's and the prefilled one


def test_text_parts_are_joined(token_server: Live) -> None:
    token_server.chat(messages=user("What is 2 + 2?"))
    plain = token_server.engine.requests[-1].token_ids
    parts = [{"type": "text", "text": "What is "}, {"type": "text", "text": "2 + 2?"}]
    token_server.chat(messages=[{"role": "user", "content": parts}])
    assert token_server.engine.requests[-1].token_ids == plain


def test_developer_is_system(token_server: Live) -> None:
    seen = []
    for role in ("system", "developer"):
        token_server.chat(messages=[{"role": role, "content": "Be brief."}, *user()])
        seen.append(token_server.engine.requests[-1].token_ids)
    assert seen[0] == seen[1]
    assert "Be brief." in token_server.engine.tokenizer.decode(seen[0])


def test_sampling_goes_to_the_engine(token_server: Live) -> None:
    sampling: dict[str, Any] = {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 5,
        "min_p": 0.1,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "repetition_penalty": 1.1,
    }
    token_server.chat(seed=-1, logit_bias={"300": -5}, **sampling)
    sent = token_server.engine.requests[-1].sampling
    for name, value in sampling.items():
        assert getattr(sent, name) == value
    assert (sent.seed, sent.logit_bias) == (2**32 - 1, {300: -5})


def test_choices_differ_by_seed_and_repeat(cap_server: Live) -> None:
    reply = cap_server.chat(n=3, seed=10)
    texts = [choice["message"]["reasoning"] for choice in reply["choices"]]
    assert [choice["index"] for choice in reply["choices"]] == [0, 1, 2]
    assert len(set(texts)) == 3
    assert cap_server.chat(seed=11)["choices"][0]["message"]["reasoning"] == texts[1]
    assert reply["usage"]["prompt_tokens"] == cap_server.chat()["usage"]["prompt_tokens"]
