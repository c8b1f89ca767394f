"""The HTTP backend against a real small server: concurrency, retries, dead ends, reply shapes."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from extracot_training.config.sampling import HttpBackend, SamplingParams, VllmBackend
from extracot_training.errors import GenerationError
from extracot_training.generation.sampling.backends import open_backend
from extracot_training.generation.sampling.base import (
    Failure,
    Request,
    Sample,
    SampleResult,
    split_reply,
)
from extracot_training.generation.sampling.http import HttpSampler
from tests.training.openai_server import Answer, completion, failure, serve

pytestmark = pytest.mark.anyio


def ask(*keys: str) -> list[Request]:
    return [Request(key, (("user", key),), seed=5) for key in keys]


def settings(url: str, **changes: Any) -> HttpBackend:
    base = {"base_url": url, "model": "m", "backoff_s": 0.0, "retries": 2}
    return HttpBackend.model_validate(base | changes)


async def outcomes(
    answer: Answer, requests: Sequence[Request], **changes: Any
) -> tuple[list[SampleResult], list[dict[str, Any]]]:
    with serve(answer) as server:
        backend = HttpSampler(settings(server.url, **changes))
        try:
            found = [outcome async for outcome in backend.run(requests, SamplingParams(top_k=4))]
        finally:
            await backend.aclose()
        return found, server.bodies


async def test_a_request_is_what_openai_expects() -> None:
    extra = {"budget": "native"}
    found, bodies = await outcomes(
        lambda body: completion("The answer", "because"), ask("a"), extra_body=extra
    )
    assert bodies == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": "a"}],
            "temperature": 0.7,
            "top_p": 0.95,
            "top_k": 4,
            "max_tokens": 4096,
            "seed": 5,
            "budget": "native",
        }
    ]
    sample = Sample("because", "The answer", True, "stop", 7, 12, 9)
    assert found == [SampleResult("a", sample)]


async def test_requests_run_side_by_side_up_to_the_limit() -> None:
    together = threading.Barrier(3, timeout=20)

    def answer(body: dict[str, Any]) -> Any:
        together.wait()  # passes only if three requests are being answered at the same time
        return completion("x")

    with serve(answer) as server:
        backend = HttpSampler(settings(server.url, concurrency=3))
        keys = [str(number) for number in range(9)]
        found = [outcome.key async for outcome in backend.run(ask(*keys), SamplingParams())]
        await backend.aclose()
        assert sorted(found) == keys
        assert server.most_at_once == 3


async def test_a_passing_failure_is_tried_again() -> None:
    left = [failure(503, "busy"), failure(429, "slow down", retry_after="0")]
    found, bodies = await outcomes(lambda body: left.pop() if left else completion("ok"), ask("a"))
    assert isinstance(found[0].result, Sample) and found[0].result.answer == "ok"
    assert len(bodies) == 3


async def test_a_lasting_failure_is_told_and_the_rest_goes_on() -> None:
    def answer(body: dict[str, Any]) -> Any:
        bad = body["messages"][0]["content"] == "bad"
        return failure(500, "out of\nmemory") if bad else completion("ok")

    found, bodies = await outcomes(answer, ask("bad", "good"), concurrency=1)
    assert found[0] == SampleResult("bad", Failure("failed", "HTTP 500: out of memory"))
    assert isinstance(found[1].result, Sample)
    assert len(bodies) == 4


async def test_a_refused_request_is_not_tried_again() -> None:
    found, bodies = await outcomes(lambda body: failure(400, "too long"), ask("a"))
    assert found == [SampleResult("a", Failure("refused", "HTTP 400: too long"))]
    assert len(bodies) == 1


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_wrong_key_or_model_ends_the_run(status: int) -> None:
    with pytest.raises(GenerationError, match=f"HTTP {status}: no such thing"):
        await outcomes(lambda body: failure(status, "no such thing"), ask("a", "b"))


async def test_a_dead_endpoint_is_one_clear_line() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
    backend = open_backend(settings(url))
    with pytest.raises(
        GenerationError, match=r"chat/completions: ConnectError .*\(tried 3 times\)"
    ):
        async for _ in backend.run(ask("a"), SamplingParams()):
            pass
    await backend.aclose()


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"choices": []},
        {"choices": [{"message": None}]},
        {"choices": [{"message": {"content": [1]}}]},
        [],
    ],
)
async def test_a_reply_of_another_shape_is_a_failure(reply: Any) -> None:
    found, _ = await outcomes(lambda body: (200, {}, reply), ask("a"))
    assert isinstance(found[0].result, Failure)
    assert found[0].result.kind == "failed"


async def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    with pytest.raises(GenerationError, match="TEACHER_KEY"):
        HttpSampler(settings("http://x/v1", api_key_env="TEACHER_KEY"))
    monkeypatch.setenv("TEACHER_KEY", "secret")
    with serve(lambda body: completion("x")) as server:
        backend = HttpSampler(settings(server.url, api_key_env="TEACHER_KEY"))
        assert [outcome async for outcome in backend.run(ask("a"), SamplingParams())]
        await backend.aclose()
        sent = {name.lower(): value for name, value in server.headers[0].items()}
        assert sent["authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("just text", (None, "just text", False)),
        ("<think>\nwhy\n</think>\n\nso", ("why", "so", True)),
        ("why\n</think>\nso", ("why", "so", True)),
        ("<think>\nnever ends", ("never ends", "", False)),
    ],
)
async def test_think_tags_in_plain_text(text: str, parts: tuple[str | None, str, bool]) -> None:
    assert split_reply(text) == parts


async def test_vllm_replies_are_decoded_from_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """The offline backend against a stand-in for vLLM; the real one needs a model."""
    text = {1: "<think>\nwhy", 2: "\n</think>\n", 3: "so"}
    tokenizer = SimpleNamespace(
        eos_token_id=9, decode=lambda ids, skip_special_tokens: "".join(text[i] for i in ids)
    )
    seen: list[Any] = []

    class Engine:
        def __init__(self, **arguments: Any) -> None:
            if arguments["model"] == "broken":
                raise ValueError("no config.json\nand more")

        def get_tokenizer(self) -> Any:
            return tokenizer

        def chat(self, conversations: Any, params: Any, **rest: Any) -> list[Any]:
            seen.append((conversations, params))
            output = SimpleNamespace(token_ids=[1, 2, 3, 9], finish_reason="stop")
            return [SimpleNamespace(outputs=[output], prompt_token_ids=[1, 1])] * len(conversations)

    fake = SimpleNamespace(LLM=Engine, SamplingParams=lambda **values: values)
    monkeypatch.setitem(sys.modules, "vllm", fake)
    backend = open_backend(VllmBackend(model="m", batch=2))
    found = [outcome async for outcome in backend.run(ask("a", "b", "c"), SamplingParams())]
    assert [outcome.key for outcome in found] == ["a", "b", "c"]
    assert found[0].result == Sample("why", "so", True, "stop", 2, 4)
    assert [len(conversations) for conversations, _ in seen] == [2, 1]
    assert seen[0][1][0]["seed"] == 5
    await backend.aclose()
    with pytest.raises(GenerationError, match=r"can't load 'broken': no config\.json$"):
        open_backend(VllmBackend(model="broken"))
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(GenerationError, match="needs the package vllm"):
        open_backend(VllmBackend(model="m"))
