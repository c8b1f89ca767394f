"""Writes the dashboards.

``python deploy/grafana/generate.py`` writes ``dashboards/*.json``; ``--check`` writes nothing and
ends with 1 where they are not current. The questions are in :mod:`boards`; here is only what
Grafana wants around them. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))
from boards import DASHBOARDS  # noqa: E402
from boards.parts import Board, Panel, Row  # noqa: E402

WIDTH = 24
HEIGHTS = {"stat": 4, "timeseries": 8, "bargauge": 8, "table": 8}
CHOICES = {
    "job": ("Job", "label_values(extracot_build_info, job)"),
    "model": ("Model", 'label_values(extracot_build_info{job=~"$job"}, model)'),
    "key": ("Key", 'label_values(extracot_key_tokens_total{job=~"$job"}, key)'),
}
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def main() -> int:
    """Write or check the dashboards; 0, or 1 where ``--check`` found one out of date."""
    parser = argparse.ArgumentParser(description="Write deploy/grafana/dashboards/*.json.")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if out of date")
    check = parser.parse_args().check
    stale = []
    for board in DASHBOARDS:
        path = FOLDER / "dashboards" / f"{board.uid}.json"
        text = json.dumps(dashboard(board), indent=1, ensure_ascii=False) + "\n"
        if not path.exists() or path.read_text() != text:
            stale.append(path.name)
            if not check:
                path.parent.mkdir(exist_ok=True)
                path.write_text(text)
    print(f"out of date: {', '.join(stale)}" if check and stale else "dashboards are current")
    return 1 if check and stale else 0


def dashboard(board: Board) -> dict[str, Any]:
    """A dashboard in Grafana's JSON model."""
    return {
        "uid": f"extracot-{board.uid}",
        "title": board.title,
        "description": board.description,
        "tags": ["extracot"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": f"now-{board.span}", "to": "now"},
        "timezone": "browser",
        "links": [
            {
                "title": "Extra-CoT",
                "type": "dashboards",
                "tags": ["extracot"],
                "asDropdown": True,
                "includeVars": True,
                "keepTime": True,
            }
        ],
        "templating": {"list": [*choices(board), *(textbox(*v) for v in board.inputs)]},
        "panels": [
            drawn(place.panel, number, place) for number, place in enumerate(layout(board), 1)
        ],
    }


@dataclass(frozen=True, slots=True)
class Place:
    """Where a panel lies on Grafana's grid of 24 columns."""

    panel: Panel | Row
    x: int
    y: int
    w: int
    h: int


def layout(board: Board) -> Iterator[Place]:
    """Panels from left to right, a new line where one is full; a row begins a line of its own."""
    x = y = line = 0
    for panel in board.panels:
        w, h = (WIDTH, 1) if isinstance(panel, Row) else (panel.width, HEIGHTS[panel.kind])
        if x + w > WIDTH or isinstance(panel, Row):
            x, y, line = 0, y + line, 0
        yield Place(panel, x, y, w, h)
        x, line = x + w, max(line, h)


def drawn(panel: Panel | Row, number: int, place: Place) -> dict[str, Any]:
    """A panel in Grafana's JSON model."""
    grid = {"x": place.x, "y": place.y, "w": place.w, "h": place.h}
    if isinstance(panel, Row):
        return {"id": number, "type": "row", "title": panel.title, "gridPos": grid, "panels": []}
    instant = panel.kind != "timeseries"
    targets = [
        {
            "refId": chr(ord("A") + index),
            "datasource": DATASOURCE,
            "expr": query.expr,
            "legendFormat": query.legend,
            "instant": instant,
            "range": not instant,
            **({"format": "table"} if panel.kind == "table" else {}),
        }
        for index, query in enumerate(panel.queries)
    ]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": grid,
        "targets": targets,
        "fieldConfig": {"defaults": field_defaults(panel), "overrides": []},
        "options": options(panel),
        **({"transformations": [{"id": "merge", "options": {}}]} if panel.kind == "table" else {}),
    }


def field_defaults(panel: Panel) -> dict[str, Any]:
    """How the numbers of a panel are written and drawn."""
    found: dict[str, Any] = {"unit": panel.unit}
    if panel.decimals is not None:
        found["decimals"] = panel.decimals
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.stacked else "none"}
        custom = {"lineWidth": 1, "fillOpacity": 30 if panel.stacked else 5, "stacking": stacking}
        found["custom"] = {**custom, "showPoints": "never"}
    if panel.unit == "percentunit":
        if panel.kind == "timeseries":
            found["custom"]["axisSoftMin"] = 0  # what is below is drawn: a saving may be
        elif panel.kind == "bargauge":
            found["min"] = 0
    return found


def options(panel: Panel) -> dict[str, Any]:
    """What a kind of panel is told besides its numbers."""
    last = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    match panel.kind:
        case "stat":
            return {"reduceOptions": last, "colorMode": "value", "graphMode": "none"}
        case "bargauge":
            return {"reduceOptions": last, "orientation": "horizontal", "displayMode": "basic"}
        case "table":
            return {"showHeader": True}
        case _:
            legend = {"displayMode": "list", "placement": "bottom", "showLegend": True}
            return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}


def choices(board: Board) -> list[dict[str, Any]]:
    """The lists at the top of a dashboard: data source, and what it can be narrowed to."""
    source = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
    }
    return [source, *(label_values(name, *CHOICES[name]) for name in board.choices)]


def label_values(name: str, label: str, query: str) -> dict[str, Any]:
    """A choice of several, all of them by default."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": f"variable-{name}"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def textbox(name: str, label: str, value: str) -> dict[str, Any]:
    """A number that a viewer can change."""
    current = {"text": value, "value": value}
    return {
        "name": name,
        "label": label,
        "type": "textbox",
        "query": value,
        "current": current,
        "options": [{**current, "selected": True}],
    }


if __name__ == "__main__":
    raise SystemExit(main())
