"""promtool on configuration, rules and their tests; each alert has both kinds of case."""

from __future__ import annotations

import subprocess
from collections import defaultdict
from typing import Any

import pytest
import yaml

from tests.deploy.promql import PROMETHEUS, groups, needs

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
