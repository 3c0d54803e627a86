"""What a master leaves to its zygotes and their workers: values and callables only, made anew for every generation."""

import socket
from collections.abc import Callable
from typing import NamedTuple

from palatine.counters import Segment
from palatine_app_server.config.settings import AppSettings
from palatine_app_server.log.logs import Ends
from palatine_app_server.serving.worker import Doors
from palatine_app_server.sharing.commons import Commons
from palatine_app_server.uwsgi_module.api import ApiSettings


class Inheritance(NamedTuple):
    """What the master leaves to a zygote and its workers."""

    settings: AppSettings
    api: ApiSettings
    segment: Segment
    doors: Callable[[int], Doors]  # of one worker
    master: socket.socket  # workers → master
    generation: int
    master_pid: int
    log_ends: Callable[[int], Ends]  # what a worker writes to; 0 is the zygote
    commons: Commons
    crash_fd: Callable[[int], int]  # where a worker says its last
    must_load: bool = False  # without its app this generation is of no use: another one serves, or need-app is set
