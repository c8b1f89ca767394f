"""The scripted engine's text: replies as a pure function of (prompt ids, seed).

A problem's text fixes how long native reasoning is and what the answer is; the level token at the
start of the reply shortens the reasoning by that level's realised ratio. A context that already
holds part of a reply is continued where it stopped, so one long request and many short ones yield
the same ids. Knows nothing of requests, time or HTTP.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import chain, islice
from typing import Any

from extracot.control import DEFAULT_RATIOS, POLICY_TOKEN, level_token
from extracot_server.engine.base import AnswerFormat, EngineRequestError
from extracot_server.engine.scripted.json_value import SchemaError, minimal_instance
from extracot_server.engine.scripted.tokenizer import (
    CALL_END,
    CALL_START,
    THINK_END,
    THINK_START,
    TOOLS_END,
    TOOLS_START,
    ScriptedTokenizer,
)

NATURAL_TOKENS = (40, 160)
"""Shortest and longest native reasoning, in tokens; uniform over problems."""
REALISED_RATIOS: Mapping[float, float] = dict(
    zip(DEFAULT_RATIOS, (0.22, 0.41, 0.60, 0.79, 1.0), strict=True)
)
CLOSE = f"\n{THINK_END}\n\n"
_LEVEL_SHARE = 0.9
_PHRASES = (
    " First we add the number of apples.", " So the total is 12 plus 7, which is 19.",
    " Wait, let me check this step again.", " The cost is 3 dollars per book.",
    " That is \u2248 2.5 times as many.", " Next we multiply both sides by 4.", "\n\n",
    " If x = 8 then y = 3.", " Hence it follows that the sum is even.",
)  # fmt: skip


def digest(*parts: object) -> int:
    """A stable 64-bit number from anything with a stable text."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(blake2b(text.encode(errors="replace"), digest_size=8).digest(), "big")


@dataclass(frozen=True, slots=True)
class ScriptedBehaviour:
    """How a :class:`ScriptedEngine` behaves; the defaults are a healthy, trained model."""

    token_interval_seconds: float = 0.0
    """Pause before each token; 0 still lets other tasks run between deltas."""
    tokens_per_delta: int = 1
    fail_after_tokens: int | None = None
    """Each request raises :class:`EngineError` after this many tokens."""
    die_after_tokens: int | None = None
    """The engine dies (:class:`EngineDeadError` for everyone) once a request has this many."""
    reject_with: EngineRequestError | None = None
    """Raised for every request before its first delta."""
    start_error: str | None = None
    """``start`` raises :class:`EngineStartError` with this message."""
    eos_in_reasoning: int | None = None
    """The model ends its reply inside the block after this many reasoning tokens."""
    never_close: bool = False
    """Reasoning does not end by itself."""
    opens_think: bool = True
    """A reply that nothing was prefilled for reasons first."""
    tags_as_text: bool = False
    """The tokenizer has no think tokens: the tags are text of several ids."""
    template_opens_think: bool = False
    """The chat template starts every reply with the opening tag."""
    max_model_len: int = 4096
    cached_tokens: int | None = None
    """How much of each prompt is said to come from a prefix cache; a request that goes on with a
    reply finds nearly all of its own there, as in an engine that has one. ``None``: nothing is
    said."""
    says: tuple[int, ...] | None = None
    """Ids that every reply goes on with after its opening tag, in place of made-up words."""
    answers: str | None = None
    """Text of every answer in words, in place of a made-up one."""


@dataclass(frozen=True, slots=True)
class Context:
    """A prompt as the scripted model reads it."""

    problem: str
    """The last user turn without its control token (all of the prompt where there is no turn)."""
    policy: bool
    reply: tuple[int, ...]
    """What the assistant's turn holds so far."""
    calls: str = ""
    """The tool calls to make, as text: those of the offered tools that the problem names."""


def read_context(tokenizer: ScriptedTokenizer, ids: Sequence[int]) -> Context:
    """Cut a prompt into the problem and the reply so far. Works on ids, so it cannot be spoofed."""
    starts = [index for index, token in enumerate(ids) if token == tokenizer.turn_start_id]
    if not starts:
        return Context(tokenizer.decode(ids), policy=False, reply=())
    added = tokenizer.get_added_vocab()
    policy_id = added[POLICY_TOKEN]
    controls = {policy_id, *(added[level_token(ratio)] for ratio in DEFAULT_RATIOS)}
    problem, policy, offered, answered = "", False, "", False
    for start, end in zip(starts, [*starts[1:], len(ids)], strict=True):
        turn = ids[start + 1 : end]
        text = tokenizer.decode([i for i in turn if i not in controls], skip_special_tokens=True)
        role, _, content = text.partition("\n")
        if role == "user":
            problem, policy, answered = content.strip(), policy_id in turn, False
        elif role == "system" and TOOLS_START in content:  # later ones offer no tools
            offered = content
        elif role == "tool":
            answered = True
    header = 0
    while header < len(turn) and not tokenizer.id_to_bytes(turn[header]).endswith(b"\n"):
        header += 1
    # Once a tool has answered, none is called.
    calls = "" if answered else scripted_calls(offered, problem)
    return Context(problem, policy, tuple(turn[header + 1 :]), calls)


def scripted_calls(system: str, problem: str) -> str:
    """The calls to make about a problem, as text in the format of the Hermes models.

    Once each and in order the offered tools whose names stand in it are called, with the smallest
    arguments their schemas allow; empty where none does.

    >>> scripted_calls('<tools>\\n{"function": {"name": "now"}}\\n</tools>', "Call now.")
    '<tool_call>\\n{"name": "now", "arguments": {}}\\n</tool_call>'
    """
    _, opened, listed = system.rpartition(f"{TOOLS_START}\n")
    if not opened:
        return ""
    calls = []
    for line in listed.rpartition(f"\n{TOOLS_END}")[0].split("\n"):
        try:
            function = json.loads(line)["function"]
        except (ValueError, KeyError, TypeError):  # a system prompt that only looks like it
            continue
        if not re.search(rf"(?<![\w.-]){re.escape(function['name'])}(?![\w-])", problem):
            continue
        try:
            arguments = minimal_instance(function.get("parameters") or {})
        except SchemaError:
            arguments = {}
        call = {"name": function["name"], "arguments": arguments}
        calls.append(f"{CALL_START}\n{json.dumps(call, ensure_ascii=False)}\n{CALL_END}")
    return "\n".join(calls)


class ScriptedReply:
    """The model's words for one problem and seed."""

    def __init__(
        self,
        tokenizer: ScriptedTokenizer,
        context: Context,
        seed: int,
        behaviour: ScriptedBehaviour,
    ) -> None:
        self._tokenizer = tokenizer
        self._context = context
        self._seed = seed
        self._behaviour = behaviour

    @cached_property
    def answer_value(self) -> int:
        """The number in the box; the same at every level and seed."""
        return digest(self._context.problem, "answer") % 1000

    @cached_property
    def natural_tokens(self) -> int:
        """Native reasoning tokens of this problem."""
        low, high = NATURAL_TOKENS
        return low + digest(self._context.problem, "length") % (high - low + 1)

    def level_probability(self, token_id: int) -> float:
        """Chance of a token as the policy's choice; the level tokens share 90% of the mass."""
        levels = self._level_ids
        problem = self._context.problem
        if token_id not in levels:
            return (1 - _LEVEL_SHARE) / len(self._tokenizer)
        weights = {id_: 1 + digest(problem, "level", id_) % 97 for id_ in levels}
        return _LEVEL_SHARE * weights[token_id] / sum(weights.values())

    def choose(self, allowed: Sequence[int], position: int, temperature: float) -> int:
        """One of ``allowed``: the likeliest at temperature 0, else drawn by the seed."""
        weights = [self.level_probability(id_) for id_ in allowed]
        if temperature == 0:
            return allowed[weights.index(max(weights))]
        draw = random.Random(digest(self._context.problem, self._seed, position, "choice"))
        return draw.choices(allowed, weights)[0]

    def are_levels(self, allowed: Sequence[int]) -> bool:
        """Whether a choice among these ids is one among levels."""
        return any(id_ in self._level_ids for id_ in allowed)

    def calls_in(self, wanted: AnswerFormat) -> list[Any]:
        """The script's calls as a format of several calls has them; none in any other format."""
        schema = wanted.schema or {}
        if not wanted.parts or schema.get("type") != "array":
            return []
        lines = self._context.calls.split("\n")
        calls = [json.loads(line) for line in lines if line not in ("", CALL_START, CALL_END)]
        return calls[: schema.get("maxItems")]

    def filler(self) -> Iterator[int]:
        """Words without end, for requests that forbid the model to stop."""
        rng = random.Random(digest(self._context.problem, self._seed, "words"))
        while True:
            yield from self._tokenizer.encode_own(rng.choice(_PHRASES))

    def rest(self) -> Iterator[int]:
        """The ids still to come after the context, the end token last."""
        reply = self._context.reply
        script = self._script()
        if tuple(islice(self._script(), len(reply))) == reply:
            return islice(script, len(reply), None)
        return self._resume()

    @cached_property
    def _level_ids(self) -> dict[int, float]:
        vocab = self._tokenizer.get_added_vocab()
        return {vocab[level_token(ratio)]: ratio for ratio in DEFAULT_RATIOS}

    @cached_property
    def _level(self) -> int | None:
        """The level token the reply starts with, or will start with."""
        reply = self._context.reply
        if reply:
            return reply[0] if reply[0] in self._level_ids else None
        if self._context.policy:
            return self.choose(tuple(self._level_ids), 0, 1.0)
        return None

    def _script(self) -> Iterator[int]:
        """The whole reply from its first token."""
        encode = self._tokenizer.encode_own
        if self._level is not None:
            opening = [self._level, *encode(f"\n{THINK_START}\n")]
            return chain(opening, self._inside())
        if self._behaviour.opens_think or self._starts_with_tag:
            return chain(encode(f"{THINK_START}\n"), self._inside())
        return iter(self._answer())

    def _inside(self) -> Iterator[int]:
        """A reply from inside its block."""
        says = self._behaviour.says
        if says is not None:
            return chain(says, [self._tokenizer.turn_end_id])
        return chain(self._reasoning(), self._end())

    @property
    def _starts_with_tag(self) -> bool:
        return self._tokenizer.decode(self._context.reply).lstrip().startswith(THINK_START)

    def _reasoning(self) -> Iterator[int]:
        if self._behaviour.never_close:
            return self.filler()
        ratio = 1.0 if self._level is None else REALISED_RATIOS[self._level_ids[self._level]]
        length = round(self.natural_tokens * ratio)
        end = self._behaviour.eos_in_reasoning
        if end is not None and end < length:
            return chain(self._words(end), [self._tokenizer.turn_end_id])
        return iter(self._words(length))

    def _words(self, length: int) -> list[int]:
        """Exactly ``length`` ids that end on a whole character."""
        ids = list(islice(self.filler(), length))
        pad = self._tokenizer.encode_own(" so")[0]
        for index in range(length - 1, max(-1, length - 4), -1):
            if "\ufffd" not in self._tokenizer.decode(ids):
                break
            ids[index] = pad
        return ids

    def _end(self) -> Iterator[int]:
        return chain(self._tokenizer.encode_own(CLOSE), self._answer())

    def _answer(self) -> list[int]:
        text = self._context.calls or self._behaviour.answers
        text = text or f"The answer is \\boxed{{{self.answer_value}}}."
        return [*self._tokenizer.encode(text), self._tokenizer.turn_end_id]

    def _resume(self) -> Iterator[int]:
        """Go on after text that is not the start of the script: a block closed by force."""
        reply, tokenizer = self._context.reply, self._tokenizer
        skip = 1 if reply[0] in self._level_ids else 0
        pieces = [tokenizer.id_to_bytes(token) for token in reply[skip:]]
        body = b"".join(pieces)
        start = _skip_space(body, 0)
        if not body.startswith(THINK_START.encode(), start):
            return self._resume_answer(body, start, skip)
        end = self._end_of_block(pieces, start, skip)
        if end < 0:
            inside = start + len(THINK_START)
            inside += body.startswith(b"\n", inside)
            done = self._tokens_from(inside, skip)
            return islice(self._inside(), done, None)
        return self._resume_answer(body, end + len(THINK_END), skip)

    def _end_of_block(self, pieces: Sequence[bytes], start: int, skip: int) -> int:
        """Where the end tag is in the reply so far: its id, where it has one."""
        tag = self._tokenizer.get_added_vocab().get(THINK_END)
        if tag is None:
            return b"".join(pieces).find(THINK_END.encode(), start)
        reply = self._context.reply[skip:]
        return len(b"".join(pieces[: reply.index(tag)])) if tag in reply else -1

    def _resume_answer(self, body: bytes, position: int, skip: int) -> Iterator[int]:
        start = _skip_space(body, position)
        if start == len(body):
            wanted = 2 if position else 0
            missing = max(0, wanted - body.count(b"\n", position))
            return chain(self._tokenizer.encode("\n" * missing), self._answer())
        answer = self._answer()
        return iter(answer[self._tokens_from(start, skip) :] or [self._tokenizer.turn_end_id])

    def _tokens_from(self, offset: int, skip: int) -> int:
        """How many reply ids begin at byte ``offset`` or later."""
        count = position = 0
        for token in self._context.reply[skip:]:
            count += position >= offset
            position += len(self._tokenizer.id_to_bytes(token))
        return count


def _skip_space(body: bytes, position: int) -> int:
    """Index of the first byte at or after ``position`` that is not white space."""
    return len(body) - len(body[position:].lstrip())
