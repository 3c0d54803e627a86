"""The bus: requests with deadlines and acknowledged events over ZeroMQ ipc.

The only package that imports zmq; never loaded by a process that forks.
"""

from palatine.bus.auth import Peer, Role, RoleOf, default_role_of
from palatine.bus.client import Client, open_client, request
from palatine.bus.endpoint import Claim, claim
from palatine.bus.events import Event
from palatine.bus.intake import Batch, Intake, open_intake
from palatine.bus.journal import Entry, Journal, open_journal
from palatine.bus.pull import Pull, open_pull
from palatine.bus.sender import Sender, SenderStatistics, open_sender
from palatine.bus.server import Handler, Handlers, Request, serve_requests

__all__ = [
    "Batch",
    "Claim",
    "Client",
    "Entry",
    "Event",
    "Handler",
    "Handlers",
    "Intake",
    "Journal",
    "Peer",
    "Pull",
    "Request",
    "Role",
    "RoleOf",
    "Sender",
    "SenderStatistics",
    "claim",
    "default_role_of",
    "open_client",
    "open_intake",
    "open_journal",
    "open_pull",
    "open_sender",
    "request",
    "serve_requests",
]
