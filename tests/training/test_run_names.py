"""``extracot-train run``: names and seeds at their limits, and what is looked at first."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest

from extracot_training.cli import main
from extracot_training.errors import ConfigError, StageError
from extracot_training.pipeline.settings import SEEDS
from extracot_training.planning.shape import Shape
from extracot_training.run import command
from extracot_training.run.data import Data, read_data
from extracot_training.run.machine import Base, Machine
from extracot_training.run.options import RunOptions

SMOL = Shape(30, 576, 1536, 9, 3, 64, 49152, 135e6)
CPU = Machine(2, 24.0, 0, "", 0.0, False, 0.2)


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    rows = [
        {"question": f"Ana has {n} pens and buys {n}. How many?", "answer": str(2 * n),
         "solution": f"She has {n} + {n} = {2 * n}."}
        for n in range(1, 41)
    ]  # fmt: skip
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return file


def argv(problems: Path, *more: str) -> list[str]:
    fields = "question=question,answer=answer,solution=solution"
    out = str(problems.parent / "out" / "mine")
    return ["run", "--model", "bundled:smollm2", "--problems", str(problems), "--fields", fields,
            "--out", out, "--skip", "evaluate", *more]  # fmt: skip


@pytest.mark.parametrize("name", ["{tmp}/elsewhere", "../elsewhere", "small", None])
def test_a_plan_leaves_nothing_whatever_the_name_is(
    problems: Path, name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = problems.parent
    told: list[tuple[Path, str]] = []

    def first(run: command.Run) -> int:
        told.append((run.options.out, run.options.served_name))
        run.options.out.mkdir(parents=True)
        return 0

    monkeypatch.setattr(command, "look", lambda *_, **__: (CPU, Base(SMOL, 8192)))
    monkeypatch.setattr(command, "_first", first)
    monkeypatch.setattr(tempfile, "tempdir", str(root))
    monkeypatch.setattr(command, "_told", lambda run: None)
    given = None if name is None else name.format(tmp=root)
    flags = [] if given is None else ["--name", given]
    assert main(argv(problems, "--plan", *flags)) == 0
    ((out, served),) = told
    assert served == (given or "mine")
    assert out.parent.name.startswith("extracot-plan-")
    assert [path.name for path in root.iterdir()] == ["mine.jsonl"]


def test_assumptions_are_looked_at_first(
    problems: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "look", lambda *_, **__: pytest.fail("too late"))
    for wrong, message in (("mfu", "--assume mfu: want KEY=VALUE"), ("mfu=2", "setting 'mfu': ")):
        assert main(argv(problems, "--assume", wrong)) == 2
        assert message in capsys.readouterr().err


def test_the_last_seed_has_splits_too(problems: Path) -> None:
    options = RunOptions(model="m", problems=problems, out=Path("o"), seed=SEEDS - 1)
    assert 0 <= read_data(options).splits.seed < SEEDS


def test_lines_that_are_no_rows_are_skipped_as_offered(
    problems: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with problems.open("a") as rows:
        rows.write("{broken\n")
    assert main(argv(problems)) == 1
    assert "or pass --bad-rows skip" in capsys.readouterr().err
    options = RunOptions(model="m", problems=problems, out=Path("o"), bad_rows="skip")
    data = read_data(options)
    assert (data.rows, data.problems, len(data.skipped)) == (41, 40, 1)
    problems.write_text("[1")
    whole = problems.rename(problems.with_suffix(".json"))
    assert main(argv(whole)) == 1
    assert "--bad-rows" not in capsys.readouterr().err


def test_what_is_set_of_problems_is_looked_at_first(problems: Path) -> None:
    """As stage ``problems`` will have it: fields, conflicts, shares, what is left out."""
    base = {"model": "bundled:smollm2", "problems": problems, "out": problems.parent / "o"}
    fields = {"solution": "solution"}

    def looked(*changes: str) -> Data:
        given = base | {"fields": fields, "set": [f"problems.{one}" for one in changes]}
        return read_data(RunOptions.model_validate(given))

    plain = looked()
    assert plain.problems == 40 and plain.sizes["train"] >= 30
    halved = looked("splits.dev=0.5", "splits.test=0")
    assert (halved.splits.dev, halved.judged, halved.sizes["test"]) == (0.5, "dev", 0)
    assert 10 <= halved.sizes["dev"] <= 30 and sum(halved.sizes.values()) == 40
    assert looked("sources.0.limit=20").problems == 20
    with problems.open("a") as stream:
        stream.write('{"question": "Ana has 1 pens and buys 1. How many?", "answer": "9"}\n')
    with pytest.raises(StageError, match="pass --conflicts first or drop"):
        looked()
    assert (looked("conflicts=first").problems, looked("conflicts=drop").problems) == (40, 39)
    with pytest.raises(ConfigError, match="problems: unknown setting 'confilcts'"):
        looked("confilcts=first")
