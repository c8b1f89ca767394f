"""Parts of boards: panels with a question and its PromQL, and expressions they share.

``$job``, ``$model`` and ``$key`` are the choices at the top of a dashboard, ``$gpus``,
``$gpu_hour`` and ``$million_tokens`` numbers that a viewer can change. Knows nothing of Grafana's
JSON.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["stat", "timeseries", "bargauge", "table"]


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression and how its series are called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One question. ``width`` is in columns of 24; ``unit`` is a name of Grafana's."""

    title: str
    description: str
    queries: tuple[Query, ...]
    kind: Kind = "timeseries"
    unit: str = "short"
    width: int = 12
    stacked: bool = False
    decimals: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A heading over the panels that follow."""

    title: str


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard; ``choices`` are the lists at its top (``$job`` and so on), ``inputs`` are (name,
    label, default) of numbers that can be changed."""

    uid: str
    title: str
    description: str
    panels: tuple[Panel | Row, ...]
    inputs: tuple[tuple[str, str, str], ...] = ()
    span: str = "6h"
    choices: tuple[str, ...] = ("job", "model")


ALL = 'job=~"$job", model=~"$model"'
JOB = 'job=~"$job"'


def net(by: str, function: str, window: str, what: str = "tokens") -> str:
    """Saved tokens, always less the overspent ones: reasoning, or ``total_tokens``."""
    group = f" by ({by})" if by else ""
    return (
        f"(sum{group} ({function}(extracot_{what}_saved_total{{{ALL}}}[{window}]))"
        f" - sum{group} ({function}(extracot_{what}_overspent_total{{{ALL}}}[{window}])))"
    )


def total(name: str, by: str, function: str, window: str, labels: str = ALL) -> str:
    """A counter's rate or increase, summed."""
    group = f" by ({by})" if by else ""
    return f"sum{group} ({function}(extracot_{name}_total{{{labels}}}[{window}]))"


def quantiles(name: str, window: str = "$__rate_interval", labels: str = ALL) -> tuple[Query, ...]:
    """p50, p95 and p99 of a histogram."""
    buckets = f"sum by (le) (rate({name}_bucket{{{labels}}}[{window}]))"
    return tuple(
        Query(f"histogram_quantile({q}, {buckets})", f"p{round(q * 100)}")
        for q in (0.5, 0.95, 0.99)
    )
