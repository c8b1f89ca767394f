"""LoRA adapters on real vLLM: a model of its own in our process and at an upstream, or refused."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pytest

from extracot_server.engine.base import Engine, EngineStartError
from extracot_server.engine.lora import read_adapters
from extracot_server.engine.vllm.engine import VllmEngine
from tests.fixtures.tiny_adapter import build_tiny_adapter
from tests.server.engine.running import Run, run
from tests.server.engine.vllm_servers import Server, ask, remote
from tests.server.live import Live

# vLLM and its libraries warn about their own code.
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.vllm,
    pytest.mark.filterwarnings("default"),
    pytest.mark.on_loop_of("token_vllm"),
]


@dataclass
class Found:
    """What the engine of ours that tests share does with its adapter."""

    engine: VllmEngine
    polite: Engine
    modes: dict[str, str]
    plain: Run
    adapted: Run


@pytest.fixture(scope="module")
def found(token_vllm: Live) -> Found:
    """Asked on its loop."""
    services = token_vllm.app.state.extracot.services
    engine, polite = token_vllm.engine, services["polite"].model.runtime.engine
    return Found(
        engine=engine,
        polite=polite,
        modes={name: service.model.mode for name, service in services.items()},
        plain=token_vllm.run(run(engine, ask(engine, "plain", 60))),
        adapted=token_vllm.run(run(polite, ask(polite, "adapted", 60))),
    )


@pytest.mark.timeout(900)
async def test_an_adapter_is_a_model_of_its_own(found: Found, tiny_adapter: Path) -> None:
    assert found.modes == {"model": "token", "polite": "token"}
    assert found.adapted.ids != found.plain.ids, "it changes what is written"
    again = await run(found.engine, ask(found.engine, "again", 60))
    assert again.ids == found.plain.ids, "and only where it is asked for"
    assert found.polite.info.model == str(tiny_adapter)


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
    found: Found, upstreams: list[Server], tiny_adapter: Path
) -> None:
    upstream = upstreams[1]
    async with remote(upstream, model="polite") as engine:
        assert engine.info.model == "polite"
        assert engine.source == str(tiny_adapter), "its card, not its model's"
        assert (await run(engine, ask(engine, "remote", 60))).ids == found.adapted.ids
    async with remote(upstream) as engine:
        assert (await run(engine, ask(engine, "base", 60))).ids == found.plain.ids
