"""The figures that the Extra-CoT paper gives for Qwen3-1.7B, to stand beside an evaluation.

From arXiv 2602.08324, its tables: mean reasoning tokens, accuracy in percent, and the realised
ratio where one is given. One sample at temperature 0.7 and top-p 0.9, at most 4,096 tokens; a reply
that did not close its reasoning counts there as 0 tokens, here in full.
"""

from __future__ import annotations

from typing import NamedTuple


class PublishedRow(NamedTuple):
    """A line of the paper's table."""

    method: str
    tokens: int
    accuracy: float
    realised: float | None = None


PUBLISHED: dict[str, tuple[PublishedRow, ...]] = {
    "gsm8k": (
        PublishedRow("base", 873, 86.8),
        PublishedRow("TokenSkip 0.2", 273, 59.1, 0.30),
        PublishedRow("Thinkless (DeGRPO)", 356, 85.5, 0.41),
        PublishedRow("Extra-CoT SFT 0.8", 807, 86.7, 0.92),
        PublishedRow("Extra-CoT SFT 0.4", 469, 82.3, 0.53),
        PublishedRow("Extra-CoT SFT 0.2", 303, 80.2, 0.34),
        PublishedRow("Extra-CoT CHRPO", 210, 85.8, 0.24),
    ),
    "math500": (
        PublishedRow("base", 1675, 64.2),
        PublishedRow("TokenSkip 0.2", 660, 23.4, 0.39),
        PublishedRow("Thinkless (DeGRPO)", 888, 63.6, 0.53),
        PublishedRow("Extra-CoT SFT 0.8", 1520, 64.2, 0.90),
        PublishedRow("Extra-CoT SFT 0.4", 920, 54.2, 0.54),
        PublishedRow("Extra-CoT SFT 0.2", 481, 47.8, 0.29),
        PublishedRow("Extra-CoT CHRPO", 452, 64.8, 0.27),
    ),
    "amc2023": (
        PublishedRow("base", 2092, 47.5),
        PublishedRow("TokenSkip 0.2", 911, 10.0, 0.44),
        PublishedRow("Thinkless (DeGRPO)", 1369, 50.0, 0.65),
        PublishedRow("Extra-CoT SFT 0.8", 1845, 42.5, 0.88),
        PublishedRow("Extra-CoT SFT 0.4", 945, 25.0, 0.45),
        PublishedRow("Extra-CoT SFT 0.2", 782, 17.5, 0.37),
        PublishedRow("Extra-CoT CHRPO", 675, 50.0, 0.32),
    ),
}
