"""The map from a client's ``reasoning_effort`` to a budget."""

from __future__ import annotations

from typing import Any

from extracot_server.config.setting_values import parse_key_values

DEFAULT_EFFORT_MAP: dict[str, float | str] = {
    "none": "none",
    "minimal": 0.2,
    "low": 0.4,
    "medium": 0.6,
    "high": 0.8,
    "xhigh": 1.0,
    "max": "native",
}


def parse_efforts(value: Any) -> dict[str, Any]:
    """``reasoning_effort`` -> budget, as given; the default where an effort is not."""
    value = parse_key_values(value, "reasoning_effort_map")
    unknown = sorted(set(value) - set(DEFAULT_EFFORT_MAP))
    if unknown:
        raise ValueError(f"unknown effort {unknown[0]!r}; allowed: {', '.join(DEFAULT_EFFORT_MAP)}")
    return {**DEFAULT_EFFORT_MAP, **value}
