"""``extracot batch``: a file of requests runs on the server; the same command goes on with it.

What is submitted is noted beside the file before it is, so that nothing is submitted twice, and
which files it wrote there, so that no other file is ever written over.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from extracot_client.batch_calls import Batch, Batches
from extracot_client.commands.common import make_client, note, print_json
from extracot_client.errors import ExtracotAPIError, InvalidArgumentError, NotFoundError

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
_KINDS = ("results.jsonl", "errors.jsonl")


@dataclass(frozen=True, slots=True)
class _Note:
    """What is kept beside the file."""

    server: str
    sha256: str
    name: str
    """The file's: ``a`` and ``a.jsonl`` have one note between them."""
    file_id: str = ""
    batch_id: str | None = None
    """``None`` until the server has said it."""
    written: list[str] = field(default_factory=list)


def run(arguments: argparse.Namespace) -> int:
    """Submit or go on, wait, fetch; 1 unless every line was answered."""
    path = Path(arguments.file)
    digest = _digest(path)
    beside = _beside(path, "batch.json")
    with make_client(arguments) as client:
        batches, server = Batches(client), client._core.settings.shown_url
        known = _known(beside, path.name, digest, server)
        if known is not None and known.batch_id is not None:
            batch = _again(batches, known.batch_id, beside)
        else:
            new = _Note(server, digest, path.name)
            known, batch = _submitted(batches, known or new, path, arguments)
        if arguments.cancel and not batch.ended:
            batch = batches.cancel(batch.id)
        if not arguments.no_wait:
            batch = _wait(client._sleep, batches, batch)
        files = _fetch(batches, batch, path, known) if batch.ended else {}
    if arguments.json:
        print_json(
            {**batch.model_dump(mode="json"), "files": {k: str(v) for k, v in files.items()}}
        )
    else:
        _tell(batch, files)
    return 0 if not batch.ended or _all_answered(batch) else 1


def _beside(path: Path, kind: str) -> Path:
    """``a.KIND`` beside ``a.jsonl``; a file of another kind keeps its whole name."""
    return path.with_name(f"{path.name.removesuffix('.jsonl')}.{kind}")


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _known(beside: Path, name: str, digest: str, server: str) -> _Note | None:
    """What was submitted of this file; :class:`InvalidArgumentError` if it has changed since."""
    try:
        found = _Note(**json.loads(beside.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        raise InvalidArgumentError(f"{beside} is not what this command wrote") from None
    batch = found.batch_id or "a batch"
    if found.name != name:
        raise InvalidArgumentError(f"{beside} is of {found.name}: rename one of the two files")
    if found.sha256 != digest:
        what = f"the file has changed since it was submitted as {batch}"
        left = ", ".join([str(beside), *found.written])
        raise InvalidArgumentError(f"{what}: delete {left} to submit it as it is now")
    if found.server != server:
        raise InvalidArgumentError(
            f"{batch} is on {found.server}, not on {server}: delete {beside} to submit it here, too"
        )
    return found


def _part(beside: Path) -> Path:
    return beside.with_name(f"{beside.name}.part")


def _keep(beside: Path, found: _Note) -> None:
    part = _part(beside)
    part.write_text(json.dumps(asdict(found)) + "\n", encoding="utf-8")
    os.replace(part, beside)


def _uploaded(batches: Batches, path: Path, new: _Note) -> _Note:
    """Upload the file and note that, once everything that is to be written can be."""
    for kind in _KINDS:
        _own(_beside(path, kind), ())
    beside = _beside(path, "batch.json")
    part = _part(beside)
    part.touch()
    part.unlink()
    uploaded = replace(new, file_id=batches.upload(path).id)
    _keep(beside, uploaded)
    return uploaded


def _submitted(
    batches: Batches, known: _Note, path: Path, arguments: argparse.Namespace
) -> tuple[_Note, Batch]:
    """The batch of a file, noted: one that is there already, though its reply was lost, or a new
    one."""
    beside = _beside(path, "batch.json")
    batch = batches.of_file(known.file_id) if known.file_id else None
    if batch is None and arguments.cancel:
        raise InvalidArgumentError(f"nothing was submitted: {beside} names no batch")
    if not known.file_id:
        known = _uploaded(batches, path, known)
    try:
        batch = batch or batches.create(known.file_id, arguments.endpoint, arguments.window)
    except ExtracotAPIError as error:
        if error.param == "input_file_id":  # it has expired: the next time it is uploaded anew
            beside.unlink(missing_ok=True)
        raise
    known = replace(known, batch_id=batch.id)
    try:
        _keep(beside, known)
    except OSError:
        note(f"submitted as {batch.id}, and that could not be noted", bad=True)
        raise
    note(f"submitted as {batch.id}; the same command goes on with it ({beside})")
    return known, batch


def _again(batches: Batches, batch_id: str, beside: Path) -> Batch:
    try:
        return batches.get(batch_id)
    except NotFoundError:
        what = f"{batch_id} is not on the server any more, or it is another key's"
        raise InvalidArgumentError(f"{what}: delete {beside} to submit the file again") from None


def _wait(sleep: Callable[[float], object], batches: Batches, batch: Batch) -> Batch:
    """Follow it to its end; a line when its status or what it waits for changes, or another tenth
    is done."""
    pause, told = _FIRST_PAUSE, ("", -1, "")
    try:
        while not batch.ended:
            counts = batch.request_counts
            done = counts.completed + counts.failed
            now = (batch.status, 10 * done // max(counts.total, 1), "; ".join(batch.faults))
            if now != told:
                why = f"; it waits: {now[2]}" if now[2] else ""
                note(f"{batch.status}: {done} of {counts.total}{why}")
            told = now
            sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)
            batch = batches.get(batch.id)
    except KeyboardInterrupt:
        note(f"{batch.id} goes on; the same command follows it, --cancel stops it")
        raise
    return batch


def _fetch(batches: Batches, batch: Batch, path: Path, known: _Note) -> dict[str, Path]:
    """The results beside the file, by what they are; noted first, so that they are known as its."""
    ids = dict(zip(_KINDS, (batch.output_file_id, batch.error_file_id), strict=True))
    files = {kind: _beside(path, kind) for kind, file_id in ids.items() if file_id is not None}
    for there in files.values():
        _own(there, known.written)
    _keep(
        _beside(path, "batch.json"), replace(known, written=[file.name for file in files.values()])
    )
    for kind, there in files.items():
        batches.download(str(ids[kind]), there)
    return {kind.partition(".")[0]: there for kind, there in files.items()}


def _own(there: Path, written: Collection[str]) -> None:
    """Raises :class:`InvalidArgumentError` for a file that is there and that nobody noted."""
    if there.name not in written and os.path.lexists(there):
        raise InvalidArgumentError(
            f"{there} is there already, and not as what this command wrote for this batch: move it "
            "away or delete it, and the same command goes on"
        )


def _tell(batch: Batch, files: dict[str, Path]) -> None:
    counts = batch.request_counts
    line = f"{batch.id} {batch.status}: {counts.completed} of {counts.total} answered"
    print(line + (f", {counts.failed} failed" if counts.failed else ""))
    for fault in batch.faults:
        print(f"  {fault}")
    for kind, path in files.items():
        print(f"{kind}: {path}")


def _all_answered(batch: Batch) -> bool:
    return batch.status == "completed" and not batch.request_counts.failed
