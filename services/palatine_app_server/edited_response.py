"""A response whose headers the config or a route has a say in. Used only where one of them has."""

from collections.abc import Callable

from palatine_app_server.header_edits import HeaderEdits
from palatine_app_server.response import ExcInfo, Response


class EditedResponse(Response):
    """`edits` are applied to whatever headers are sent, the server's own answers included."""

    __slots__ = ("edits",)

    edits: HeaderEdits

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """As `Response.start_response`, with the headers edited."""
        return super().start_response(status, self.edits.apply(headers), exc_info)
