"""Pages of other packages: found by name, called with an address, missed in one line."""

from __future__ import annotations

import importlib.metadata

import pytest

from extracot_server.cli import main
from extracot_server.runtime.mounts import GROUP, MountError, mount_page


def bring(monkeypatch: pytest.MonkeyPatch, *values: str) -> None:
    """As if installed packages had these entry points, and no others."""
    entries = [importlib.metadata.EntryPoint("playground", value, GROUP) for value in values]
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda **_: importlib.metadata.EntryPoints(entries)
    )


def test_a_page_is_found_by_name_and_told_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, ...]] = []
    bring(monkeypatch, "some_package.page:mount")
    monkeypatch.setattr(
        importlib.metadata.EntryPoint, "load", lambda _: lambda *given: calls.append(given)
    )
    app = object()
    mount_page(app, "playground", "http://127.0.0.1:1")
    assert calls == [(app, "/playground", "http://127.0.0.1:1")]


def test_a_page_that_nobody_brings(monkeypatch: pytest.MonkeyPatch) -> None:
    bring(monkeypatch)
    with pytest.raises(MountError, match="no installed package brings a playground"):
        mount_page(object(), "playground", "http://127.0.0.1:1")


def test_a_page_whose_packages_are_missing_names_its_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bring(monkeypatch, "no_such_package.page:mount")
    arguments = ["--engine", "scripted", "--playground", "true", "--port", "0"]
    assert main(arguments) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert "no_such_package" in last and "extracot[playground]" in last


def test_the_clients_package_brings_the_playground() -> None:
    (entry,) = importlib.metadata.entry_points(group=GROUP, name="playground")
    assert entry.value == "extracot_client.playground:mount"
