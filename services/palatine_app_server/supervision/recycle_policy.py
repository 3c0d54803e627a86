"""When a worker has served long enough and leaves for a fresh one, as pure functions. No clock, no I/O."""

from typing import NamedTuple


class RecycleSettings(NamedTuple):
    """Options of recycling; 0 or empty where there is no limit. Seconds and bytes."""

    max_requests: int = 0
    max_requests_delta: int = 0
    min_lifetime: int = 10
    max_lifetime: int = 0
    max_lifetime_delta: int = 0
    reload_on_as: int = 0
    reload_on_rss: int = 0
    evil_reload_on_as: int = 0
    evil_reload_on_rss: int = 0
    on_exception: bool = False
    exception_types: tuple[str, ...] = ()
    exception_values: tuple[str, ...] = ()
    exception_reprs: tuple[str, ...] = ()

    @property
    def watches_requests(self) -> bool:
        """Whether a worker must look at itself after every request."""
        return bool(self.max_requests or self.reload_on_as or self.reload_on_rss)

    @property
    def watches_exceptions(self) -> bool:
        """Whether an exception of the app can end a worker."""
        return bool(self.on_exception or self.exception_types or self.exception_values or self.exception_reprs)


class Memory(NamedTuple):
    """Of a process, in bytes."""

    address_space: int = 0
    resident: int = 0


def jittered(limit: int, delta: int, chance: float) -> int:
    """`limit` within +-`delta`, by a `chance` of 0 to 1: not all workers shall reach theirs at once. At least 1."""
    return max(1, limit + round((2 * chance - 1) * delta))


def after_request(settings: RecycleSettings, *, most_requests: int, requests: int, age: float, memory: Memory) -> str:
    """Why a worker of `age` seconds should leave after a request; "" where it should not."""
    if age < settings.min_lifetime:
        return ""
    if most_requests and requests >= most_requests:
        return "max-requests"
    if settings.reload_on_as and memory.address_space >= settings.reload_on_as:
        return "reload-on-as"
    if settings.reload_on_rss and memory.resident >= settings.reload_on_rss:
        return "reload-on-rss"
    return ""


def is_monitored(settings: RecycleSettings, error: BaseException) -> bool:
    """Whether this exception of the app ends its worker: by any, its class, its text, or "class: text"."""
    kind, value = type(error).__name__, str(error)
    return (
        settings.on_exception
        or kind in settings.exception_types
        or value in settings.exception_values
        or f"{kind}: {value}" in settings.exception_reprs
    )


def is_evil(settings: RecycleSettings, memory: Memory) -> str:
    """What of its size the master kills a worker for, in uWSGI's words; "" where it lives."""
    if settings.evil_reload_on_as and memory.address_space >= settings.evil_reload_on_as:
        return f"ADDRESS SPACE: {memory.address_space}"
    if settings.evil_reload_on_rss and memory.resident >= settings.evil_reload_on_rss:
        return f"RSS: {memory.resident}"
    return ""
