"""Writes prometheusrule.yaml, the operator's form of deploy/prometheus/rules."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).resolve().parent
HEAD = """\
# Written by rules.py from deploy/prometheus/rules; needs the Prometheus operator.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: extracot
  labels: { app.kubernetes.io/name: extracot }
spec:
  groups:
"""


def manifest() -> str:
    """All files of rules in one object."""
    lines = []
    for path in sorted((HERE.parents[1] / "prometheus/rules").glob("*.yml")):
        _, _, groups = path.read_text().partition("\ngroups:\n")
        lines += [f"  {line}".rstrip() for line in groups.splitlines()]
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    (HERE / "prometheusrule.yaml").write_text(manifest())
