"""Which problems a compressor's training holds out: by their names alone.

A problem's samples all fall on one side, in every strategy and on every machine.
"""

from __future__ import annotations

import hashlib


def held_out(problem_id: str, share: float) -> bool:
    """Whether a problem is among the ``share`` (0 to 1) that is held out."""
    digest = hashlib.sha256(f"dev:{problem_id}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 < share
