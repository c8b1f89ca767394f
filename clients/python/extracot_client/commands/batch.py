"""``extracot batch``: a file of requests runs on the server; the same command goes on with it.

What was submitted is noted beside the file, so that nothing is submitted twice.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from extracot_client.batch_calls import Batch, Batches
from extracot_client.commands.common import make_client, note, print_json
from extracot_client.errors import InvalidArgumentError, NotFoundError

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0


@dataclass(frozen=True, slots=True)
class _Note:
    """What is kept beside the file."""

    batch_id: str
    server: str
    sha256: str


def run(arguments: argparse.Namespace) -> int:
    """Submit or go on, wait, fetch; 1 unless every line was answered."""
    path = Path(arguments.file)
    beside = path.with_suffix(".batch.json")
    digest = _digest(path)
    with make_client(arguments) as client:
        batches, server = Batches(client), client._core.settings.shown_url
        known = _known(beside, digest, server)
        if known is None:
            if arguments.cancel:
                raise InvalidArgumentError(f"{beside} does not exist: nothing was submitted")
            _prove_room(beside)
            file = batches.upload(path)
            batch = batches.create(file.id, arguments.endpoint, arguments.window)
            try:
                _keep(beside, _Note(batch.id, server, digest))
            except OSError:
                note(f"submitted as {batch.id}, and that could not be noted", bad=True)
                raise
            note(f"submitted as {batch.id}; the same command goes on with it ({beside})")
        else:
            batch = _again(batches, known, beside)
            if arguments.cancel and not batch.ended:
                batch = batches.cancel(batch.id)
        if not arguments.no_wait:
            batch = _wait(client._sleep, batches, batch)
        files = _fetch(batches, batch, path) if batch.ended else {}
    if arguments.json:
        print_json(
            {**batch.model_dump(mode="json"), "files": {k: str(v) for k, v in files.items()}}
        )
    else:
        _tell(batch, files)
    return 0 if not batch.ended or _all_answered(batch) else 1


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _known(beside: Path, digest: str, server: str) -> _Note | None:
    """What was submitted of this file; :class:`InvalidArgumentError` if it has changed since."""
    try:
        found = _Note(**json.loads(beside.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        raise InvalidArgumentError(f"{beside} is not what this command wrote") from None
    if found.sha256 != digest:
        what = f"the file has changed since it was submitted as {found.batch_id}"
        raise InvalidArgumentError(f"{what}: delete {beside} to submit it as it is now")
    if found.server != server:
        raise InvalidArgumentError(
            f"{found.batch_id} is on {found.server}, not on {server}: delete {beside} to submit it "
            "here, too"
        )
    return found


def _prove_room(beside: Path) -> None:
    """Raises :class:`OSError` where no note can be kept: what is not noted is submitted again."""
    part = _part(beside)
    part.touch()
    part.unlink()


def _part(beside: Path) -> Path:
    return beside.with_name(f"{beside.name}.part")


def _keep(beside: Path, found: _Note) -> None:
    part = _part(beside)
    part.write_text(json.dumps(asdict(found)) + "\n", encoding="utf-8")
    os.replace(part, beside)


def _again(batches: Batches, known: _Note, beside: Path) -> Batch:
    try:
        return batches.get(known.batch_id)
    except NotFoundError:
        what = f"{known.batch_id} is not on the server any more, or it is another key's"
        raise InvalidArgumentError(f"{what}: delete {beside} to submit the file again") from None


def _wait(sleep: Callable[[float], object], batches: Batches, batch: Batch) -> Batch:
    """Follow it to its end; a line when its status changes or another tenth is done."""
    pause, told = _FIRST_PAUSE, ("", -1)
    try:
        while not batch.ended:
            counts = batch.request_counts
            done = counts.completed + counts.failed
            now = (batch.status, 10 * done // max(counts.total, 1))
            if now != told:
                note(f"{batch.status}: {done} of {counts.total}")
            told = now
            sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)
            batch = batches.get(batch.id)
    except KeyboardInterrupt:
        note(f"{batch.id} goes on; the same command follows it, --cancel stops it")
        raise
    return batch


def _fetch(batches: Batches, batch: Batch, path: Path) -> dict[str, Path]:
    """The results beside the file, by what they are. Those of an earlier batch of it go."""
    files: dict[str, Path] = {}
    for kind, file_id in (("results", batch.output_file_id), ("errors", batch.error_file_id)):
        there = path.with_suffix(f".{kind}.jsonl")
        if file_id is None:
            there.unlink(missing_ok=True)
        else:
            batches.download(file_id, there)
            files[kind] = there
    return files


def _tell(batch: Batch, files: dict[str, Path]) -> None:
    counts = batch.request_counts
    line = f"{batch.id} {batch.status}: {counts.completed} of {counts.total} answered"
    print(line + (f", {counts.failed} failed" if counts.failed else ""))
    for fault in batch.errors.data if batch.errors is not None else ():
        print(f"  {fault.message}")
    for kind, path in files.items():
        print(f"{kind}: {path}")


def _all_answered(batch: Batch) -> bool:
    return batch.status == "completed" and not batch.request_counts.failed
