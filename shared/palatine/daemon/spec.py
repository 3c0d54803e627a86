"""A daemon's description of itself: what `run` needs to give it a life; it must never hold state."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:  # the context holds its spec: one of the two arrows can exist at run time
    from palatine.daemon.context import Context
    from palatine.schema import Table


@attrs.frozen
class Spec:
    """Who a daemon is.

    Attributes:
        name: directory, unit and service name without the `palatine-` prefix, e.g. `snmp-agent`.
        doc: the `__main__` docstring, a man page in sections (NAME, SYNOPSIS, DESCRIPTION, ...).
        main: runs until `ctx.draining` is set and what was begun is finished; cancelled on INT and QUIT.
        tables: tables of the daemon's own segment, beside the common ones.
        rows: number of rows by table name; one where it is not named.
        add_arguments: adds the daemon's own options.
        config: an attrs class the YAML file is validated into (`ctx.settings`), None to take `ctx.config` as it is.
        labels: more labels for the segment.
        drain_seconds: how long TERM may take before it is forced.
    """

    name: str
    doc: str
    main: Callable[[Context], Awaitable[None]]
    tables: Sequence[Table] = ()
    rows: Mapping[str, int] = attrs.field(factory=dict)
    add_arguments: Callable[[ArgumentParser], None] | None = None
    config: type | None = None
    labels: Mapping[str, Any] = attrs.field(factory=dict)
    drain_seconds: float = 30.0

    @property
    def command(self) -> str:
        """The command, unit and process name: `palatine-<name>`."""
        return f"palatine-{self.name}"
