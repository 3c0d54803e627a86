"""The snmp-agent's entry and manual; must never do anything at import.

NAME
    palatine-snmp-agent - answer SNMP for every app on this host

SYNOPSIS
    palatine-snmp-agent [--runtime-dir DIR] [--config FILE] [common options]

DESCRIPTION
    Serves the counters of app-server instances over SNMPv1, v2c and v3. An instance asks for it with uWSGI's options
    (snmp = ADDR, snmp-community = NAME, or udp = ADDR with snmp); its master binds the socket and hands it over. The
    host's own sockets (`listen`, or a socket unit) show all of them: to communities as NAME@INSTANCE, to users of v3 by
    context. The agent reads counters out of shared memory: no app is ever asked, and a busy one delays nothing.
    GET, GETNEXT and GETBULK of any number of names; SET is refused (noSuchName, notWritable, authorizationError).

    Below 1.3.6.1.4.1.35156.17, as in uWSGI, without `.0`:

        .1.1         requests of the instance                           Counter64
        .1.(30+N)    requests of worker N                               Counter64
        .2.1-.2.100  what the app set by uwsgi.snmp_set_counter32(n, v), Counter32, Gauge32, Counter64
                     snmp_set_gauge and the like

    The host's own view has, below 1.3.6.1.4.1.35156.17.1000 (`base`), tables of instances, workers, cores, sockets,
    apps, vassals, alarms, metrics, custom values and daemons, indexed by name: deploy/mibs/PALATINE-MIB.txt; and
    MIB-II's system and snmp groups. An instance that died is down there, with its last values and their age.

    A value nobody set is noSuchInstance (noSuchName in v1), and walks skip it. v1 walks also skip Counter64, which v1
    does not have; a v1 GET of exactly that name is answered, as uWSGI does.

    `targets` are told by traps and informs of v1, v2c and v3: workers that died, harakiri, full listen queues, vassals
    that came and went, failed reloads, wrong communities, and alarms whose action is snmptrap.

    The agent starts before or after the apps and restarts at any time: the masters keep their sockets, so a manager
    sees a delay and never a refusal. On a udp socket only datagrams that begin like SNMP are answered; others go back
    to the instance, which logs them.

FILES
    <runtime>/i/NAME/seg              counters of instance NAME
    <runtime>/i/NAME/handoff          where its master hands over sockets
    <runtime>/snmp-agent/seg, ctl     the agent's own counters, and its control endpoint
    /etc/palatine/snmp-agent.yaml     listen, base, system, targets, communities, users, groups, views, rate, max-reply,
                                      realtime-share, engine-id; operators, log-level: as for every daemon. See
                                      docs/snmp.md
    <state>/snmp-agent/engine.json    the SNMPv3 engine's id and how often it started
    <state>/snmp-agent/journal.db     informs not acknowledged yet

SECURITY
    Needs to read the segments and to connect to `handoff`: run it as a user of group palatine. It writes nothing but
    its own directories. A community is a password sent in the clear; a wrong one, or one from elsewhere than its
    `sources`, gets no reply. Users of v3 prove themselves by HMAC-SHA and may encrypt by AES; MD5 and DES are not
    offered. One instance's socket shows that instance only. Nothing can be written by SNMP. What one source may ask a
    second (`rate`), datagrams, names, varbinds, replies and the work one datagram can cause are bounded; what breaks
    the protocol gets no reply and is counted. Ports of `listen` below 1024 need CAP_NET_BIND_SERVICE or a socket unit.

DIAGNOSTICS
    `ctl status` shows sockets, the engine, how the agent is scheduled, and by source its datagrams, replies, wrong
    communities, users and keys, malformed and throttled datagrams. The table `agent` of the agent's segment has the
    counters of SNMPv2-MIB's snmp group and of USM. Log events: instance.serving, instance.dropped, instance.waiting
    (with the reason), endpoint.no_community, udp.not_taken, host_socket.failed, host.not_shown, host.no_view,
    notify.not_delivered, notify.expired, notify.target_gone, scheduling.ordinary (with the reason).

EXIT STATUS
    0 stopped as asked, 2 usage, 70 a fault of ours, 75 another agent serves this runtime directory, 77 no permission,
    78 bad configuration.
"""

import sys

from palatine.daemon import Spec, run
from palatine.schema import AGENT
from palatine_snmp_agent.instances import DAEMON
from palatine_snmp_agent.service import serve
from palatine_snmp_agent.settings import Settings

SPEC = Spec(name=DAEMON, doc=__doc__ or "", main=serve, tables=AGENT, config=Settings)


def main() -> int:
    """The command `palatine-snmp-agent`."""
    return run(SPEC)


if __name__ == "__main__":
    sys.exit(main())
