"""A front with routes: does what the tables `route`, `error-route`, `response-route` and `final-route` say."""

import io
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from palatine_app_server.config.front_settings import FrontSettings
from palatine_app_server.routing import route_policy
from palatine_app_server.routing.route_grammar import Routes, Rule
from palatine_app_server.routing.route_policy import End
from palatine_app_server.routing.route_walk import Walk
from palatine_app_server.routing.route_world import Outside
from palatine_app_server.serving import mime_types
from palatine_app_server.serving.core import Core
from palatine_app_server.serving.edited_response import EditedResponse
from palatine_app_server.serving.file_parts import FilePart, FileSlice
from palatine_app_server.serving.front import Front, file_wrapper, said, send_answer
from palatine_app_server.serving.loader import App, AppSource
from palatine_app_server.serving.request import log
from palatine_app_server.serving.response import ExcInfo, Response
from palatine_app_server.serving.static_files import StaticFiles

if TYPE_CHECKING:  # loaded where a rule wants it
    from palatine_app_server.routing.upstream_address import Upstream


class RoutedFront(Front):
    """See the module."""

    def __init__(self, settings: FrontSettings, source: AppSource, apps: Sequence[App]) -> None:
        super().__init__(settings, source, apps)
        self._routes: Routes = settings.routes or Routes()
        self._forward = settings.forward
        self._turns = itertools.count()
        self.world = Outside(mime_types.read(settings.static.mime_files), _say)
        rules = [rule for table in self._routes for rule in table]
        if self._forward or any(map(_is_extra, rules)):
            from palatine_app_server.routing import route_extras, upstream  # noqa: F401 - nothing is loaded while a request waits
        self._files = self._static or StaticFiles(settings.static, _say)

    def respond(self, *arguments: Any) -> Response:
        """A response whose status and headers the tables hear of."""
        response = RoutedResponse(*arguments)
        response.edits, response.pages, response.settings = self._edits, self._pages, self._responses
        response.show_to(self)
        return response

    def handle(self, core: Core, environ: dict[str, Any], response: Response) -> Iterable[bytes]:
        """Walk the tables, and call the app where they let the request through."""
        assert isinstance(response, RoutedResponse)
        walk = response.walk = Walk(environ, self.world, about(core))
        response.core = core
        kept = self._kept_answer(core, environ, response) if self._settings.check_cache is not None else None
        if kept is not None:
            return self._checked(response, kept)
        if self._routes.final:
            core.note().at_end = lambda: self._finish(core, walk, response)
        app = self._choose(environ)
        self._prepare(core, environ, response)
        answer = self._static.answer(environ, time.time()) if self._static is not None else None
        end = route_policy.run(walk, self._routes.request)
        response.kept = (len(walk.add), len(walk.remove))
        self.settle(core, walk)
        response.take_transforms()
        if walk.raw:
            assert core.connection is not None
            core.connection.send(walk.raw)
            response.keep_alive = False
        if end is End.BREAK:
            core.ledger.count(core.ledger.routed_requests)
            return self._checked(response, self.conclude(core, walk, response))
        if answer is not None:
            return self._checked(response, send_answer(core, answer, response, environ["REQUEST_METHOD"]))
        if self._forward:
            return self._checked(response, self._forwarded(core, walk, response))
        if walk.app:
            app = self._mounts.choose(walk.app, "").app
        return self._checked(response, self._call(core, app, environ, response))

    def settle(self, core: Core, walk: Walk) -> None:
        """Do what the rules wanted done so far, and remember what the request line shall know."""
        assert core.connection is not None
        core.connection.environ.update(walk.changed)
        if "UWSGI_SCHEME" in walk.changed:
            walk.environ["wsgi.url_scheme"] = walk.changed["UWSGI_SCHEME"]
        if walk.silent:
            core.note().silent = True
        if walk.log_variables:
            core.note().variables.update(walk.log_variables)
        effects, walk.effects = walk.effects, []
        for effect in effects:
            self.world.perform(effect)

    def conclude(self, core: Core, walk: Walk, response: Response) -> Iterable[bytes]:
        """The answer of the rule that ended the walk; without one the connection ends without a word."""
        reply, static, upstream = walk.reply, walk.static, walk.upstream
        walk.reply, walk.static, walk.upstream = None, "", None
        if upstream is not None:
            return self._pass_on(core, walk, response, upstream)
        if static:
            found = self._files.find(os.path.realpath(static), "")
            method = walk.get("REQUEST_METHOD")
            if found is not None and method in {"GET", "HEAD"}:
                return send_answer(core, self._files.describe(found, walk.environ, time.time()), response, method)
            core.note().app = -1
            return said(response, 404, "Not Found")
        core.note().app = -1
        if reply is None:
            response.abandon()
            return ()
        headers = list(reply.headers)
        response.start_response(reply.status, headers)
        if reply.path:
            fd = os.open(reply.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            return file_wrapper(response)(FileSlice(FilePart(fd, 0, os.fstat(fd).st_size)))
        return [reply.body]

    def look_at(self, response: "RoutedResponse", status: str) -> bool:
        """The app has named its status: whether a table has another answer."""
        walk = response.walk
        del walk.add[response.kept[0] :], walk.remove[response.kept[1] :]
        walk.status = int(status[:3]) if status[:3].isdigit() else 0
        end = End.THROUGH
        if walk.status >= 400 and not response.in_error:
            response.in_error = True
            end = route_policy.run(walk, self._routes.error)
        if end is End.THROUGH:
            end = route_policy.run(walk, self._routes.response)
        self.settle(response.core, walk)
        response.take_transforms()
        return end is End.BREAK and bool(walk.reply or walk.static or walk.upstream)

    def _forwarded(self, core: Core, walk: Walk, response: Response) -> Iterable[bytes]:
        """The answer of `http-to`: each in turn is asked first."""
        from palatine_app_server.routing.upstream_address import Upstream

        turn = next(self._turns) % len(self._forward)
        addresses = (*self._forward[turn:], *self._forward[:turn], *self._settings.fallback)
        return self._pass_on(core, walk, response, *(Upstream(address, "uwsgi") for address in addresses))

    def _pass_on(self, core: Core, walk: Walk, response: Response, *upstreams: "Upstream") -> Iterable[bytes]:
        """The answer of the first server that can be reached; the client hears where none can, or one says nothing."""
        from palatine_app_server.routing import upstream as other

        core.note().app = -1
        assert core.connection is not None
        body = core.connection.body or io.BytesIO()
        for number, upstream in enumerate(upstreams, 1):
            try:
                answer = other.ask(upstream, walk.environ, body, self._settings.upstream_seconds)
            except other.UpstreamError as error:
                log(f"error routing request to {upstream.protocol} server {error}\n")
                if number == len(upstreams) or error.reached:
                    return said(response, int(error.status[:3]), error.status[4:])
            else:
                break
        else:
            raise AssertionError("no server to ask")
        try:
            response.start_response(answer.head.status, answer.head.headers)
        except BaseException:
            answer.close()
            raise
        return answer

    def _checked(self, response: "RoutedResponse", result: Iterable[bytes]) -> Iterable[bytes]:
        """`result`, or what a table has put in its place; an app may name its status only when it is read."""
        if response.replaced is not None:
            _close(result)
            return response.replaced
        if response.status or not (self._routes.error or self._routes.response):
            return result
        return _Watched(result, lambda: response.replaced)

    def _finish(self, core: Core, walk: Walk, response: Response) -> None:
        walk.status = response.status
        route_policy.run(walk, self._routes.final)
        self.settle_after(core, walk)

    def settle_after(self, core: Core, walk: Walk) -> None:
        """As `settle`, once the request is over."""
        if walk.silent:
            core.note().silent = True
        core.note().variables.update(walk.log_variables)
        for effect in walk.effects:
            self.world.perform(effect)


class RoutedResponse(EditedResponse):
    """Shows its status to the tables before anything is sent."""

    __slots__ = ("core", "front", "in_error", "kept", "ours", "replaced", "walk")

    core: Core
    front: RoutedFront
    walk: Walk

    replaced: Iterable[bytes] | None

    def show_to(self, front: RoutedFront) -> None:
        """Have its head walk through the tables of `front`."""
        self.front = front
        self.in_error = self.ours = False
        self.kept = (0, 0)
        self.replaced = None

    def take_transforms(self) -> None:
        """What the rules wanted done to the body so far."""
        self.transforms += self.walk.transforms
        self.walk.transforms = []

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """As `Response.start_response`, unless a table has another answer: then what the app sends goes nowhere."""
        if self.replaced is not None or self.head_sent or self.ours:
            return self._start(status, headers, exc_info)
        if self.front.look_at(self, status):
            self.replaced = ()  # the answer's own status is no reason to look again
            self.replaced = self.front.conclude(self.core, self.walk, self)
            return _drop
        walk = self.walk
        if walk.fresh_status:
            status, headers = walk.fresh_status, []
        return self._start(status, headers, exc_info)

    def send_plain(self, status: str, text: str) -> None:
        """As `Response.send_plain`; the tables are about what apps answer, not about their exceptions."""
        self.ours = True
        super().send_plain(status, text)

    def _start(self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None) -> Callable[[bytes], None]:
        before, self.edits = self.edits, self.edits.more(self.walk.add, self.walk.remove)
        try:
            return super().start_response(status, headers, exc_info)
        finally:
            self.edits = before


class _Watched:
    """An app's result that may be replaced once its first piece is asked for."""

    def __init__(self, result: Iterable[bytes], replaced: Callable[[], Iterable[bytes] | None]) -> None:
        self._result = result
        self._replaced = replaced

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._result:
            other = self._replaced()
            if other is not None:
                yield from other
                _close(other)
                return
            yield piece
        other = self._replaced()
        if other is not None:
            yield from other
            _close(other)

    def close(self) -> None:
        """Close the app's result."""
        _close(self._result)


def about(core: Core) -> Callable[[str], str]:
    """What `${uwsgi[...]}` says of the request `core` is in."""

    def value(key: str) -> str:
        response = core.response
        if key == "rsize":
            return str(response.body_bytes if response is not None else 0)
        if key == "rtime":
            return str(int((time.monotonic() - core.started) * 1_000_000))
        if key == "sor":
            return str(int((time.time() - time.monotonic() + core.started) * 1_000_000))
        return ""

    return value


def _is_extra(rule: Rule) -> bool:
    return rule.action == "extra" or (rule.condition is not None and rule.condition.name == "incache")


def _close(result: Iterable[bytes]) -> None:
    close = getattr(result, "close", None)
    if close is not None:
        close()


def _drop(_data: bytes) -> None:
    """Nobody gets what an app writes behind a status that was answered otherwise."""


def _say(line: str) -> None:
    """One line, whatever a client sent: what it would begin anew could look like anything."""
    log(line.replace("\n", "\\n") + "\n")
