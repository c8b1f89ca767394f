"""Checks a server before it is measured: does it answer, which kind is it, what does it offer.

An Extra-CoT server is told by ``/v1/budget``; any other is a plain OpenAI server, which can only be
asked without a budget. Everything wrong here is one line, before any row is written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import openai
from pydantic import TypeAdapter

from extracot_training.config.evaluate import Budget, EvaluateConfig
from extracot_training.errors import StageError
from extracot_training.evaluation.rows import budget_name
from extracot_training.generation.http_client import api_key, error_message
from extracot_training.pipeline.files import write_atomic

SERVER_FILENAME = "server.json"
PLAIN_BUDGETS = ("native", "none")


class ServerError(StageError):
    """The server can't be measured as asked, or can't be reached."""


@dataclass(frozen=True, slots=True)
class Server:
    """What is served. ``levels`` maps a level's name to ``(nominal ratio, expected ratio)``.

    ``card`` is the hash of the budget card; ``weights`` and ``tokenizer_hash`` are as it says.
    """

    kind: Literal["extracot", "plain"]
    model: str
    mode: str | None = None
    levels: dict[str, tuple[float, float]] = field(default_factory=dict)
    auto: bool = False
    card: str | None = None
    tokenizer_hash: str | None = None
    weights: str | None = None

    def budget_to_send(self, budget: Budget, asking: str) -> Budget:
        """The value that makes the server apply ``budget``.

        Its levels go by what they are *expected* to realise, so a level is asked for by that.
        """
        if isinstance(budget, str) or asking == "ratios" or self.mode != "token":
            return budget
        return self.levels[self._level_of(budget)][1]

    def expected_label(self, budget: Budget, asking: str) -> str | None:
        """``level`` of a reply's report if the server did what was asked; ``None``: can't say."""
        if isinstance(budget, str):
            return budget
        if self.mode != "token" or asking == "ratios":
            return None
        return self._level_of(budget)

    def nominal(self, name: str | None) -> float | None:
        """The nominal ratio of a level's name."""
        return self.levels[name][0] if name in self.levels else None

    def _level_of(self, ratio: float) -> str:
        return next(name for name, (nominal, _) in self.levels.items() if nominal == ratio)


def open_client(config: EvaluateConfig) -> openai.AsyncOpenAI:
    """The SDK's client; it does not retry, so that a time is the time of one request."""
    key = api_key(config.api_key_env) or "none"
    return openai.AsyncOpenAI(
        base_url=str(config.base_url), api_key=key, max_retries=0, timeout=config.timeout_s
    )


async def inspect_server(client: openai.AsyncOpenAI, config: EvaluateConfig) -> Server:
    """Find out what is served. Raises :class:`ServerError` in one line."""
    where = str(config.base_url)
    try:
        names = [model.id async for model in await client.models.list()]
    except openai.APIStatusError as error:
        raise ServerError(f"{where}: {_status_line(error, config)}") from error
    except openai.APIConnectionError as error:
        raise ServerError(f"{where}: no server answers there ({_cause(error)})") from error
    except (openai.APIError, ValueError, TypeError, AttributeError) as error:
        raise ServerError(f"{where}: not an OpenAI-compatible API") from error
    if config.model not in names:
        known = ", ".join(name for name in names if "@" not in name) or "none"
        raise ServerError(f"{where}: there is no model {config.model!r}, only: {known}")
    try:
        options: Any = {"params": {"model": config.model}}
        found = await client.get("/budget", cast_to=object, options=options)
    except openai.APIStatusError:
        found = None
    except openai.APIError as error:
        raise ServerError(f"{where}: {_cause(error)}") from error
    server = _read(found, config.model)
    _check_budgets(server, found if isinstance(found, dict) else {}, config)
    return server


def _read(found: object, model: str) -> Server:
    if not isinstance(found, dict) or found.get("object") != "budget":
        return Server("plain", model)
    card = found.get("card") or {}
    digest = hashlib.sha256(json.dumps(card, sort_keys=True).encode()).hexdigest()
    return Server(
        "extracot",
        model,
        mode=found["mode"],
        levels={
            level["name"]: (float(level["ratio"]), _expected(level))
            for level in found["levels"]
            if level["ratio"] is not None  # an effort of a measured card has none
        },
        auto="auto" in found["allowed"],
        card=f"sha256:{digest}" if card else None,
        tokenizer_hash=card.get("tokenizer_hash"),
        weights=(card.get("provenance") or {}).get("weights"),
    )


def _expected(level: Mapping[str, Any]) -> float:
    """What the server chooses a level by: its nominal ratio until another one is measured."""
    measured = level["expected_ratio"]
    return float(level["ratio"] if measured is None else measured)


def _check_budgets(server: Server, found: Mapping[str, Any], config: EvaluateConfig) -> None:
    """Refuse budgets that the server does not have, or would answer with another one."""
    for budget in config.budgets:
        name = budget_name(budget)
        if server.kind == "plain":
            if budget not in PLAIN_BUDGETS:
                raise ServerError(
                    f"budget {name}: {config.base_url} is a plain OpenAI server, which knows no "
                    f"budgets; there are {' and '.join(PLAIN_BUDGETS)}"
                )
        elif budget == "auto" and not server.auto:
            raise ServerError("budget auto: this model has no policy token")
        elif not isinstance(budget, str) and server.mode == "token" and config.asking == "levels":
            ratios = [nominal for nominal, _ in server.levels.values()]
            if budget not in ratios:
                known = ", ".join(map(str, ratios))
                raise ServerError(
                    f"budget {name}: no level of this model, which has {known} "
                    "(asking: ratios sends any number)"
                )
    if (fraction := (found.get("holdout") or {}).get("fraction") or 0.0) > 0:
        raise ServerError(
            f"the server answers {fraction:g} of budgeted requests without a budget; "
            "measure one with holdout_fraction 0"
        )


def remember(server: Server, folder: Path) -> None:
    """Keep what was measured beside the rows. Raises :class:`ServerError` if the rows there are of
    another checkpoint: a resumed run would mix the two."""
    before = recall(folder)
    if before is None:
        write_atomic(folder / SERVER_FILENAME, json.dumps(asdict(server), indent=2) + "\n")
        return
    was, now = asdict(before), asdict(server)
    if changed := [key for key in now if was[key] != now[key]]:
        raise ServerError(
            f"{folder}: the rows there are of a server with other {changed[0]} "
            f"({was[changed[0]]}, now {now[changed[0]]}); pass --force to start over"
        )


def recall(folder: Path) -> Server | None:
    """The server whose replies lie in the folder; ``None`` if none was asked yet."""
    path = folder / SERVER_FILENAME
    if not path.is_file():
        return None
    return TypeAdapter(Server).validate_json(path.read_bytes())


def message_of(error: openai.APIError) -> str:
    """The server's own words in one line."""
    return error_message(error.body, error.message)


def _status_line(error: openai.APIStatusError, config: EvaluateConfig) -> str:
    status = error.status_code
    if status in (401, 403):
        named = config.api_key_env or "none is sent: set api_key_env"
        return f"HTTP {status}: {message_of(error)} (key: {named})"
    if status == 404:
        return "no OpenAI-compatible API there (HTTP 404 for /models); it usually ends in /v1"
    return f"HTTP {status}: {message_of(error)}"


def _cause(error: BaseException) -> str:
    inner = error.__cause__ or error
    return " ".join(f"{type(inner).__name__} {inner}".split())[:200]
