"""Stage folders that appear whole: work is done beside the place, which is then taken at once.

For folders that somebody may use while the stage runs again. Whatever happens before the last step,
the place is what it was: a kill leaves a hidden folder beside it, which the next run removes. Knows
stages in general and no particular one.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from extracot_training.errors import StageError
from extracot_training.pipeline.settings import StageConfig
from extracot_training.pipeline.stage import (
    MANIFEST_FILENAME,
    Counts,
    Manifest,
    StageResult,
    StageRun,
    Status,
    check_kept,
    difference,
    locked,
    now,
    one_line_errors,
    own_manifest,
    planned_manifest,
)


def replace_stage(
    name: str,
    config: StageConfig,
    inputs: Mapping[str, Path],
    work: Callable[[StageRun, Manifest], Counts],
    *,
    force: bool = False,
    later: Collection[str] = (),
    lacking: Callable[[Path], bool] = lambda folder: False,
) -> StageResult:
    """As :func:`run_stage`, but ``work`` fills a folder beside ``config.out`` that replaces it.

    ``later`` names inputs that a finished folder may get afterwards: then ``work`` is given, as a
    run that was ``resumed``, a folder that has the finished one's files already (as links: they are
    to be replaced, not written to). So it is where the finished folder is ``lacking`` something.
    ``work`` is told what the manifest will say.
    """
    if force:
        check_kept(config, inputs)
    planned = planned_manifest(name, config, inputs)
    out = config.out.absolute()
    with one_line_errors(name, config.out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with locked(out, out.parent / f".{out.name}.lock"):
            _clear_up(out)
            if out.exists() and not out.is_dir():
                raise StageError(f"{out}: is a file; choose another `out`")
            found = own_manifest(out, planned) if out.exists() else None
            if found is not None and not force:
                new = {*later} & planned.inputs.keys() - found.inputs.keys()
                known = planned.inputs.keys() - new | found.inputs.keys() - {*later}
                if change := difference(_of(found, known), _of(planned, known), type(config)):
                    raise StageError(f"{out}: made with other {change}; pass --force to replace it")
                if not new and not lacking(out):
                    return StageResult(Status.UP_TO_DATE, config.out, found.counts)
            scratch = _beside(out)
            try:
                resumed = found is not None and not force
                if resumed:
                    _link_files(out, scratch)
                counts = work(StageRun(scratch, resumed), planned)
                planned.model_copy(update={"finished": now(), "counts": dict(counts)}).save(scratch)
                scratch.chmod(0o755)  # mkdtemp's 0700 would hide it from other users
                _put_in_place(scratch, out)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    return StageResult(Status.DONE, config.out, counts)


def _of(manifest: Manifest, roles: Collection[str]) -> Manifest:
    inputs = {role: sha for role, sha in manifest.inputs.items() if role in roles}
    return manifest.model_copy(update={"inputs": inputs})


def _link_files(folder: Path, target: Path) -> None:
    def link(source: str, copy: str) -> None:
        try:
            os.link(source, copy)
        except OSError:  # a file system without links
            shutil.copy2(source, copy)

    ignored = shutil.ignore_patterns(MANIFEST_FILENAME)
    shutil.copytree(folder, target, copy_function=link, ignore=ignored, dirs_exist_ok=True)


def _put_in_place(made: Path, out: Path) -> None:
    """One rename; an older folder is first moved aside, under a name the next run removes."""
    if out.exists() and any(out.iterdir()):
        old = _beside(out)
        os.replace(out, old)
        os.replace(made, out)
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.replace(made, out)


def _prefix(out: Path) -> str:
    return f".{out.name}.publishing-"


def _beside(out: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix=_prefix(out), dir=out.parent))


def _clear_up(out: Path) -> None:
    """Remove what killed runs left. One killed between its two renames leaves whole folders beside
    an empty place: one of them is put there."""
    for left in sorted(out.parent.glob(f"{_prefix(out)}*")):
        found = Manifest.load(left)
        if not out.exists() and found is not None and found.finished is not None:
            os.replace(left, out)
        else:
            shutil.rmtree(left, ignore_errors=True)
