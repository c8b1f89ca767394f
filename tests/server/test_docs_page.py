"""`/docs` in a browser that reaches no other host, and its files without one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.clients.browser import chromium, watched_page
from tests.server.live import Live, serve


def test_the_page_names_no_other_host_and_its_files_are_here(token_server: Live) -> None:
    page = token_server.http.get("/docs")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    assert "//" not in page.text.replace("<!-- `SwaggerUIBundle` is now available", "")
    named = re.findall(r"""(?:src|href)="([^"]+)"|url: '([^']+)'""", page.text)
    files = {one or other for one, other in named} - {"data:,"}
    assert files == {"docs/swagger-ui-bundle.js", "docs/swagger-ui.css", "openapi.json"}
    for name, kind in (
        ("docs/swagger-ui-bundle.js", "javascript"),
        ("docs/swagger-ui.css", "text/css"),
        ("openapi.json", "application/json"),
    ):
        found = token_server.http.get(f"/{name}")
        assert found.status_code == 200 and kind in found.headers["content-type"], name
        head = token_server.http.head(f"/{name}")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(found.content))
    assert b"SwaggerUIBundle" in token_server.http.get("/docs/swagger-ui-bundle.js").content[:500]
    assert token_server.http.get("/docs/NOTICE").status_code == 404


def test_a_browser_shows_the_operations(tmp_path: Path) -> None:
    pytest.importorskip("playwright")
    with serve() as live, chromium(tmp_path / "profile") as browser:
        with watched_page(browser) as watched:
            watched.page.goto(f"{live.url}/docs")
            watched.page.get_by_text("/v1/chat/completions").first.wait_for()
            watched.page.get_by_text("/v1/budget").first.click()
            watched.page.get_by_text("The card of a model").first.wait_for()
        assert watched.complaints == []
        assert watched.hosts <= {"127.0.0.1", "data"}
