"""Where the server is and how to reach it: base URL, key, time limits; arguments or variables.

Arguments beat ``EXTRACOT_BASE_URL`` and ``EXTRACOT_API_KEY``. The key is never part of a ``repr``
or of a message made here.
"""

from __future__ import annotations

import ipaddress
import math
import os
import ssl
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx

from extracot_client.errors import ConfigurationError

DEFAULT_BASE_URL = "http://127.0.0.1:8000"
BASE_URL_VARIABLE = "EXTRACOT_BASE_URL"
API_KEY_VARIABLE = "EXTRACOT_API_KEY"
USER_AGENT = "extracot-client"


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Seconds; ``None`` means no limit.

    ``read`` is the longest silence, not the length of a reply: a server's heartbeats reset it.
    """

    connect: float | None = 5.0
    read: float | None = 120.0
    write: float | None = 30.0
    pool: float | None = 120.0


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
        headers=dict(headers or {}),
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


def _limits(timeout: float | TimeLimits | None) -> TimeLimits:
    if timeout is None:
        return TimeLimits()
    if isinstance(timeout, TimeLimits):
        return timeout
    if isinstance(timeout, bool) or not math.isfinite(timeout) or timeout <= 0:
        raise ConfigurationError(f"A timeout is a positive number of seconds, not {timeout!r}")
    return TimeLimits(
        connect=min(timeout, 5.0), read=timeout, write=min(timeout, 30.0), pool=timeout
    )
