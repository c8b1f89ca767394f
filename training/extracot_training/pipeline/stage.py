"""Stage folders: a stage reads some inputs and fills one folder, which says how it was made.

A folder holds ``rows.jsonl`` (or a model), ``report.md``, ``report.json`` and ``stage.json``:
stage, resolved config, sha256 of each input, git revision, package version, started, finished,
counts. ``stage.json`` is written when work starts (``finished`` null) and again when it ends, so a
folder tells by itself whether it is done, half done, or made with other settings.

This module does not know any stage. A stage's run function looks like::

    def run(config: TeachConfig, *, force: bool = False) -> StageResult:
        def work(stage: StageRun) -> Counts:
            with JsonlWriter(stage.rows, Trace) as writer:
                ...                                  # skip writer.done_keys(): this is the resume
            stage.report(markdown, figures)
            return {"kept": 3}
        return run_stage("teach", config, {"problems": rows_file(config.input)}, work, force=force)
"""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from extracot_training.errors import StageError
from extracot_training.pipeline.files import sha256_of, write_atomic
from extracot_training.pipeline.records import PARQUET_FILENAME, ROWS_FILENAME, read_json
from extracot_training.pipeline.settings import StageConfig

MANIFEST_FILENAME = "stage.json"
LOCK_FILENAME = ".lock"

Counts = Mapping[str, Any]
LOST = "lost"


def lost(reasons: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """An entry of :data:`Counts` for rows that a stage left out, by why; none for none."""
    found = {why: count for why, count in reasons.items() if count}
    return {LOST: found} if found else {}


@dataclass(frozen=True, slots=True)
class Conditions:
    """What decides a result and is no setting: ``always``, or ``while_cut``, only for a run that is
    to go on exactly where it was."""

    always: Mapping[str, Any] = field(default_factory=dict)
    while_cut: Mapping[str, Any] = field(default_factory=dict)


# Since 2 every file of a model is an input.
FORMAT = 2
MODEL_ROLES = ("model", "tokenizer", "reader", "encoder")


class Manifest(BaseModel, extra="forbid"):
    """``stage.json``. ``inputs`` maps an input's role to its sha256; times are ISO 8601, UTC.
    ``always`` and ``while_cut`` are its :class:`Conditions`."""

    stage: str
    config: dict[str, Any]
    decisive: dict[str, Any]
    inputs: dict[str, str]
    always: dict[str, Any] = Field(default_factory=dict)
    while_cut: dict[str, Any] = Field(default_factory=dict)
    format: int = 1
    git_revision: str | None
    version: str | None
    started: str
    finished: str | None = None
    counts: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> Manifest | None:
        """The folder's manifest, ``None`` if it has none; :class:`StageError` if unreadable."""
        path = folder / MANIFEST_FILENAME
        return read_json(path, cls) if path.is_file() else None

    @classmethod
    def load_out(cls, out: Path) -> Manifest | None:
        """The same of the folder that a stage is to fill: the error says what to do."""
        try:
            return cls.load(out)
        except StageError as error:
            raise StageError(f"{error}; remove that folder, or choose another `out`") from error

    def save(self, folder: Path) -> None:
        write_atomic(folder / MANIFEST_FILENAME, self.model_dump_json(indent=2) + "\n")


class Status(StrEnum):
    """How a stage ended."""

    DONE = "done"
    UP_TO_DATE = "up to date"


@dataclass(frozen=True, slots=True)
class StageResult:
    """What :func:`run_stage` returns: ``counts`` as in ``stage.json``."""

    status: Status
    folder: Path
    counts: Counts


@dataclass(frozen=True, slots=True)
class StageRun:
    """What a stage's work gets: its folder, and whether rows of a cut run may lie there."""

    folder: Path
    resumed: bool

    @property
    def rows(self) -> Path:
        return self.folder / ROWS_FILENAME

    def report(self, markdown: str, figures: Mapping[str, Any]) -> None:
        """Write ``report.md`` and ``report.json``."""
        write_atomic(self.folder / "report.md", markdown)
        text = json.dumps(figures, indent=2, ensure_ascii=False, default=str)
        write_atomic(self.folder / "report.json", text + "\n")


def run_stage(
    name: str,
    config: StageConfig,
    inputs: Mapping[str, Path],
    work: Callable[[StageRun], Counts],
    *,
    force: bool = False,
    conditions: Conditions | None = None,
) -> StageResult:
    """Run ``work`` in ``config.out`` unless that folder already holds this very result.

    Same settings, inputs and ``conditions``: finished → nothing to do; unfinished → ``work``
    resumes. Otherwise ``force`` empties the folder first. Raises :class:`StageError` for a folder
    made otherwise (without ``force``), one in use, one that is no folder of this stage, a missing
    input, one that ``force`` would delete, and operating-system errors such as a full disk.
    """
    folder = config.out
    if force:
        check_kept(config, inputs)
    planned = planned_manifest(name, config, inputs, conditions)
    with one_line_errors(name, folder):
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            return _run_locked(planned, config, folder, work, force=force)


@contextmanager
def one_line_errors(name: str, folder: Path) -> Iterator[None]:
    """Errors of the system and of writers of weights, such as a full disk, as StageError."""
    try:
        yield
    except _disk_errors() as error:
        if isinstance(error, OSError):
            detail = error.strerror or str(error)
            detail += f" ({error.filename})" if error.filename else ""
        elif isinstance(error, RuntimeError) and "inline_container" not in str(error):
            raise  # not torch's writer of files
        else:
            said = str(error).splitlines()[0]
            detail = f"weights could not be read or written (is the disk full?): {said}"
        raise StageError(f"stage {name!r} in {folder}: {detail}") from error


def _disk_errors() -> tuple[type[Exception], ...]:
    """What the system, torch and safetensors raise at a full disk. Loads neither library."""
    loaded = sys.modules.get("safetensors")
    return (OSError, RuntimeError, *([loaded.SafetensorError] if loaded is not None else []))


def planned_manifest(
    name: str,
    config: StageConfig,
    inputs: Mapping[str, Path],
    conditions: Conditions | None = None,
) -> Manifest:
    """What ``stage.json`` says when work starts. :class:`StageError` for a missing input."""
    for role, path in inputs.items():
        if not path.exists():
            raise StageError(f"input {role!r}: {path} does not exist")
        if _is_half_made(path.parent) and path.parent.resolve() != config.out.resolve():
            raise StageError(f"input {role!r}: {path.parent} is not finished; finish it first")
    conditions = conditions or Conditions()
    return Manifest(
        stage=name,
        config=config.model_dump(mode="json"),
        decisive=config.fingerprint(),
        inputs={role: sha256_of(path) for role, path in inputs.items()},
        always=dict(conditions.always),
        while_cut=dict(conditions.while_cut),
        format=FORMAT,
        git_revision=git_revision(),
        version=package_version(),
        started=now(),
    )


def _is_half_made(folder: Path) -> bool:
    """Whether it is a stage's whose run has not ended. Another's ``stage.json`` says nothing."""
    with suppress(StageError):
        return (found := Manifest.load(folder)) is not None and found.finished is None
    return False


def _run_locked(
    planned: Manifest,
    config: StageConfig,
    folder: Path,
    work: Callable[[StageRun], Counts],
    *,
    force: bool,
) -> StageResult:
    found = own_manifest(folder, planned)
    if found is not None and lacks_rows(config):
        found = found.model_copy(update={"finished": None, "counts": {}})
    if found is not None and (force or _nothing_made(found, folder)):
        _empty(folder)
        found = None
    if found is not None:
        change = difference(found, planned, type(config))
        if change:
            raise StageError(f"{folder}: made with other {change}; pass --force to start over")
        if found.finished is not None:
            return StageResult(Status.UP_TO_DATE, folder, found.counts)
    manifest = found or planned
    manifest.save(folder)
    counts = work(StageRun(folder, resumed=found is not None))
    manifest.model_copy(update={"finished": now(), "counts": dict(counts)}).save(folder)
    return StageResult(Status.DONE, folder, counts)


def check_kept(config: StageConfig, inputs: Mapping[str, Path]) -> None:
    """Raise :class:`StageError` where emptying the folder would delete what the stage reads:
    ``inputs``, or what its settings name."""
    named = {
        name: Path(value) for name, value in config
        if isinstance(value, Path) or (name == "tokenizer" and value)
    }  # fmt: skip
    named.pop("out")
    for role, path in {**named, **inputs}.items():
        if path.exists() and _is_within(path, config.out.resolve()):
            raise StageError(
                f"{config.out}: --force would empty it, and {role!r} is read there ({path}); "
                "choose another `out`"
            )


def _is_within(path: Path, folder: Path) -> bool:
    """Whether it is ``folder`` or lies below it, or is found through a link below it."""
    if path.resolve().is_relative_to(folder):
        return True
    steps = (step for step in (path.absolute(), *path.absolute().parents) if step.name != "..")
    return any(folder in (step.parent.resolve() / step.name).parents for step in steps)


def lacks_rows(config: StageConfig) -> bool:
    """Whether the stage makes rows and its folder has none, or an emptied file of them."""
    files = (config.out / name for name in (ROWS_FILENAME, PARQUET_FILENAME))
    return config.makes_rows and not any(f.is_file() and f.stat().st_size for f in files)


def check_settings(name: str, config: StageConfig) -> None:
    """Raise :class:`StageError` where the folder was made with other settings. :func:`run_stage`
    says so too, with the inputs looked at, but only after what a stage imports."""
    found = Manifest.load_out(config.out)
    if found is None or found.stage != name or _nothing_made(found, config.out):
        return
    if change := _changed(_completed(found, type(config)), config.fingerprint()):
        raise StageError(
            f"{config.out}: made with other settings: {change}; pass --force to start over"
        )


def _nothing_made(found: Manifest, folder: Path) -> bool:
    """A run that ended before its first row says nothing of the next one's settings."""
    files = (path for path in folder.rglob("*") if path.is_file())
    told = {folder / MANIFEST_FILENAME, folder / LOCK_FILENAME}
    return found.finished is None and not any(p.stat().st_size for p in files if p not in told)


def own_manifest(folder: Path, planned: Manifest) -> Manifest | None:
    """What the stage left in ``folder`` before; :class:`StageError` if it is not its to fill."""
    found = Manifest.load_out(folder)
    if found is None and _contents(folder):
        raise StageError(f"{folder}: not empty and no stage folder; choose another `out`")
    if found is not None and found.stage != planned.stage:
        raise StageError(f"{folder}: belongs to stage {found.stage!r}; choose another `out`")
    return found


def difference(found: Manifest, planned: Manifest, model: type[StageConfig]) -> str | None:
    """The first difference in words (``settings: k (4, now 8)``), or ``None``.

    A setting that ``found`` does not have, because it is of an older version, counts as the default
    that ``model``, the stage's configuration, gives it.
    """
    for role in sorted(found.inputs.keys() | planned.inputs.keys()):
        shared = role in found.inputs and role in planned.inputs
        if not shared and found.format < FORMAT and _is_of_a_model(role, planned):
            continue  # it was no input then, or in another role
        if found.inputs.get(role) != planned.inputs.get(role):
            return f"input {role!r}"
    if change := _changed(_completed(found, model), planned.decisive):
        return f"settings: {change}"
    told = found.always if found.finished else found.always | found.while_cut
    now = planned.always | planned.while_cut
    return _changed(told, {name: now[name] for name in told if name in now})


def _is_of_a_model(role: str, planned: Manifest) -> bool:
    """Whether the role is a model's file, as they are called now or were in the first format."""
    return role.partition(" ")[0] in MODEL_ROLES or f"model {role}" in planned.inputs


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """The first entry that differs, with both its values."""
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            return f"{key} ({_short(before.get(key))}, now {_short(now.get(key))})"
    return None


def _completed(found: Manifest, model: type[StageConfig]) -> dict[str, Any]:
    try:
        return model.model_validate(found.config).fingerprint()
    except ValidationError:
        return found.decisive


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _contents(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name != LOCK_FILENAME]


def _empty(folder: Path) -> None:
    for path in _contents(folder):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextmanager
def locked(folder: Path, lock: Path | None = None) -> Iterator[None]:
    """Hold the folder, by a file in it or by ``lock``; the kernel lets go when the process ends,
    however it ends."""
    with (lock or folder / LOCK_FILENAME).open("ab") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StageError(f"{folder}: another process is working in it") from error
        yield


def git_revision() -> str | None:
    """Commit of the checkout this package lies in, with ``-dirty``; ``None`` outside git."""
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None if result.returncode == 0 else None


def package_version() -> str | None:
    """Version of the installed distribution; ``None`` when run from a bare checkout."""
    with suppress(PackageNotFoundError):
        return version("extracot")
    return None


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
