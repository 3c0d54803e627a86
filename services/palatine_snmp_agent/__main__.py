"""The snmp-agent's entry and manual; must never do anything at import.

NAME
    palatine-snmp-agent - answer SNMP for every app on this host

SYNOPSIS
    palatine-snmp-agent [--runtime-dir DIR] [--config FILE] [common options]

DESCRIPTION
    Serves the counters of app-server instances over SNMP. An instance asks for it with uWSGI's options (snmp = ADDR,
    snmp-community = NAME, or udp = ADDR with snmp); its master binds the socket and hands it over. The agent reads the
    instance's counters out of shared memory: no app is ever asked, and a busy one delays nothing.
    Served today: SNMPv1 and v2c; GET, GETNEXT and GETBULK of any number of names; SET is refused (noSuchName,
    notWritable). Not yet: SNMPv3, traps and informs, a tree of all instances, a MIB file.

    Below 1.3.6.1.4.1.35156.17, as in uWSGI, without `.0`:

        .1.1         requests of the instance                           Counter64
        .1.(30+N)    requests of worker N                               Counter64
        .2.1-.2.100  what the app set by uwsgi.snmp_set_counter32(n, v), Counter32, Gauge32, Counter64
                     snmp_set_gauge and the like

    A value nobody set is noSuchInstance (noSuchName in v1), and walks skip it. v1 walks also skip Counter64, which v1
    does not have; a v1 GET of exactly that name is answered, as uWSGI does.

    The agent starts before or after the apps and restarts at any time: the masters keep their sockets, so a manager
    sees a delay and never a refusal. On a udp socket only datagrams that begin like SNMP are answered; others go back
    to the instance, which logs them.

FILES
    <runtime>/i/NAME/seg              counters of instance NAME
    <runtime>/i/NAME/handoff          where its master hands over sockets
    <runtime>/snmp-agent/seg, ctl     the agent's own counters, and its control endpoint
    /etc/palatine/snmp-agent.yaml     max-reply: octets of the longest reply, default 1472
                                      operators, log-level: as for every daemon

SECURITY
    Needs to read the segments and to connect to `handoff`: run it as a user of group palatine. It binds nothing and
    writes nothing but its own directory. A community is a password sent in the clear; a wrong one gets no reply. One
    instance's socket shows that instance only. Nothing can be written by SNMP. Datagrams, names, varbinds, replies and
    the work one datagram can cause are bounded; what breaks the protocol gets no reply and is counted.

DIAGNOSTICS
    `ctl status` shows sockets, and datagrams, replies, wrong communities and malformed datagrams by source. The table
    `agent` of the agent's segment has the counters of SNMPv2-MIB's snmp group. Log events: instance.serving,
    instance.dropped, instance.waiting (with the reason), endpoint.no_community, udp.not_taken.

EXIT STATUS
    0 stopped as asked, 2 usage, 70 a fault of ours, 75 another agent serves this runtime directory, 77 no permission,
    78 bad configuration.
"""

import sys
from typing import Any

import attrs
import trio

from palatine.codec.snmp import MAX_DATAGRAM
from palatine.daemon import Context, Spec, run
from palatine.schema import AGENT
from palatine_snmp_agent.instances import DAEMON, Instances
from palatine_snmp_agent.responder import LEAST_MAX_REPLY, MAX_REPLY
from palatine_snmp_agent.tally import Tally


@attrs.frozen
class Settings:
    """What `/etc/palatine/snmp-agent.yaml` may say."""

    max_reply: int = attrs.field(
        default=MAX_REPLY, validator=[attrs.validators.ge(LEAST_MAX_REPLY), attrs.validators.le(MAX_DATAGRAM)]
    )


async def serve(ctx: Context) -> None:
    """The daemon's main."""
    tally = Tally(ctx.segment.cells("agent"), lambda field: ctx.segment.word("agent", field))
    daemon = ctx.segment.cells("daemon")
    known = ctx.segment.word("daemon", "instances")

    def changed() -> None:
        daemon[known] = len(instances)

    instances = Instances(ctx.runtime_dir, tally, max_reply=ctx.settings.max_reply, on_change=changed)

    def statistics() -> dict[str, Any]:
        return {
            "sockets": instances.statistics(),
            "sources": tally.sources.statistics(),
            "sources_forgotten": tally.sources.forgotten,
        }

    async def reload() -> None:
        instances.renew(ctx.settings.max_reply)

    ctx.on_statistics(statistics)
    ctx.on_reload(reload)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(instances.run)
        ctx.ready("serving instances as they come")
        await ctx.draining.wait()
        nursery.cancel_scope.cancel()


SPEC = Spec(name=DAEMON, doc=__doc__ or "", main=serve, tables=AGENT, config=Settings)


def main() -> int:
    """The command `palatine-snmp-agent`."""
    return run(SPEC)


if __name__ == "__main__":
    sys.exit(main())
