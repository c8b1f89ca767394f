"""Prompts and replies of the LLM annotator: numbered items out, index ranges in.

Pure text work: chunks of whole sentences, `[MATH_k]` masks, 1-based zero-padded indices, a tolerant
parser. It knows no network.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from extracot_training.compression.segment import Atom, Kind, sentences

PROMPT_VERSION = 1

SYSTEM = """\
You shorten the reasoning of a mathematics solution. You get the question and the reasoning as \
numbered items; `[MATH_k]` stands for a formula listed at the end. Choose the items to keep so \
that somebody who reads only those, with the question, still reaches the answer.
Keep: what is asked for; where given numbers are put in; the decisive steps; relations and \
negations (=, <, not, each, per); of every equation the earliest correct form; the final answer.
Drop: narration, hedging, dead ends, repeats, double-checks.
Keep complete clauses, in at least two ranges, and never the conclusion alone.
Reply with JSON only: {"ranges": ["005-012", "020-020"]}"""

AGAIN = "That was not usable ({problem}). Reply with JSON only, as asked, with at least one range."

_PIECE = re.compile(r"\w+|[^\w\s]")
_RANGE = re.compile(r"(?<![\w.])(\d{1,7})(?:\s*(?:-|–|—|\.\.|to|:)\s*(\d{1,7}))?(?!\w|\.\d)")


def size(text: str) -> int:
    """Words and signs: near enough to any tokenizer's count, and the same for all of them."""
    return len(_PIECE.findall(text))


def chunks(atoms: Sequence[Atom], target: int, cap: int) -> list[range]:
    """Consecutive atoms shown in one call each: whole sentences up to about ``target``, never over
    ``cap``; a longer sentence is cut between atoms, so never inside a formula, a decimal or a
    number and its unit."""
    single = ([range(i, i + 1) for i in sentence] for sentence in sentences(atoms))
    pieces = [piece for units in single for piece in _packed(atoms, units, cap, cap)]
    return _packed(atoms, pieces, target, cap)


def _packed(atoms: Sequence[Atom], units: Iterable[range], target: int, cap: int) -> list[range]:
    """Neighbouring units put together until ``target`` is reached or ``cap`` would be exceeded."""
    found: list[range] = []
    filled = 0
    for unit in units:
        more = sum(size(atoms[i].text) for i in unit)
        if not found or (filled and (filled >= target or filled + more > cap)):
            found.append(unit)
            filled = 0
        else:
            found[-1] = range(found[-1].start, unit.stop)
        filled += more
    return found


def messages(question: str, atoms: Sequence[Atom], chunk: range, part: str) -> list[dict[str, str]]:
    """Chat messages for one chunk; ``part`` says which ("2 of 3")."""
    width = max(3, len(str(len(chunk))))
    lines: list[str] = []
    legend: list[str] = []
    for number, index in enumerate(chunk, start=1):
        atom = atoms[index]
        shown = " ".join(atom.body.split())
        if atom.kind in (Kind.MATH, Kind.BOXED):
            legend.append(f"[MATH_{len(legend) + 1}] = {shown}")
            shown = f"[MATH_{len(legend)}]"
        lines.append(f"{number:0{width}} {shown}")
    body = f"Question:\n{question}\n\nReasoning, part {part}:\n" + "\n".join(lines)
    if legend:
        body += "\n\nFormulas:\n" + "\n".join(legend)
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": body}]


def parse_ranges(reply: str, count: int) -> list[tuple[int, int]]:
    """0-based inclusive ranges in a reply: clamped to ``count`` items, sorted, merged.

    Takes the JSON asked for, JSON inside prose or a code fence, numbers instead of strings, single
    indices, reversed ends, and failing all that any ``n-m`` in the text. No usable range: empty.
    """
    merged: list[tuple[int, int]] = []
    for first, last in sorted((min(pair), max(pair)) for pair in _listed(reply)):
        low, high = max(0, first - 1), min(count - 1, last - 1)
        if high < low:
            continue
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return merged


def _listed(reply: str) -> list[tuple[int, int]]:
    reply = re.sub(r"<think>.*?</think>", "", reply, flags=re.DOTALL)
    listed = re.search(r'"?ranges"?\s*[:=]\s*(\[.*)', reply, flags=re.DOTALL)
    if listed:
        try:
            value, _ = json.JSONDecoder().raw_decode(listed.group(1))
        except json.JSONDecodeError:
            value = None
        if isinstance(value, list):
            return [pair for item in value if (pair := _pair(item)) is not None]
        reply = listed.group(1)
    return [(int(a), int(b or a)) for a, b in _RANGE.findall(reply) if b or listed]


def _pair(item: object) -> tuple[int, int] | None:
    if isinstance(item, bool):
        return None
    if isinstance(item, int):
        return item, item
    if isinstance(item, list) and len(item) == 2 and all(type(end) is int for end in item):
        return item[0], item[1]
    if isinstance(item, dict):
        ends = [value for value in item.values() if type(value) is int]
        return (ends[0], ends[1]) if len(ends) == 2 else None
    match = _RANGE.fullmatch(item.strip()) if isinstance(item, str) else None
    return (int(match.group(1)), int(match.group(2) or match.group(1))) if match else None
