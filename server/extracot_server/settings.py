"""Every knob of the server in one class: it drives the flags, EXTRACOT_* variables and a YAML file.

A flag beats a variable, a variable beats the file, the file beats the default. Wrong names and
values become one line (:class:`SettingsError`). Knows nothing of FastAPI, vLLM or torch, so that
``--help`` is instant.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)
from pydantic_settings import (
    SettingsError as PydanticSettingsError,
)

from extracot_server.setting_values import SettingsError as SettingsError
from extracot_server.setting_values import check_yaml, one_line, parse_key_values, read_secret
from extracot_server.upstreams import parse_upstreams, spread_keys

BudgetWord = Literal["auto", "native", "none"]
Ratio = Annotated[float, Field(gt=0.0, le=1.0)]
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
DEFAULT_EFFORT_MAP: dict[str, float | str] = {
    "none": "none",
    "minimal": 0.2,
    "low": 0.4,
    "medium": 0.6,
    "high": 0.8,
    "xhigh": 1.0,
    "max": "native",
}
ENV_PREFIX = "EXTRACOT_"
# Variables of the same prefix that belong to the installer and the client, not to the server.
FOREIGN_VARIABLES = {"EXTRACOT_DEVICE", "EXTRACOT_BASE_URL", "EXTRACOT_CONFIG"}
# Settings whose values are secrets: never a flag, never shown.
SECRETS = ("api_key", "upstream_api_key")


class Settings(BaseSettings):
    """Settings of one server process."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_prog_name="extracot-serve",
        protected_namespaces=(),
    )

    config: Path | None = Field(None, description="YAML file of these settings")

    # What is served
    model: str = Field(
        "smollm2", description="a model folder, a hub id, or the bundled model `smollm2`"
    )
    served_model_name: str | None = Field(
        None, description="name clients use; default: the bundled name or the folder's name"
    )
    engine: Literal["vllm", "remote", "scripted"] = Field(
        "vllm",
        description="`vllm` in this process; `remote`: vLLM servers at `upstream`; "
        "`scripted` is deterministic and needs no model (trials, tests)",
    )
    card: str | None = Field(
        None,
        description="budget card to use instead of the one beside the weights; "
        "`none` ignores it and serves hard caps only",
    )
    vllm: Annotated[dict[str, Any], NoDecode] = Field(
        default_factory=dict,
        description="any vLLM engine argument: tensor_parallel_size=2 (repeatable, or JSON)",
    )
    upstream: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="remote: address of a vLLM server (repeatable, or separated by commas)",
    )
    upstream_api_key: SecretStr | None = Field(
        None,
        description="remote: key of the upstreams, or one each separated by commas; "
        "not as a flag: in the variable or a file",
    )
    upstream_api_key_file: Path | None = Field(
        None, description="remote: file with the key, or one line each"
    )
    upstream_timeout_seconds: float = Field(
        300.0, gt=0, description="remote: longest silence of an upstream in a running request"
    )
    tokenizer: str | None = Field(
        None, description="remote: folder or hub id of the model, if not where the upstream has it"
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 picks a free one")

    # Who may use it
    keys: Path | None = Field(
        None, description="YAML file of API keys and what each may do; read again on SIGHUP"
    )
    api_key: SecretStr | None = Field(
        None,
        description="one API key for everybody; not as a flag: in the variable or a file",
    )
    api_key_file: Path | None = Field(None, description="file that holds that one API key")
    protect_metrics: bool = Field(False, description="/metrics asks for a key as well")

    # Admission: who runs, who waits, who is refused
    max_running: int | None = Field(
        None, ge=1, description="requests in the engine at once; the next ones wait; default: all"
    )
    max_queued: int = Field(
        1024, ge=0, description="requests that may wait; one more is refused (503)"
    )

    # Budgets
    default_budget: Ratio | BudgetWord = Field(
        "native", description="budget of a request that names none"
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
    reasoning_effort_map: dict[str, Ratio | BudgetWord] = Field(
        default_factory=lambda: dict(DEFAULT_EFFORT_MAP),  # type: ignore[arg-type]
        description="reasoning_effort -> budget; given entries replace the default ones",
    )
    answer_reserve_tokens: int = Field(
        256, ge=0, description="tokens kept free for the answer (at most half of max_tokens)"
    )

    # Honest savings
    holdout_fraction: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of budgeted requests that run natively, to measure what budgets save; "
        "0.01 is a good value",
    )
    holdout_seed: int | None = Field(None, description="makes the draw repeatable, for tests")

    # Cap mode: a model without a budget card
    assumed_reasoning_tokens: int = Field(
        512, ge=1, description="cap mode: native reasoning tokens assumed for a request"
    )
    think_start: str = Field("<think>", min_length=1, description="cap mode: opening think tag")
    think_end: str = Field("</think>", min_length=1, description="cap mode: closing think tag")
    open_think: bool = Field(
        False, description="cap mode: open the think block for native requests too"
    )
    instruction: str | None = Field(
        None, description="cap mode: text put before the last user turn; a card brings its own"
    )
    system_prompt: str | None = Field(
        None, description="cap mode: system prompt where the client sends none"
    )

    # HTTP
    max_body_bytes: int = Field(4 * 2**20, ge=1024, description="larger bodies are refused (413)")
    max_messages: int = Field(1024, ge=1, description="most messages in one request")
    max_choices: int = Field(16, ge=1, le=128, description="largest `n`")
    heartbeat_seconds: float = Field(
        15.0, gt=0, description="a silent stream sends an SSE comment this often"
    )
    grace_seconds: float = Field(
        30.0, ge=0, description="SIGTERM: time running requests get to finish"
    )
    health_interval_seconds: float = Field(
        5.0, gt=0, description="how often the engine's health is checked in the background"
    )
    send_timeout_seconds: float = Field(
        60.0, gt=0, description="a client that takes nothing of its stream for so long is cut off"
    )
    receive_timeout_seconds: float = Field(
        60.0, gt=0, description="a request must have arrived, head and body, within this time"
    )
    max_header_bytes: int = Field(
        64 * 1024, ge=1024, description="larger request heads are refused (431)"
    )
    on_engine_death: Literal["restart", "exit", "stay"] = Field(
        "restart",
        description="an engine that died or stalled: `restart` it in this process, with growing "
        "pauses; `exit` with code 1; or `stay` up, not ready",
    )
    engine_stall_seconds: float = Field(
        120.0, gt=0, description="vllm: an engine that answers nothing for so long counts as dead"
    )
    playground: bool = Field(
        False, description="serve the playground at /playground (needs the extra `playground`)"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="verbosity of the server's own log"
    )

    @field_validator("vllm", mode="before")
    @classmethod
    def _parse_engine_arguments(cls, value: Any) -> Any:
        return parse_key_values(value, "vllm")

    @field_validator("upstream", mode="before")
    @classmethod
    def _parse_upstreams(cls, value: Any) -> Any:
        return parse_upstreams(value)

    @field_validator("api_key", "upstream_api_key", mode="before")
    @classmethod
    def _key_is_text(cls, value: Any) -> Any:
        # YAML reads a key of digits as a number, and an error about it would show it.
        return str(value) if isinstance(value, int | float) else value

    @field_validator("reasoning_effort_map", mode="before")
    @classmethod
    def _merge_efforts(cls, value: Any) -> Any:
        value = parse_key_values(value, "reasoning_effort_map")
        unknown = sorted(set(value) - set(EFFORTS))
        if unknown:
            raise ValueError(f"unknown effort {unknown[0]!r}; allowed: {', '.join(EFFORTS)}")
        return {**DEFAULT_EFFORT_MAP, **value}

    @model_validator(mode="after")
    def _check_policy(self) -> Settings:
        floor, ceiling = self.budget_floor, self.budget_ceiling
        if floor is not None and ceiling is not None and floor > ceiling:
            raise ValueError(f"budget_floor ({floor}) is above budget_ceiling ({ceiling})")
        if self.think_start == self.think_end:
            raise ValueError("think_start and think_end must differ")
        return self

    @model_validator(mode="after")
    def _check_remote(self) -> Settings:
        if self.engine == "remote" and not self.upstream:
            raise ValueError("engine remote needs an upstream: --upstream http://host:8000")
        if self.engine != "remote" and self.upstream:
            raise ValueError(f"upstream is for engine remote, and engine is {self.engine}")
        if self.engine == "remote":
            self.upstream_keys()
        return self

    @model_validator(mode="after")
    def _check_keys(self) -> Settings:
        key = self.single_key()
        if key is not None and (not key.isascii() or not key.isprintable() or " " in key):
            raise ValueError("the API key must be printable ASCII without spaces")
        if self.playground and (key is not None or self.keys is not None):
            raise ValueError(
                "a mounted playground would let everybody in: with API keys, start it by itself "
                "(EXTRACOT_API_KEY=… extracot playground)"
            )
        return self

    def single_key(self) -> str | None:
        """The one API key, if there is one. Raises ``ValueError`` in one line without the key."""
        # An empty variable is how a compose file spells "not set"; an empty file is a mistake.
        text = (self.api_key.get_secret_value() if self.api_key else "").strip()
        if self.api_key_file is None:
            return text or None
        if text:
            raise ValueError("give api_key or api_key_file, not both")
        found = read_secret(self.api_key_file, "api_key_file").strip()
        if not found:
            raise ValueError(f"api_key_file {self.api_key_file} is empty")
        return found

    def upstream_keys(self) -> list[str | None]:
        """The key of each upstream. Raises ``ValueError`` in one line without any key."""
        text = self.upstream_api_key.get_secret_value() if self.upstream_api_key else None
        path = self.upstream_api_key_file
        if path is not None:
            if text is not None:
                raise ValueError("give upstream_api_key or upstream_api_key_file, not both")
            text = read_secret(path, "upstream_api_key_file")
        return spread_keys(text, len(self.upstream))


def load_settings(argv: Sequence[str] | None = None) -> Settings:
    """Read flags, then variables, then the YAML file; raise :class:`SettingsError` in one line.

    ``--help`` and a flag that does not exist end the process the way argparse does.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    finder = argparse.ArgumentParser(add_help=False)
    finder.add_argument("--config")
    known, _ = finder.parse_known_args(arguments)
    path = known.config or os.environ.get("EXTRACOT_CONFIG")
    if path is not None:
        check_yaml(Path(path))
    for flag in (f"--{name.replace('_', '-')}" for name in SECRETS):
        if any(a.partition("=")[0] == flag for a in arguments):
            variable = ENV_PREFIX + flag[2:].replace("-", "_").upper()
            raise SettingsError(
                f"every user of this machine sees the flags: give the key in {variable} or "
                f"{flag}-file"
            )
    _check_variables(os.environ)

    class Loaded(Settings):
        # A class of its own because the file's path varies; its docstring heads `--help`.
        __doc__ = "Budget-controlled, OpenAI-compatible server for reasoning models."

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return env_settings, YamlConfigSettingsSource(settings_cls, yaml_file=path)

    try:
        return Loaded(_cli_parse_args=arguments)
    except ValidationError as error:
        raise SettingsError(
            one_line(error, list(Settings.model_fields), (*SECRETS, "keys"))
        ) from None
    except PydanticSettingsError as error:
        raise SettingsError(str(error).splitlines()[0]) from None


def _check_variables(variables: Mapping[str, str]) -> None:
    for variable in variables:
        if not variable.startswith(ENV_PREFIX) or variable in FOREIGN_VARIABLES:
            continue
        name = variable.removeprefix(ENV_PREFIX).lower().partition("__")[0]
        if name not in Settings.model_fields:
            near = difflib.get_close_matches(name, Settings.model_fields, n=1)
            hint = f"; did you mean {ENV_PREFIX}{near[0].upper()}?" if near else ""
            raise SettingsError(f"unknown variable {variable}{hint}")
