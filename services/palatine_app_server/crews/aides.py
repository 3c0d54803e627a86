"""The life of a mule or spooler, from its fork to its exit code: in a process forked by a zygote, with its app."""

from palatine.counters import Segment
from palatine_app_server.config.feature_settings import Features
from palatine_app_server.crews.aide import Aide
from palatine_app_server.crews.mule import Mule, MuleDoors
from palatine_app_server.sharing.commons import Commons
from palatine_app_server.uwsgi_module.api import Api

MULE = "mule"


def title(role: str, number: int) -> str:
    """What ps calls it, as uWSGI does: mules have a number, spoolers none."""
    return f"{role} {number}" if role == MULE else role


def assist(role: str, number: int, features: Features, segment: Segment, commons: Commons, api: Api) -> int:
    """Be mule or spooler `number` until told to leave; the exit code."""
    if role == MULE:
        return _be_mule(number, features, segment, commons, api)
    return _be_spooler(number, features, segment, commons, api)


def _be_mule(number: int, features: Features, segment: Segment, commons: Commons, api: Api) -> int:
    settings = features.mules
    aide = Aide(segment, "mule_work", number - 1, harakiri_seconds=settings.harakiri_seconds, on_exit=api.run_atexit)
    aide.store("running_signal", 0)
    assert commons.queues is not None
    doors = MuleDoors(commons.queues, commons.signals.mule_readers(number))
    mule = Mule(number, doors, aide, run_signal=api.run_signal, take_message=api.take_message)
    api.seat.mule, api.seat.aide, api.seat.signals = mule, aide, doors.signals
    aide.install_signals()
    api.run_post_fork_hook()
    return mule.run(settings.programs[number - 1])


def _be_spooler(number: int, features: Features, segment: Segment, commons: Commons, api: Api) -> int:
    from palatine_app_server.crews.spooler import Spooler

    settings = features.spoolers
    aide = Aide(
        segment, "spooler_tasks", number - 1, harakiri_seconds=settings.harakiri_seconds, on_exit=api.run_atexit
    )
    aide.store("running", 0)
    signal_fd = commons.signals.spooler_reader()
    api.seat.spooler, api.seat.aide, api.seat.signals = number, aide, (signal_fd,)
    wished = segment.word("server", "spooler_frequency")
    server = segment.cells("server")
    spooler = Spooler(
        commons.spools[number - 1],
        settings,
        aide,
        signal_fd,
        function=lambda: getattr(api.module, "spooler", None),
        run_signal=api.run_signal,
        frequency=lambda: server[wished] or settings.frequency,
    )
    aide.install_signals()
    api.run_post_fork_hook()
    return spooler.run()
