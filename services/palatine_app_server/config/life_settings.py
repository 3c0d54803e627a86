"""How many workers there are and how long they live, as the config says it: cheaper, idle, recycling. Plain.

Read with the rest of the settings; ConfigError names the line that is wrong.
"""

import sys
from typing import Final, NamedTuple

from palatine.config import Config
from palatine_app_server.supervision import cheaper_policy
from palatine_app_server.supervision.cheaper_policy import BusynessSettings, CheaperSettings
from palatine_app_server.supervision.recycle_policy import RecycleSettings

DEFAULT_MIN_LIFETIME: Final = 10
DEFAULT_MEMORY_FREQUENCY: Final = 3


class LifeSettings(NamedTuple):
    """Seconds where nothing else is said; `cheap` starts without workers, `idle_seconds` 0 never stops them."""

    processes: int = 1
    cheaper: CheaperSettings = CheaperSettings()
    recycle: RecycleSettings = RecycleSettings()
    cheap: bool = False
    idle_seconds: int = 0
    die_on_idle: bool = False
    check_seconds: int = 1
    memory_seconds: int = DEFAULT_MEMORY_FREQUENCY
    memory_report: bool = False

    @property
    def initial(self) -> int:
        """Workers a generation starts with."""
        return 0 if self.cheap else self.woken

    @property
    def woken(self) -> int:
        """Workers that are started when somebody comes while there are none."""
        return self.cheaper.initial if self.cheaper.least else self.processes

    @property
    def may_be_idle(self) -> bool:
        """Whether there may be no worker at all."""
        return self.cheap or self.idle_seconds > 0

    @property
    def lone(self) -> bool:
        """Whether there is ever one worker, which only an accident ends."""
        stays = not self.cheap and (self.die_on_idle or not self.idle_seconds)
        limits = self.recycle._replace(min_lifetime=0, max_requests_delta=0, max_lifetime_delta=0)
        return self.processes == 1 and stays and not any(limits)


def read(config: Config, processes: int) -> LifeSettings:
    """The settings of `config`."""
    settings = config.settings
    return LifeSettings(
        processes=processes,
        cheaper=_cheaper(config, processes),
        recycle=_recycle(config),
        cheap=settings.flag("cheap"),
        idle_seconds=settings.integer("idle", 0),
        die_on_idle=settings.flag("die-on-idle"),
        check_seconds=settings.integer("check-interval", 1, minimum=1),
        memory_seconds=settings.integer("mem-collector-freq", DEFAULT_MEMORY_FREQUENCY, minimum=1),
        memory_report=settings.flag("memory-report"),
    )


def _cheaper(config: Config, processes: int) -> CheaperSettings:
    settings = config.settings
    least = settings.integer("cheaper", 0)
    if not least:
        return CheaperSettings()
    given = settings.given("cheaper")
    if least >= processes and given is not None:
        raise given.origin.error("invalid cheaper value: must be lower than processes")
    algorithm = settings.text("cheaper-algo", "") or "spare"
    if algorithm not in cheaper_policy.ALGORITHMS:
        sys.stderr.write("unable to find requested cheaper algorithm, falling back to spare\n")
        algorithm = "spare"
    soft, hard = settings.size("cheaper-rss-limit-soft"), settings.size("cheaper-rss-limit-hard")
    if hard and not soft:
        raise _error(config, "cheaper-rss-limit-hard", "requires setting also cheaper-rss-limit-soft")
    if hard and hard <= soft:
        raise _error(config, "cheaper-rss-limit-hard", "must be higher than cheaper-rss-limit-soft")
    return CheaperSettings(
        least=least,
        initial=_initial(settings.integer("cheaper-initial", least), least, processes),
        step=settings.integer("cheaper-step", 1, minimum=1),
        overload=settings.integer("cheaper-overload", 3),
        algorithm=algorithm,
        idle_seconds=settings.integer("cheaper-idle", 10, minimum=1),
        rss_soft=soft,
        rss_hard=hard,
        busyness=BusynessSettings(
            most=settings.size("cheaper-busyness-max", 50),
            least=settings.size("cheaper-busyness-min", 25),
            multiplier=settings.size("cheaper-busyness-multiplier", 10),
            penalty=settings.size("cheaper-busyness-penalty", 2),
            verbose=settings.flag("cheaper-busyness-verbose"),
            backlog_alert=settings.integer("cheaper-busyness-backlog-alert", 33),
            backlog_multiplier=settings.size("cheaper-busyness-backlog-multiplier", 3),
            backlog_step=settings.integer("cheaper-busyness-backlog-step", 1, minimum=1),
            backlog_nonzero=settings.size("cheaper-busyness-backlog-nonzero", 60),
        ),
    )


def _initial(wanted: int, least: int, processes: int) -> int:
    if wanted < least:
        bound, used = f"equal or higher than cheaper ({least})", least
    elif wanted > processes:
        bound, used = f"lower or equal than worker count ({processes})", processes
    else:
        return wanted
    sys.stderr.write(
        f"warning: invalid cheaper-initial value ({wanted}), must be {bound}, "
        f"using {used} as initial number of workers\n"
    )
    return used


def _recycle(config: Config) -> RecycleSettings:
    settings = config.settings
    shortest, longest = settings.size("min-worker-lifetime", DEFAULT_MIN_LIFETIME), settings.size("max-worker-lifetime")
    if longest and shortest >= longest:
        text = f"invalid min-worker-lifetime value ({shortest}), must be lower than max-worker-lifetime ({longest})"
        named = settings.given("min-worker-lifetime") or settings.given("max-worker-lifetime")
        assert named is not None
        raise named.origin.error(text)
    return RecycleSettings(
        max_requests=settings.size("max-requests"),
        max_requests_delta=settings.size("max-requests-delta"),
        min_lifetime=shortest,
        max_lifetime=longest,
        max_lifetime_delta=settings.integer("max-worker-lifetime-delta", 0),
        reload_on_as=settings.size("reload-on-as"),
        reload_on_rss=settings.size("reload-on-rss"),
        evil_reload_on_as=settings.size("evil-reload-on-as"),
        evil_reload_on_rss=settings.size("evil-reload-on-rss"),
        on_exception=settings.flag("reload-on-exception"),
        exception_types=settings.texts("reload-on-exception-type"),
        exception_values=settings.texts("reload-on-exception-value"),
        exception_reprs=settings.texts("reload-on-exception-repr"),
    )


def _error(config: Config, name: str, text: str) -> Exception:
    option = config.settings.given(name)
    assert option is not None
    return option.origin.error(f"{option.name} {text}")
