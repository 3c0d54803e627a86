"""What a master leaves to its zygotes and their workers: values and callables only, made anew for every generation."""

import socket
from collections.abc import Callable
from typing import NamedTuple

from palatine.counters import Segment
from palatine_app_server.api import ApiSettings
from palatine_app_server.commons import Commons
from palatine_app_server.logs import Ends
from palatine_app_server.settings import AppSettings
from palatine_app_server.worker import Doors


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
    must_load: bool = False  # without its app this generation is of no use: another one serves, or need-app is set
