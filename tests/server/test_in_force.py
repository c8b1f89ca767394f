"""Texts of files that are in force, kept for workers that start later."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from extracot_server.admission.keys import KeysError, KeyStore
from extracot_server.config import in_force
from extracot_server.config.model_settings import ModelSettings
from extracot_server.config.upstreams_file import UpstreamsError
from extracot_server.model_registry.loading import file_in_force
from tests.server.key_files import OTHER, SECRET, write


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(in_force, "_shared", None)
    in_force.share()
    yield


def test_forks_share_what_is_kept(shared: None, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert in_force.text_of(one) is None
    in_force.keep(one, "a much longer text: é")
    shares = in_force._shared
    assert shares is not None
    code = "import pathlib, sys; from extracot_server.config import in_force as f; "
    code += f"f._shared = {shares}; f.keep(pathlib.Path(sys.argv[1]), sys.argv[2])"
    for path, text in ((one, "new"), (two, "other")):
        command = [sys.executable, "-c", code, str(path), text]
        subprocess.run(command, pass_fds=[shares], check=True)
    assert (in_force.text_of(one), in_force.text_of(two)) == ("new", "other")
    in_force.keep(one, "of a worker that read it earlier", first=True)
    assert in_force.text_of(one) == "new"
    os.pwrite(shares, b"[", 0)  # as if a writer had been killed
    assert in_force.text_of(one) is None
    in_force.keep(one, "again")
    assert in_force.text_of(one) == "again"


def test_without_workers_nothing_is_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "k.yaml", {"name": "a", "key": SECRET})
    KeyStore(path).settle(lambda principals: None)
    assert in_force.text_of(path) is None
    path.write_text("keys: [")
    with pytest.raises(KeysError):
        KeyStore(path)


def test_keys_go_on_only_with_what_was_taken(shared: None, tmp_path: Path) -> None:
    path = write(tmp_path / "k.yaml", {"name": "a", "key": SECRET})

    def no_b(principals: object) -> None:
        if "name='b'" in str(principals):
            raise KeysError("key b: no")

    first = KeyStore(path)
    path.write_text("keys: [")
    with pytest.raises(KeysError):  # read by one that has not come to serve by it
        KeyStore(path)
    first.settle(no_b)
    assert first.refused is None
    again = KeyStore(path)
    assert again.find(SECRET.encode()) is not None and "not YAML" in str(again.refused)
    write(path, {"name": "b", "key": OTHER})  # can be read, and does not fit the models
    later = KeyStore(path)
    assert later.refused is None
    later.settle(no_b)
    assert later.find(SECRET.encode()) is not None and later.find(OTHER.encode()) is None
    assert str(later.refused) == "key b: no"
    write(path, {"name": "c", "key": OTHER})
    later.reload(no_b)
    assert later.refused is None and later.find(OTHER.encode()) is not None
    assert "c" in (in_force.text_of(path) or "")


def test_upstreams_go_on_with_what_was_taken(shared: None, tmp_path: Path) -> None:
    path = tmp_path / "ups.yaml"
    path.write_text("upstreams:\n- {url: 'http://a:1', weight: 2}\n")
    settings = ModelSettings(engine="remote", upstreams=path)
    good = file_in_force(settings)
    path.write_text("upstreams: [")
    with pytest.raises(UpstreamsError):
        file_in_force(settings)
    in_force.keep(path, good.text)
    again = file_in_force(settings)
    assert again.upstreams == good.upstreams and str(path) in again.refused
    assert not good.refused
