"""Trackers by name: which package each wants, and whether it is installed. Loads none of them."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Sequence

from extracot_training.errors import ConfigError

# Of transformers' names, the package that each imports.
TRACKERS = {
    "azure_ml": "azureml",
    "clearml": "clearml",
    "codecarbon": "codecarbon",
    "comet_ml": "comet_ml",
    "dagshub": "dagshub",
    "dvclive": "dvclive",
    "flyte": "flytekit",
    "mlflow": "mlflow",
    "neptune": "neptune",
    "swanlab": "swanlab",
    "tensorboard": "tensorboard",
    "trackio": "trackio",
    "wandb": "wandb",
}
EXTRAS = ("tensorboard", "trackio", "wandb")
# transformers takes tensorboardX for tensorboard, too.
INSTEAD = {"tensorboard": "tensorboardX"}


def check_trackers(names: Sequence[str]) -> None:
    """Raises :class:`ConfigError` for a tracker that is not known or not installed."""
    for name in names:
        if name in ("all", "none"):
            continue
        if name not in TRACKERS:
            near = difflib.get_close_matches(name, TRACKERS, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ConfigError(
                f"setting 'report_to': no tracker {name!r}{hint}; there are {', '.join(TRACKERS)}",
                key="report_to",
            )
        packages = (TRACKERS[name], INSTEAD.get(name, TRACKERS[name]))
        if not any(importlib.util.find_spec(package) for package in packages):
            package = f"'extracot[{name}]'" if name in EXTRAS else TRACKERS[name]
            raise ConfigError(
                f"setting 'report_to': {name} is not installed; run: pip install {package}",
                key="report_to",
            )
