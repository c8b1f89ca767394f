"""The stages a model came from, by the ``stage.json`` beside each input, and the data they read.

Follows every setting that names a folder which is still there; what has been moved away is simply
not told. Knows manifests and one report; knows no model.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extracot_training.evaluation.card import REPORT_FILENAME
from extracot_training.pipeline.stage import MANIFEST_FILENAME, Manifest
from extracot_training.policy.adapters import ADAPTER


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A stage's folder on the way to the model. ``name`` is unique: ``sft``, ``sft-2``."""

    name: str
    folder: Path
    manifest: Manifest

    @property
    def config_hash(self) -> str:
        """Hash of the settings that decided the result."""
        text = json.dumps(self.manifest.decisive, sort_keys=True)
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


@dataclass(frozen=True, slots=True)
class DataSource:
    """A source of problems, as stage ``problems`` reported it."""

    name: str
    license: str
    synthetic: bool


def lineage(folder: Path) -> list[Ancestor]:
    """The stages before ``folder`` and its own, sources first; empty without a manifest. An adapter
    that lies beside the model it was merged into was made with it."""
    if folder.name == ADAPTER and Manifest.load(folder) is None:
        folder = folder.parent
    seen: Counter[str] = Counter()
    ancestors = []
    for place, manifest in _visit(folder, set()):
        seen[manifest.stage] += 1
        count = seen[manifest.stage]
        name = manifest.stage if count == 1 else f"{manifest.stage}-{count}"
        ancestors.append(Ancestor(name, place, manifest))
    return ancestors


def _visit(folder: Path, entered: set[Path]) -> Iterator[tuple[Path, Manifest]]:
    place = folder.resolve()
    manifest = None if place in entered else Manifest.load(folder)
    entered.add(place)
    if manifest is not None:
        for named in _folders(manifest.config):
            yield from _visit(named, entered)
        yield place, manifest


def _folders(value: Any) -> Iterator[Path]:
    """Stage folders that a configuration names, its own output left out."""
    if isinstance(value, dict):
        value = [inner for key, inner in value.items() if key != "out"]
    if isinstance(value, list):
        for inner in value:
            yield from _folders(inner)
    elif isinstance(value, str) and value and len(value) < 1000 and "\n" not in value:
        path = Path(value)
        if (path / MANIFEST_FILENAME).is_file():
            yield path


def chooses_a_level(ancestors: Sequence[Ancestor]) -> bool:
    """Whether the model was taught to pick a level: by policy rows, or by stage ``chrpo``. A model
    whose mixtures are not to be found is believed."""
    if any(ancestor.manifest.stage == "chrpo" for ancestor in ancestors):
        return True
    mixed = [one.manifest.counts for one in ancestors if one.manifest.stage == "mix"]
    return not mixed or any(counts.get("policy", 1) for counts in mixed)


def base_model_of(ancestors: Sequence[Ancestor]) -> str | None:
    """What the first fine-tuning started from: a hub name, or the stage ``base``."""
    if any(ancestor.manifest.stage == "base" for ancestor in ancestors):
        return "none (trained from scratch)"
    for ancestor in ancestors:
        if ancestor.manifest.stage == "sft":
            model = str(ancestor.manifest.config.get("model", ""))
            if model and not (Path(model) / MANIFEST_FILENAME).is_file():
                return Path(model).name if Path(model).is_dir() else model
    return None


def data_sources(ancestors: Sequence[Ancestor]) -> list[DataSource]:
    """Every source of problems in the chain, with its licence."""
    found: dict[str, DataSource] = {}
    for ancestor in ancestors:
        path = ancestor.folder / REPORT_FILENAME
        if ancestor.manifest.stage != "problems" or not path.is_file():
            continue
        report = json.loads(path.read_text(encoding="utf-8"))
        rows = int(report.get("rows", 0))
        synthetic = rows > 0 and report.get("synthetic") == rows
        for name, licence in report.get("licenses", {}).items():
            found[name] = DataSource(name, str(licence), synthetic)
    return list(found.values())
