"""What happens to a request before its app has it: static files, the choice of the app, headers added and removed.

Made once per worker where the config asks for any of it; a worker without such options calls its app directly.
"""

import os
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from palatine.errors import ProtocolError
from palatine_app_server.config.front_settings import FrontSettings
from palatine_app_server.serving.core import Core, Handler
from palatine_app_server.serving.edited_response import EditedResponse
from palatine_app_server.serving.file_parts import FilePart, FileSlice
from palatine_app_server.serving.file_wrapper import FileWrapper, ReadingFileWrapper
from palatine_app_server.serving.loader import App, AppSource
from palatine_app_server.serving.mounts import NOBODY, Mounts
from palatine_app_server.serving.request import log
from palatine_app_server.serving.response import Response
from palatine_app_server.serving.static_files import Answer, StaticFiles, accepts


class Front(Handler):
    """Answers a request itself, or calls the app it belongs to."""

    def __init__(self, settings: FrontSettings, source: AppSource, apps: Sequence[App]) -> None:
        self._apps = [app.call for app in apps]
        self._counted = len(source.points)
        self._static = StaticFiles(settings.static, lambda line: log(f"{line}\n")) if settings.static.wanted else None
        self._mounts = Mounts(
            [app.mountpoint for app in apps],
            manage=source.manage_script_name,
            ignore=source.ignore_script_name,
            no_default=source.no_default,
        )
        self._edits = settings.headers
        self._pages = dict(settings.error_pages)
        self._settings = settings
        self._responses = settings.responses
        plain = FrontSettings()
        self._edited = bool(self._edits or self._pages or settings.auto_gzip or settings.responses != plain.responses)
        if settings.auto_gzip or settings.responses.takes_buffers:
            from palatine_app_server.routing import body_transforms  # noqa: F401 - nothing is loaded while a request waits
        if settings.check_cache is not None:
            from palatine.codec import http_upstream  # noqa: F401 - likewise

    def respond(self, *arguments: Any) -> Response:
        """The response to a request, with its headers and body edited where the config wants that."""
        if not self._edited:
            return Response(*arguments)
        response = EditedResponse(*arguments)
        response.edits, response.pages, response.settings = self._edits, self._pages, self._responses
        return response

    def handle(self, core: Core, environ: dict[str, Any], response: Response) -> Iterable[bytes]:
        """The result to send; `start_response` was called, or is when the result is read."""
        if self._settings.check_cache is not None:
            kept = self._kept_answer(core, environ, response)
            if kept is not None:
                return kept
        app = self._choose(environ)
        self._prepare(core, environ, response)
        if self._static is not None:
            answer = self._static.answer(environ, time.time())
            if answer is not None:
                return send_answer(core, answer, response, environ["REQUEST_METHOD"])
        return self._call(core, app, environ, response)

    def _choose(self, environ: dict[str, Any]) -> int:
        """The app of a request; SCRIPT_NAME and PATH_INFO become what it sees."""
        choice = self._mounts.choose(environ.get("SCRIPT_NAME", ""), environ.get("PATH_INFO", ""))
        environ["SCRIPT_NAME"], environ["PATH_INFO"] = choice.script_name, choice.path_info
        return choice.app

    def _kept_answer(self, core: Core, environ: dict[str, Any], response: Response) -> Iterable[bytes] | None:
        """The whole response a cache holds for the URI of a GET, as uWSGI's check-cache wants it; else None."""
        if environ["REQUEST_METHOD"] != "GET":
            return None
        uri = environ.get("REQUEST_URI", "").encode("latin-1", "replace")
        value: bytes | None = sys.modules["uwsgi"].cache_get(uri, self._settings.check_cache or None)
        if not value:
            return None
        from palatine.codec import http_upstream

        core.note().app = NOBODY
        lines, _, body = value.partition(b"\r\n\r\n")
        try:
            head = http_upstream.parse_head(lines)
        except ProtocolError:
            log(f"[uwsgi-cache] {environ.get('REQUEST_URI', '')}: what the cache holds is no response\n")
            return None
        response.start_response(head.status, head.headers)
        return [body]

    def _prepare(self, core: Core, environ: dict[str, Any], response: Response) -> None:
        """What options want done to a request before anybody has it."""
        if self._responses.takes_buffers and isinstance(response, EditedResponse):
            from palatine_app_server.routing.body_transforms import Buffers

            response.transforms.append(Buffers())
        if not self._responses.file_wrapper:
            environ.pop("wsgi.file_wrapper", None)
        elif not self._responses.sendfile:
            environ["wsgi.file_wrapper"] = ReadingFileWrapper
        if self._responses.collected and isinstance(response, EditedResponse):
            assert core.connection is not None
            response.variables = (environ, core.connection.environ)
        if self._settings.server_name_is_host and "HTTP_HOST" in environ:
            environ["SERVER_NAME"] = environ["HTTP_HOST"]
        if self._settings.auto_gzip and isinstance(response, EditedResponse):
            response.auto_gzip = accepts(environ.get("HTTP_ACCEPT_ENCODING", ""), "gzip")

    def _call(self, core: Core, app: int, environ: dict[str, Any], response: Response) -> Iterable[bytes]:
        if app == NOBODY:
            log("--- no python application found, check your startup logs for errors ---\n")
            core.note().app = NOBODY
            response.keep_alive = False
            return said(response, 500, "Internal Server Error")
        core.ledger.enter_app(app if app < self._counted else 0)
        if app:
            core.note().app = app
        result: Iterable[bytes] = self._apps[app](environ, response.start_response)
        return result


def said(response: Response, status: int, reason: str) -> Iterable[bytes]:
    """The result that sends an error of the server's own: the page of `error-page-STATUS`, else its name."""
    page = response.page(status) if isinstance(response, EditedResponse) else None
    body, kind = (reason.encode(), "text/plain") if page is None else (page, "text/html")
    response.start_response(f"{status} {reason}", [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]


def send_answer(core: Core, answer: Answer, response: Response, method: str) -> Iterable[bytes]:
    """The result that sends a static file, or what is said instead."""
    core.note().app = NOBODY
    core.ledger.count(core.ledger.static_requests)
    response.start_response(answer.status, answer.headers)
    if method == "HEAD":
        response.without_body()
    if not answer.path or method == "HEAD":
        return []
    return file_wrapper(response)(open_slice(answer))


def file_wrapper(response: Response) -> type[FileWrapper]:
    """What sends a file of the server's own: `disable-sendfile` wants it read."""
    reads = isinstance(response, EditedResponse) and not response.settings.sendfile
    return ReadingFileWrapper if reads else FileWrapper


def open_slice(answer: Answer) -> FileSlice:
    """Open what `answer` sends; a link that was put there since it was looked at is not followed."""
    fd = os.open(answer.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    return FileSlice(FilePart(fd, answer.start, answer.length))
