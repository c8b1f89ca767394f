"""``/docs``: the OpenAPI document as a page (Swagger UI), which needs no other host than this one.

Addresses are relative, so that it works behind a proxy that serves it under another path.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

_FOLDER = Path(__file__).parent / "swagger_ui"
_SCRIPT, _STYLE = "swagger-ui-bundle.js", "swagger-ui.css"
_KEPT = {"cache-control": "public, max-age=3600"}


def install_docs_page(app: FastAPI) -> None:
    """Serve the page and its files; FastAPI's own takes them from a CDN."""
    html = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=app.title,
        swagger_js_url=f"docs/{_SCRIPT}",
        swagger_css_url=f"docs/{_STYLE}",
        swagger_favicon_url="data:,",
        swagger_ui_parameters={"validatorUrl": None},  # else it asks one of its makers'
    ).body

    async def page(_: Request) -> Response:
        return HTMLResponse(html)

    async def file(request: Request) -> Response:
        return FileResponse(_FOLDER / request.url.path.rpartition("/")[2], headers=_KEPT)

    app.add_route("/docs", page, include_in_schema=False)
    for name in (_SCRIPT, _STYLE):
        app.add_route(f"/docs/{name}", file, include_in_schema=False)
