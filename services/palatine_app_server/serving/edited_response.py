"""A response whose headers, error pages or body the config or a route has a say in. Used only where one of them has."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from palatine_app_server.config.response_settings import ResponseSettings
from palatine_app_server.serving.clients import ClientGoneError
from palatine_app_server.serving.file_wrapper import FileWrapper
from palatine_app_server.serving.header_edits import HeaderEdits
from palatine_app_server.serving.response import ExcInfo, Piece, Response, ResponseError

if TYPE_CHECKING:  # loaded where a body is to be changed
    from palatine_app_server.routing.body_transforms import Transform

#: Made once, not with every response.
_NO_EDITS: Final = HeaderEdits()
_NO_PAGES: Final[Mapping[int, Sequence[str]]] = {}
_NOTHING: Final = ResponseSettings()
#: What `Requests` says of an app's exception where the client must not see more.
_PLAIN = "Internal Server Error"


class EditedResponse(Response):
    """`edits` are applied to whatever headers are sent, the server's own answers included; `pages` are paths by status.

    `auto_gzip`: the client takes gzip, and the config lets apps ask for it by `uWSGI-Encoding: gzip`. `variables` are
    the request's, as the app has them and as the log does.
    """

    __slots__ = ("_fed", "_gone", "auto_gzip", "edits", "pages", "settings", "transforms", "variables")

    edits: HeaderEdits
    pages: Mapping[int, Sequence[str]]

    def __init__(self, *arguments: Any) -> None:
        output, may_keep, date, framed, http11, keep_alive, head_only = arguments
        super().__init__(output, may_keep, date, framed, http11, keep_alive, head_only)  # mypyc passes no *arguments
        self.edits, self.pages, self.settings = _NO_EDITS, _NO_PAGES, _NOTHING
        self.variables: tuple[dict[str, Any], ...] = ()
        self.auto_gzip = self._fed = self._gone = False
        self.transforms: list[Transform] = []

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """As `Response.start_response`, with the headers edited."""
        headers = self.edits.apply(headers)
        if self.settings.collected:
            headers = self._collect(headers)
        if self.auto_gzip:
            self._consider_gzip(headers)
        if self.transforms:
            if status.startswith(("1", "204", "304")):
                self.transforms = []
            else:
                from palatine_app_server.routing import body_transforms

                headers = body_transforms.prepared(self.transforms, headers)
        write = super().start_response(status, headers, exc_info)
        limit = self.settings.head_bytes
        if limit and self.header_bytes > limit:
            raise ResponseError(f"a head of {self.header_bytes} bytes is over response-headers-limit ({limit})")
        if self.settings.head_at_once and not self.head_sent:
            super().write(b"")
        return write

    def write(self, data: Piece) -> None:
        """As `Response.write`, with the body changed: in pieces, also where a transform would see it whole."""
        if self.transforms and not self._fed:
            from palatine_app_server.routing import body_transforms

            data = body_transforms.feed(self.transforms, b"".join([data]))
        if self._gone:
            return
        try:
            super().write(data)
        except ClientGoneError:
            if not self.settings.silent_writes:
                raise
            self._gone, self.keep_alive = True, False

    def send_result(self, result: Iterable[Piece]) -> None:
        """As `Response.send_result`, with the body changed."""
        if not self.status and not self.head_sent and not isinstance(result, list | tuple | FileWrapper):
            result = _begun(result)  # a generator may name its status, and a route its transforms, only now
        if self._head_only and isinstance(result, list | tuple) and not any(result):
            self.transforms = []  # the body nobody asked for has no length to be told
        if self.transforms:
            from palatine_app_server.routing import body_transforms

            streams = all(transform.streams for transform in self.transforms)
            through = body_transforms.stream if streams else body_transforms.whole
            self._fed = True
            pieces = through(self.transforms, (b"".join([piece]) for piece in result), lambda: self.status)
            result = [b"".join(pieces)] if isinstance(result, list | tuple) or not streams else pieces
        super().send_result(result)

    def send_plain(self, status: str, text: str) -> None:
        """As `Response.send_plain`, or the page the config has for this, unless the client is to see a traceback."""
        self.transforms = []
        self.settings = _NOTHING
        page = self.page(int(status[:3])) if text == _PLAIN else None
        if page is None:
            super().send_plain(status, text)
            return
        self._headers = None
        self.start_response(status, [("Content-Type", "text/html"), ("Content-Length", str(len(page)))])
        super().send_result([page])

    def page(self, status: int) -> bytes | None:
        """The first page of `error-page-STATUS` that can be read; None where there is none."""
        for path in self.pages.get(status, ()):
            try:
                with open(path, "rb") as file:
                    return file.read()
            except OSError:
                continue  # uWSGI tries the next, too
        return None

    def _collect(self, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Make request variables of the headers the config names; the headers the client sees."""
        pulled = set()
        for wanted in self.settings.collected:
            for name, value in headers:
                if name.lower() == wanted.header and isinstance(value, str):  # what else there is, is refused below
                    for variables in self.variables:
                        variables[wanted.variable] = value
                    if wanted.pulled:
                        pulled.add(wanted.header)
        return [(name, value) for name, value in headers if name.lower() not in pulled] if pulled else headers

    def _consider_gzip(self, headers: list[tuple[str, str]]) -> None:
        """Compress what the app wants compressed: uWSGI's http-auto-gzip."""
        given = {name.lower(): value for name, value in headers}
        if given.get("uwsgi-encoding") != "gzip" or {"content-length", "content-encoding"} & given.keys():
            return
        from palatine_app_server.routing.body_transforms import Gzip

        if not any(isinstance(transform, Gzip) for transform in self.transforms):
            self.transforms.append(Gzip())


def _begun(result: Iterable[Piece]) -> Iterable[Piece]:
    """`result` with its first piece asked for already."""
    pieces = iter(result)
    first = next(pieces, None)
    if first is None:
        return ()

    def again() -> Iterable[Piece]:
        yield first
        yield from pieces

    return again()
