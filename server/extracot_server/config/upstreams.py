"""Where vLLM servers are and which key each gets: the text of settings, checked and taken apart.

Raises ``ValueError`` in one line that never shows a key. Knows no HTTP.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit


def parse_upstreams(value: Any) -> list[str]:
    """``"a,b"``, a list of such or ``None`` -> base URLs without a path, in order."""
    if value is None:
        return []
    items = value if isinstance(value, list | tuple) else [value]
    texts = [part.strip() for item in items for part in str(item).split(",") if part.strip()]
    urls = [_base_url(text) for text in texts]
    for url in urls:
        if urls.count(url) > 1:
            raise ValueError(f"{url} is listed twice")
    return urls


def _base_url(text: str) -> str:
    """An http address. The ``/v1`` of OpenAI clients is dropped: it is not the only path used."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.username is not None or parts.password is not None:
        raise ValueError("an address must not hold a password; give the key as upstream_api_key")
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise ValueError(f"{text!r:.100} is not an address like http://host:8000")
    if " " in text or port == 0:
        raise ValueError(f"{text!r:.100} is not an address like http://host:8000")
    path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path}"


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
