"""Every PromQL expression of deploy/, and a real Prometheus to ask."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tests.conftest import IN_CI
from tests.server.live import wait_for

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
GRAFANA = ROOT / "deploy/grafana"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
WAIT = 120.0

# What Grafana would fill in. `increase` and `rate` look back over the whole load.
VARIABLES = (
    ("$__rate_interval", "5m"),
    ("$__range", "5m"),
    ("$job", ".*"),  # All, as for the two below
    ("$model", ".*"),
    ("$key", ".*"),
    ("$gpus", "2"),
    ("$gpu_hour", "2.50"),
    ("$million_tokens", "0.60"),
    # Steps of a subquery: the rules are evaluated every second here.
    (":30s]", ":1s]"),
)
SELECTOR = re.compile(r"((?:\bup(?=\{)|extracot_|vllm:|job(?:_\w+)?:)[\w:]*)(\{[^}]*\})?")


@dataclass(frozen=True, slots=True)
class Expression:
    """PromQL and where it is from."""

    where: str
    expr: str


def needs(command: str, package: str) -> str:
    """The path of a program; skips without it, but fails in CI."""
    found = shutil.which(command)
    if found is None:
        reason = f"no {command} on this machine (apt-get install {package})"
        if IN_CI:
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def groups() -> Iterator[dict[str, Any]]:
    """Every rule of every file."""
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


def recorded() -> list[Expression]:
    """The recording rules: what each computes, and the series it fills."""
    rules = [rule for rule in groups() if "record" in rule]
    filled = {rule["record"] for rule in rules}
    return [Expression(r["record"], r["expr"]) for r in rules] + [
        Expression(f"series {name}", name) for name in sorted(filled)
    ]


def alerts() -> list[Expression]:
    """What each alert asks."""
    return [Expression(rule["alert"], rule["expr"]) for rule in groups() if "alert" in rule]


def panels() -> list[Expression]:
    """What each panel asks, with Grafana's variables filled in."""
    found = []
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", ()):
                expr = target["expr"]
                for name, value in VARIABLES:
                    expr = expr.replace(name, value)
                where = f"{path.stem}: {panel['title']} {target['legendFormat']}".strip()
                found.append(Expression(where, expr))
    return found


def selectors(expr: str) -> list[str]:
    """The series that an expression reads: `metric{labels}`."""
    return [name + (labels or "") for name, labels in SELECTOR.findall(expr)]


def vllm_names() -> set[str]:
    """vLLM's metrics that dashboards and alerts name, without Prometheus' suffixes."""
    every = [*panels(), *alerts()]
    names = {part.split("{")[0] for one in every for part in selectors(one.expr)}
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in names if name.startswith("vllm:")}


class VllmSeries:
    """Metrics of the names and kinds that the installed vLLM declares; none without vLLM.

    The values are made up: what is tried is that names get through and that queries fit the kinds.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        kinds = {"gauge": Gauge, "counter": Counter, "histogram": Histogram}
        self._children = [
            kinds[kind](name, "as vLLM has it", ["model_name"], registry=self.registry).labels("m")
            for name, kind in vllm_kinds().items()
            if {name, f"{name}_total"} & vllm_names()
        ]

    def step(self) -> None:
        """Let something happen in each."""
        for child in self._children:
            if isinstance(child, Histogram):
                child.observe(1)
            else:
                child.inc()


def vllm_kinds() -> dict[str, str]:
    """vLLM's metrics and whether each is a gauge, a counter or a histogram; read, not imported."""
    spec = importlib.util.find_spec("vllm")
    if spec is None or spec.origin is None:
        return {}
    source = (Path(spec.origin).parent / "v1/metrics/loggers.py").read_text()
    declared = re.findall(r'_(gauge|counter|histogram)_cls\(\s*name="(vllm:\w+)"', source)
    return {name: kind for kind, name in declared}


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running Prometheus."""

    http: httpx.Client

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The result of an instant query; an ``AssertionError`` with Prometheus' own words."""
        answer = self.http.get("/api/v1/query", params={"query": expr}).json()
        assert answer["status"] == "success", f"{expr}: {answer.get('error')}"
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def values(self, expr: str) -> list[float]:
        """The numbers of a query's result."""
        return [float(series["value"][1]) for series in self.query(expr)]

    def value(self, expr: str) -> float:
        """The one number of a query; 0.0 where there is none."""
        found = self.values(expr)
        assert len(found) <= 1, expr
        return found[0] if found else 0.0

    def rules(self) -> list[dict[str, Any]]:
        """Every rule with its health, as Prometheus has it."""
        data = self.http.get("/api/v1/rules").json()["data"]
        return [rule for group in data["groups"] for rule in group["rules"]]

    def wait_for_scrapes(self, more: int = 2) -> None:
        """Until each target has been scraped, and each rule evaluated, this many times more."""
        before = self.query("timestamp(up)")
        self.wait_past(max(float(s["value"][1]) for s in before) + more if before else 0.0)

    def wait_past(self, moment: float) -> None:
        """Until scrapes and rules are of a time after ``moment`` (Unix seconds)."""
        asked = 'min(timestamp(up{job="extracot"} == 1))'
        wait_for(lambda: self.value(asked) > moment, WAIT)
        wait_for(lambda: self.value("min(timestamp(job:extracot_busy:bool))") > moment, WAIT)


def at_once(path: Path, folder: Path) -> Path:
    """A copy of a file of rules, without the time that an alert waits."""
    copy = folder / path.name
    copy.write_text(re.sub(r"^ +for: .*\n", "", path.read_text(), flags=re.M))
    return copy


@contextmanager
def prometheus(
    targets: Sequence[str], folder: Path, tells: str | None = None
) -> Iterator[Prometheus]:
    """The shipped configuration, but for targets and pace: a scrape and all rules every second.

    ``tells``: the address of an Alertmanager; alerts then fire at once, without their ``for``.
    """
    program = needs("prometheus", "prometheus")
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(PROMETHEUS / rule) for rule in config["rule_files"]]
    del config["alerting"]
    if tells is not None:
        config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [tells]}]}]}
        config["rule_files"] = [str(at_once(path, folder)) for path in RULES]
    job = next(job for job in config["scrape_configs"] if job["job_name"] == "extracot")
    del job["dns_sd_configs"]
    config["scrape_configs"] = [{**job, "static_configs": [{"targets": list(targets)}]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [program, f"--config.file={folder / 'prometheus.yml'}"]
    command += [f"--web.listen-address={address}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
    try:
        with httpx.Client(base_url=f"http://{address}", timeout=60.0) as http:

            def ready() -> bool:
                assert process.poll() is None, (folder / "log").read_text()
                try:
                    return http.get("/-/ready").status_code == 200
                except httpx.TransportError:
                    return False

            wait_for(ready, WAIT)
            yield Prometheus(http)
    finally:
        process.terminate()
        process.wait(60)
