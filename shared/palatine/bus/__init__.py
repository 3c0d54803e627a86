"""The bus: requests with deadlines and acknowledged events over ZeroMQ ipc.

The only package that imports zmq; never loaded by a process that forks.
"""

from palatine.bus.auth import Peer, Role, RoleOf, default_role_of
from palatine.bus.client import Client, open_client, request
from palatine.bus.endpoint import Claim, claim
from palatine.bus.server import Handler, Handlers, Request, serve_requests

__all__ = [
    "Claim",
    "Client",
    "Handler",
    "Handlers",
    "Peer",
    "Request",
    "Role",
    "RoleOf",
    "claim",
    "default_role_of",
    "open_client",
    "request",
    "serve_requests",
]
