"""Opens the backend that a configuration names."""

from __future__ import annotations

from extracot_training.config.sampling import Backend, HttpBackend
from extracot_training.generation.sampling.base import SamplingBackend


def open_backend(config: Backend) -> SamplingBackend:
    """Imports only what this backend needs. Raises :class:`GenerationError`."""
    if isinstance(config, HttpBackend):
        from extracot_training.generation.sampling.http import HttpSampler

        return HttpSampler(config)
    from extracot_training.generation.sampling.offline import VllmSampler

    return VllmSampler(config)
