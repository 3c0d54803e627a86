"""A UDP socket of trio's, connected to one peer: only its datagrams are read; it never keeps a name's address."""

import socket

import trio


async def open_udp(host: str, port: int) -> trio.socket.SocketType:
    """A socket connected to the first address of a name, which is looked up now; the caller closes it.

    OSError (gaierror for an unknown name) where it cannot be had; ECONNREFUSED comes with later calls.
    """
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    family, kind, protocol, _, where = found[0]
    sock = trio.socket.socket(family, kind, protocol)
    try:
        await sock.connect(where)
    except BaseException:
        sock.close()
        raise
    return sock
