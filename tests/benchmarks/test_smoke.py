"""The benchmarks run and print whole tables. Their figures are nobody's business here."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from benchmarks import (
    budgets,
    caps,
    closing,
    fine_tuning,
    frontend,
    growth,
    memory,
    precision,
    rounds,
    serving,
    training,
    usage,
)
from benchmarks.harness import Load, Server, joined, milliseconds, percentile, table
from benchmarks.paired import Cost, Parts, Side, ratios, spread, take_turns, tokens_per_second
from benchmarks.plain_model import is_plain
from benchmarks.processes import cpu_seconds, family, front_and_engine
from tests.fixtures.tiny_model import build_tiny_model


def printed(
    main: Callable[[Sequence[str]], None], capsys: pytest.CaptureFixture[str], *arguments: str
) -> list[list[str]]:
    """The cells of every row of every table."""
    main(list(arguments))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if not re.fullmatch(r"-+", row[0])]


def test_the_ceiling_of_the_front_end(capsys: pytest.CaptureFixture[str]) -> None:
    cells = printed(frontend.main, capsys, "--quick", "--only", "scripted")
    loads, sides = ("1", "16", "mixed"), (frontend.OURS, frontend.APART)
    half = [list(rounds.HEAD), *([load, side] for load in loads for side in sides)]
    half += [list(rounds.RATIO_HEAD), *([load, " / ".join(sides)] for load in loads)]
    assert [row[: len(want)] for row, want in zip(cells, half, strict=True)] == half
    for row in (row for row in cells if row[1] in sides):
        assert float(row[2]) > 0 and float(row[3]) > 0
        if row[0] != "mixed" and row[1] == frontend.APART:
            assert 0.5 < float(row[6]) <= 1.5  # about one event per token


def test_a_mixed_load_is_what_it_says() -> None:
    bodies = [
        json.loads(request.partition(b"\r\n\r\n")[2])
        for request in frontend.mixed(8, 10, (None, "auto"))
    ]
    assert [body["stream"] for body in bodies] == [True, False] * 4
    assert [body.get("budget") for body in bodies] == [None, "auto"] * 4
    assert [len(body["messages"][0]["content"]) > 2000 for body in bodies].count(True) == 2


def test_rounds_are_compared_one_by_one() -> None:
    def load(cpu: float, wall: float, first: float) -> Load:
        return Load(1, 1000, 1000, wall, cpu, first=[first], gaps=[0.0])

    found = {"a": [load(1, 2, 0.1), load(3, 2, 0.2)], "b": [load(2, 1, 0.1), load(3, 1, 0.1)]}
    assert rounds.ratio_row("16", found, "a", "b")[2:5] == [
        "0.75 (0.50 to 1.00)",
        "0.50 (0.50 to 0.50)",
        "50.0 (0.0 to 100.0)",
    ]


def test_the_cpu_time_and_the_family_of_a_process() -> None:
    before = cpu_seconds(os.getpid())
    assert sum(range(200_000)) > 0
    assert 0 < before < cpu_seconds(os.getpid())
    assert next(family(os.getpid()))[0] == os.getpid()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in [number for number, _ in family(os.getpid())]
        assert front_and_engine(child.pid) == ([child.pid], [])
        child.communicate(b"\n")
    assert cpu_seconds(child.pid) == 0


def test_a_plain_token_is_letters() -> None:
    assert all(map(is_plain, ("so", " pens", "A")))
    assert not any(map(is_plain, ("", " ", "4", "</think>", "\ufffd", "a b", "é")))


def test_growth(capsys: pytest.CaptureFixture[str]) -> None:
    rows = printed(growth.main, capsys, "--quick")
    names = [row[0] for row in rows]
    assert names[:4] == ["open streams", "5", "10", "prompt tokens"]
    assert names[6:] == ["levels of a card", "5", "10"]
    assert int(rows[5][0]) > int(rows[4][0]) > 100


def test_budgets(capsys: pytest.CaptureFixture[str]) -> None:
    _, *rows = printed(budgets.main, capsys, "--quick")
    assert [row[0] for row in rows] == [*map(str, budgets.BUDGETS), "auto"]
    reasoning = {row[0]: float(row[1]) for row in rows}
    assert reasoning["none"] == 0 < reasoning["0.2"] < reasoning["0.8"] < reasoning["native"]
    assert rows[0][-1] == "×1.00"


def test_formats_are_compared_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    def measured(server: Server, requests: Sequence[bytes]) -> Load:
        asked.append((server.name, len(requests)))
        return Load(len(requests), tokens=100, wall={"float32": 2.0, "bfloat16": 1.0}[server.name])

    monkeypatch.setattr(precision, "measure", measured)
    servers = [Server(name, "http://127.0.0.1:1", None, "m") for name in precision.FORMATS]  # type: ignore[arg-type]
    found = precision.rounds(servers, 4, 16, repeats=2)
    assert found == [(50.0, 100.0)] * 2 and precision.row(4, found)[3] == "2.00"
    names = [name for name, _ in asked]
    assert names[2:4] == names[4:6][::-1] and set(asked) == {(name, 4) for name in names}


def test_what_usage_costs(capsys: pytest.CaptureFixture[str]) -> None:
    head, *rows = printed(usage.main, capsys, "--streams", "4", "--tokens", "40", "--repeats", "1")
    assert head == [*usage.HEAD] and len(rows) == 10
    assert all(float(cell) > 0 for row in rows[1:] for cell in row[1:3])


def test_what_usage_costs_at_the_pace_of_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--streams", "2", "--tokens", "20", "--repeats", "1", "--interval", "30"]
    _, *rows = printed(usage.main, capsys, *flags)
    assert rows[0][0] == "steady: CPU ms per 1,000 tokens" and len(rows) == 5
    whole = rows[3]
    assert all(float(cell) > 10 * 30 for cell in whole[1:3]), "replies of at least half the tokens"


def test_closing(capsys: pytest.CaptureFixture[str]) -> None:
    head, *rows = printed(closing.main, capsys, "--quick")
    assert head == list(closing.HEAD)
    ratios = [str(ratio) for ratio in closing.RATIOS for _ in closing.WAYS]
    assert [row[0] for row in rows] == ["native", *ratios]
    of = {(row[0], row[1]): row for row in rows}
    assert float(of["0.2", "bare"][2]) <= float(of["0.2", "both"][2]) <= float(rows[0][2])
    assert float(of["0.2", "closing"][3]) == 0 == int(rows[0][7])
    with pytest.raises(SystemExit):
        closing.main(["--quick", "--problems", "/nowhere.jsonl"])


def test_figures_are_put_together_rightly() -> None:
    values = [float(number) for number in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile([], 0.5)) == (51, 100, 0)
    assert milliseconds([0.001, 0.002]) == "2.0 / 2.0"
    one = Load(2, tokens=1000, events=900, wall=1.0, cpu=0.5, first=[0.1], kib_per_stream=3)
    two = Load(2, tokens=3000, events=3000, wall=2.0, cpu=0.5, first=[0.3], kib_per_stream=5)
    both = joined([one, two])
    assert (both.tokens, both.wall, both.first, both.kib_per_stream) == (4000, 3.0, [0.1, 0.3], 4)
    assert both.cpu_per_thousand == 0.25
    assert table(("a", "b"), [(1, 2)]) == "| a | b |\n|---|---|\n| 1 | 2 |"


def test_training(capsys: pytest.CaptureFixture[str]) -> None:
    head, *rows = printed(training.main, capsys, "--quick")
    assert head == list(training.HEAD)
    *steps, compressor_head, compressor = rows
    of = {step: [tuple(row[2:4]) for row in steps if row[1] == step] for step in ("SFT", "CHRPO")}
    assert of["SFT"] == [("step", side) for side in training.SFT]
    parts = ("generation", "update", "step")
    assert of["CHRPO"] == [(part, side) for part in parts for side in training.CHRPO]
    for row in steps:
        assert float(row[4]) > 0
        assert [bool(cell) for cell in row[5:]] == [row[3] != training.THEIRS] * 2
    assert compressor_head[-1] == "traces/s" and float(compressor[-1].split()[0]) > 0


def side(name: str, seconds: float, asked: list[str], steps: int = 3) -> Side:
    """One whose steps take ever longer, by how many were asked of all sides."""

    def run(report: Callable[[Parts], None]) -> None:
        for _ in range(steps):
            asked.append(name)
            report({"step": Cost(10, seconds * len(asked), seconds)})

    return run


def test_sides_take_turns_and_are_compared_within_a_round() -> None:
    asked: list[str] = []
    sides = {"a": side("a", 2.0, asked), "b": side("b", 1.0, asked)}
    found = take_turns(sides, 2, warm_up=1)
    assert asked == ["a", "b", "b", "a", "a", "b"]
    assert [parts["step"].wall for parts in found["a"]] == [8, 10]
    assert ratios(found["b"], found["a"], "step") == pytest.approx([3 / 8, 6 / 10])
    assert ratios(found["b"], found["a"], "step", "cpu") == pytest.approx([0.5, 0.5])
    assert tokens_per_second(found["b"], "step") == pytest.approx((10 / 3 + 10 / 6) / 2)
    assert spread([2.0, 1.0, 4.0]) == "2.000 (1.000 to 4.000)"


def test_what_a_side_raises_is_raised_and_a_missing_step_is_told() -> None:
    def broken(report: Callable[[Parts], None]) -> None:
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        take_turns({"a": broken}, 1, warm_up=0)
    with pytest.raises(ValueError, match="'a' ended before step 4"):
        take_turns({"a": side("a", 1.0, [])}, 4, warm_up=0)
    with pytest.raises(ValueError, match="'a' has more than 2 steps"):
        take_turns({"a": side("a", 1.0, [])}, 2, warm_up=0)


def test_memory_of_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    _, *rows = printed(memory.main, capsys, "--quick", "--", "--engine", "scripted")
    assert [row[1:3] for row in rows] == [
        [when, name] for when in ("idle", "busy") for name in ("server", "all")
    ]
    for process, everything in (rows[:2], rows[2:]):
        assert int(process[3]) >= int(process[4]) == int(everything[4]) > 20


def test_memory_of_two_builds() -> None:
    sums = {("ours", "idle"): [70.0, 60.0, 80.0], ("other", "idle"): [100.0]}
    sums |= {("ours", "busy"): [50.0], ("other", "busy"): [100.0, 100.0]}
    assert [line.split("|")[4].strip() for line in memory.ratios(sums).splitlines()[2:]] == [
        "0.70",
        "0.50",
    ]


def test_two_builds_serve_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    spent = {"ours": 0.0, "other": 0.0}

    def measured(server: Server, requests: Sequence[bytes]) -> Load:
        order.append(server.name)
        took = {"ours": 1.0, "other": 2.0}[server.name]
        spent[server.name] += took**2
        first, gaps = [took / 10, took / 5], [took / 100]
        return Load(len(requests), tokens=100, wall=took, first=first, gaps=gaps)

    monkeypatch.setattr(serving, "measure", measured)
    monkeypatch.setattr(serving, "cpu_of", lambda server: spent[server.name])
    servers = [Server(name, "http://127.0.0.1:1", None, "m") for name in serving.NAMES]  # type: ignore[arg-type]
    rows = serving.rows_of(4, serving.rounds(servers, 4, 16, repeats=2))
    assert order == ["other", "ours", "ours", "other", "other", "ours"]
    assert [row[1:5] for row in rows] == [
        ["tokens/s", "100", "50", "2.00"],
        ["first token ms p50", "200", "400", "0.50"],
        ["first token ms p99", "200", "400", "0.50"],
        ["gap between events ms p99", "10", "20", "0.50"],
        ["CPU s / 1,000 tokens", "10", "40", "0.25"],
    ]


def test_streams_of_one_event_have_no_gaps_to_compare() -> None:
    one = serving.Burst(1.0, 1.0, 1.0, 0.0, 1.0)
    rows = serving.rows_of(1, [{"ours": one, "other": one}])
    assert [row[2:] for row in rows if row[2] == "0"] == [["0", "0", "-", "-"]]


def test_processes_that_compute_beside_end_with_it() -> None:
    before = {number for number, _ in family(os.getpid())}
    with serving.busy(2):
        assert len({number for number, _ in family(os.getpid())} - before) == 2
    assert {number for number, _ in family(os.getpid())} == before


def test_a_loss_of_a_token_does_not_depend_on_which_rows_are_together() -> None:
    together = fine_tuning.loss_of_a_token([(2 * 1.0 + 6 * 3.0) / 8, 5.0], [2, 6, 3, 1])
    apart = fine_tuning.loss_of_a_token([(2 * 1.0 + 3 * 5.0) / 5, (6 * 3.0 + 1 * 5.0) / 7],
                                        [2, 3, 6, 1])  # fmt: skip
    assert together == pytest.approx(apart) == pytest.approx(40 / 12)


@pytest.mark.slow
def test_both_sides_of_fine_tuning_learn_from_the_same_batches(tmp_path: Path) -> None:
    base = tmp_path / "base"
    build_tiny_model(base)
    args = argparse.Namespace(model=str(base), precision="fp32", rows=12, batch=4, pass_tokens=256)
    sides = [fine_tuning.turn(side, args) for side in fine_tuning.SIDES[:2]]
    assert sides[0]["tokens"] == sides[1]["tokens"]
    assert sides[0]["loss"] == pytest.approx(sides[1]["loss"], abs=2e-3)


def test_fine_tuning_beside_trl(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    turns: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        turns.append(command[command.index("benchmarks.fine_tuning") + 1 :])
        told = {"seconds": len(turns), "tokens": 1000, "peak": 10**9, "loss": 0.5}
        return subprocess.CompletedProcess(command, 0, json.dumps(told).encode())

    monkeypatch.setattr(subprocess, "run", run)
    flags = ("--rounds", "2", "--rows", "16")
    _, theirs, ours, frozen = printed(fine_tuning.main, capsys, *flags)
    sides = [*fine_tuning.SIDES, *reversed(fine_tuning.SIDES)]
    assert turns == [[*flags, f"--turn={side}"] for side in sides]
    assert [row[1:3] for row in (theirs, ours, frozen)] == [
        ["3.50", ""],
        ["3.50", "1.42"],
        ["3.50", "1.83"],
    ]
    with pytest.raises(SystemExit):
        fine_tuning.main(["--rows", "9"])
    assert "--rows must be a multiple of --batch" in capsys.readouterr().err


@pytest.mark.slow  # a start of vLLM of its own
@pytest.mark.vllm
def test_caps_that_are_hit(capsys: pytest.CaptureFixture[str]) -> None:
    _, row = printed(caps.main, capsys, "--quick")
    cap, second, found, computed = map(int, row[:4])
    assert cap == 64 < second and found > 0 and 0 < computed < 64
