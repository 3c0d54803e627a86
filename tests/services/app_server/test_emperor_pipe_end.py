"""What a vassal says of its loyalty: once for each generation that has answered somebody."""

import os
import socket

from palatine.codec import emperor_pipe
from palatine_app_server.orders.vassal import EmperorPipe


def test_loyalty_is_shown_by_each_generation() -> None:
    emperor, vassal = socket.socketpair()
    with emperor, vassal:
        emperor.setblocking(False)
        pipe = EmperorPipe(os.dup(vassal.fileno()))
        try:
            pipe.begin(0)
            for requests in (0, 1, 5):
                pipe.announce_loyalty(requests)
            assert emperor.recv(10) == bytes([emperor_pipe.LOYAL])
            pipe.begin(5)  # a reload
            pipe.announce_loyalty(5)
            pipe.announce_loyalty(6)
            pipe.announce_loyalty(7)
            assert emperor.recv(10) == bytes([emperor_pipe.LOYAL])
        finally:
            os.close(pipe.fd)
