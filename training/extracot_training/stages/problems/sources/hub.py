"""Reader of Hugging Face data sets, by name on the hub or by local path. Imports them lazily."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from extracot_training.config.problems import HubSource
from extracot_training.errors import StageError
from extracot_training.pipeline.records import Problem
from extracot_training.stages.problems.sources.rows import Origin, Row, mapped

_BUILDERS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}


def read(source: HubSource) -> Iterator[Problem]:
    """Rows of one split of a data set. Raises :class:`StageError` if it can't be loaded."""
    origin = Origin(Path(source.name).stem, source.license, source.split)
    for number, values in enumerate(_load(source), start=1):
        yield mapped(Row(Path(source.name), number, values), source.fields, origin)


def _load(source: HubSource) -> Any:
    """A data set is iterable over dictionaries; its package has no types that say so."""
    try:
        import datasets
    except ImportError as error:
        raise StageError("source kind 'huggingface' needs the package 'datasets'") from error
    path = Path(source.name)
    try:
        if path.is_file():
            builder = _BUILDERS.get(path.suffix)
            if builder is None:
                raise StageError(f"{path}: want one of {', '.join(_BUILDERS)}")
            return datasets.load_dataset(builder, data_files=str(path), split="train")
        if (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file():
            saved = datasets.load_from_disk(str(path))
            return saved[source.part] if isinstance(saved, datasets.DatasetDict) else saved
        return datasets.load_dataset(
            source.name, source.subset, split=source.part, revision=source.revision
        )
    except (OSError, ValueError, KeyError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StageError(f"data set {source.name!r}: {reason}") from error
