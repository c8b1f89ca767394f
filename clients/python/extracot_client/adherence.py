"""What ``extracot adherence`` asks of a server: without a budget, and with each cap in its words.

Any OpenAI-compatible server will do; how it is told a budget is one of :data:`FIELDS`, or the path
of a field of its own. Sends nothing itself; what the replies say is
:mod:`extracot_client.adherence_figures`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from extracot_client.batches import Batch
from extracot_client.errors import InvalidArgumentError
from extracot_client.requests import SolveOptions
from extracot_client.sweeps import SweepProblem

NATIVE = "native"
DEFAULT_SHARES = (0.2, 0.4, 0.6, 0.8)
"""Caps where none are named: of the first server's mean native reasoning."""
_PATH = re.compile(r"[A-Za-z_][\w-]*(\.[A-Za-z_][\w-]*)*")

FIELDS: dict[str, Callable[[int], dict[str, Any]]] = {
    "extracot": lambda n: {"budget": {"max_reasoning_tokens": n}},
    "vllm": lambda n: {"thinking_token_budget": n},
    # Which of the two is read depends on the release; the other one is ignored.
    "llama.cpp": lambda n: {"thinking_budget_tokens": n, "reasoning_budget_tokens": n},
    "openrouter": lambda n: {"reasoning": {"max_tokens": n}},
    "anthropic": lambda n: {"thinking": {"type": "enabled", "budget_tokens": n}},
    "gemini": lambda n: {
        "extra_body": {
            "google": {"thinking_config": {"thinking_budget": n, "include_thoughts": True}}
        }
    },
    "nvidia": lambda n: {"nvext": {"max_thinking_tokens": n}},
    "qwen": lambda n: {"enable_thinking": True, "thinking_budget": n},
}
"""What a request says to be given a cap of so many reasoning tokens."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server to measure, and the words in which it is told a budget."""

    name: str
    url: str
    model: str
    field: str

    def said(self, cap: int) -> dict[str, Any]:
        """The fields of a request with this cap."""
        if self.field in FIELDS:
            return FIELDS[self.field](cap)
        value: Any = cap
        for key in reversed(self.field.split(".")):
            value = {key: value}
        return dict(value)


def check_field(text: str) -> str:
    """A preset's name, or a path such as ``reasoning.max_tokens``; raises
    :class:`InvalidArgumentError`."""
    if text in FIELDS or _PATH.fullmatch(text):
        return text
    raise InvalidArgumentError(
        f"--field {text!r} is none of {', '.join(FIELDS)}, nor the path of a field "
        "(reasoning.max_tokens)",
        param="field",
    )


@dataclass(frozen=True, slots=True)
class Run:
    """The problems that every server is asked, and how."""

    problems: Sequence[SweepProblem]
    seeds: Sequence[int]
    options: SolveOptions = field(default_factory=SolveOptions)

    @property
    def replies(self) -> int:
        """How many there are at each cap."""
        return len(self.problems) * len(self.seeds)

    def native(self, server: Server) -> Iterator[Batch]:
        """Without a budget."""
        yield from self._seeded(server, NATIVE, {})

    def capped(self, server: Server, cap: int) -> Iterator[Batch]:
        """With a cap, in the server's own words."""
        yield from self._seeded(server, str(cap), server.said(cap))

    def _seeded(self, server: Server, name: str, said: dict[str, Any]) -> Iterator[Batch]:
        said = dict(said)
        budget = said.pop("budget", None)
        for seed in self.seeds:
            options: SolveOptions = {**self.options, "model": server.model, "seed": seed}
            if said:
                options["extra"] = said
            yield Batch(f"{server.name} {name}", self.problems, budget, options)
