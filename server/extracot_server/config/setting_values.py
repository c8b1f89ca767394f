"""Parses values of settings from text; an error is one line.

Such a line never shows a key. Knows no model's settings and no HTTP.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import yaml
from pydantic import BeforeValidator, SecretStr, ValidationError

from extracot.errors import ExtracotError
from extracot_server.config.unique_yaml import TwiceError, unique_yaml

_RULES = {
    "default_budget": "must be a number in (0, 1], auto, native or none",
    "host": "must be a name or an address of this machine; 0.0.0.0 or :: is every address",
    "keys": "must be the path of a YAML file; what looks like a key or a URL is taken for none "
    "(./NAME always is a path)",
    "upstreams": "must be the path of a YAML file; addresses are a list in upstream",
    "reasoning_effort_map": "takes EFFORT=BUDGET pairs such as low=0.3,high=auto; an effort is "
    "none, minimal, low, medium, high, xhigh or max, a budget a number in (0, 1], auto, native or "
    "none",
}


STORE_SCHEMES = ("redis", "rediss", "postgresql", "postgres")
"""What a URL of a store of usage may begin with."""
_STORES = f"a file, or a URL of one of these: {', '.join(STORE_SCHEMES)}"
_URL = re.compile(r"[A-Za-z][\w+.-]*:/|.*:.*@", re.DOTALL)
"""What was to be a URL: taken for a path it would be shown, with a password in it."""
_ALMOST_URL = re.compile(rf"{_URL.pattern}|({'|'.join(STORE_SCHEMES)}):", re.DOTALL)
_BARE_ADDRESS = (
    "an address is like http://host:8000 and must not hold a password; give the key as "
    "upstream_api_key"
)
_HIDDEN = (
    *("models", "vllm", "otlp_traces_endpoint", "config", "keys"),
    *("api_key_file", "reasoning_key_file"),
)
"""Settings that may hold a secret among other things, as may all of upstreams."""
PATH_STARTS = ("/", "./", "../", "~")
"""What begins so is a path, whatever follows."""


class SettingsError(ExtracotError):
    """A setting is unknown or has a value that is not allowed; the message is one line."""


def _may_be_found(host: str | None) -> bool:
    """Whether a name can be looked up and asked by those who do so: it is not asked here.

    httpx and the interpreter refuse names by rules of their own, some of them at the first request
    only, and with errors that name no setting.
    """
    import httpx  # not for --help

    if not host:
        return False
    try:
        host.encode("idna")  # as sockets do
        return bool(httpx.URL(scheme="http", host=host).host)
    except (httpx.InvalidURL, UnicodeError):
        return False


def check_file(value: Any) -> Any:
    """A file's path; ``ValueError`` that shows nothing of what looks like a URL.

    Errors show paths, and a URL may hold a password.

    >>> check_file("a@b/keys.yaml"), check_file("/a:b@c")
    ('a@b/keys.yaml', '/a:b@c')
    """
    return _no_url(value, _ALMOST_URL, "the path of a file")


def check_source(value: Any) -> Any:
    """A path, or a name such as a hub id; ``ValueError`` likewise.

    >>> check_source("org/name:8b"), check_source("./a:b@c")
    ('org/name:8b', './a:b@c')
    """
    return _no_url(value, _URL, "a path or a name")


def _no_url(value: Any, url: re.Pattern[str], wanted: str) -> Any:
    text = _unquoted(value)
    if not text.startswith(PATH_STARTS) and url.match(text):
        raise ValueError(f"must be {wanted}, and is like a URL; ./NAME always is a path")
    return value


def check_key_file(value: Any) -> Any:
    """The path of a file with keys; ``ValueError`` also for what looks like such a key itself."""
    if _unquoted(value).lower().startswith("sk-"):
        raise ValueError("must be the path of a file, and is like a key; ./NAME always is a path")
    return check_file(value)


def _unquoted(value: Any) -> str:
    """The text of a path, without what a shell or a file of variables may have left around it."""
    return str(value).strip(" \t\r\n'\"") if isinstance(value, str | Path) else ""


PlainFile = Annotated[Path | None, BeforeValidator(check_file)]
PlainPath = Annotated[Path | None, BeforeValidator(check_source)]
Source = Annotated[str, BeforeValidator(check_source)]
KeyFile = Annotated[Path | None, BeforeValidator(check_key_file)]


def check_endpoint(value: str | None) -> str | None:
    """An http(s) address, or ``None`` where there is none or it is empty; else ``ValueError``."""
    if not value:
        return None
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not _may_be_found(parts.hostname) or port == 0:
        raise ValueError("must be an address like http://collector:4318")
    return value


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """``; did you mean X?`` for a near miss of a known name, else nothing.

    >>> did_you_mean("prot", ["host", "port"]) + did_you_mean("x", ["host", "port"])
    '; did you mean port?'
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {prefix}{near[0]}?" if near else ""


def first_fault(error: ValidationError) -> tuple[str, str]:
    """The name of the first wrong field (empty: the whole) and what is wrong with it."""
    first = error.errors(include_url=False, include_input=False)[0]
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "path_type":
        message = "must be a path"
    return str(first["loc"][0]) if first["loc"] else "", message


def key_text(value: Any) -> Any:
    """A key as text: YAML reads one of digits as a number, and an error about it would show it."""
    return str(value) if isinstance(value, int | float) else value


def read_text(path: Path, name: str) -> str:
    """A file's text; ``ValueError`` in one line that names the setting."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{name} {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{name} {path} is not text") from None


def load_yaml(text: str, where: str) -> Any:
    """What a file says; ``ValueError`` in one line that does not quote it, as it may hold keys."""
    try:
        return unique_yaml(text)
    except TwiceError as error:
        raise ValueError(f"{where}: {error.told} ({error.lines})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f" (line {mark.line + 1})"
        raise ValueError(f"{where} is not YAML{line}") from None


def parse_key_values(value: Any, name: str) -> Any:
    """``"a=1"``, ``["a=1", "b=x"]``, JSON/YAML text or a mapping -> a dict with typed values.

    An error shows none of the values: a token may be among them.
    """
    if isinstance(value, str):
        stripped = value.strip()
        if stripped.startswith("{"):
            value = _yaml(stripped, name)
        else:
            value = [part for part in stripped.split(",") if part]
    if isinstance(value, list):
        return underscored(_pairs(value, name), name)
    if not isinstance(value, dict):
        raise ValueError(f"{name} takes KEY=VALUE pairs")
    return underscored(value.items(), name)


def _pairs(items: list[Any], name: str) -> Iterator[tuple[str, Any]]:
    """Keys and typed values of ``KEY=VALUE`` texts."""
    for number, item in enumerate(items, 1):
        key, equals, text = str(item).partition("=")
        if not equals or not key.strip():
            raise ValueError(f"{name} takes KEY=VALUE pairs, and number {number} is none")
        yield key.strip(), _yaml(text, f"{name}, pair {number}")


def underscored(pairs: Iterable[tuple[Any, Any]], name: str) -> dict[str, Any]:
    """A dict of them, keys written with underscores; ``ValueError`` for one that is there twice."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        written = str(key).replace("-", "_")
        if written in found:
            raise ValueError(f"{name}: {written!r:.60} is there twice (- counts as _)")
        found[written] = value
    return found


def _yaml(text: str, name: str) -> Any:
    try:
        return unique_yaml(text)
    except TwiceError as error:
        raise ValueError(f"{name}: {error.told}") from None
    except yaml.YAMLError:
        raise ValueError(f"{name} is not JSON") from None


def parse_upstreams(value: Any) -> list[str]:
    """``"a,b"``, a list of such or ``None`` -> base URLs without a path, in order."""
    if value is None:
        return []
    items = value if isinstance(value, list | tuple) else [value]
    texts = [part.strip() for item in items for part in str(item).split(",") if part.strip()]
    try:
        urls = [base_url(text) for text in texts]
    except ValueError:
        if any("@" in text for text in texts):  # a comma in a password has cut it in two
            raise ValueError(_BARE_ADDRESS) from None
        raise
    for url in urls:
        if urls.count(url) > 1:
            raise ValueError(f"{url} is listed twice")
    return urls


def parse_origins(value: Any) -> list[str]:
    """``"a,b"`` or a list of such -> origins as browsers write them, or ``*`` alone."""
    items = value if isinstance(value, list | tuple) else [value]
    texts = [part.strip() for item in items for part in str(item).split(",") if part.strip()]
    if any("@" in text for text in texts):
        raise ValueError("what holds an @ is not an origin like https://app.example.com")
    if "*" in texts and len(texts) > 1:
        raise ValueError("* is every page already: give it alone, or the pages' origins")
    return [text if text == "*" else _origin(text) for text in texts]


def _origin(text: str) -> str:
    """Scheme, host and port in lower case; a port that the scheme implies is left out."""
    wrong = ValueError(f"{text!r:.100} is not an origin like https://app.example.com, nor *")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise wrong from None
    scheme = parts.scheme.lower()
    named = scheme and host and text.isascii() and text.isprintable() and " " not in text
    bare = not (parts.path.strip("/") or parts.query or parts.fragment)
    if not (named and bare) or port == 0 or "*" in text:
        raise wrong
    host = f"[{host}]" if ":" in str(host) else host
    usual = {"http": 80, "https": 443}.get(scheme)
    return f"{scheme}://{host}" + ("" if port in (None, usual) else f":{port}")


def base_url(text: str) -> str:
    """An http address. The ``/v1`` of OpenAI clients is dropped: it is not the only path used.

    A server has one spelling, so that none is there twice: a host in lower case, no implied port.
    An error shows neither a password nor a query: both may be secrets.
    """
    bare = re.split("[?#]", text, maxsplit=1)[0]
    shown = f"{bare + '?…' * (bare != text)!r:.100}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    wrong = parts.scheme not in ("http", "https") or not host or port == 0
    wrong = wrong or " " in text or not text.isprintable() or bool(parts.query or parts.fragment)
    if "@" in parts.netloc or ("@" in text and wrong):
        raise ValueError(_BARE_ADDRESS)
    if wrong:
        raise ValueError(f"{shown} is not an address like http://host:8000")
    if not _may_be_found(host):
        raise ValueError(f"{shown} has a host that is no name and no IP address")
    path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    implied = {"http": ":80", "https": ":443"}[parts.scheme]
    return f"{parts.scheme}://{parts.netloc.lower().removesuffix(implied)}{path}"


def spread_keys(text: str | None, count: int) -> list[str | None]:
    """One key for all upstreams, or as many as there are, separated by commas or white space."""
    keys = (text or "").replace(",", " ").split()
    if any(not key.isascii() or not key.isprintable() for key in keys):
        raise ValueError("an upstream key must be printable ASCII")
    if len(keys) <= 1:
        return [keys[0] if keys else None] * count
    if len(keys) != count:
        raise ValueError(f"{len(keys)} upstream keys for {count} upstreams: give one, or one each")
    return list(keys)


def read_key_file(path: Path, name: str) -> str:
    """The text of a file with one or several keys; ``ValueError`` without any key."""
    text = read_text(path, name)
    if not text.replace(",", " ").strip():
        raise ValueError(f"{name} {path} holds no key")
    return text


def read_config(path: Path) -> dict[str, Any]:
    """What the file says; its names and values are checked later."""
    where = f"config file {path}"
    try:
        check_file(path)
    except ValueError as error:
        raise SettingsError(f"setting config: {error}") from None
    try:
        values = load_yaml(read_text(path, "config file"), where)
    except ValueError as error:
        raise SettingsError(str(error)) from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise SettingsError(f"{where} must hold `name: value` lines")
    return values


def one_line(error: ValidationError, known: Iterable[str], secrets: Container[str]) -> str:
    """What is wrong with the first wrong setting; ``known`` are the names there are.

    The value is shown where it is a plain one of a setting that holds no secret.
    """
    first = error.errors(include_url=False)[0]
    name, message = first_fault(error)
    if first["type"] == "extra_forbidden":
        return f"unknown setting {name}{did_you_mean(name, known)}"
    if not name:
        return message
    message = _RULES.get(name, message)
    message = f"setting {name}: {message[:1].lower()}{message[1:]}"
    given = first["input"]
    secret = name.startswith("upstream") or name in _HIDDEN or name in secrets
    if secret or isinstance(given, Mapping | list | tuple) or "@" in str(given):
        return message
    return f"{message} (got {given!r:.80})"


def check_store(value: Any) -> Any:
    """Where usage is kept, as text; ``ValueError`` that shows none of it: it may be a password."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if text is False:  # YAML's reading of `off`
        text = "off"
    if not isinstance(text, str | Path):
        raise ValueError("must be a file, redis://…, postgresql://…, memory or off")
    text = str(text)
    scheme, colon, _ = text.partition("://")
    if text.startswith(PATH_STARTS):
        colon = ""
    elif not colon and _ALMOST_URL.match(text):
        raise ValueError(f"must be {_STORES}; a URL begins like redis://")
    if not colon:
        if text not in ("", "off", "memory") and "/" not in text and not Path(text).suffix:
            raise ValueError(
                "must be off, memory, a URL like redis://host:6379/0, or a file: a path with a /, "
                "or a name like usage.sqlite"
            )
        return text
    if scheme not in STORE_SCHEMES:
        raise ValueError(f"must be {_STORES}")
    try:
        parts = urlsplit(text)
        named = _may_be_found(parts.hostname) and parts.port != 0
        # A sign in a password has ended the address before the password did.
        named = named and "@" not in parts.path + parts.query + parts.fragment
    except ValueError:
        named = False
    if not named:
        raise ValueError(
            f"must be a URL like {scheme}://host/…; a host or a port is wrong, or a sign in a "
            "password is not %-encoded, or an @ after it (%40)"
        )
    return text
