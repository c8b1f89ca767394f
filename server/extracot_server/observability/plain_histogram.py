"""A histogram for what is observed with every token. Knows nothing of what is counted."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from math import inf
from time import time

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class PlainHistogram(Collector):
    """A histogram without labels for what is observed with every token.

    It counts in plain numbers, which takes a fraction of what the locks of a ``Histogram`` take.
    For one thread of one process: workers need the files of the other kind.
    """

    def __init__(
        self, name: str, text: str, buckets: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self._name, self._text = name, text
        self._bounds = (*buckets, inf)
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0
        self._created = time()
        registry.register(self)

    def observe(self, value: float) -> None:
        """Count a value into the first bucket that is not below it."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def collect(self) -> list[Metric]:
        """The family as a ``Histogram`` would show it."""
        names = map(floatToGoString, self._bounds)
        counts = map(float, accumulate(self._counts))
        family = HistogramMetricFamily(
            self._name,
            self._text,
            buckets=list(zip(names, counts, strict=True)),
            sum_value=self._sum,
        )
        family.add_sample(f"{self._name}_created", {}, self._created)
        return [family]
