"""Engine `openai` and its servers: which one is asked, what is wrong with them, settings, keys."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

from extracot_server.config.offers import Offers, check_offers, kind_of, offers_of
from extracot_server.config.settings import Settings, SettingsError, load_settings
from extracot_server.engine.base import EngineStartError
from extracot_server.engine.openai.estimate import EstimatingTokenizer
from extracot_server.engine.openai.turn import put
from extracot_server.engine.openai.wire import read_chunk
from extracot_server.engine.remote.wire import UpstreamFailure
from extracot_server.engine.said import Said, SaidCall, SaidUsage
from extracot_server.generation.relayed_counts import Counted, RequestCount, settle
from extracot_server.generation.token_rate import TokenRate
from tests.server.engine.chat_fakes import FakeChat, in_front_of


def test_a_server_that_fails_before_it_speaks_is_replaced_by_another() -> None:
    bad = FakeChat(refusal=(500, {"error": {"message": "out of memory"}}))
    good = FakeChat()
    with in_front_of(bad, good) as live:
        for _ in range(2):
            assert live.chat()["choices"][0]["message"]["content"] == "The answer is 40."
        assert len(good.bodies) == 2


def test_a_reply_that_breaks_off_is_an_error_and_is_not_asked_again() -> None:
    fake, other = FakeChat(break_after=3), FakeChat(break_after=3)
    with in_front_of(fake, other) as live:
        assert live.post().status_code == 500
        assert len(fake.bodies) + len(other.bodies) == 1
        text = live.post(stream=True).text
        last = text.split("\n\n")[-3]
        assert "error" in json.loads(last.removeprefix("data: "))


def test_a_busy_server_says_when_to_come_back() -> None:
    fake = FakeChat(refusal=(429, {"error": {"message": "slow down"}}), retry_after="7")
    with in_front_of(fake) as live:
        response = live.post()
        assert response.status_code == 503 and response.headers["retry-after"] == "7"


def test_a_prompt_that_is_not_allowed_takes_nobody_elses_server_away() -> None:
    fake = FakeChat(refusal=(403, {"error": {"message": "flagged"}}))
    with in_front_of(fake, health_interval_seconds=60) as live:
        assert live.post().status_code == 403
        assert live.http.get("/ready").status_code == 200
        fake.refusal = None
        assert live.post().status_code == 200
        fake.refusal = (401, {"error": {"message": "no such key"}})
        assert live.post().status_code == 503, "a key that has been revoked is another matter"
        assert live.http.get("/ready").status_code == 503


def test_what_a_server_refuses_is_the_clients_with_its_words() -> None:
    body = {"error": {"message": "temperature must be 1", "param": "temperature"}}
    with in_front_of(FakeChat(refusal=(400, body))) as live:
        response = live.post(temperature=0.5)
        error = response.json()["error"]
        assert response.status_code == 400 and error["param"] == "temperature"
        assert "temperature must be 1" in error["message"]


def test_the_key_comes_from_a_file_and_is_never_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "key"
    file.write_text("sk-secret-1\n")
    fake = FakeChat(api_key="sk-secret-1", health=404, owner="somebody")
    with (
        caplog.at_level(logging.DEBUG),
        in_front_of(fake, upstream_api_key_file=file) as live,
    ):
        assert live.chat()["budget"]["exact"] is False
        assert fake.keys == {"Bearer sk-secret-1"}
    assert "sk-secret" not in caplog.text
    wrong = FakeChat(api_key="other")
    with pytest.raises(EngineStartError, match="refuses the API key"), in_front_of(wrong):
        pass


def test_a_redirect_is_named_and_not_followed() -> None:
    elsewhere = FakeChat()
    with in_front_of(elsewhere):
        to = elsewhere.url.replace("://", "://me:secret@") + "/v1/models?token=t"
        moved = FakeChat(moved=to)
        with pytest.raises(EngineStartError) as caught, in_front_of(moved):
            pass
    said = str(caught.value)
    assert f"redirects to {elsewhere.url}/v1/models (status 308)" in said
    assert "secret" not in said and "token" not in said


def test_a_request_that_is_redirected_fails_alone() -> None:
    fake = FakeChat()
    with in_front_of(fake) as live:
        fake.refusal = 307, {}
        error = live.post()
        assert error.status_code == 502 and "with status 307" in error.json()["error"]["message"]
        assert error.json()["error"]["code"] == "upstream_refused"
        fake.refusal = None
        assert live.chat()["budget"]["exact"] is False


def test_kinds_must_not_be_mixed() -> None:
    fakes = FakeChat(owner="vllm"), FakeChat(owner="sglang")
    with pytest.raises(EngineStartError, match="of several kinds"), in_front_of(*fakes):
        pass


def test_what_is_known_of_the_model_is_told() -> None:
    with in_front_of(FakeChat(context=8192, owner="vllm")) as live:
        entry = live.http.get("/v1/models").json()["data"][0]
        assert (entry["id"], entry["max_model_len"]) == ("thinker", 8192)
        told = live.http.get("/v1/budget").json()
        assert told["baseline"]["source"] == "assumed"
        assert live.metric_sum("extracot_upstream_up") == 1


def test_a_profile_that_is_named_is_taken_as_it_is() -> None:
    fake = FakeChat(owner="vllm")
    with in_front_of(fake, profile="qwen3") as live:
        live.chat(budget="none")
        assert fake.bodies[0]["chat_template_kwargs"] == {"enable_thinking": False}
        live.chat(budget=0.5)
        assert fake.bodies[1]["chat_template_kwargs"] == {"enable_thinking": True}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kind": "ollama"}, "kind: input should be 'llama.cpp'"),
        ({"bugdet": "x"}, "there is no bugdet"),
        ({"budget": "a b"}, "budget: string should match"),
        ({"effort": "reasoning_effort"}, "effort and efforts go together"),
        ({"words": "think little"}, "must hold {tokens}"),
        ({"sampling": "beam"}, "'beam' is none of"),
        ({"context": 0}, "context: input should be greater"),
        ({"off": {"model": 1}}, "model is a field that this server sets"),
        ({"splits": True}, "splits needs reasoning"),
    ],
    ids=["kind", "key", "name", "effort", "words", "sampling", "context", "ours", "splits"],
)
def test_offers_that_cannot_be_are_refused_in_a_line(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        check_offers(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--engine", "openai"], "engine openai needs an upstream"),
        (["--upstream-offers", "kind=vllm"], "upstream_offers is for engine openai"),
        (["--engine", "openai", "--upstream", "http://h", "--card", "x"], "engine openai has none"),
        (["--engine", "openai", "--upstream", "http://h", "--upstream-offers", "kind=x"], "kind"),
    ],
    ids=["no upstream", "other engine", "card", "kind"],
)
def test_settings_that_do_not_go_together(flags: list[str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load_settings(flags)


def test_offers_may_be_flags() -> None:
    flags = ["--engine", "openai", "--upstream", "http://h", "--upstream-offers", "effort=a.b"]
    flags += ["--upstream-offers", "efforts=low high", "--upstream-offers", "continues=true"]
    found = offers_of(load_settings(flags).upstream_offers, "plain")
    assert found.efforts == ("low", "high") and found.effort == "a.b"
    assert found.can_continue and found.continuing == {}
    assert Settings(engine="openai", upstream=["http://h"]).upstream_offers == {}


def test_keys_that_yaml_reads_as_truths_are_what_they_look_like() -> None:
    given = yaml.safe_load("{off: {thinking.type: disabled}, on: {thinking.type: enabled}}")
    found = Settings(engine="openai", upstream=["http://h"], upstream_offers=given)
    offers = offers_of(found.upstream_offers, "plain")
    assert offers.off == {"thinking.type": "disabled"} and offers.on == {"thinking.type": "enabled"}


def test_kinds_are_known_by_who_owns_the_models() -> None:
    assert [kind_of(owner) for owner in ("llamacpp", "vllm", None)] == [
        "llama.cpp",
        "vllm",
        "plain",
    ]
    assert Offers().can_skip is False


def test_chunks_of_every_server_are_read() -> None:
    timings = {"prompt_n": 3, "cache_n": 4, "predicted_n": 9}
    choice = {"delta": {"reasoning_content": "x"}, "finish_reason": None}
    found = read_chunk(json.dumps({"choices": [choice], "timings": timings}).encode())
    assert found.said == Said("x", usage=SaidUsage(7, 9, cached=4))
    call = {"function": {"name": "f", "arguments": {"a": 1}}}
    whole = {"choices": [{"delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]}
    found = read_chunk(json.dumps(whole).encode())
    assert found.said.calls == (SaidCall(-1, None, "f", '{"a": 1}'),)
    assert read_chunk(b'{"choices": []}').said == Said()
    for data in (b"no", b'{"choices": 3}', b'{"error": {"message": "x", "code": 500}}'):
        with pytest.raises(UpstreamFailure):
            read_chunk(data)


def test_put_makes_objects_on_its_way_and_changes_no_others() -> None:
    inner = {"a": 1}
    body = {"x": inner}
    put(body, "x.b.c", 2)
    assert body == {"x": {"a": 1, "b": {"c": 2}}} and inner == {"a": 1}


@pytest.mark.parametrize("text", ["", "a", "naïve €40 <think> x </think>", "日本語\n" * 9])
def test_the_stand_in_loses_nothing(text: str) -> None:
    tokenizer = EstimatingTokenizer()
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert b"".join(map(tokenizer.id_to_bytes, ids)).decode() == text
    assert len(ids) <= len(text.encode())


def test_a_rate_is_learnt_and_a_server_that_counts_is_believed() -> None:
    rate = TokenRate()
    assert rate.of("x" * 40, 0.0) == 10 and rate.of("x", 0.0) == 1
    rate.learn(chunks=10, characters=400, tokens=100)
    assert rate.of("x" * 40, 0.0) == 10.0
    count = RequestCount(rate)
    assert count.see(Said("x" * 4, usage=SaidUsage(5, 3))) == 3
    assert count.see(Said("x" * 4, usage=SaidUsage(5, 4))) == 1
    one_each = TokenRate()
    one_each.learn(chunks=40, characters=400, tokens=41)
    assert one_each.of("understanding everything", 0.0) == 1.0


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (SaidUsage(1, 33), (20, 10, 3)),
        (SaidUsage(1, 60), (40, 20, 0)),
        (SaidUsage(1, 15), (10, 5, 0)),
        (SaidUsage(1, 50, 45), (45, 5, 0)),
        (SaidUsage(1, None), (20, 10, 0)),
    ],
    ids=["markup", "more", "less", "told", "nothing"],
)
def test_counts_settle_to_the_servers(usage: SaidUsage, expected: tuple[int, int, int]) -> None:
    from extracot_server.budget.limits import Limits
    from extracot_server.generation.report import ChoiceState

    limits = Limits(100, 10, 90, "room", None, None)
    state = ChoiceState(limits, reasoning=20, answer=10, sampled=30)
    settle(state, Counted(0, 0, 0, 0), usage)
    assert (state.reasoning, state.answer, state.overhead) == expected
    assert state.sampled == sum(expected)
