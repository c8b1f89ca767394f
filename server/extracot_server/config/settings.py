"""All settings of the server in one class: flags, EXTRACOT_* variables and a YAML file.

Those of a model, its budgets among them, it has from ``model_settings``, those of batches from
``batch_settings``.

A flag beats a variable, a variable beats the file, the file beats the default. Wrong names and
values become one line (:class:`SettingsError`). Knows nothing of FastAPI, vLLM or torch, so that
``--help`` is instant.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from secrets import token_bytes
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as PydanticSettingsError

from extracot_server.config.batch_settings import BatchSettings
from extracot_server.config.model_settings import (
    DAY,
    SECRETS,
    ModelSettings,
    check_names,
    each_model,
    parse_models,
)
from extracot_server.config.setting_values import (
    PATH_STARTS,
    KeyFile,
    check_endpoint,
    check_store,
    did_you_mean,
    key_text,
    one_line,
    parse_origins,
    read_config,
    read_text,
)
from extracot_server.config.setting_values import SettingsError as SettingsError

ENV_PREFIX = "EXTRACOT_"
_LEAST_SECRET = 16
ReasoningField = Literal["both", "reasoning", "reasoning_content"]
# Variables of the same prefix that belong to the installer and the client, not to the server.
FOREIGN_VARIABLES = {"EXTRACOT_DEVICE", "EXTRACOT_BASE_URL", "EXTRACOT_CONFIG"}


class Settings(BaseSettings, ModelSettings, BatchSettings):
    """Settings of one server process."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_ignore_empty=True,  # an empty variable is how a compose file spells "not set"
        extra="forbid",
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_prog_name="extracot-serve",
        protected_namespaces=(),
    )

    config: Path | None = Field(None, description="YAML file of these settings")

    models: Annotated[list[dict[str, Any]], NoDecode, BeforeValidator(parse_models)] = Field(
        default_factory=list,
        description="several models instead of one: NAME=MODEL or NAME=http://host:8000 "
        "(repeatable, or JSON); in a file a list with settings of their own",
    )
    host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 picks a free one")
    workers: int = Field(
        1,
        ge=1,
        le=256,
        description="processes that serve this one port; for engine remote, whose work is all HTTP",
    )

    # Who may use it
    keys: KeyFile = Field(
        None, description="YAML file of API keys and what each may do; read again on SIGHUP"
    )
    api_key: Annotated[SecretStr | None, BeforeValidator(key_text)] = Field(
        None, description="one API key for everybody; never a flag: set the variable or a file"
    )
    api_key_file: KeyFile = Field(None, description="file that holds that one API key")
    protect_metrics: bool = Field(False, description="/metrics requires a key, too")

    usage_store: Annotated[SecretStr, BeforeValidator(check_store)] = Field(
        SecretStr(""),
        description="where usage, quotas and the holdout are kept: a file (SQLite), "
        "redis://host:6379/0, postgresql://host/database, `memory`, or `off`; default: a file in "
        "~/.local/state/extracot where there are keys, a holdout or an upstreams file, else memory",
    )
    usage_store_lost: Literal["serve", "refuse"] = Field(
        "serve",
        description="while that store cannot be reached: `serve` keys with quotas and count later, "
        "or `refuse` them (503)",
    )

    # Honest savings
    holdout_fraction: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of budgeted requests that run natively, to measure what budgets save; "
        "0.01 is a good value",
    )
    holdout_at_ceiling: bool = Field(
        False,
        description="requests under a ceiling have a holdout of their own, which runs at the "
        "ceiling; without it they have no part in the comparison",
    )
    holdout_seed: int | None = Field(None, description="makes the draw repeatable, for tests")

    # HTTP
    reasoning_field: ReasoningField = Field(
        "both",
        description="where chat replies have their reasoning: `reasoning`, `reasoning_content`, or "
        "`both`; a request's own `reasoning_field` takes precedence",
    )
    max_body_bytes: int = Field(4 * 2**20, ge=1024, description="larger bodies are refused (413)")
    max_messages: int = Field(1024, ge=1, description="most messages in one request")
    held_items_bytes: int = Field(
        64 * 2**20,
        ge=0,
        description="memory for items of replies of /v1/responses, which a later request may name "
        "(`item_reference`); 0: none is held",
    )
    held_items_seconds: float = Field(
        3600.0, gt=0, le=30 * DAY, description="how long such an item is held after its last use"
    )
    reasoning_key: Annotated[SecretStr | None, BeforeValidator(key_text)] = Field(
        None,
        description="secret that seals the reasoning which clients keep for a later request "
        "(encrypted_content, signatures); the same for all replicas; by default a random one for "
        "each start; never a flag: set the variable or a file",
    )
    reasoning_key_file: KeyFile = Field(None, description="file that holds that secret")
    max_choices: int = Field(16, ge=1, le=128, description="largest `n`")
    heartbeat_seconds: float = Field(
        15.0, gt=0, le=DAY, description="a silent stream sends an SSE comment this often"
    )
    grace_seconds: float = Field(
        30.0, ge=0, le=DAY, description="SIGTERM: time running requests get to finish"
    )
    health_interval_seconds: float = Field(
        5.0, gt=0, le=DAY, description="how often the engine's health is checked in the background"
    )
    join_milliseconds: float = Field(
        100.0,
        ge=0,
        le=1000,
        description="where the server falls behind its streams, tokens wait this long at most for "
        "others to share their event; 0: never",
    )
    send_timeout_seconds: float = Field(
        60.0,
        gt=0,
        le=DAY,
        description="a client that reads nothing of its stream for this long times out",
    )
    receive_timeout_seconds: float = Field(
        60.0,
        gt=0,
        le=DAY,
        description="a request must have arrived, head and body, within this time",
    )
    max_header_bytes: int = Field(
        64 * 1024, ge=1024, description="larger request heads are refused (431)"
    )
    keep_alive_seconds: float = Field(
        120.0,
        ge=1,
        le=DAY,
        description="an idle connection is kept this long; longer than the proxy in front keeps "
        "its own, or it sends requests on connections that are being closed",
    )
    cors_origins: Annotated[list[str], NoDecode, BeforeValidator(parse_origins)] = Field(
        default_factory=list,
        description="web pages that may call this server from a browser: "
        "https://app.example.com (repeatable, or separated by commas), or * for every page; "
        "none by default",
    )
    on_engine_death: Literal["restart", "exit", "stay"] = Field(
        "restart",
        description="an engine that died or stalled: `restart` it in this process, with growing "
        "pauses; `exit` with code 1; or `stay` up, not ready",
    )
    engine_stall_seconds: float = Field(
        120.0,
        gt=0,
        le=DAY,
        description="vllm: an engine that does not answer for this long counts as dead",
    )
    playground: bool = Field(
        False, description="serve the playground at /playground (needs the extra `playground`)"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="verbosity of the server's own log"
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="format of log lines: text, or one JSON object each"
    )
    log_prompts: bool = Field(
        False, description="log the messages of each request (and put them on its trace)"
    )
    otlp_traces_endpoint: Annotated[str | None, AfterValidator(check_endpoint)] = Field(
        None,
        description="OpenTelemetry collector that gets a trace of each request, by OTLP over HTTP: "
        "http://collector:4318 (needs the extra `tracing`)",
    )

    _random_secret: bytes = PrivateAttr(default_factory=partial(token_bytes, 32))
    """Drawn before workers are forked, so that they have it in common."""

    @model_validator(mode="after")
    def _check_models(self) -> Settings:
        served = self.served_models()
        if not self.models:
            self.check_engine()
        names = [model.served_model_name for model in served]
        check_names([*filter(None, names), *(name for model in served for name in model.lora)])
        if self.workers > 1 and any(model.engine == "vllm" for model in served):
            raise ValueError(
                f"workers is {self.workers}, and each would load a vLLM of its own: run vLLM's "
                "servers and put workers in front of them (engine remote), or workers: 1"
            )
        return self

    @model_validator(mode="after")
    def _check_keys(self) -> Settings:
        key = self.single_key()
        if key is not None and (not key.isascii() or not key.isprintable() or " " in key):
            raise ValueError("the API key must be printable ASCII without spaces")
        if self.playground and self.workers > 1:
            raise ValueError(
                "a mounted playground keeps its sessions in one process: with workers, start it by "
                "itself (extracot playground)"
            )
        if self.playground and (key is not None or self.keys is not None):
            raise ValueError(
                "a mounted playground would let everybody in: with API keys, start it by itself "
                "(EXTRACOT_API_KEY=… extracot playground)"
            )
        return self

    @model_validator(mode="after")
    def _check_reasoning_key(self) -> Settings:
        if len(self.reasoning_secret()) < _LEAST_SECRET:
            raise ValueError(f"reasoning_key must have at least {_LEAST_SECRET} characters")
        return self

    def single_key(self) -> str | None:
        """The one API key, if there is one. Raises ``ValueError`` in one line without the key."""
        return _secret("api_key", self.api_key, self.api_key_file)

    def reasoning_secret(self) -> bytes:
        """What reasoning for clients to keep is sealed with; raises as :meth:`single_key`."""
        found = _secret("reasoning_key", self.reasoning_key, self.reasoning_key_file)
        return self._random_secret if found is None else found.encode()

    def served_models(self) -> list[ModelSettings]:
        """What is set for each model; of a server with one, these settings themselves."""
        return each_model(self, self.models) if self.models else [self]


def _secret(name: str, given: SecretStr | None, file: Path | None) -> str | None:
    """A secret by value or in a file, if either is set; ``ValueError`` never shows it."""
    # An empty value is one that is not set; an empty file is a mistake.
    text = (given.get_secret_value() if given else "").strip()
    if file is None:
        return text or None
    if text:
        raise ValueError(f"give {name} or {name}_file, not both")
    found = read_text(file, f"{name}_file").strip()
    if not found:
        raise ValueError(f"{name}_file {file} is empty")
    return found


def load_settings(argv: Sequence[str] | None = None) -> Settings:
    """Read flags, then variables, then the YAML file; raise :class:`SettingsError` in one line.

    ``--help`` ends the process the way argparse does.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    finder = argparse.ArgumentParser(add_help=False)
    finder.add_argument("--config")
    known, _ = finder.parse_known_args(arguments)
    by_variable = [text for name, text in os.environ.items() if name.upper() == "EXTRACOT_CONFIG"]
    path = next(filter(None, [known.config, *by_variable]), None)
    in_file = {} if path is None else read_config(Path(path))
    for flag in (f"--{name.replace('_', '-')}" for name in SECRETS):
        if any(a.partition("=")[0] == flag for a in arguments):
            variable = ENV_PREFIX + flag[2:].replace("-", "_").upper()
            raise SettingsError(
                f"every user of this machine sees the flags: give the key in {variable} or "
                f"{flag}-file"
            )
    _refuse_password(arguments)
    _check_variables(os.environ)

    class Loaded(Settings):
        # A class of its own because the file's path varies; its docstring heads `--help`.
        __doc__ = "Budget-controlled, OpenAI-compatible server for reasoning models."

        @classmethod
        def settings_customise_sources(
            cls, *_: Any, **sources: Any
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return sources["env_settings"], InitSettingsSource(cls, in_file)

    printed = io.StringIO()  # argparse lists all flags before the fault; only its end is kept
    try:
        with contextlib.redirect_stderr(printed):
            return Loaded(_cli_parse_args=arguments)
    except SystemExit as end:
        if not end.code:
            raise
        raise SettingsError(_flag_fault(printed.getvalue())) from None
    except ValidationError as error:
        raise SettingsError(
            one_line(error, list(Settings.model_fields), (*SECRETS, "keys", "usage_store"))
        ) from None
    except PydanticSettingsError as error:
        raise SettingsError(str(error).splitlines()[0]) from None


def _flag_fault(printed: str) -> str:
    """What is wrong with the flags, in a line, out of what argparse printed."""
    fault = printed.strip().rpartition("error: ")[2]
    if not fault.startswith("unrecognized arguments: "):
        return f"{fault}; see --help"
    word = fault.removeprefix("unrecognized arguments: ").split()[0].partition("=")[0]
    if not word.startswith("-"):
        word = word.rpartition("@")[2]  # without the password of an address
        return f"{word} follows no flag; see --help"
    flags = [f"--{name.replace('_', '-')}" for name in Settings.model_fields]
    return f"unknown flag {word}{did_you_mean(word, flags) or '; see --help'}"


def _refuse_password(arguments: Sequence[str]) -> None:
    """A store's URL may hold a password; :class:`SettingsError` where it came as a flag."""
    for argument, following in pairwise([*arguments, ""]):
        flag, _, value = argument.partition("=")
        value = value or following
        in_query = "password" in unquote(value.partition("?")[2]).lower()
        a_path = value.startswith(PATH_STARTS)
        if flag == "--usage-store" and not a_path and ("@" in value or in_query):
            raise SettingsError(
                "every user of this machine sees the flags: give a URL with a password in "
                f"{ENV_PREFIX}USAGE_STORE"
            )


def _check_variables(variables: Iterable[str]) -> None:
    """Whether each is a setting's; as where they are read, capitals make no difference."""
    for variable in variables:
        upper = variable.upper()
        name = upper.removeprefix(ENV_PREFIX).lower()
        if not upper.startswith(ENV_PREFIX) or upper in FOREIGN_VARIABLES:
            continue
        whole, parts, _ = name.partition("__")
        if parts and whole in Settings.model_fields:
            full = ENV_PREFIX + whole.upper()
            raise SettingsError(f"unknown variable {variable}: give the whole setting in {full}")
        if name not in Settings.model_fields:
            known = map(str.upper, Settings.model_fields)
            hint = did_you_mean(name.upper(), known, ENV_PREFIX)
            raise SettingsError(f"unknown variable {variable}{hint}")
