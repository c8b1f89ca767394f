"""Where the server is and how to reach it: base URL, key, time limits; arguments or variables.

Arguments beat ``EXTRACOT_BASE_URL`` and ``EXTRACOT_API_KEY``. The key is never part of a ``repr``
or of a message made here.
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import httpx

from extracot_client.errors import ConfigurationError

DEFAULT_BASE_URL = "http://127.0.0.1:8000"
BASE_URL_VARIABLE = "EXTRACOT_BASE_URL"
API_KEY_VARIABLE = "EXTRACOT_API_KEY"
USER_AGENT = "extracot-client"
MAX_SECONDS = 30 * 86400.0
"""The longest time limit; sockets cannot count much further."""

H = TypeVar("H", httpx.Client, httpx.AsyncClient)
_PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Seconds; ``None`` means no limit.

    ``read`` is the longest silence, not the length of a reply: a server's heartbeats reset it.
    Raises :class:`ConfigurationError` for one that is not above 0 or beyond 30 days.
    """

    connect: float | None = 5.0
    read: float | None = 120.0
    write: float | None = 30.0
    pool: float | None = 120.0

    def __post_init__(self) -> None:
        for name, limit in asdict(self).items():
            if limit is not None:
                _check_seconds(limit, f"The time limit `{name}`")


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Everything that a connection pool to one server needs; shared by both clients."""

    base_url: httpx.URL
    api_key: str | None = field(repr=False)
    limits: TimeLimits
    headers: Mapping[str, str] = field(repr=False)
    verify: ssl.SSLContext | bool = True
    max_connections: int = 100

    @property
    def shown_url(self) -> str:
        """The base URL without user information, fit for messages."""
        return str(self.base_url.copy_with(userinfo=b"")).rstrip("/")

    def redact(self, text: str) -> str:
        """``text`` with the key taken out, should a server have echoed it.

        Not so for keys as short as a syllable: they are no secret, and would tear words apart.
        """
        key = self.api_key
        return text.replace(key, "***") if key is not None and len(key) >= 8 else text

    def request_headers(self) -> dict[str, str]:
        """Headers of every request."""
        headers = {"user-agent": USER_AGENT, "accept": "application/json", **self.headers}
        if self.api_key:
            headers["authorization"] = f"Bearer {self.api_key}"
        return headers

    def timeout(self, deadline: float | None = None) -> httpx.Timeout:
        """The limits for one request, none of them longer than what is left of ``deadline``."""
        limits = asdict(self.limits)
        if deadline is not None:
            deadline = min(deadline, MAX_SECONDS)
            limits = {
                name: deadline if limit is None else min(limit, deadline)
                for name, limit in limits.items()
            }
        return httpx.Timeout(**limits)

    def http_options(self) -> dict[str, Any]:
        """What a client of httpx is made with."""
        most = self.max_connections
        return {
            "base_url": self.base_url,
            "headers": self.request_headers(),
            "limits": httpx.Limits(max_connections=most, max_keepalive_connections=most),
            "verify": self.verify,
            "trust_env": self.trust_env,
        }

    def connect(self, kind: Callable[..., H]) -> H:
        """A client of httpx. Raises :class:`ConfigurationError` for a proxy it cannot use."""
        try:
            return kind(**self.http_options())
        except ImportError:  # httpx has what SOCKS needs as an extra
            reason = "a SOCKS proxy needs the package socksio (pip install 'httpx[socks]')"
        except (httpx.InvalidURL, ValueError):
            reason = "want a URL that begins with http://, https:// or socks5://"
        names = [n for name in _PROXY_VARIABLES for n in (name, name.lower()) if os.environ.get(n)]
        where = f"variables {', '.join(names)}" if names else "system's settings"
        # The cause is not shown: it may quote a part of a password.
        raise ConfigurationError(f"The proxy of the {where} cannot be used: {reason}")

    @property
    def trust_env(self) -> bool:
        """Whether proxy variables count: not for this very machine, which no proxy can reach."""
        host = self.base_url.host
        if host == "localhost":
            return False
        try:
            return not ipaddress.ip_address(host).is_loopback
        except ValueError:
            return True


def resolve_settings(
    base_url: str | None,
    api_key: str | None,
    *,
    timeout: float | TimeLimits | None = None,
    headers: Mapping[str, str] | None = None,
    verify: ssl.SSLContext | bool = True,
    max_connections: int = 100,
    variables: Mapping[str, str] = os.environ,
) -> ClientSettings:
    """Arguments, then variables, then defaults; raises :class:`ConfigurationError` in one line."""
    url = base_url or variables.get(BASE_URL_VARIABLE) or DEFAULT_BASE_URL
    key = api_key if api_key is not None else variables.get(API_KEY_VARIABLE)
    return ClientSettings(
        base_url=parse_base_url(url),
        api_key=_check_key(key),
        limits=_limits(timeout),
        headers=_check_headers(headers or {}),
        verify=verify,
        max_connections=max_connections,
    )


def parse_base_url(text: str) -> httpx.URL:
    """``http(s)://host[:port][/prefix]``, with or without the final ``/v1``, as one URL.

    >>> str(parse_base_url("http://127.0.0.1:8000/v1/"))
    'http://127.0.0.1:8000/'
    """
    try:
        url = httpx.URL(text.strip())
        host = url.host  # some names are refused only here, and by the library below
        host.encode("idna")  # as sockets do
    except (httpx.InvalidURL, UnicodeError) as error:
        raise ConfigurationError(f"The base URL is not a URL: {error}") from None
    if url.scheme not in ("http", "https") or not host:
        shown = str(url.copy_with(userinfo=b"")) if host else text.strip()[:100]
        raise ConfigurationError(f"The base URL must look like {DEFAULT_BASE_URL}, not {shown!r}")
    path = url.path.rstrip("/").removesuffix("/v1")
    return url.copy_with(path=path + "/", query=None, fragment=None)


def _check_key(key: str | None) -> str | None:
    key = key.strip() if key is not None else None
    if not key:
        return None
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError(
            "The API key holds characters that an HTTP header cannot carry (it is not shown here)"
        )
    return key


def _check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ConfigurationError(f"{name!r} cannot be the name of a header")
        if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
            raise ConfigurationError(
                f"The value of the header {name!r} must be plain ASCII text (it is not shown here)"
            )
    return {name: value.strip() for name, value in headers.items()}


def _check_seconds(value: object, what: str) -> None:
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else 0
    if not 0 < number <= MAX_SECONDS:
        raise ConfigurationError(
            f"{what} is a positive number of seconds, at most {MAX_SECONDS:.0f}, not {value!r}"
        )


def _limits(timeout: float | TimeLimits | None) -> TimeLimits:
    if timeout is None:
        return TimeLimits()
    if isinstance(timeout, TimeLimits):
        return timeout
    _check_seconds(timeout, "The time limit `timeout`")
    return TimeLimits(
        connect=min(timeout, 5.0), read=timeout, write=min(timeout, 30.0), pool=timeout
    )
