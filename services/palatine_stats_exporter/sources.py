"""Documents for a listener, out of the segment its owner publishes; opened late, opened again when it was replaced."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from palatine.counters import SegmentView
from palatine.errors import ProtocolError
from palatine_stats_exporter.document import Form
from palatine_stats_exporter.emperor import EmperorEncoder
from palatine_stats_exporter.encoder import Encoder


class Renderer(Protocol):
    """Makes documents from an open segment."""

    def render(self) -> bytes:
        """The document as it is now."""


class SegmentSource:
    """A Source of documents rendered from the segment at a path. Used by the serving thread only."""

    def __init__(self, path: Path, owner: int, make: Callable[[SegmentView], Renderer], *, http: bool) -> None:
        """`owner` is the uid the segment must belong to; `http` whether clients must send a request."""
        self.http = http
        self._path = path
        self._owner = owner
        self._make = make
        self._view: SegmentView | None = None
        self._renderer: Renderer | None = None

    def render(self) -> bytes:
        """The document as it is now; ProtocolError, PeerError or OSError if the segment cannot be read."""
        try:
            if self._renderer is None:
                self._view = SegmentView.open(self._path, owner=self._owner)
                self._renderer = self._make(self._view)
            return self._renderer.render()
        except (LookupError, ValueError, OverflowError) as error:  # its writer is not one of ours
            self.close()
            raise ProtocolError(f"{self._path}: makes no document: {error!r}") from error
        except BaseException:
            self.close()  # look at it afresh next time
            raise

    def close(self) -> None:
        """Let go of the segment; the next `render` opens what is at the path then."""
        if self._view is not None:
            self._view.close()
        self._view = self._renderer = None


def instance_source(seg: Path, owner: int, form: Form, *, http: bool) -> SegmentSource:
    """Stats documents of an app-server."""
    return SegmentSource(seg, owner, lambda view: Encoder(view, form), http=http)


def emperor_source(seg: Path, owner: int, form: Form, *, http: bool) -> SegmentSource:
    """Stats documents of an emperor."""
    return SegmentSource(seg, owner, lambda view: EmperorEncoder(view, minified=form.minified), http=http)
