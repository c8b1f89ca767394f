"""Rollout types: a prompt's ids in, the reply's ids and its result out.

The level token, the think tags and the answer are found in the ids, never in decoded text, because
text can spell a tag that is none. Knows tokenizers; knows no model and no reward.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import dropwhile
from typing import Any, Protocol

from extracot.answers import extract_answer
from extracot.control import Control, level_token
from extracot.prompt import Message, Role
from extracot_training.pipeline.metering import metered_tokens
from extracot_training.policy.control_tokens import ControlTokens
from extracot_training.policy.prompt_settings import PromptSettings


@dataclass(frozen=True, slots=True)
class RolloutRequest:
    """One reply wanted. ``level`` is the level asked for, ``None`` for the model's own choice.

    ``prompt_ids`` include what is prefilled. ``seed`` fixes this reply whatever else is generated
    beside it. ``question`` is for backends that render prompts themselves.
    """

    key: str
    question: str
    prompt_ids: tuple[int, ...]
    level: float | None
    seed: int


@dataclass(frozen=True, slots=True)
class Rollout:
    """One reply.

    ``ids`` are the generated ones (empty where a backend gives text only). ``level`` is the level
    asked for or chosen, ``None`` if the model began with something else. ``reasoning_tokens`` is
    the think text without the tags and the white space beside them, or all of it where the block
    is not ``closed``; ``total_tokens`` is everything generated, of which ``opening_tokens`` are the
    choice: level token, tag and the white space of the layout. ``answer`` is the text after the
    block, ``boxed`` what it boxes.
    """

    key: str
    ids: tuple[int, ...]
    level: float | None
    reasoning_tokens: int
    total_tokens: int
    closed: bool
    answer: str
    boxed: str | None
    reasoning_ids: tuple[int, ...] = ()
    opening_tokens: int = 0

    @property
    def valid(self) -> bool:
        """There is a level, a closed think block right after it, and a boxed answer after that."""
        return self.level is not None and self.closed and self.boxed is not None

    def metered(self, need: float) -> float:
        """Its length in tokens, wherever it reasoned; ``need`` as in
        :mod:`extracot_training.pipeline.metering`."""
        total = self.total_tokens - self.opening_tokens
        return metered_tokens(self.reasoning_tokens, total, need)


class RolloutBackend(Protocol):
    """Where replies come from."""

    def run(self, requests: Sequence[RolloutRequest]) -> Iterator[Rollout]:
        """One rollout per request, in any order. Raises :class:`GenerationError`."""
        ...

    def close(self) -> None:
        """Let go of devices and connections."""
        ...


class PromptMaker:
    """Renders questions to the ids that a model continues, by :mod:`extracot.prompt` alone."""

    def __init__(self, tokenizer: Any, prompt: PromptSettings) -> None:
        self._prompt = prompt
        self._renderer = prompt.renderer(tokenizer)

    def level(self, question: str, level: float) -> tuple[int, ...]:
        """The prompt at a level, with the level token and the open think block prefilled."""
        control = Control.level(level_token(level))
        return self._renderer.render([Message(Role.USER, question)], control).token_ids

    def policy(self, question: str) -> tuple[int, ...]:
        """The prompt that leaves the level to the model: the reply begins with its token."""
        return self._renderer.render([Message(Role.USER, question)], Control.policy()).token_ids


class ReplyReader:
    """Reads replies of one tokenizer."""

    def __init__(self, tokenizer: Any, prompt: PromptSettings, tokens: ControlTokens) -> None:
        self._tokenizer = tokenizer
        self._tokens = tokens
        self._levels = dict(zip(tokens.levels, prompt.ratios, strict=True))
        self._is_blank = cache(lambda id_: not tokenizer.decode([id_]).strip())
        # What the layout has there; white space beyond it is no part of a choice.
        self._opening = _opening_length(tokenizer, prompt) if prompt.policy else 0

    def read(self, request: RolloutRequest, ids: Sequence[int]) -> Rollout:
        """What a reply came to; ``ids`` are the generated ones, with the end token if there is one.

        With ``request.level`` the think block is open already; otherwise the reply has to begin
        with a level token and to open the block itself, right after it: a reply that says something
        else in between has no closed block.
        """
        ids = list(ids)
        level, opening, reasoning, rest = self._parts(request, ids)
        answer_ids = [id_ for id_ in rest or () if id_ != self._tokenizer.eos_token_id]
        answer = self._tokenizer.decode(answer_ids, skip_special_tokens=False)
        return Rollout(
            key=request.key,
            ids=tuple(ids),
            level=level,
            reasoning_tokens=len(reasoning),
            total_tokens=len(ids),
            closed=rest is not None,
            answer=answer,
            boxed=extract_answer(answer),
            reasoning_ids=tuple(reasoning),
            opening_tokens=opening,
        )

    def _parts(
        self, request: RolloutRequest, ids: list[int]
    ) -> tuple[float | None, int, list[int], list[int] | None]:
        """(level, tokens of the opening, reasoning without white space around it, what follows the
        block or ``None``)."""
        start, end = self._tokens.think_start, self._tokens.think_end
        level, begin, opening, opened = request.level, 0, 0, True
        if level is None:
            level = self._levels.get(ids[0]) if ids else None
            # Without an opening tag nothing is reasoning, and no block was closed.
            begin = ids.index(start) + 1 if start in ids else len(ids)
            between = ids[1 : begin - 1]
            opened = level is not None and start in ids and all(map(self._is_blank, between))
            blanks = len(ids) - begin - len(list(dropwhile(self._is_blank, ids[begin:])))
            opening = min(begin + blanks, self._opening) if opened else 0
        if end in ids[begin:]:
            stop = ids.index(end, begin)
            after = ids[stop + 1 :] if opened or level is None else None
            return level, opening, self._trimmed(ids[begin:stop]), after
        tail = ids[begin:-1] if ids and ids[-1] == self._tokenizer.eos_token_id else ids[begin:]
        return level, opening, self._trimmed(tail), None

    def _trimmed(self, ids: list[int]) -> list[int]:
        kept = list(dropwhile(self._is_blank, ids))
        while kept and self._is_blank(kept[-1]):
            kept.pop()
        return kept


def _opening_length(tokenizer: Any, prompt: PromptSettings) -> int:
    """Tokens of a reply in policy mode before its reasoning begins."""
    renderer = prompt.renderer(tokenizer)
    asked = renderer.render([Message(Role.USER, "?")], Control.policy())
    return len(renderer.after_choice(asked, level_token(prompt.ratios[-1])).prefill_ids)
