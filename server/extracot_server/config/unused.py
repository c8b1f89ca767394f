"""Settings that were given and do nothing beside the others: a line each, for whoever starts it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from extracot_server.config.model_settings import ModelSettings
from extracot_server.config.settings import Settings

_AWAY = ("remote", "openai")
_ENGINES: Mapping[str, tuple[str, ...]] = {
    "vllm": ("vllm",),
    "grammar_backend": ("vllm",),
    "tokenizer": _AWAY,
    "upstream_api_key": _AWAY,
    "upstream_api_key_file": _AWAY,
    "upstream_timeout_seconds": _AWAY,
}
"""Whose a setting is. What several models have in common need not be for each of them."""


def unused_settings(settings: Settings) -> Iterator[str]:
    """What is not used, and why."""
    if settings.holdout_at_ceiling and not settings.holdout_fraction:
        yield "holdout_at_ceiling does nothing without holdout_fraction"
    if settings.protect_metrics and settings.keys is None and settings.single_key() is None:
        yield "protect_metrics does nothing without API keys: anybody may read /metrics"
    for name, engines in _ENGINES.items():
        default = ModelSettings.model_fields[name].get_default(call_default_factory=True)
        given = [m.engine for m in settings.served_models() if getattr(m, name) != default]
        if given and not set(given) & set(engines):
            yield f"{name} is for engine {' or '.join(engines)} and is not used"
