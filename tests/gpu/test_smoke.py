"""The core of the server on a CUDA GPU: `make gpu-smoke`. Skipped, with the reason, without one."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from extracot_server.app import create_app
from extracot_server.config.settings import Settings
from tests.fixtures.token_checkpoint import token_checkpoint

pytestmark = [pytest.mark.gpu, pytest.mark.anyio, pytest.mark.timeout(900)]
QUESTION = "A shop sells 12 pens a day. How many pens does it sell in 5 days?"


async def ask(client: httpx.AsyncClient, budget: Any, **fields: Any) -> dict[str, Any]:
    """One reply as JSON; the test fails on any other status."""
    body = {"messages": [{"role": "user", "content": QUESTION}], "budget": budget, **fields}
    reply = await client.post("/v1/chat/completions", json=body, timeout=300)
    assert reply.status_code == 200, reply.text
    result: dict[str, Any] = reply.json()
    return result


async def test_a_token_checkpoint_on_cuda_keeps_its_budgets() -> None:
    """Levels, auto, an exact cap and 32 replies at once, with vLLM's own defaults for CUDA."""
    settings = Settings(model=str(token_checkpoint()), served_model_name="fixture")
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        service = app.state.extracot.services["fixture"]
        assert service.model.runtime.engine.info.device == "cuda"
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gpu") as client:
            capped = await ask(
                client, {"ratio": 1.0, "max_reasoning_tokens": 12}, max_tokens=64, ignore_eos=True
            )
            assert capped["budget"]["reasoning_tokens"] <= 12
            auto = await ask(client, "auto", max_tokens=64)
            assert auto["budget"]["chosen"] in {"0.2", "0.4", "0.6", "0.8", "1.0"}
            many = await asyncio.gather(*[ask(client, 0.4, max_tokens=64) for _ in range(32)])
            assert all(reply["budget"]["level"] == many[0]["budget"]["level"] for reply in many)
        assert await service.model.runtime.engine.in_flight() == 0
