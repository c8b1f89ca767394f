"""promtool on configuration, rules and their tests; each alert has both kinds of case."""

from __future__ import annotations

import json
import re
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from extracot_server.api.access import in_words
from extracot_server.observability.metrics import ServerMetrics
from tests.deploy.promql import PROMETHEUS, ROOT, groups, needs, panels

CASES = sorted((PROMETHEUS / "tests").glob("*.yml"))


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run promtool beside the configuration."""
    command = [needs("promtool", "prometheus"), *arguments]
    return subprocess.run(
        command, cwd=PROMETHEUS, capture_output=True, text=True, timeout=300, check=False
    )


def test_the_configuration_and_its_rules_are_valid() -> None:
    done = promtool("check", "config", "--lint=all", "--lint-fatal", "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_the_rules_do_what_their_cases_say(path: Any) -> None:
    done = promtool("test", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    outcomes: dict[str, set[bool]] = defaultdict(set)
    for path in CASES:
        for case in yaml.safe_load(path.read_text())["tests"]:
            for asked in case.get("alert_rule_test", ()):
                outcomes[asked["alertname"]].add(bool(asked["exp_alerts"]))
    names = {rule["alert"] for rule in groups() if "alert" in rule}
    assert dict(outcomes) == {name: {True, False} for name in names}


def test_the_panel_servers_up_counts_servers_alone(tmp_path: Path) -> None:
    """Of all jobs: a server that cannot be scraped, and then none, beside others that are up."""
    (panel,) = [panel for panel in panels() if panel.where == "serving: Servers up"]
    values = {"extracot": "1 0 stale", "prometheus": "1x60", "vllm": "1x60"}
    series = [
        {"series": f'up{{job="{job}", instance="{job}:80"}}', "values": found}
        for job, found in values.items()
    ]
    asked = [
        {"expr": panel.expr, "eval_time": at, "exp_samples": [{"labels": "{}", "value": up}]}
        for at, up in (("0m", 1), ("1m", 0), ("30m", 0))
    ]
    case = {"interval": "1m", "input_series": series, "promql_expr_test": asked}
    (tmp_path / "up.yml").write_text(yaml.safe_dump({"tests": [case]}))
    done = promtool("test", "rules", str(tmp_path / "up.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_idle_server_is_no_number_that_is_none(tmp_path: Path) -> None:
    """What a token costs is unknown where none was generated: 0 / 0 would be shown as NaN."""
    estimates = [panel.expr for panel in panels() if "estimate" in panel.where]
    assert len(estimates) == 2
    text = " ".join(estimates)
    names = set(re.findall(r"extracot_\w+_total", text)) | {"job:extracot_busy:bool"}
    labels = '{job="extracot", instance="a", model="m", budget="0.2"}'
    series = [{"series": name + labels, "values": "0x20"} for name in sorted(names)]
    asked = [{"expr": expr, "eval_time": "10m", "exp_samples": []} for expr in estimates]
    case = {"interval": "1m", "input_series": series, "promql_expr_test": asked}
    (tmp_path / "idle.yml").write_text(yaml.safe_dump({"tests": [case]}))
    done = promtool("test", "rules", str(tmp_path / "idle.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_refusal_that_is_asked_for_begins_at_zero() -> None:
    """A counter that appears with its first value has no increase that a query could see."""
    registry = CollectorRegistry()
    ServerMetrics(registry)
    text = "".join([*(rule["expr"] for rule in groups()), *(panel.expr for panel in panels())])
    asked = re.findall(r'extracot_rejected_total\{[^}]*reason=~"([^"]+)"', text)
    reasons = {reason for one in asked for reason in one.split("|")}
    assert len(reasons) > 6
    for reason in reasons:
        assert registry.get_sample_value("extracot_rejected_total", {"reason": reason}) == 0, reason


def test_the_runbook_finds_in_the_log_what_the_alert_counts() -> None:
    runbook = (ROOT / "docs/observability.md").read_text().split("### ExtracotErrors\n")[1]
    text, as_json = re.findall(r"^grep -E '(.*)'$", runbook.split("\n#")[0], re.M)
    (rule,) = [rule for rule in groups() if rule.get("record") == "job:extracot_failures:rate5m"]
    (rejected,) = re.findall(r'reason=~"([^"]+)"', rule["expr"])
    counted = [{"error": reason} for reason in rejected.split("|")]
    counted += [{"outcome": "error"}, {"outcome": "error", "error": "reply_lost"}]
    others = [{"outcome": "ok"}, {"error": "queue_full"}, {"outcome": "aborted"}]
    for fields in (*counted, *others):
        line = {"method": "POST", "path": "/v1/messages", "status": 500, **fields, "seconds": 0.1}
        assert bool(re.search(text, in_words(line))) == (fields in counted)
        assert bool(re.search(as_json, json.dumps(line))) == (fields in counted)
