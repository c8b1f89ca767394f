"""The gauge of quotas: how much of each is used, of those that there are. Knows no store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prometheus_client import Gauge

from extracot_server.admission.quotas import Quota
from extracot_server.ledger.meter import Standing
from extracot_server.observability.worker_metrics import forget


class QuotaMetrics:
    """How full quotas are; ``gauge`` makes collectors on the server's registry."""

    def __init__(self, gauge: Callable[..., Gauge]) -> None:
        self.used = gauge(
            *("quota_used_ratio", "Share of a quota that is used", "livemostrecent"),
            *("owner", "kind", "per", "when_over"),
        )
        self._shown: set[tuple[str, ...]] = set()
        self._kept: set[Quota] | None = None  # all, until the file is read again

    def show(self, standings: Sequence[Standing]) -> None:
        """Show how much of these quotas is used; of those with the same labels, the fullest."""
        used: dict[tuple[str, ...], float] = {}
        for standing in standings:
            if self._kept is not None and standing.quota not in self._kept:
                continue  # of a request that was admitted before its quota went
            labels = _labels(standing.quota)
            share = 1 - standing.left / standing.quota.limit
            used[labels] = max(share, used.get(labels, share))
        for labels, share in used.items():
            self.used.labels(*labels).set(share)
        self._shown |= used.keys()

    def keep(self, quotas: Iterable[Quota]) -> None:
        """Show none but these any more."""
        self._kept = set(quotas)
        kept = {_labels(quota) for quota in self._kept}
        for labels in self._shown - kept:
            forget(self.used, *labels)
        self._shown &= kept


def _labels(quota: Quota) -> tuple[str, ...]:
    when_over = "refuse" if quota.budget is None else "lower"
    return quota.owner, quota.kind, quota.period.value, when_over
