"""Settings of one model: where it comes from, its engine, its card and its budgets.

The settings of a whole server are one of these and more; each entry of ``models`` is one that takes
from the server's what it does not say itself. Knows nothing of flags, variables or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import NoDecode

from extracot_server.config.effort_map import DEFAULT_EFFORT_MAP, parse_efforts
from extracot_server.config.offers import check_offers
from extracot_server.config.setting_values import (
    KeyFile,
    PlainFile,
    PlainPath,
    Source,
    check_source,
    key_text,
    one_line,
    parse_key_values,
    parse_upstreams,
    read_key_file,
    spread_keys,
    underscored,
)
from extracot_server.config.unique_yaml import TwiceError, unique_yaml

BudgetWord = Literal["auto", "native", "none"]
Ratio = Annotated[float, Field(gt=0.0, le=1.0)]
SECRETS = ("api_key", "upstream_api_key", "reasoning_key")
"""Settings whose values are secrets: never a flag, never shown."""
_OWN = ("model", "served_model_name", "card", "lora", "upstream", "upstreams", "tokenizer")
"""Settings that say which model it is, so that several models cannot have them in common."""
_LONGEST_NAME = 128
DAY = 24 * 60 * 60.0
"""The longest that anything here is waited for: timers and sockets have bounds of their own."""


def check_name(name: str) -> str:
    """A name that clients can use. Raises ``ValueError``: ``name@0.4`` is that name's alias."""
    if not name or len(name) > _LONGEST_NAME or not name.isprintable() or set(name) & set(" @"):
        raise ValueError(
            f"a model's name is 1 to {_LONGEST_NAME} printable characters without spaces and "
            f"without @, which begins a budget (name@0.4); it is {name!r:.140}"
        )
    return name


def parse_adapters(value: Any) -> dict[str, str]:
    """``"a=/folder"``, a list of such or a mapping -> folders by the names of adapters."""
    if isinstance(value, str):
        value = [part for part in value.split(",") if part.strip()]
    pairs = value.items() if isinstance(value, Mapping) else []
    if isinstance(value, list | tuple):
        pairs = [str(item).partition("=")[::2] for item in value]
    elif not isinstance(value, Mapping):
        raise ValueError("lora takes NAME=FOLDER pairs")
    adapters: dict[str, str] = {}
    stripped = [(str(name).strip(), str(folder).strip()) for name, folder in pairs]
    for number, (name, folder) in enumerate(stripped, 1):
        if not name or not folder:  # what came of a comma in a password is not shown
            raise ValueError(f"lora takes NAME=FOLDER pairs, and number {number} is none")
        if name in adapters:
            raise ValueError(f"two adapters are named {name}")
        adapters[check_name(name)] = check_source(folder)
    return adapters


def _parse_offers(value: Any) -> dict[str, Any]:
    return check_offers(parse_key_values(value, "upstream_offers"))


class ModelSettings(BaseModel):
    """Settings of one served model."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    # What is served
    model: Source = Field(
        "small",
        description="a model folder, a hub id, or a bundled model: `small` (word problems, trained "
        "to follow budgets) or `smollm2` (converted once)",
    )
    served_model_name: Annotated[str, AfterValidator(check_name)] | None = Field(
        None, description="name clients use; default: the bundled name or the folder's name"
    )
    engine: Literal["vllm", "remote", "openai", "scripted"] = Field(
        "vllm",
        description="`vllm` in this process; `remote`: vLLM servers at `upstream`; `openai`: any "
        "OpenAI-compatible servers there, asked by chat messages; "
        "`scripted` is deterministic and needs no model (trials, tests)",
    )
    card: Source | None = Field(
        None,
        description="budget card to use instead of the one beside the weights; "
        "`none` ignores it and serves caps only",
    )
    profile: str | None = Field(
        None,
        description="family of the model, which says how it reasons: `qwen3`, `gpt-oss`, …; "
        "default: found by its configuration and chat template; `none`: no family's",
    )
    profiles: PlainPath = Field(
        None, description="YAML file, or folder of such, with profiles of your own"
    )
    tool_parser: str | None = Field(
        None,
        description="how the model writes tool calls: `hermes` (Qwen, Hermes; built in), or one of "
        "vLLM's tool parsers: `llama3_json`, `mistral`, `vllm:hermes`, …; `none`: not at all; "
        "default: the profile's",
    )
    vllm: Annotated[
        dict[str, Any], NoDecode, BeforeValidator(partial(parse_key_values, name="vllm"))
    ] = Field(
        default_factory=dict,
        description="any vLLM engine argument: tensor_parallel_size=2 (repeatable, or JSON)",
    )
    grammar_backend: Literal["auto", "guidance", "xgrammar"] = Field(
        "auto",
        description="vllm: what holds answers to a JSON schema; `auto`: guidance, and xgrammar "
        "where the model's tokenizer is none of the fast ones (upstreams have their own)",
    )
    lora: Annotated[dict[str, str], NoDecode, BeforeValidator(parse_adapters)] = Field(
        default_factory=dict,
        description="vllm: LoRA adapters served as models of their own: NAME=FOLDER (repeatable)",
    )
    upstream: Annotated[list[str], NoDecode, BeforeValidator(parse_upstreams)] = Field(
        default_factory=list,
        description="remote, openai: address of a server (repeatable, or separated by commas)",
    )
    upstreams: PlainFile = Field(
        None,
        description="YAML file of upstreams with weights, drains and limits, in place of "
        "`upstream`, and of a canary, for every engine; read again on SIGHUP",
    )
    upstream_api_key: Annotated[SecretStr | None, BeforeValidator(key_text)] = Field(
        None,
        description="remote, openai: key of the upstreams, or one each separated by commas; "
        "never a flag: set the variable or a file",
    )
    upstream_api_key_file: KeyFile = Field(
        None, description="remote, openai: file with the key, or one line each"
    )
    upstream_offers: Annotated[dict[str, Any], NoDecode, BeforeValidator(_parse_offers)] = Field(
        default_factory=dict,
        description="openai: what the upstreams can be asked for: kind=llama.cpp, "
        "budget=FIELD, effort=FIELD, … (repeatable, or JSON); docs/upstreams.md has all",
    )
    upstream_timeout_seconds: float = Field(
        300.0,
        gt=0,
        le=DAY,
        description="remote, openai: longest silence of an upstream in a running request",
    )
    tokenizer: Source | None = Field(
        None,
        description="remote: folder or hub id of the model, if not where the upstream has it; "
        "openai: the same, to know the family by; default: none",
    )

    # Admission: who runs, who waits, who is refused
    max_running: int | None = Field(
        None, ge=1, description="requests in an engine at once; the next ones wait; default: all"
    )
    max_queued: int = Field(
        1024, ge=0, description="requests that may wait for an engine; one more is refused (503)"
    )

    # Budgets
    default_budget: Ratio | BudgetWord = Field(
        "native", description="budget of requests that specify none"
    )
    budget_floor: Ratio | None = Field(
        None, description="no request gets a smaller ratio than this"
    )
    budget_ceiling: Ratio | None = Field(
        None, description="no request gets a larger ratio than this"
    )
    reasoning_tokens_ceiling: int | None = Field(
        None, ge=0, description="hard cap on the reasoning tokens of any request"
    )
    reasoning_effort_map: Annotated[
        dict[str, Ratio | BudgetWord], NoDecode, BeforeValidator(parse_efforts)
    ] = Field(
        default_factory=lambda: dict(DEFAULT_EFFORT_MAP),  # type: ignore[arg-type]
        description="reasoning_effort -> budget; given entries replace the default ones",
    )
    answer_reserve_tokens: int = Field(
        256, ge=0, description="tokens kept free for the answer (at most half of max_tokens)"
    )

    # Blocks that are cut off
    closing: str | None = Field(
        None,
        description="what is written into a think block that is cut off, before its end tag: at "
        "most 64 tokens of text; a request's `budget.closing` takes precedence; empty: the end tag "
        "alone; default: in cap mode the profile's",
    )
    grace_tokens: int = Field(
        32,
        ge=0,
        le=256,
        description="cap mode: tokens beyond a soft ratio's cap within which a sentence or line "
        "may end (at most a quarter of the cap); `budget.grace` takes precedence",
    )
    loop_tokens: int = Field(
        512,
        ge=0,
        description="reasoning that repeats the same tokens four times or more in a row, for this "
        "many in all, is ended and answered; 0: never",
    )
    default_max_tokens: int | None = Field(
        None,
        ge=0,
        description="most tokens of a reply whose request does not say; 0: what the context has "
        "room for; default: as many as the card's replies could have, in cap mode 8 times the "
        "native reasoning expected",
    )

    # Cap mode: a model without a budget card
    assumed_reasoning_tokens: int = Field(
        512,
        ge=1,
        description="cap mode: native reasoning tokens assumed for a request; not given: those of "
        "the profile, if it has any",
    )
    think_start: str = Field(
        "<think>", min_length=1, description="cap mode: opening think tag, if not the profile's"
    )
    think_end: str = Field(
        "</think>", min_length=1, description="cap mode: closing think tag, if not the profile's"
    )
    open_think: bool = Field(
        False, description="cap mode: open the think block for native requests too"
    )
    instruction: str | None = Field(
        None, description="cap mode: text put before the last user turn; a card brings its own"
    )
    system_prompt: str | None = Field(
        None, description="cap mode: system prompt where the client sends none"
    )

    @model_validator(mode="after")
    def _check_policy(self) -> ModelSettings:
        floor, ceiling = self.budget_floor, self.budget_ceiling
        if floor is not None and ceiling is not None and floor > ceiling:
            raise ValueError(f"budget_floor ({floor}) is above budget_ceiling ({ceiling})")
        if self.think_start == self.think_end:
            raise ValueError("think_start and think_end must differ")
        return self

    def check_engine(self) -> None:
        """Whether the engine has what it needs. Raises ``ValueError`` in one line."""
        away = self.has_upstreams
        if away and not self.upstream and self.upstreams is None:
            raise ValueError(f"engine {self.engine} needs an upstream: --upstream http://host:8000")
        if self.upstream and self.upstreams is not None:
            raise ValueError("give upstream or upstreams, which is a file of them, not both")
        if not away and self.upstream:
            raise ValueError(
                f"upstream is for engine remote or openai, and engine is {self.engine}"
            )
        if self.engine != "openai" and self.upstream_offers:
            raise ValueError(f"upstream_offers is for engine openai, and engine is {self.engine}")
        if self.engine == "openai" and self.card not in (None, "none"):
            raise ValueError(
                "card: engine openai has none, since nothing of one could be promised there"
            )
        if away and self.lora:
            raise ValueError(
                "lora is for engine vllm; an adapter that upstreams serve is a model of its own: "
                f"an entry of models with engine {self.engine} and the adapter's name as model"
            )
        if away:
            self.upstream_keys()

    @property
    def has_upstreams(self) -> bool:
        """Whether the engine is servers elsewhere."""
        return self.engine not in ("vllm", "scripted")

    def upstream_keys(self) -> list[str | None]:
        """The key of each upstream, or the one for all in the file of them.

        Raises ``ValueError`` in one line without any key.
        """
        text = self.upstream_api_key.get_secret_value() if self.upstream_api_key else None
        path = self.upstream_api_key_file
        if path is not None:
            if text is not None:
                raise ValueError("give upstream_api_key or upstream_api_key_file, not both")
            text = read_key_file(path, "upstream_api_key_file")
        if self.upstreams is not None and len((text or "").replace(",", " ").split()) > 1:
            raise ValueError("with an upstreams file upstream_api_key is one key for all in it")
        return spread_keys(text, 1 if self.upstreams is not None else len(self.upstream))


def parse_models(value: Any) -> list[dict[str, Any]]:
    """What is written as ``models`` -> one mapping each.

    ``NAME=FOLDER`` (or hub id) and ``NAME=http://host:8000`` are short for an entry; text may also
    be JSON or YAML. Raises ``ValueError`` in one line.
    """
    if value is None:
        return []
    if isinstance(value, str):
        text = value.strip()
        try:
            if text.startswith("["):
                value = unique_yaml(text)
            else:
                value = unique_yaml(f"[{text}]") if "{" in text else text.split(",")
        except TwiceError as error:
            raise ValueError(error.told) from None
        except yaml.YAMLError:
            raise ValueError("models is neither NAME=MODEL nor JSON") from None
    if not isinstance(value, list | tuple):
        raise ValueError("models takes a list of entries, or NAME=MODEL")
    entries: list[dict[str, Any]] = []
    for index, item in enumerate(value):
        if isinstance(item, Mapping):
            entries.append(underscored(item.items(), f"models[{index}]"))
        elif "=" in str(item):
            name, _, what = str(item).partition("=")
            kind = "upstream" if what.strip().startswith(("http://", "https://")) else "model"
            entries.append({"name": name.strip(), kind: what.strip()})
        elif str(item).strip():
            raise ValueError(f"an entry is a mapping or NAME=MODEL, and models[{index}] is neither")
    return entries


def each_model(shared: ModelSettings, entries: Sequence[Mapping[str, Any]]) -> list[ModelSettings]:
    """The settings of each entry: its own, else those of the whole server.

    ``vllm`` and ``reasoning_effort_map`` are joined, and the entry's values win. Raises
    ``ValueError`` in one line that names the entry.
    """
    given = shared.model_fields_set & set(ModelSettings.model_fields)
    for name in _OWN:
        if name in given:
            raise ValueError(f"with models, {name} goes into their entries")
    common = {name: getattr(shared, name) for name in given}
    return [_one_model(common, entry, f"models[{i}]") for i, entry in enumerate(entries)]


def _one_model(common: Mapping[str, Any], entry: Mapping[str, Any], where: str) -> ModelSettings:
    own = dict(entry)
    if "name" in own:
        if "served_model_name" in own:
            raise ValueError(f"{where}: give name or served_model_name, not both")
        own["served_model_name"] = own.pop("name")
    if own.get("upstream") and "engine" not in own:
        own["engine"] = "remote"
    if isinstance(own.get("served_model_name"), str):
        where += f" ({own['served_model_name']:.100})"
    merged = {**common, **own}
    try:
        for name in ("vllm", "reasoning_effort_map"):
            if name in common and name in own:
                merged[name] = {**common[name], **parse_key_values(own[name], name)}
        found = ModelSettings.model_validate(merged)
        found.check_engine()
    except ValueError as error:
        known = [*ModelSettings.model_fields, "name"]
        line = one_line(error, known, SECRETS) if isinstance(error, ValidationError) else error
        raise ValueError(f"{where}: {line}") from None
    return found


def check_names(names: Sequence[str]) -> None:
    """Raise ``ValueError`` where two models have one name, in one line."""
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two models are named {name}: give each a name of its own")
