"""What goes over the wire, without a wire: bodies, chunks, refusals; and what a folder tells."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot_server.engine.base import (
    AnswerFormat,
    EngineInfo,
    EngineRequestError,
    EngineStartError,
    GenerationRequest,
    SamplingParams,
)
from extracot_server.engine.remote.catalog import (
    ModelCard,
    UpstreamMismatchError,
    choose_model,
)
from extracot_server.engine.remote.model import load_local_model
from extracot_server.engine.remote.wire import (
    UpstreamFailure,
    Wire,
    encode_request,
    read_chunk,
    read_error,
)
from extracot_server.engine.request_checks import check_request
from tests.fixtures.tiny_model import build_tiny_model

INFO = EngineInfo("remote", "0", "m", "remote", 100, 50, frozenset({1}))


def ask(max_tokens: int = 8, **more: Any) -> GenerationRequest:
    return GenerationRequest("r", more.pop("token_ids", (3, 4)), max_tokens, **more)


def body(request: GenerationRequest, wire: Wire, **defaults: Any) -> dict[str, Any]:
    encoded = encode_request(request, wire, model="m", defaults=defaults, room=98)
    decoded: dict[str, Any] = json.loads(encoded)
    return decoded


def test_nothing_is_sent_that_was_not_asked_for() -> None:
    assert body(ask(), Wire.GENERATE) == {
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
        "request_id": "r",
        "priority": 0,
        "token_ids": [3, 4],
        "sampling_params": {
            "max_tokens": 8,
            "min_tokens": 0,
            "ignore_eos": False,
            "stop_token_ids": [],
            "detokenize": False,
        },
    }


def test_the_models_own_defaults_hold_unless_asked_otherwise() -> None:
    request = ask(sampling=SamplingParams(temperature=0.0))
    for wire in Wire:
        sent = body(request, wire, temperature=0.6, top_k=20)
        values = sent.get("sampling_params", sent)
        assert (values["temperature"], values["top_k"]) == (0.0, 20)


def test_a_reply_never_asks_for_more_than_the_context() -> None:
    assert body(ask(500), Wire.COMPLETIONS)["max_tokens"] == 98


def test_a_grammar_binds_from_the_first_token() -> None:
    request = ask(answer_format=AnswerFormat("json_schema", {"type": "object"}))
    sent = body(request, Wire.GENERATE)
    assert sent["reasoning_ended"] is True
    assert sent["sampling_params"]["structured_outputs"] == {"json": {"type": "object"}}
    plain = body(ask(answer_format=AnswerFormat("json_object")), Wire.COMPLETIONS)
    assert plain["structured_outputs"] == {"json_object": True}


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (ask(token_ids=()), "messages"),
        (ask(token_ids=(1,) * 100), "messages"),
        (ask(token_ids=(50,)), None),
        (ask(token_ids=(-1,)), None),
        (ask(0), "max_tokens"),
        (ask(-1), "max_tokens"),
        (ask(sampling=SamplingParams(min_tokens=9)), "min_tokens"),
        (ask(sampling=SamplingParams(min_tokens=-1)), "min_tokens"),
        (ask(sampling=SamplingParams(temperature=2.1)), "temperature"),
        (ask(sampling=SamplingParams(temperature=float("nan"))), "temperature"),
        (ask(sampling=SamplingParams(top_p=0.0)), "top_p"),
        (ask(sampling=SamplingParams(top_p=1.1)), "top_p"),
        (ask(sampling=SamplingParams(top_k=-2)), "top_k"),
        (ask(sampling=SamplingParams(min_p=1.5)), "min_p"),
        (ask(sampling=SamplingParams(presence_penalty=3.0)), "presence_penalty"),
        (ask(sampling=SamplingParams(frequency_penalty=-3.0)), "frequency_penalty"),
        (ask(sampling=SamplingParams(repetition_penalty=0.0)), "repetition_penalty"),
        (ask(sampling=SamplingParams(repetition_penalty=float("inf"))), "repetition_penalty"),
        (ask(sampling=SamplingParams(seed=2**63)), "seed"),
        (ask(sampling=SamplingParams(logprobs=21)), "top_logprobs"),
        (ask(sampling=SamplingParams(logprobs=-1)), "top_logprobs"),
        (ask(sampling=SamplingParams(logit_bias={50: 1.0})), "logit_bias"),
        (ask(sampling=SamplingParams(logit_bias={5: float("inf")})), "logit_bias"),
        (ask(allowed_token_ids=()), None),
        (ask(allowed_token_ids=(50,)), None),
        (ask(stop_token_ids=(50,)), None),
    ],
)
def test_what_vllm_would_refuse_or_not_notice_is_refused_here(
    request_: GenerationRequest, param: str | None
) -> None:
    with pytest.raises(EngineRequestError) as caught:
        check_request(request_, INFO)
    assert caught.value.param == param


def test_the_edges_are_allowed() -> None:
    check_request(
        ask(token_ids=(49,) * 99, sampling=SamplingParams(2.0, 1.0, -1, 1.0, 2.0, -2.0)), INFO
    )
    check_request(
        ask(1, sampling=SamplingParams(0.0, 0.1, 0, 0.0, seed=-(2**63), logprobs=20)), INFO
    )


def chunk(choice: dict[str, Any] | None = None, **more: Any) -> bytes:
    return json.dumps({"choices": [] if choice is None else [choice], **more}).encode()


@pytest.mark.parametrize("wire", Wire)
def test_chunks_without_tokens_say_nothing(wire: Wire) -> None:
    assert read_chunk(chunk(usage={"prompt_tokens": 2}), wire, ask()) is None
    assert read_chunk(chunk({"token_ids": [], "text": "x"}), wire, ask()) is None
    last = read_chunk(chunk({"token_ids": [], "finish_reason": "stop"}), wire, ask())
    assert last is not None and (last.token_ids, last.finish_reason) == ((), "stop")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'"text"',
        b"{",
        b'{"choices": {}}',
        chunk({"text": "no ids"}),
        chunk({"token_ids": ["a"]}),
        chunk({"token_ids": [-1]}),
        chunk({"token_ids": [2**31]}),
        chunk({"token_ids": [1], "logprobs": {"content": [{"token_id": -1, "logprob": 0}]}}),
        chunk({"token_ids": [1], "finish_reason": "error"}),
        chunk({"token_ids": [1], "finish_reason": "abort"}),
        chunk({"token_ids": [1, 2], "logprobs": {"content": []}}),
        chunk(error={"message": "boom", "code": 500}),
        chunk(error={"message": "boom"}),
    ],
)
def test_what_is_no_chunk_is_the_upstreams_fault(content: bytes) -> None:
    with pytest.raises(UpstreamFailure) as caught:
        read_chunk(content, Wire.GENERATE, ask())
    assert "\n" not in str(caught.value)


def test_padding_is_no_competitor() -> None:
    padded = [{"token_id": 5, "logprob": -1.0}, {"token_id": 0, "logprob": -9999.0}]
    entry = {"token_id": 5, "logprob": -1.0, "top_logprobs": padded}
    content = chunk({"token_ids": [5], "logprobs": {"content": [entry]}})
    delta = read_chunk(content, Wire.GENERATE, ask(sampling=SamplingParams(logprobs=1)))
    assert delta is not None and delta.logprobs is not None
    assert delta.logprobs[0].top == ((5, -1.0),)


@given(st.integers(300, 599), st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_answer_is_one_line_of_ours(status: int, content: bytes) -> None:
    error = read_error(status, content)
    assert isinstance(error, EngineRequestError) == (status in (400, 413, 422))
    assert "\n" not in str(error) and str(error)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": None}, "refused with status 400"),
        ({"error": None, "detail": "no"}, "no"),
        ({"error": {"message": None}}, "refused with status 400"),
        ({"error": {"message": {"a": 1}}}, '{"a": 1}'),
        (
            {"detail": [{"loc": ["body", "n"], "msg": "too many"}, {"msg": "bad"}]},
            "body.n: too many; bad",
        ),
        ({"detail": ["one", "two"]}, "one; two"),
        ([1, 2], "1; 2"),
        (None, "refused with status 400"),
    ],
)
def test_an_answer_in_any_form_is_told_in_words(body: Any, words: str) -> None:
    assert str(read_error(400, json.dumps(body).encode())) == words


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("17", 17),
        ("2.5", 3),
        ("0", 1),
        ("-4", 1),
        ("1e9", 600),
        ("inf", 600),
        ("nan", 1),
        ("soon", 1),
        ("", 1),
        (None, 1),
        ("Wed, 21 Oct 2099 07:28:00 GMT", 600),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 1),
        ("Thu, 01 Jan 2026 00:05:00 GMT", 300),
    ],
)
def test_a_wait_is_a_number_or_a_date(
    header: str | None, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    monkeypatch.setattr("extracot_server.engine.remote.wire.time", lambda: now)
    error = read_error(429, b"{}", header)
    assert isinstance(error, UpstreamFailure) and error.retry_after == seconds


def test_names_of_tokens_that_are_none_are_left_out() -> None:
    tops = [{"token_id:5": -1.0, "token_id:x": -2.0, "token_id:-1": -3.0}]
    logprobs = {"tokens": ["token_id:5"], "token_logprobs": [-1.0], "top_logprobs": tops}
    content = chunk({"token_ids": [5], "logprobs": logprobs})
    delta = read_chunk(content, Wire.COMPLETIONS, ask(sampling=SamplingParams(logprobs=3)))
    assert delta is not None and delta.logprobs is not None
    assert delta.logprobs[0].top == ((5, -1.0),)


@given(
    st.recursive(st.none() | st.integers() | st.text(max_size=9), lambda x: st.lists(x, max_size=3))
)
def test_any_json_under_error_is_read(value: Any) -> None:
    for content in ({"error": value}, {"detail": value}, {"error": {"message": value}}, value):
        assert str(read_error(400, json.dumps(content).encode()))


CARDS = [
    ModelCard(id="a", root="/models/a", max_model_len=9),
    ModelCard(id="alias", root="/models/a", max_model_len=9),
    ModelCard(id="lora", root="/adapters/l", parent="a"),
]


def test_the_model_is_found_by_name_or_by_what_was_loaded() -> None:
    assert choose_model(CARDS, None, "u").id == "a"
    assert choose_model(CARDS, "alias", "u").id == "alias"
    assert choose_model(CARDS, "/models/a", "u").id == "a"
    adapter = choose_model(CARDS, "lora", "u")
    assert (adapter.id, adapter.root, adapter.max_model_len) == ("lora", "/models/a", 9)
    assert adapter.adapter == "/adapters/l" and choose_model(CARDS, "a", "u").adapter is None


@pytest.mark.parametrize(
    ("cards", "wanted", "words"),
    [
        (CARDS, "b", "serves a, alias, lora, not b"),
        ([], None, "serves nothing, not a model"),
        ([*CARDS, ModelCard(id="z", root="/models/z")], None, "choose one with --model"),
        ([ModelCard(id="gpt")], None, "max_model_len"),
    ],
)
def test_a_model_that_is_not_there_is_one_line(
    cards: list[ModelCard], wanted: str | None, words: str
) -> None:
    with pytest.raises(UpstreamMismatchError, match=words) as caught:
        choose_model(cards, wanted, "http://u")
    assert "http://u" in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_tells_what_this_process_needs(tmp_path: Path) -> None:
    local = load_local_model(str(build_tiny_model(tmp_path / "model")))
    assert local.tokenizer.decode(local.tokenizer.encode("What is 3 + 4?")) == "What is 3 + 4?"
    assert local.vocab_size == 360
    assert local.eos_token_ids == {0, 2}
    assert local.defaults == {"temperature": 0.8, "top_k": 30}
    assert "<COMP_20>" in local.probe
    for name in ("config.json", "generation_config.json"):
        (tmp_path / "model" / name).unlink()
    bare = load_local_model(str(tmp_path / "model"))
    assert (bare.vocab_size, set(bare.eos_token_ids), bare.defaults) == (360, {2}, {})


def test_no_tokenizer_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "tokenizer.json").write_text("{")
    for source in (str(tmp_path / "absent"), str(tmp_path / "bad"), str(tmp_path), "no/such-model"):
        with pytest.raises(EngineStartError) as caught:
            load_local_model(source)
        text = str(caught.value)
        assert "--tokenizer" in text and source in text and "\n" not in text
