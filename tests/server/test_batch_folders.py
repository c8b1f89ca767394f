"""The folder of batches is read by its owner only, whatever was there before and whatever umask."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from extracot_server.batches.store import BatchStore
from extracot_server.config.batch_settings import BatchSettings


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    """What is made is as open as its maker lets it be."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def store(folder: Path) -> BatchStore:
    found = BatchStore(folder, BatchSettings())
    found.prepare()
    return found


def test_all_folders_and_files_are_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    renamed = []
    real = os.replace

    def replace(source: str | Path, target: str | Path) -> None:
        renamed.append(mode(Path(source)))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    root = tmp_path / "var" / "kept"
    folder = store(root).of("b")
    upload = folder.begin_upload()
    upload.write(b"{}\n")
    folder.finish(upload, "a", None)
    made = [tmp_path / "var", root, *root.rglob("*")]
    assert {mode(path) for path in made if path.is_dir()} == {0o700}
    assert {mode(path) for path in made if path.is_file()} == {0o600}
    assert set(renamed) == {0o600}, "a record could be read for a moment"
    assert len(made) == 8 and not caplog.records


def test_folders_that_others_may_open_are_closed(tmp_path: Path) -> None:
    root = tmp_path / "kept"
    (root / "key-a" / "files").mkdir(parents=True, mode=0o755)
    (root / "everybody").mkdir(mode=0o775)
    (root / "runner.lock").touch()
    kept = store(root)
    assert {mode(path) for path in (root, root / "key-a", root / "everybody")} == {0o700}
    (root / "key-b").mkdir(mode=0o755)  # as a server of an earlier release makes it meanwhile
    folder = kept.of("b")
    folder.finish(folder.begin_upload(), "a", None)
    assert mode(root / "key-b") == 0o700


def test_a_folder_that_holds_other_things_keeps_its_mode(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "shared"
    (root / "theirs").mkdir(parents=True)
    root.chmod(0o755)
    with caplog.at_level(logging.WARNING):
        folder = store(root).of("a")
    folder.finish(folder.begin_upload(), "a", None)
    assert mode(root) == 0o755 and mode(root / "key-a") == 0o700
    (said,) = caplog.records
    assert str(root) in said.getMessage() and "755" in said.getMessage()


def test_another_users_folder_is_left_alone_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "kept"
    root.mkdir(mode=0o755)
    monkeypatch.setattr(os, "geteuid", lambda: root.stat().st_uid + 1)
    with caplog.at_level(logging.WARNING):
        store(root)
    assert mode(root) == 0o755 and len(caplog.records) == 1
