"""Hides the final answer in a text, so that reading it off is no proof of having understood.

Every occurrence goes, not only the last: a trace says its answer many times. Numbers match as whole
numbers (hiding ``5`` leaves ``15`` and ``5.2`` alone).
"""

from __future__ import annotations

import re

MARK = "[?]"


def redact(text: str, answer: str) -> str:
    """``text`` with each occurrence of ``answer`` replaced by :data:`MARK`."""
    answer = answer.strip()
    if not answer:
        return text
    if re.fullmatch(r"-?[\d,]*\.?\d+", answer):
        spellings = {answer, answer.replace(",", "")}
        plain = answer.replace(",", "")
        if re.fullmatch(r"\d{4,}", plain):
            spellings.add(f"{int(plain):,}")
        either = "|".join(re.escape(s) for s in sorted(spellings, key=len, reverse=True))
        return re.sub(rf"(?<![\d.])(?<!\d,)(?:{either})(?!\d|[.,]\d)", MARK, text)
    before = r"(?<!\w)" if answer[0].isalnum() else ""
    after = r"(?!\w)" if answer[-1].isalnum() else ""
    return re.sub(before + re.escape(answer) + after, lambda _: MARK, text)
