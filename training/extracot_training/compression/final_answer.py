"""Which atoms of a trace state its final answer, and hiding it. The compressor never drops the last
of them, and the fidelity report hides them all. Plain string and number matching; it does not
verify."""

from __future__ import annotations

import re
from collections.abc import Sequence

from extracot.answers import extract_answer
from extracot_training.compression.segment import Atom, Kind
from extracot_training.math_text.equations import numbers_in
from extracot_training.math_text.values import flat, value_key

MARK = "[?]"


def final_atoms(atoms: Sequence[Atom], answer: str) -> list[int]:
    """Index of the last atom that holds ``answer`` (a list of one), else empty.

    The last `\\boxed{}` that agrees wins; else the last atom whose text or last number is the
    answer; else the last `\\boxed{}` whatever it holds.
    """
    boxed = [i for i, atom in enumerate(atoms) if "\\boxed" in atom.text]
    for index in reversed(boxed):
        if same_answer(extract_answer(atoms[index].text) or "", answer):
            return [index]
    for index in reversed(range(len(atoms))):
        if atoms[index].kind is not Kind.SPACE and states(atoms[index].body, answer):
            return [index]
    return boxed[-1:]


def states(body: str, answer: str) -> bool:
    """Whether a piece of text ends in the answer: ``= 105.`` states ``105``, and ``x = 36/5``
    states ``\\frac{36}{5}``, which no ``36`` does."""
    if not answer.strip():
        return False
    if _bare(body) == _bare(answer):
        return True
    wanted_value = value_key(flat(answer))
    stated_value = value_key(flat(body.rstrip(" .,;:!?").rpartition("=")[2]))
    if wanted_value is not None and stated_value is not None:
        return stated_value == wanted_value
    wanted = numbers_in(answer)
    if len(wanted) == 1 and _is_number(answer):
        stated = numbers_in(body)
        return bool(stated) and stated[-1] == wanted[0]
    return len(_bare(answer)) > 1 and _bare(answer) in _bare(body)


def same_answer(left: str, right: str) -> bool:
    """Equal as strings without decoration, or as plain numbers."""
    if _bare(left) == _bare(right):
        return bool(_bare(left))
    if _is_number(left) and _is_number(right):
        return numbers_in(left) == numbers_in(right)
    value = value_key(flat(left))
    return value is not None and value == value_key(flat(right))


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"\s*\$?-?[\d,]*\.?\d+\s*%?\s*", text)) and "-" not in text


def _bare(text: str) -> str:
    return re.sub(r"\\[,;! ]|[\s$.,;:!?]|\\(?=%)", "", text).lower()


def likely_final_atoms(atoms: Sequence[Atom]) -> list[int]:
    """Where the answer is not known: the last `\\boxed{}`, else the last number or formula."""
    boxed = [i for i, atom in enumerate(atoms) if "\\boxed" in atom.text]
    told = [i for i, atom in enumerate(atoms) if atom.kind not in (Kind.WORD, Kind.SPACE)]
    return (boxed or told)[-1:]


def redact(text: str, answer: str) -> str:
    """``text`` with each occurrence of ``answer`` replaced by :data:`MARK`: reading it off is no
    proof of having understood. Every occurrence goes, not only the last: a trace says its answer
    many times. Numbers match as whole numbers (hiding ``5`` leaves ``15`` and ``5.2`` alone)."""
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
