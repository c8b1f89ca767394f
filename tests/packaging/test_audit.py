"""The audit of dependencies: it reads every pin, and never takes silence for an all-clear."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripts import audit

HOLE = {"id": "PYSEC-1", "fix_versions": ["2.0"], "aliases": []}


def answers(monkeypatch: pytest.MonkeyPatch, *, probe: bool, holes: list[Any]) -> None:
    """An advisory service that knows the probe's holes, or not, and these of the first pin."""

    def report(requirements: list[str]) -> dict[str, Any]:
        name, _, version = requirements[0].partition("==")
        if requirements == [audit.PROBE]:
            package = {"name": name, "version": version, "vulns": [HOLE] if probe else []}
        else:
            package = {"name": name, "version": version, "vulns": holes}
        return {"dependencies": [package]}

    monkeypatch.setattr(audit, "report", report)
    monkeypatch.setattr(Path, "exists", lambda path: True)


def test_every_pin_of_every_lock_is_asked_about() -> None:
    pins = audit.pins()
    names = {pin.partition("==")[0] for pin in pins}
    assert {"torch", "transformers", "fastapi", "uvicorn", "trl", "pytest"} <= names
    assert any(name.startswith("vllm") for name in names)
    assert not any("+" in pin or " " in pin for pin in pins)
    assert len(pins) > 150


@pytest.mark.parametrize(
    ("probe", "holes", "code", "said"),
    [
        (True, [], 0, "0 open findings"),
        (True, [HOLE], 1, "PYSEC-1, fixed in 2.0"),
        (False, [], audit.NOT_AUDITED, "NOTHING WAS AUDITED"),
    ],
)
def test_exit_codes(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    probe: bool,
    holes: list[Any],
    code: int,
    said: str,
) -> None:
    answers(monkeypatch, probe=probe, holes=holes)
    monkeypatch.setattr(audit, "exceptions", lambda: set[str]())
    assert audit.main() == code
    shown = capsys.readouterr()
    assert said in shown.out + shown.err


def test_explained_findings_do_not_fail(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "audit.txt"
    path.write_text("# looked at\nPYSEC-1  we never call that function\n")
    explained = audit.exceptions(path)
    assert explained == {"PYSEC-1"}
    answers(monkeypatch, probe=True, holes=[HOLE])
    monkeypatch.setattr(audit, "exceptions", lambda: explained)
    assert audit.main() == 0
    assert "1 explained" in capsys.readouterr().out
