"""``extracot-serve keys``: the file stays readable, secrets are shown once, changes are logged."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot_server.admission.key_editing import created, new_secret, revoked, rotated
from extracot_server.admission.keys import KeysError, KeyStore, parse_keys
from extracot_server.cli import main
from tests.server.key_files import bearer
from tests.server.live import serve

TEXT = """\
# who may use this server
keys:
  - name: first      # the oldest
    key: "sk-first"
    quotas:
      - tokens: 5000   # a day's worth
        per: day

  # the second
  - {name: second, key: sk-second}
# shared quotas
groups:
  - name: team
    quotas: [{requests: 3, per: month}]
"""
COMMENTS = [line for line in TEXT.splitlines() if "#" in line]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "keys.yaml"
    found.write_text(TEXT)
    found.chmod(0o640)
    return found


def keys(path: Path, action: str, *arguments: str) -> int:
    return main(["keys", action, *arguments, "--file", str(path)])


def test_create_prints_the_secret_once_and_keeps_its_digest(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert keys(path, "create", "third", "--group", "team", "--admin") == 0
    told = capsys.readouterr()
    secret = told.out.strip()
    assert secret.startswith("sk-") and len(secret) > 40
    assert secret not in told.err and secret not in path.read_text()
    found = KeyStore(path).find(secret.encode())
    assert found is not None and found.admin and found.quotas[0].owner == "group team"
    assert path.stat().st_mode & 0o777 == 0o640
    assert path.read_text().startswith(TEXT.split("# shared")[0]), "all before is as it was"
    assert path.read_text().endswith("# shared" + TEXT.split("# shared")[1])
    logged = [json.loads(line) for line in Path(f"{path}.audit.jsonl").read_text().splitlines()]
    assert [(line["action"], line["key"]) for line in logged] == [("create", "third")]
    assert secret not in Path(f"{path}.audit.jsonl").read_text()


def test_rotate_and_revoke_change_one_entry(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("first", "second"):
        assert keys(path, "rotate", name) == 0
        secret = capsys.readouterr().out.strip()
        found = KeyStore(path).find(secret.encode())
        assert found is not None and found.name == name
        assert KeyStore(path).find(f"sk-{name}".encode()) is None
    assert all(line in path.read_text() for line in COMMENTS), "comments stay"
    assert keys(path, "revoke", "first") == 0
    assert capsys.readouterr().out == ""
    assert [found.name for found in KeyStore(path).principals] == ["second"]
    assert "  # the second" in path.read_text() and "sk-first" not in path.read_text()


def test_a_first_key_makes_the_file_and_the_last_one_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new.yaml"
    assert keys(path, "create", "only") == 0
    assert path.stat().st_mode & 0o777 == 0o600
    with serve(keys=path) as live:
        headers = bearer(capsys.readouterr().out.strip())
        assert live.http.get("/v1/models", headers=headers).status_code == 200
    before = path.read_text()
    assert keys(path, "revoke", "only") == 1
    assert "is the only key" in capsys.readouterr().err
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create", "first"), "the name first is taken"),
        (("create", "a b"), "name: must be 1 to 64"),
        (("create", "x", "--group", "nobody"), "group: there are these: team"),
        (("rotate", "nobody"), "there is no key nobody; there are first, second"),
        (("revoke", "nobody"), "there is no key nobody"),
    ],
)
def test_what_the_file_does_not_allow(
    path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    assert keys(path, *arguments) == 1
    told = capsys.readouterr()
    assert words in told.err and told.err.count("\n") == 1 and told.out == ""
    assert path.read_text() == TEXT


def test_other_faults_are_one_line(
    tmp_path: Path, path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert keys(tmp_path / "none.yaml", "list") == 1
    assert keys(tmp_path / "no" / "keys.yaml", "create", "a") == 1
    assert main(["keys", "list"]) == 1
    (tmp_path / "flow.yaml").write_text("keys: [{name: a, key: sk-a}, {name: b, key: sk-b}]\n")
    assert keys(tmp_path / "flow.yaml", "revoke", "a") == 1
    (tmp_path / "broken.yaml").write_text("keys: [")
    assert keys(tmp_path / "broken.yaml", "rotate", "a") == 1
    assert capsys.readouterr().err.count("\n") == 5
    with pytest.raises(SystemExit):
        main(["keys", "destroy"])
    monkeypatch.setenv("EXTRACOT_KEYS", str(path))
    capsys.readouterr()
    assert main(["keys", "list"]) == 0
    assert "5,000 tokens a day (key first)" in capsys.readouterr().out


def test_a_secret_is_told_though_the_change_cannot_be_noted(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = path.with_name("keys.yaml.audit.jsonl")
    log.write_text("\n" * 100_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        assert keys(path, "rotate", "first") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    told = capsys.readouterr()
    assert KeyStore(path).find(told.out.strip().encode()).name == "first"
    assert f"rotated first, which {log} does not say: File too large" in told.err


def test_two_at_once_lose_nothing(path: Path) -> None:
    command = [sys.executable, "-m", "extracot_server.cli", "keys", "create"]
    running = [
        subprocess.Popen([*command, f"k{number}", "--file", str(path)], stdout=subprocess.PIPE)
        for number in range(4)
    ]
    secrets = [process.communicate(timeout=120)[0].strip() for process in running]
    store = KeyStore(path)
    for number, secret in enumerate(secrets):
        found = store.find(secret)
        assert found is not None and found.name == f"k{number}"


def test_a_link_to_the_file_stays_one(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.yaml"
    os.symlink(path, link)
    assert keys(link, "create", "third") == 0
    assert link.is_symlink() and "third" in path.read_text()


NAMES = st.sampled_from(["first", "second", "no", "1.0", "null", "x-y"])


@given(st.lists(st.tuples(st.sampled_from(["create", "rotate", "revoke"]), NAMES), max_size=12))
def test_any_edits_leave_what_they_do_not_name(steps: list[tuple[str, str]]) -> None:
    text, path = TEXT, Path("keys.yaml")
    known = dict.fromkeys(("first", "second"), "")
    for action, name in steps:
        before = {found.name: digest for digest, found in parse_keys(text, path)}
        secret = new_secret()
        try:
            match action:
                case "create":
                    text = created(text, path, name, secret)
                    known[name] = secret
                case "rotate":
                    text = rotated(text, path, name, secret)
                case _:
                    text = revoked(text, path, name)
                    del known[name]
        except KeysError:
            assert (name in known) == (action == "create") or len(known) == 1
            continue
        after = {found.name: digest for digest, found in parse_keys(text, path)}
        assert after.keys() == known.keys()
        assert all(
            after[other] == before[other] for other in (after.keys() & before.keys()) - {name}
        )
