"""docs/observability.md names what there is: every metric, recorded series, alert and log field."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from extracot_server.app import create_app
from extracot_server.config.settings import Settings
from extracot_server.observability import request_log
from extracot_server.observability.metrics import ServerMetrics

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/observability.md").read_text()
RULES = [
    rule
    for path in sorted((ROOT / "deploy/prometheus/rules").glob("*.yml"))
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]


def exposed() -> set[str]:
    """The names of all metrics as a query has them."""
    registry = CollectorRegistry()
    ServerMetrics(registry)
    return {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in registry.collect()
    }


def test_every_metric_is_explained_and_no_other() -> None:
    named = set(re.findall(r"`(extracot_[a-z_]+)`", TEXT))
    assert exposed() - named == set()
    assert named - exposed() == set()


def test_metrics_of_the_process_are_explained_and_there() -> None:
    samples = create_app(Settings(engine="scripted")).state.extracot.metrics.registry.collect()
    shown = {sample.name for family in samples for sample in family.samples}
    named = set(re.findall(r"`(process_[a-z_]+)`", TEXT))
    assert named == {name for name in shown if name.startswith("process_")}
    scaling = (ROOT / "docs/scaling.md").read_text()
    assert set(re.findall(r"\b(process_[a-z_]+)", scaling)) <= named


def test_every_field_of_the_request_log_is_listed() -> None:
    section = TEXT.split("## The request log\n")[1].split("\n## ")[0]
    written = set(re.findall(r'"(\w+)"(?::|\] =)', inspect.getsource(request_log)))
    assert {"escaped", "trace_id", "prompt"} <= written
    assert written - {"role", "content"} - set(re.findall(r"`(\w+)`", section)) == set()


def test_every_recorded_series_is_explained_and_no_other() -> None:
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    assert set(re.findall(r"`(job[a-z_]*:[\w:]+)`", TEXT)) == recorded


@pytest.mark.parametrize("rule", [r for r in RULES if "alert" in r], ids=lambda r: str(r["alert"]))
def test_every_alert_says_what_to_do(rule: dict[str, dict[str, str]]) -> None:
    name = str(rule["alert"])
    assert rule["annotations"]["runbook"] == f"docs/observability.md#{name.lower()}"
    section = TEXT.split(f"### {name}\n")[1].split("\n#")[0]
    assert len(section) > 100
    assert rule["annotations"]["summary"]
    assert rule["labels"]["severity"] in ("critical", "warning")


def test_the_sections_are_those_of_alerts() -> None:
    alerts = [str(rule["alert"]) for rule in RULES if "alert" in rule]
    assert re.findall(r"^### (\w+)$", TEXT, re.M) == alerts
