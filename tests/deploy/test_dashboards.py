"""The dashboards: current, whole, asking for series that exist; provisioning that finds them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from extracot_server.admission.scheduler import Refusal
from tests.deploy.promql import (
    DASHBOARDS,
    GRAFANA,
    PROMETHEUS,
    VARIABLES,
    vllm_kinds,
    vllm_names,
)

BOARDS = {path.stem: json.loads(path.read_text()) for path in DASHBOARDS}
BUILT_IN = {"__rate_interval", "__range", "datasource"}


def test_they_are_all_there_and_are_as_the_generator_writes_them() -> None:
    assert set(BOARDS) == {"savings", "budgets", "serving", "usage"}
    command = [sys.executable, "-B", str(GRAFANA / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", BOARDS)
def test_every_panel_says_what_it_is_for_and_has_a_place(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in BOARDS[name]["panels"]]
    assert len(ids) == len(set(ids))
    for panel in BOARDS[name]["panels"]:
        grid = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & taken and grid["x"] + grid["w"] <= 24, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["title"] and panel["description"] and panel["targets"]
            assert panel["datasource"]["uid"] == "${datasource}"


@pytest.mark.parametrize("name", BOARDS)
def test_variables_are_defined_and_used(name: str) -> None:
    defined = {variable["name"] for variable in BOARDS[name]["templating"]["list"]}
    asked = [t["expr"] for p in BOARDS[name]["panels"] for t in p.get("targets", ())]
    used = {word for expr in asked for word in re.findall(r"\$(\w+)", expr)}
    assert used - BUILT_IN <= defined
    assert defined - used == {"datasource"}


def test_all_is_what_the_tests_ask_for() -> None:
    for board in BOARDS.values():
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                assert (f"${variable['name']}", variable["allValue"]) in VARIABLES


def test_shares_below_zero_stay_on_the_axis() -> None:
    """A saving may be below zero; bars begin at zero."""
    drawn = [
        (panel["type"], panel["fieldConfig"]["defaults"])
        for board in BOARDS.values()
        for panel in board["panels"]
        if panel["type"] in ("timeseries", "bargauge")
    ]
    shares = [(kind, found) for kind, found in drawn if found["unit"] == "percentunit"]
    lines = [found for kind, found in shares if kind == "timeseries"]
    assert lines and all(found["custom"]["axisSoftMin"] == 0 for found in lines)
    assert all(("min" in found) == (kind == "bargauge") for kind, found in shares)


def test_usage_shows_every_refusal_by_a_keys_limits() -> None:
    (panel,) = [p for p in BOARDS["usage"]["panels"] if p["title"] == "Refused by limits"]
    (reasons,) = re.findall(r'reason=~"([^"]+)"', panel["targets"][0]["expr"])
    assert set(reasons.split("|")) == set(Refusal) - {Refusal.QUEUE_FULL, Refusal.STOPPING}


def test_provisioning_names_what_is_there() -> None:
    folder = GRAFANA / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources/prometheus.yml").read_text())["datasources"]
    scrape = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["global"]
    assert source["jsonData"]["timeInterval"] == scrape["scrape_interval"]
    (provider,) = yaml.safe_load((folder / "dashboards/extracot.yml").read_text())["providers"]
    compose: Any = yaml.safe_load((GRAFANA.parent / "docker-compose.yml").read_text())
    mounts = [mount.split(":")[:2] for mount in compose["services"]["grafana"]["volumes"]]
    assert ["./grafana/dashboards", provider["options"]["path"]] in mounts
    assert ["./grafana/provisioning", "/etc/grafana/provisioning"] in mounts


@pytest.mark.vllm
def test_vllms_metrics_have_these_names_in_the_installed_vllm() -> None:
    known = set(vllm_kinds())
    counters = {f"{name}_total" for name in known}
    assert len(vllm_names()) >= 8
    assert vllm_names() - known - counters == set()
