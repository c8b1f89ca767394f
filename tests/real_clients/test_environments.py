"""The environments: one that cannot be made fails in CI, and skips elsewhere with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real_clients import environments
from tests.real_clients.environments import environment

KINDS = ["python", "npm"]


@pytest.fixture(params=KINDS)
def broken(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a client whose lock says nothing that could be installed."""
    monkeypatch.setattr(environments, "LOCKS", tmp_path)
    monkeypatch.setattr(environments, "ENVIRONMENTS", tmp_path / "made")
    if request.param == "python":
        (tmp_path / "clients-broken.txt").write_text("not a pin\n")
    else:
        (tmp_path / "clients-broken").mkdir()
        for name in ("package.json", "package-lock.json"):
            (tmp_path / "clients-broken" / name).write_text("not JSON\n")
    return "broken"


def test_in_ci_it_fails(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="of broken cannot be made: "):
        environment(broken)


def test_elsewhere_it_skips(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="of broken cannot be made: "):
        environment(broken)


def test_what_was_made_is_kept_until_the_lock_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "LOCKS", tmp_path)
    monkeypatch.setattr(environments, "ENVIRONMENTS", tmp_path / "made")
    lock = tmp_path / "clients-empty.txt"
    lock.write_text("# nothing\n")
    first = environment("empty").folder
    (first / "mark").touch()
    assert environment("empty").folder == first and (first / "mark").exists()
    lock.write_text("# nothing at all\n")
    assert not (environment("empty").folder / "mark").exists()
    (first / environments.STAMP).unlink()  # as if cut short
    (first / "mark").touch()
    assert not (environment("empty").folder / "mark").exists()
