"""The alarm-daemon's entry and manual; must never do anything at import.

NAME
    palatine-alarm-daemon - raises the alarms of every palatine instance on this machine

SYNOPSIS
    palatine-alarm-daemon [options]

DESCRIPTION
    Finds the instances of its runtime directory, takes their log lines and alarms, matches the lines against the
    rules each app's config gives (`alarm`, `log-alarm`, `not-log-alarm`), and runs the alarms' actions. An alarm is
    written to the journal before it is acknowledged, tried until it is delivered, refused for good or expired, and
    survives the death of this daemon, of the instance and of whoever it is sent to.

    cmd, signal, mule, log and speech run in the instance, as its user. curl runs here: http, https, smtp and smtps.
    snmptrap: (all targets) and snmptrap:NAME,NAME have the snmp-agent tell its targets, see docs/snmp.md.
    xmpp and airbrake are not served yet; they are refused by name and leave other alarms alone.

    Regexps are PCRE's. Most run in RE2, which takes linear time; look-around, back-references, inline flags and their
    like run in the system's libpcre2-8 with a limit per line. What neither takes is named in the log.

    The same message is not raised twice by one alarm within the app's alarm-freq seconds (3).

SETTINGS
    expire: 86400           seconds after which an alarm not delivered is given up
    retry-first: 1          seconds before the second attempt; doubled for each further one
    retry-longest: 300      ... up to this
    max-pending: 10000      undelivered alarms kept for each instance
    alarms: ["ops cmd:mail -s alarm root"]
    rules: [{log-alarm: "ops HARAKIRI ON WORKER"}, {not-log-alarm: "ops known trouble"}]
    freq: 3
                            alarms and rules of the host, for the lines every instance sends; cmd, log, curl, snmptrap.
                            cmd runs here, so it is taken only from a file that root owns and nobody else can write

CONTROL
    alarm.list, alarm.pending, alarm.raise {"instance", "alarm", "message"}; and ping, status, reload, stop, log-level.

FILES
    /etc/palatine/alarm-daemon.yaml         the settings above
    <state>/alarm-daemon/alarms.sqlite      the journal: rules, what was read, deliveries and what became of them
    <runtime>/i/<instance>/events, ctl      where instances are heard and asked
    <runtime>/alarm-daemon/ctl, seg         control, and counters

SECURITY
    Whatever an app's config names is run by the app's own processes with its rights; this daemon only speaks HTTP and
    SMTP for it. The journal is readable by this daemon's user only: messages are log lines, arguments hold passwords.
    A delivery for an instance is never given to another user's instance of the same name. Lists and logs mask secrets.

DIAGNOSTICS
    config.not_served       a rule or alarm that cannot be served, and why
    rule.gave_up            a regexp reached its limit on a line, which then counts as not matching
    delivery.retried        an attempt came to nothing; there will be another
    delivery.given_up       refused for good, expired, or too many pending
    journal.failed          the disk refuses the journal; events stay with their senders until it does not
    journal.damaged         the journal could not be read and was put aside

EXIT STATUS
    0 stopped; 2 usage; 69 unavailable; 75 already running; 77 permission; 78 bad config
"""

import sys
from collections.abc import Sequence

from palatine.daemon import Spec, run
from palatine.schema import ALARMS
from palatine_alarm_daemon.counters import ROWS
from palatine_alarm_daemon.service import serve
from palatine_alarm_daemon.settings import Settings

SPEC = Spec(name="alarm-daemon", doc=__doc__, main=serve, tables=ALARMS, rows={"alarms": ROWS}, config=Settings)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon; returns its exit code."""
    return run(SPEC, argv)


if __name__ == "__main__":
    sys.exit(main())
