"""Summaries of a sweep, their intervals and pictures."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot_client import (
    SweepRow,
    summarise,
)
from extracot_client.plots import _box_of, _draw_points, _frame, _name_points, _Point, draw_sweep
from extracot_client.sweeps import wilson


def row(problem: str, budget: object, tokens: int | None = 10, **more: object) -> SweepRow:
    fields = {"fingerprint": "f", "question": "q", "reasoning_tokens": tokens} | more
    return SweepRow(problem_id=problem, budget=budget, **fields)


def test_summaries() -> None:
    rows = [
        row("a", 0.2, 10, correct=True, saved_tokens_estimate=90.0, total=1.0),
        row("b", 0.2, 30, correct=False, saved_tokens_estimate=-10.0, total=3.0),
        row("c", 0.2, None, error="x"),
        row("a", "native", 100, baseline_source="assumed"),
        row("b", "native", 300),
    ]
    low, native = summarise(rows, [0.2, "native"])
    assert (low.n, low.errors, low.graded, low.correct, low.accuracy) == (3, 1, 2, 1, 0.5)
    assert (low.reasoning_tokens, low.ratio_to_native) == (20.0, 0.1)
    assert (low.saved_against, low.saved_tokens, low.saved_rows) == ("native rows", 360.0, 2)
    assert low.total_seconds == 2.0
    assert native.accuracy is None and native.ratio_to_native == 1.0
    assert native.saved_tokens is None and native.assumed_baselines == 1


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_intervals_hold_the_share(pair: tuple[int, int]) -> None:
    correct, n = pair
    low, high = wilson(correct, n)
    assert 0 <= low <= correct / n + 1e-12 and correct / n - 1e-12 <= high <= 1


def test_pictures(tmp_path: Path) -> None:
    graded = [row(p, b, 10 * i, correct=True) for i, b in enumerate((0.2, "native")) for p in "ab"]
    path = tmp_path / "sweep.png"
    assert draw_sweep(summarise(graded, []), path) == f"picture: {path}"
    assert path.read_bytes().startswith(b"\x89PNG")
    assert draw_sweep(summarise([row("a", 0.2)], []), path).startswith("no picture: no problem")


@pytest.mark.parametrize(
    "points",
    [
        [_Point(50.0, 80.0, 70.0, 90.0, name) for name in ("0.2", "1", "auto", "native", "none")],
        [_Point(40.0 + n, 90.0 + n / 10, 88.0, 93.0, f"0.{n + 1}") for n in range(8)],
        [_Point(0.0, 0.0, 0.0, 0.0, "none"), _Point(0.0, 100.0, 100.0, 100.0, "auto")],
    ],
)
def test_names_in_a_picture_lie_on_nothing(points: list[_Point]) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _frame(axes, points, "")
    names = _name_points(figure, axes, points)
    assert sorted(name.get_text() for name in names) == sorted(point.name for point in points)
    boxes = [name.get_window_extent() for name in names]
    marks = [_box_of(axes, point) for point in points]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert not any(box.overlaps(mark) for box in boxes for mark in marks)


def test_the_line_of_a_picture_goes_from_left_to_right() -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    tokens = {"0.2": 30.0, "0.4": 90.0, "0.6": 60.0, "0.8": 120.0}
    _draw_points(axes, [_Point(at, 50.0, 40.0, 60.0, name) for name, at in tokens.items()])
    assert list(axes.lines[0].get_xdata()) == sorted(tokens.values())


def test_no_picture_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    text = draw_sweep(summarise([row("a", 0.2, correct=True)], []), tmp_path / "x.png")
    assert text == "no picture: matplotlib is not installed (pip install 'extracot[plots]')"
