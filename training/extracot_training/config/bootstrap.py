"""Settings that stages with intervals in their reports share."""

from __future__ import annotations

from pydantic import Field

from extracot_training.pipeline.settings import Section


class BootstrapSettings(Section):
    """How intervals are made."""

    resamples: int = Field(2000, ge=100, description="bootstrap resamples for 95% intervals")
    seed: int = Field(0, description="seed of the bootstrap")

    @property
    def bootstrap(self) -> dict[str, int]:
        """As arguments of :mod:`extracot_training.pipeline.statistics`."""
        return {"resamples": self.resamples, "seed": self.seed}
