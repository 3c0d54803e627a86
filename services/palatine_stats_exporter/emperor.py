"""The Emperor's stats document, key for key as uWSGI's, from the emperor's segment; passwords in it are masked.

Facts: spec/server.md 2.4. uWSGI shows monitors with whatever password their address has; nobody needs that.
"""

from collections.abc import Mapping
from typing import Any, Final

from palatine.codec.masking import masked_address
from palatine.counters import SegmentView
from palatine.errors import ProtocolError
from palatine.schema import VASSAL_STATES
from palatine_stats_exporter.document import UWSGI_VERSION
from palatine_stats_exporter.layout import lay_out
from palatine_stats_exporter.reading import label_text

#: A vassal held back, or one that could not be taken on, is on uWSGI's blacklist and not among its vassals; one that is
#: gone may be on it for a while.
_NOT_GOVERNED: Final = tuple(VASSAL_STATES.index(state) for state in ("unused", "throttled", "refused"))


class EmperorEncoder:
    """Renders the emperor's document. Used by one thread."""

    def __init__(self, view: SegmentView, *, minified: bool) -> None:
        """ProtocolError if the segment is not an emperor's."""
        if not {"daemon", "emperor", "vassals"} <= view.tables.keys():
            raise ProtocolError(f"{view.path}: not an emperor's segment")
        self._view = view
        self._minified = minified

    def render(self) -> bytes:
        """The document as it is now."""
        return lay_out(emperor_document(self._view), minified=self._minified).encode()


def emperor_document(view: SegmentView) -> dict[str, Any]:
    """The whole document as it is now; ProtocolError if the segment was cut short."""
    daemon, emperor = view.row("daemon"), view.row("emperor")
    monitors = view.labels.get("monitors")
    rows = [
        (text.decode("utf-8", "backslashreplace").split("\0"), row)
        for text, row in zip(view.texts("vassals"), view.read("vassals"), strict=True)
        if text
    ]
    return {
        "version": UWSGI_VERSION,
        **{key: daemon[key] for key in ("pid", "uid", "gid")},
        "cwd": label_text(view.labels.get("cwd")),
        "emperor": [masked_address(label_text(monitor)) for monitor in monitors] if isinstance(monitors, list) else [],
        "emperor_tyrant": emperor["tyrant"],
        "throttle_level": emperor["throttle_level"],
        "vassals": [_vassal(texts, row) for texts, row in rows if row["state"] not in _NOT_GOVERNED],
        "blacklist": [_blacklisted(texts, row) for texts, row in rows if row["blacklist_level"]],
    }


def _vassal(texts: list[str], row: Mapping[str, int]) -> dict[str, Any]:
    name, monitor, on_demand, *_ = [*texts, "", "", ""]
    return {
        "id": name,
        "pid": row["pid"],
        **{key: row[key] for key in ("born", "last_mod", "last_heartbeat", "loyal", "ready", "accepting")},
        **{key: row[key] for key in ("last_loyal", "last_ready", "last_accepting", "first_run")},
        "last_run": row["last_start"],
        "cursed": row["cursed_at"],
        "zerg": row["zerg"],
        "on_demand": on_demand,
        "uid": row["uid"],
        "gid": row["gid"],
        "monitor": masked_address(monitor),
        "respawns": row["respawns"],
    }


def _blacklisted(texts: list[str], row: Mapping[str, int]) -> dict[str, Any]:
    return {
        "id": texts[0],
        "throttle_level": row["blacklist_level"],
        "attempt": row["attempts"],
        "first_attempt": row["first_attempt"],
        "last_attempt": row["last_attempt"],
    }
