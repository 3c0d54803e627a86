"""Write the Grafana dashboards: `python deploy/grafana/generate.py`; with --check, say whether they are up to date."""

import json
import sys
from pathlib import Path
from typing import Any

from panels import Panel, Query, panels

HERE = Path(__file__).parent
#: Grafana's model of a dashboard since 10.4; later ones take it as it is.
SCHEMA_VERSION = 39
#: Readings are this far apart unless the exporter or Prometheus is told otherwise; finer intervals would be empty.
#: A variable of the dashboard, `reading`, says so to every panel.
INTERVALS = {"influxdb": "10s", "prometheus": "15s"}
_CHOICES = ("1s", "5s", "10s", "15s", "30s", "1m", "5m")
_NAMES = {"influxdb": "InfluxDB", "prometheus": "Prometheus"}
_WIDTH = 24
_SIZES = {"stat": (6, 4), "timeseries": (8, 8), "bars": (8, 8)}


def dashboard(kind: str) -> dict[str, Any]:
    """The dashboard for one kind of database."""
    made, x, y = [], 0, 0
    for number, panel in enumerate(panels(), 1):
        width, height = _SIZES[panel.kind] if panel.title != "Worker uptime" else (_WIDTH - 8, 8)
        if x + width > _WIDTH:
            x, y = 0, y + made[-1]["gridPos"]["h"]
        made.append(_panel(kind, number, panel, {"h": height, "w": width, "x": x, "y": y}))
        x += width
    return {
        "annotations": {"list": []},
        "description": "uWSGI's numbers as palatine (or uWSGI itself) counts them.",
        "editable": True,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "links": [],
        "panels": made,
        "refresh": "10s",
        "schemaVersion": SCHEMA_VERSION,
        "tags": ["uwsgi", "palatine"],
        "templating": {"list": _variables(kind)},
        "time": {"from": "now-15m", "to": "now"},
        "timepicker": {},
        "timezone": "",
        "title": f"uWSGI ({_NAMES[kind]})",
        "uid": f"palatine-uwsgi-{kind}",
        "version": 1,
        "weekStart": "",
    }


def _panel(kind: str, number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    queries = panel.influx if kind == "influxdb" else panel.prometheus
    unit = panel.units[0] if kind == "influxdb" else panel.units[1]
    stat = panel.kind == "stat"
    return {
        "datasource": _source(kind),
        "description": panel.description,
        "fieldConfig": {
            "defaults": {
                "color": {"mode": "palette-classic"},
                "custom": {} if stat else _drawn(bars=panel.kind == "bars"),
                "decimals": 0 if panel.kind == "bars" or unit == "short" else None,
                "mappings": [],
                "min": None if stat else 0,
                "thresholds": {"mode": "absolute", "steps": [{"color": "green", "value": None}]},
                "unit": unit,
            },
            "overrides": [],
        },
        "gridPos": place,
        "id": number,
        "interval": "$reading",
        "options": _stat_options(panel) if stat else _series_options(),
        "targets": [_target(kind, query, chr(ord("A") + at)) for at, query in enumerate(queries)],
        "title": panel.title,
        "type": "stat" if stat else "timeseries",
    }


def _target(kind: str, query: Query, ref: str) -> dict[str, Any]:
    common = {"datasource": _source(kind), "refId": ref}
    if kind == "influxdb":
        return {**common, "alias": query.name, "query": query.text, "rawQuery": True, "resultFormat": "time_series"}
    return {**common, "editorMode": "code", "expr": query.text, "legendFormat": query.name, "range": True}


def _drawn(*, bars: bool) -> dict[str, Any]:
    return {
        "drawStyle": "bars" if bars else "line",
        "fillOpacity": 60 if bars else 10,
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "pointSize": 4,
        "showPoints": "auto",
        "spanNulls": not bars,
        "stacking": {"group": "A", "mode": "normal" if bars else "none"},
    }


def _stat_options(panel: Panel) -> dict[str, Any]:
    return {
        "colorMode": "value",
        "graphMode": "none" if panel.title == "Worker uptime" else "area",
        "justifyMode": "auto",
        "orientation": "auto",
        "percentChangeColorMode": "standard",
        "reduceOptions": {"calcs": [panel.reduce], "fields": "", "values": False},
        "showPercentChange": False,
        "textMode": "auto",
        "wideLayout": True,
    }


def _series_options() -> dict[str, Any]:
    return {
        "legend": {"calcs": ["lastNotNull", "max"], "displayMode": "table", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def _source(kind: str) -> dict[str, str]:
    return {"type": kind, "uid": "${datasource}"}


def _variables(kind: str) -> list[dict[str, Any]]:
    queries = {
        "influxdb": (
            'SHOW TAG VALUES FROM "uwsgi_overview" WITH KEY = "uwsgi_host"',
            'SHOW TAG VALUES FROM "uwsgi_overview" WITH KEY = "instance" WHERE "uwsgi_host" =~ /^$host$/',
        ),
        "prometheus": (
            "label_values(uwsgi_workers, instance)",
            'label_values(uwsgi_workers{instance=~"$host"}, uwsgi_instance)',
        ),
    }[kind]
    source = {
        "hide": 0,
        "includeAll": False,
        "label": "Data source",
        "multi": False,
        "name": "datasource",
        "options": [],
        "query": kind,
        "refresh": 1,
        "regex": "",
        "skipUrlSync": False,
        "type": "datasource",
    }
    reading = {
        "current": {"selected": True, "text": INTERVALS[kind], "value": INTERVALS[kind]},
        "hide": 0,
        "includeAll": False,
        "label": "Readings every",
        "multi": False,
        "name": "reading",
        "options": [{"selected": word == INTERVALS[kind], "text": word, "value": word} for word in _CHOICES],
        "query": ",".join(_CHOICES),
        "skipUrlSync": False,
        "type": "custom",
    }
    names = zip(("host", "instance"), ("Host", "Instance"), queries, strict=True)
    return [source, *(_choice(kind, name, label, query) for name, label, query in names), reading]


def _choice(kind: str, name: str, label: str, query: str) -> dict[str, Any]:
    """A variable of which many or all may be chosen; "all" also takes series without the tag: telegraf's."""
    return {
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "datasource": _source(kind),
        "hide": 0,
        "includeAll": True,
        "label": label,
        "multi": True,
        "name": name,
        "options": [],
        "query": query if kind == "influxdb" else {"query": query, "refId": "PrometheusVariableQueryEditor"},
        "refresh": 2,
        "regex": "",
        "skipUrlSync": False,
        "sort": 1,
        "type": "query",
    }


def main(argv: list[str]) -> int:
    """Write or check the files; 1 if --check finds one that is not what it should be."""
    stale = []
    for kind in INTERVALS:
        path = HERE / "dashboards" / f"uwsgi-{kind}.json"
        text = json.dumps(_without_none(dashboard(kind)), indent=2, ensure_ascii=False) + "\n"
        if "--check" in argv:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                stale.append(path.name)
        else:
            path.write_text(text, encoding="utf-8")
    if stale:
        print(f"not what generate.py makes: {', '.join(stale)}", file=sys.stderr)
    return 1 if stale else 0


def _without_none(value: Any) -> Any:
    """Without settings that are left to Grafana; a threshold's first step needs its null."""
    if isinstance(value, dict):
        kept = {key: _without_none(item) for key, item in value.items() if item is not None or key == "value"}
        return {key: item for key, item in kept.items() if key != "custom" or item}
    return [_without_none(item) for item in value] if isinstance(value, list) else value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
