"""``/v1/upstreams``: what an operator sees and drains, who may, and how metrics tell it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from extracot_server.app import create_app
from extracot_server.config.settings import Settings
from extracot_server.engine.remote.engine import RemoteEngine
from extracot_server.engine.scripted.engine import scripted_card
from extracot_server.model_registry.loading import read_file
from extracot_server.runtime.reloading import Reloader
from tests.server.engine.remote_fakes import FakeUpstream, load_scripted, upstreams
from tests.server.engine.remote_requests import until
from tests.server.key_files import OTHER, SECRET, bearer, write
from tests.server.live import Live, user

pytestmark = pytest.mark.anyio
ADMIN = bearer(OTHER)


@contextlib.asynccontextmanager
async def serving(
    folder: Path, *entries: dict[str, Any], **more: Any
) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    """The server on an upstreams file of these, with an admin's key and another."""
    scripted_card().save(folder)
    path = folder / "upstreams.yaml"
    path.write_text(json.dumps({"upstreams": entries}))
    keys = write(
        folder / "keys.yaml",
        {"name": "u", "key": SECRET},
        {"name": "a", "key": OTHER, "admin": True},
    )
    own = {"keys": keys, "usage_store": "memory", "card": str(folder), "served_model_name": "m"}
    settings = Settings(**{"engine": "remote", "upstreams": path, **own, **more})
    engine = RemoteEngine(read_file(settings).upstreams, load_model=load_scripted)
    app = create_app(settings, engine)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            yield app, client


async def chat(client: httpx.AsyncClient) -> None:
    body = {"messages": user(), "max_tokens": 9}
    response = await client.post("/v1/chat/completions", json=body, headers=ADMIN)
    assert response.status_code == 200, response.text


async def test_an_admin_sees_and_drains_and_takes_back(tmp_path: Path) -> None:
    a, b = FakeUpstream(), FakeUpstream()
    async with (
        upstreams(a, b),
        serving(
            tmp_path,
            {"url": a.url, "name": "a", "weight": 2, "max_running": 8},
            {"url": b.url, "name": "b"},
        ) as (_, client),
    ):
        found = (await client.get("/v1/upstreams", headers=ADMIN)).json()["data"]
        assert found[0] == {
            **{"model": "m", "name": "a", "url": a.url, "state": "serving", "reason": None},
            **{"drained_by": None, "weight": 2, "max_running": 8, "canary": False},
            **{"running": 0, "taken": 0},
        }
        drained = await client.post("/v1/upstreams/a/drain", headers=ADMIN)
        assert drained.status_code == 200
        assert [one["state"] for one in drained.json()["data"]] == ["drained", "serving"]
        served = a.served
        for _ in range(3):
            await chat(client)
        assert a.served == served and b.served >= 3
        told = (await client.get("/metrics")).text
        assert f'extracot_upstream_draining{{model="m",upstream="{a.url}"}} 1.0' in told
        assert f'extracot_upstream_up{{model="m",upstream="{a.url}"}} 1.0' in told
        taken = f'extracot_upstream_requests_total{{model="m",upstream="{b.url}"}} '
        assert f"{taken}{float(b.served)}" in told
        last = await client.post("/v1/upstreams/b/drain", headers=ADMIN)
        assert last.status_code == 409 and last.json()["error"]["code"] == "conflict"
        assert "b is the last upstream" in last.text
        back = await client.post("/v1/upstreams/a/undrain", headers=ADMIN)
        assert [one["drained_by"] for one in back.json()["data"]] == [None, None]
        unknown = await client.post("/v1/upstreams/c/drain", headers=ADMIN)
        assert unknown.status_code == 404 and "there are: a, b" in unknown.text


async def test_nobody_else_may(tmp_path: Path) -> None:
    a, b = FakeUpstream(), FakeUpstream()
    async with (
        upstreams(a, b),
        serving(tmp_path, {"url": a.url, "name": "a"}, {"url": b.url, "name": "b"}) as (_, client),
    ):
        for method, path in (("GET", ""), ("POST", "/a/drain"), ("POST", "/a/undrain")):
            url = f"/v1/upstreams{path}"
            assert (await client.request(method, url)).status_code == 401
            refused = await client.request(method, url, headers=bearer(SECRET))
            assert refused.status_code == 403 and "admin: true" in refused.text
        found = (await client.get("/v1/upstreams", headers=ADMIN)).json()["data"]
        assert [one["drained_by"] for one in found] == [None, None]


def test_an_open_server_shows_and_takes_no_orders(token_server: Live) -> None:
    assert token_server.http.get("/v1/upstreams").json() == {"object": "list", "data": []}
    refused = token_server.http.post("/v1/upstreams/a/drain")
    assert refused.status_code == 403 and "takes no orders" in refused.text


async def test_with_workers_a_call_is_refused_and_says_what_reaches_all(tmp_path: Path) -> None:
    a, b = FakeUpstream(), FakeUpstream()
    async with (
        upstreams(a, b),
        serving(tmp_path, {"url": a.url, "name": "a"}, {"url": b.url, "name": "b"}, workers=2) as (
            _,
            client,
        ),
    ):
        refused = await client.post("/v1/upstreams/a/drain", headers=ADMIN)
        assert refused.status_code == 409
        assert "2 workers" in refused.text and "SIGHUP" in refused.text


async def test_sighup_reads_both_files_and_a_broken_one_keeps_its_own_only(tmp_path: Path) -> None:
    a, b = FakeUpstream(), FakeUpstream()
    path, keys = tmp_path / "upstreams.yaml", tmp_path / "keys.yaml"
    async with (
        upstreams(a, b),
        serving(tmp_path, {"url": a.url, "name": "a"}) as (app, client),
    ):
        said: list[str] = []
        state = app.state.extracot
        reload = Reloader(state, state.settings, said.append)

        async def hang_up() -> tuple[str, str]:
            said.clear()
            reload()
            await until(lambda: len(said) == 2)
            return said[0], said[1]

        wanted = [{"url": a.url, "name": "a", "drain": True}, {"url": b.url, "name": "b"}]
        path.write_text(json.dumps({"upstreams": wanted}))
        of_keys, of_upstreams = await hang_up()
        assert of_keys == "SIGHUP: 2 API keys may use /v1; nothing of what they may do has changed"
        assert of_upstreams == "SIGHUP: upstreams: added b; changed a (drain False to True)"
        before = a.served
        for _ in range(2):
            await chat(client)
        assert a.served == before and b.served >= 2
        path.write_text("upstreams: [{}]")
        write(keys, {"name": "a", "key": OTHER, "admin": True})
        of_keys, of_upstreams = await hang_up()
        assert "1 API key may use /v1; removed u" in of_keys, "a key is revoked all the same"
        assert "upstreams[0]: url: field required" in of_upstreams
        assert of_upstreams.endswith("the current upstreams and canary stay in force")
        told = (await client.get("/metrics")).text
        assert "extracot_upstreams_last_reload_successful 0.0" in told
        assert "extracot_keys_last_reload_successful 1.0" in told
        path.write_text(json.dumps({"upstreams": [{"url": b.url, "name": "b"}]}))
        assert (await hang_up())[1] == "SIGHUP: upstreams: removed a"
        told = (await client.get("/metrics")).text
        assert "extracot_upstreams_last_reload_successful 1.0" in told
        assert f'upstream_up{{model="m",upstream="{a.url}"}}' not in told, "it is told no more"
        await reload.close()
