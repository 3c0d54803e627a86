"""Alarms the master raises: named by the config, counted, and passed to the link for the alarm-daemon."""

from collections.abc import Callable

from palatine import places
from palatine_app_server.config.settings import AppSettings
from palatine_app_server.linking.link_end import LinkEnd
from palatine_app_server.supervision.tally import Tally


class Alarms:
    """Of one instance; `settings` are those in force, `link` is there once alarms may be raised."""

    def __init__(self, settings: Callable[[], AppSettings], tally: Tally, link: Callable[[], LinkEnd]) -> None:
        self._get_settings = settings
        self._tally = tally
        self._get_link = link

    def __call__(self, alarm: str, message: str, source: str) -> None:
        """Raise an alarm; one the config does not know is nobody's."""
        if any(known.name == alarm for known in self._get_settings().alarms.alarms):
            self._tally.count("alarms_raised")
            self._get_link().post({"op": "raise", "alarm": alarm, "message": message, "source": source})

    def crashed(self, text: str) -> None:
        """A process of ours crashed: `alarm-segfault`."""
        text = text[: self._get_settings().alarms.message_bytes]
        for alarm in self._get_settings().process.crash_alarms:
            self(alarm, text, "segfault")


def has_news(settings: AppSettings, name: str, state_dir: str) -> bool:
    """Whether the alarm-daemon is to hear of this instance: of its alarms, or that there are none any more."""
    return bool(settings.alarms.alarms) or places.has_state(f"link/{name}", state_dir)
