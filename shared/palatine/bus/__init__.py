"""The bus: requests with deadlines and acknowledged events over ZeroMQ ipc.

The only package that imports zmq; never loaded by a process that forks. `palatine.bus.journal` (SQLite, for consumers)
and `palatine.bus.pull` (uWSGI's `zmq://` monitor) are imported by who needs them: a link per app should stay small.
"""

from palatine.bus.auth import Peer, Role, RoleOf, default_role_of
from palatine.bus.client import Client, open_client, request
from palatine.bus.endpoint import Claim, claim
from palatine.bus.events import Event
from palatine.bus.intake import Batch, Intake, open_intake
from palatine.bus.sender import Sender, SenderStatistics, open_sender
from palatine.bus.server import Handler, Handlers, Request, serve_requests

__all__ = [
    "Batch",
    "Claim",
    "Client",
    "Event",
    "Handler",
    "Handlers",
    "Intake",
    "Peer",
    "Request",
    "Role",
    "RoleOf",
    "Sender",
    "SenderStatistics",
    "claim",
    "default_role_of",
    "open_client",
    "open_intake",
    "open_sender",
    "request",
    "serve_requests",
]
