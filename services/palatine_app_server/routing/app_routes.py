"""`uwsgi.route()`: one action of the routing's, done for the running request because its app says so.

What it answers goes out as the app's own pieces would, framed; the app adds nothing after it but an empty body.
"""

from typing import Final

from palatine.errors import ConfigError
from palatine_app_server.config.front_settings import FrontSettings
from palatine_app_server.routing import route_grammar
from palatine_app_server.routing.route_steps import STEPS
from palatine_app_server.routing.route_walk import Walk
from palatine_app_server.routing.routed_front import RoutedFront, RoutedResponse, about
from palatine_app_server.serving.core import Core
from palatine_app_server.serving.loader import AppSource
from palatine_app_server.serving.request import log
from palatine_app_server.serving.response import Response

#: uWSGI's numbers for how a table would go on, and its answer where there is no such action.
_RETURNS: Final = {"next": 0, "continue": 1, "break": 2}
NOT_DONE: Final = -1


class AppRoutes:
    """Of one worker."""

    def __init__(self, settings: FrontSettings) -> None:
        self._front = RoutedFront(settings, AppSource(), ())

    def route(self, core: Core, word: str, argument: str) -> int:
        """Do `word`:`argument`; 0, 1 or 2 as uWSGI has it, -1 where that is no action or cannot be done any more."""
        try:
            rule = route_grammar.parse_rule("run", f"{word}:{argument}")
        except ConfigError as error:
            return _refuse(word, error.message)
        response, connection = core.response, core.connection
        assert response is not None
        assert connection is not None
        if isinstance(response, RoutedResponse):
            front, walk = response.front, response.walk
        else:
            front, walk = self._front, Walk(connection.environ, self._front.world, about(core))
        walk.groups = ()
        before = _edits(walk)
        step = STEPS[rule.action](walk, rule) if rule.action != "goto" else "break"  # an app has no table to go on in
        edits = _edits(walk) != before
        front.settle(core, walk)
        if edits and (response.status or not isinstance(response, RoutedResponse)):
            why = "the response has begun" if response.status else "only with a route in the configuration"
            return _refuse(word, why)
        if isinstance(response, RoutedResponse):
            response.kept = (len(walk.add), len(walk.remove))  # what the tables start from when the app has answered
            response.take_transforms()
        if walk.raw:
            raw, walk.raw = walk.raw, b""
            connection.send(raw)
            response.keep_alive = False
        if step == "break" and (walk.reply or walk.static or walk.upstream):
            if response.status:
                walk.reply, walk.static, walk.upstream = None, "", None
                return _refuse(word, "the response has begun")
            self._answer(front, core, walk, response)
        return _RETURNS[step]

    @staticmethod
    def _answer(front: RoutedFront, core: Core, walk: Walk, response: Response) -> None:
        result = front.conclude(core, walk, response)
        try:
            response.write(b"")  # the head, also where there is no body
            for piece in result:
                response.write(piece)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()


def _edits(walk: Walk) -> tuple[object, ...]:
    """What a rule has changed of headers and body."""
    return len(walk.add), len(walk.remove), walk.fresh_status, len(walk.transforms)


def _refuse(word: str, why: str) -> int:
    log(f"[uwsgi-route] {word}: {why}\n".replace("\n", "\\n", why.count("\n")))
    return NOT_DONE
