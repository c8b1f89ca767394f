"""The shipped nginx with TLS and its limits, run before a server on the scripted engine."""

from __future__ import annotations

import os
import ssl
import subprocess
from collections import Counter
from pathlib import Path

import httpx
import pytest

from extracot_server.engine.scripted.engine import ScriptedBehaviour
from tests.conftest import IN_CI
from tests.deploy.test_nginx import recorder
from tests.deploy.test_rolling_restart import NGINX, ROOT, Server, reverse_proxy
from tests.server.live import read_chunks, serve, user

SCRIPT = ROOT / "deploy/nginx/self-signed.sh"


def self_signed(folder: Path, *names: str) -> subprocess.CompletedProcess[str]:
    """Run the script."""
    environment = {**os.environ, "FOLDER": str(folder)}
    return subprocess.run(
        [SCRIPT, *names], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A folder with a pair, by the names of the secrets; skips where there is no nginx."""
    if NGINX is None:
        assert not IN_CI, "CI puts nginx here (.ci/run)"
        pytest.skip("nginx is not installed (apt-get install nginx-light)")
    done = self_signed(tmp_path, "gpu.example.com", "10.0.0.7")
    assert done.returncode == 0, done.stderr
    (tmp_path / "tls.crt").rename(tmp_path / "tls_certificate")
    (tmp_path / "tls.key").rename(tmp_path / "tls_key")
    return tmp_path


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


@pytest.mark.anyio
async def test_replies_and_streams_come_through_tls(pair: Path) -> None:
    trusted = ssl.create_default_context(cafile=str(pair / "tls_certificate"))
    with serve(ScriptedBehaviour(token_interval_seconds=0.001)) as live:
        async with reverse_proxy(pair, [Server(port_of(live.url))], "tls") as url:
            assert url is not None and url.startswith("https://")
            async with httpx.AsyncClient(base_url=url, verify=trusted, timeout=60) as http:
                body = {"messages": user(), "budget": 0.2}
                reply = await http.post("/v1/chat/completions", json=body)
                assert reply.status_code == 200 and reply.json()["budget"]["level"] == "0.2"
                streamed = await http.post("/v1/chat/completions", json={**body, "stream": True})
                assert len(read_chunks(streamed.text)) > 5
                assert (await http.get("/ready")).status_code == 200
                assert (await http.get("/metrics")).status_code == 404
            async with httpx.AsyncClient(timeout=60) as http:
                plain = await http.get(url.replace("https:", "http:") + "/ready")
                assert plain.status_code == 400, "no plain HTTP on the port with TLS"
                with pytest.raises(httpx.ConnectError, match=r"self.signed"):
                    await http.get(f"{url}/ready")


@pytest.mark.anyio
async def test_a_flood_of_one_address_is_refused_in_the_apis_form(pair: Path) -> None:
    """At the shipped limits, but for the figures: no machine is too slow to reach these."""
    text = (ROOT / "deploy/nginx/limits.conf").read_text()
    for old, new in (("rate=100r/s", "rate=1r/m"), ("burst=400", "burst=5")):
        assert text.count(old) == 1
        text = text.replace(old, new)
    (pair / "limits.conf").write_text(text)
    async with recorder() as (server, got), reverse_proxy(pair, [server]) as url:
        assert url is not None
        async with httpx.AsyncClient(base_url=url, timeout=60) as http:
            answers = [await http.get("/v1/models") for _ in range(20)]
        counts = Counter(answer.status_code for answer in answers)
        assert set(counts) == {200, 429} and counts[200] == len(got) >= 6
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["content-type"] == "application/json"
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"


def test_the_script_overwrites_nothing_and_refuses_what_is_no_name(tmp_path: Path) -> None:
    wrong = self_signed(tmp_path, "a,DNS:evil")
    assert wrong.returncode == 2 and "not a host name" in wrong.stderr
    assert self_signed(tmp_path).returncode == 0
    assert (tmp_path / "tls.key").stat().st_mode & 0o077 == 0
    before = (tmp_path / "tls.key").read_bytes()
    again = self_signed(tmp_path)
    assert again.returncode == 1 and "exists" in again.stderr
    assert (tmp_path / "tls.key").read_bytes() == before
