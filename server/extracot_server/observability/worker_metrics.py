"""The metrics of all workers as one: any worker can show them.

Counters, histograms and gauges are added up from the workers' files by `prometheus_client`; what
only the whole can say (the holdout's saving) is computed from their sums here. What a process takes
is shown of each worker apart: one of them alone is busy or large, whatever their sum is.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial
from math import isnan, nan
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, values
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from extracot_server.budget.holdout import Arm, Moments, Saving, saving_between

SAVING_GAUGES = {
    "": "Reasoning tokens saved a reply: mean(native) - mean(budgeted)",
    "low_": "Lower end of its 95% interval",
    "high_": "Upper end of its 95% interval",
}
"""What the holdout's gauges ``extracot_holdout_saving_{…}tokens`` show."""
_SUMS = ("replies", "reasoning_tokens", "reasoning_tokens_squared")


def saving_gauges(saving: Saving) -> dict[str, float]:
    """The values of :data:`SAVING_GAUGES`."""
    return {"": saving.mean, "low_": saving.low, "high_": saving.high}


def in_workers() -> bool:
    """Whether this process is one of several that keep their metrics in files."""
    return bool(getattr(values.ValueClass, "_multiprocess", False))


def forget(gauge: Gauge, *labels: str) -> None:
    """Show these labels no more. A file of values loses none, so it says that there is no value,
    which :class:`AllWorkers` leaves out."""
    if in_workers():
        gauge.labels(*labels).set(nan)
    else:
        gauge.remove(*labels)


class AllWorkers(Collector):
    """Every worker's metrics, dead ones' counters included."""

    def __init__(self) -> None:
        self._files = MultiProcessCollector(None)  # type: ignore[no-untyped-call]
        self._folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])

    def collect(self) -> Iterable[Metric]:
        """The families, three gauges of the holdout where it has data enough, the processes."""
        families = list(self._files.collect())  # type: ignore[no-untyped-call]
        for family in families:  # one value that is none would be the sum of all
            family.samples = [sample for sample in family.samples if not isnan(sample.value)]
        yield from families
        yield from _holdout_gauges(families)
        yield from _processes(self._folder)


def registry_of_workers() -> CollectorRegistry:
    """A registry that shows all workers."""
    registry = CollectorRegistry()
    registry.register(AllWorkers())
    return registry


def _processes(folder: Path) -> list[Metric]:
    """``process_*`` of each worker that lives, by its ``pid``."""
    families: dict[str, Metric] = {}
    for file in sorted(folder.glob("gauge_livesum_*.db")):  # a dead worker's is removed
        pid = file.stem.rpartition("_")[2]
        for family in ProcessCollector(pid=partial(str, pid), registry=None).collect():
            samples = [sample._replace(labels={"pid": pid}) for sample in family.samples]
            known = families.setdefault(family.name, family)
            known.samples = samples if known is family else known.samples + samples
    return list(families.values())


def _holdout_gauges(families: Iterable[Metric]) -> list[Metric]:
    sums: dict[tuple[str, str], dict[str, float]] = {}
    for family in families:
        for part in _SUMS:
            if family.name != f"extracot_holdout_{part}":
                continue
            for sample in family.samples:
                place = (sample.labels["model"], sample.labels["arm"])
                sums.setdefault(place, {})[part] = sample.value
    gauges = {
        end: GaugeMetricFamily(f"extracot_holdout_saving_{end}tokens", text, labels=["model"])
        for end, text in SAVING_GAUGES.items()
    }
    for model in sorted({model for model, _ in sums}):
        arms = [
            Moments.of(*(sums.get((model, arm.value), {}).get(part, 0.0) for part in _SUMS))
            for arm in (Arm.HOLDOUT, Arm.BUDGETED)
        ]
        saving = saving_between(*arms)
        if saving is not None:
            for end, value in saving_gauges(saving).items():
                gauges[end].add_metric([model], value)
    return [gauge for gauge in gauges.values() if gauge.samples]
