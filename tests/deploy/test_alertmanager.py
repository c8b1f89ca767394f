"""An alert arrives: a real server, Prometheus with our rules, Alertmanager, a receiver."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
import yaml

from extracot_server.admission.keys import KeysError
from tests.deploy.promql import ROOT, WAIT, needs, prometheus
from tests.deploy.test_rolling_restart import free_ports
from tests.server.key_files import SECRET, write
from tests.server.live import serve, wait_for

CONFIG = ROOT / "deploy/alertmanager/alertmanager.yml"


@contextmanager
def receiver() -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    """A webhook: its address, and path and body of each message that it gets."""
    got: list[tuple[str, dict[str, Any]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            got.append((self.path, json.loads(body)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", got
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def alertmanager(url: str, folder: Path) -> Iterator[str]:
    """The shipped configuration, but for where it sends and for its patience; the address."""
    program = needs("prometheus-alertmanager", "prometheus-alertmanager")
    text = CONFIG.read_text()
    assert text.count("url: http://alerts.example:9095/") == 2
    text = text.replace("url: http://alerts.example:9095/", f"url: {url}/")
    config = yaml.safe_load(text)
    for route in (config["route"], *config["route"]["routes"]):
        route |= {"group_wait": "1s", "group_interval": "1s"}
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(config))
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    command = [program, f"--config.file={folder / 'alertmanager.yml'}"]
    command += [f"--web.listen-address={address}", f"--storage.path={folder / 'alertmanager'}"]
    with (folder / "alertmanager.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--cluster.listen-address="], stdout=log, stderr=subprocess.STDOUT
        )

    def ready() -> bool:
        assert process.poll() is None, (folder / "alertmanager.log").read_text()
        try:
            return httpx.get(f"http://{address}/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_for(ready, WAIT)
        yield address
    finally:
        process.terminate()
        process.wait(60)


def test_the_configuration_is_valid() -> None:
    command = [needs("amtool", "prometheus-alertmanager"), "check-config", str(CONFIG)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_severity_has_somebody_who_is_told() -> None:
    rules = (ROOT / "deploy/prometheus/rules/alerts.yml").read_text()
    used = {
        rule["labels"]["severity"]
        for group in yaml.safe_load(rules)["groups"]
        for rule in group["rules"]
    }
    config = yaml.safe_load(CONFIG.read_text())
    routed = {route["matchers"][0] for route in config["route"]["routes"]}
    assert used == {"critical", "warning"} and routed == {'severity="critical"'}
    names = {one["name"] for one in config["receivers"] if one.get("webhook_configs")}
    assert {config["route"]["receiver"], config["route"]["routes"][0]["receiver"]} == names


def test_an_alert_arrives_and_so_does_its_end(tmp_path: Path) -> None:
    keys = write(tmp_path / "keys.yaml", {"name": "a", "key": SECRET})
    with (
        receiver() as (url, got),
        alertmanager(url, tmp_path) as address,
        serve(keys=keys) as live,
        prometheus([live.url.removeprefix("http://")], tmp_path, tells=address) as running,
    ):

        def arrived(status: str, name: str) -> list[tuple[str, dict[str, Any]]]:
            return [
                (path, alert)
                for path, message in got
                for alert in message["alerts"]
                if (alert["status"], alert["labels"]["alertname"]) == (status, name)
            ]

        running.wait_for_scrapes()
        assert not arrived("firing", "ExtracotKeysRefused")
        good = keys.read_text()
        keys.write_text("keys: [")
        with pytest.raises(KeysError):
            live.app.state.extracot.reload_keys()
        wait_for(lambda: bool(arrived("firing", "ExtracotKeysRefused")), WAIT)
        ((path, alert), *_) = arrived("firing", "ExtracotKeysRefused")
        assert path == "/team"
        assert "refused its changed keys file" in alert["annotations"]["summary"]
        keys.write_text(good)
        live.app.state.extracot.reload_keys()
        wait_for(lambda: bool(arrived("resolved", "ExtracotKeysRefused")), WAIT)
        live.engine.die()
        wait_for(lambda: bool(arrived("firing", "ExtracotEngineDown")), WAIT)
        assert {path for path, _ in arrived("firing", "ExtracotEngineDown")} == {"/on-call"}
