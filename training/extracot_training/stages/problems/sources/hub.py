"""Reader of Hugging Face data sets, by name on the hub or by local path. Imports them lazily.

Files lying here are read by our own reader: ``datasets`` (5.2) gives every column one type, which
makes floats of all its integers where one is beyond 64 bits, and a truth value of the text "true"
where there are numbers too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from extracot_training.config.problems import HubSource
from extracot_training.errors import RowError, StageError
from extracot_training.pipeline.data_files import READERS, Bad
from extracot_training.pipeline.records import Problem
from extracot_training.stages.problems.sources.rows import Origin, Row, mapped, read_rows

_PARTS = ("train", "validation", "dev", "test")
_EXACT = 2**53


def by_fields(source: HubSource) -> Callable[[Row], Problem]:
    """Makes problems of rows, by ``source.fields``."""
    origin = Origin(_told(source.name), source.license, source.split)
    return lambda row: mapped(row, source.fields, origin)


def _told(name: str) -> str:
    """Which source rows say they are of; a folder that is named as ``.`` has a name, too."""
    names = (Path(name).stem, Path(name).resolve().stem, name)
    return next(text for text in names if text.strip())


def rows(source: HubSource, bad: Bad) -> Iterator[Row]:
    """Rows of one split of a data set. Raises :class:`StageError` if it can't be loaded."""
    path = Path(source.name)
    files = local_files(path, source.part) if source.subset is None else []
    if files:
        for file in files:
            yield from read_rows(file, bad)
        return
    for number, values in enumerate(_load(source), start=1):
        row = Row(path, number, values)
        answer = row.find(source.fields.answer)
        if isinstance(answer, float) and abs(answer) >= _EXACT:
            message = f"{answer:g} has lost digits in this data set; want a text, or a file"
            bad(RowError(path, number, message, field=source.fields.answer))
            continue
        yield row


def local_files(path: Path, part: str) -> list[Path]:
    """The files of a split that lie at ``path`` as they were downloaded: that file, or those in
    the folder whose path names the split (all, where none names any). Empty for what ``datasets``
    has to open: a name on the hub, a set saved by it, a folder with a README that configures it.

    Raises :class:`StageError` for a file of another format, a folder without files of the split.
    """
    if path.is_file():
        if path.suffix.lower() not in READERS:
            raise StageError(f"{path}: want one of {', '.join(READERS)}")
        return [path]
    saved = ("dataset_info.json", "dataset_dict.json", "README.md")
    if not path.is_dir() or any((path / name).is_file() for name in saved):
        return []
    found = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in READERS]
    found = [file for file in found if file.is_file() and not _hidden(file, path)]
    named = [file for file in found if _names(file.relative_to(path), part)]
    others = any(_names(file.relative_to(path), other) for file in found for other in _PARTS)
    if not named and (others or not found):
        there = ", ".join(file.name for file in found[:5]) or "no file that is read"
        raise StageError(f"data set {str(path)!r}: no file of split {part!r} (there is {there})")
    return named or found


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _names(file: Path, part: str) -> bool:
    """``train.jsonl``, ``data/train-00000-of-00002.parquet`` and ``train/a.csv`` name train."""
    words = re.split(r"[^a-z0-9]+", file.with_suffix("").as_posix().lower())
    return part.lower() in words


def _load(source: HubSource) -> Any:
    """A data set is iterable over dictionaries; its package has no types that say so."""
    try:
        import datasets
    except ImportError as error:
        raise StageError("source kind 'huggingface' needs the package 'datasets'") from error
    path = Path(source.name)
    try:
        if (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file():
            saved = datasets.load_from_disk(str(path))
            return saved[source.part] if isinstance(saved, datasets.DatasetDict) else saved
        return datasets.load_dataset(
            source.name, source.subset, split=source.part, revision=source.revision
        )
    except (OSError, ValueError, KeyError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StageError(f"data set {source.name!r}: {reason}") from error
