"""What a stage says off a terminal: lines with rate and time left, by a clock of the test's own."""

from __future__ import annotations

from extracot_training.pipeline.progress import EVERY_S, FIRST_S, PlainProgress, duration


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def shown(total: int | None, done: int = 0) -> tuple[PlainProgress, Clock, list[str]]:
    clock, lines = Clock(), list[str]()
    return PlainProgress(total, "teach", done=done, say=lines.append, clock=clock), clock, lines


def test_work_of_a_moment_says_nothing() -> None:
    bar, clock, lines = shown(3)
    with bar:
        for _ in range(3):
            clock.now += FIRST_S / 4
            bar.update()
    assert lines == []


def test_rate_and_time_left_are_of_this_run_alone() -> None:
    bar, clock, lines = shown(200, done=100)
    with bar:
        clock.now += FIRST_S
        bar.update(40)
        clock.now += EVERY_S - 1
        bar.update(40)
        assert len(lines) == 1, "not at every step"
        clock.now += 1
        bar.set_postfix(loss="0.5")
        bar.update(20)
    assert lines == [
        "teach: 140 of 200 (70 %), 4.0 a second, 15 s left",
        "teach: 200 of 200 (100 %), loss 0.5, 2.5 a second",
        "teach: 200 of 200 (100 %), loss 0.5, 2.5 a second",
    ]


def test_slow_steps_are_told_in_seconds_each_and_no_total_has_no_end() -> None:
    bar, clock, lines = shown(None)
    clock.now += 50
    bar.update(10)
    assert lines == ["teach: 10, 5.0 s each"]
    assert duration(7200) == "2.0 h" and duration(119) == "119 s"
