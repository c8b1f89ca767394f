"""Pictures of a stage as PNG: how one is made, and the course of a training by its log. Knows lines
of a log and no stage.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

LOSS, COURSE = "loss.png", "course.png"
# Steps of which the loss is averaged, beside the single ones.
SMOOTHED = 20


def png(
    paint: Callable[[Any], None], *, size: tuple[float, float] = (7, 4.5), **layout: Any
) -> bytes:
    """What ``paint`` makes of a panel, or of several: ``layout`` is as for ``pyplot.subplots``."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panel = pyplot.subplots(figsize=size, **layout)
    paint(panel)
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    pyplot.close(figure)
    return buffer.getvalue()


def loss_picture(lines: Sequence[Mapping[str, Any]]) -> bytes:
    """The loss by step, and its mean over the last steps."""
    points = [(line["step"], line["loss"]) for line in lines if "loss" in line]

    def paint(panel: Any) -> None:
        steps, losses = [step for step, _ in points], [loss for _, loss in points]
        panel.plot(steps, losses, color="C0", alpha=0.4, label="loss")
        means = [
            sum(part) / len(part)
            for at in range(len(losses))
            if (part := losses[max(0, at + 1 - SMOOTHED) : at + 1])
        ]
        panel.plot(steps, means, color="C0", label=f"mean of the last {SMOOTHED} lines")
        panel.set(xlabel="step", ylabel="loss per reply token")
        panel.legend(fontsize=8)

    return png(paint)


def course_picture(lines: Sequence[Mapping[str, Any]], names: Sequence[str]) -> bytes:
    """Figures of rounds by step, a panel each; those that no line has are left out."""
    there = [name for name in names if any(name in line for line in lines)]

    def paint(panels: Any) -> None:
        for panel, name in zip(panels.flat, there, strict=False):
            points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
            panel.plot(*zip(*points, strict=True), marker=".")
            panel.set_ylabel(name.replace("_", " "))
            panel.set_xlabel("step")

    rows = max(1, len(there))
    return png(paint, size=(7, 2 * rows), nrows=rows, sharex=True, squeeze=False)
