"""A uWSGI signal that comes as a packet of the uwsgi protocol (modifier 110), from another server or a script."""

import sys

from palatine.codec import uwsgi_packet
from palatine.codec.uwsgi_packet import PacketHeader
from palatine_app_server.serving.connection import Connection


def take(connection: Connection) -> None:
    """Raise it, and say whether that could be done, as uWSGI's signal plugin does. OSError where the client is gone."""
    done = 1
    try:
        sys.modules["uwsgi"].signal(connection.signal)
    except OSError:  # the master is gone
        done = 0
    connection.send(uwsgi_packet.encode_header(PacketHeader(uwsgi_packet.ANSWER, 0, done)))
