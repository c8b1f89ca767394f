"""Web pages of other origins: which may call the API from a browser, and what they may read.

A preflight carries no key, so it is answered before keys are looked at; and every reply, errors
too, says who may read it, or a page could not tell a 429 from a broken network. Knows no API.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

METHODS = ("GET", "HEAD", "POST")
EXPOSED = (
    *("x-request-id", "request-id", "x-extracot-budget", "x-extracot-arm"),
    *("retry-after", "www-authenticate"),
    *(
        f"x-ratelimit-{what}-{kind}"
        for what in ("limit", "remaining", "reset")
        for kind in ("requests", "tokens")
    ),
)
"""Fields of a reply that a page may read besides the few that every page may."""
_PREFLIGHT_SECONDS = 2 * 60 * 60  # as long as Chromium keeps one


def cors(app: ASGIApp, origins: Sequence[str]) -> CORSMiddleware:
    """The middleware for these origins, or for all (``*``).

    Any field may be sent: SDKs send a dozen of their own (``x-stainless-*``, ``anthropic-*``).
    There are no cookies, so no page gets at anything with a visitor's credentials. A page of the
    internet may ask a server in a private network, if its origin is listed.
    """
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=METHODS,
        allow_headers=("*",),
        allow_private_network=True,
        expose_headers=EXPOSED,
        max_age=_PREFLIGHT_SECONDS,
    )
