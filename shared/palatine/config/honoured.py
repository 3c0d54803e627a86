"""Which of uWSGI's options have an effect here: what `config check` and the start-up warnings go by. Plain data.

A test holds it against what the app-server and the emperor really read.
"""

from typing import Final

#: Canonical names the app-server acts on.
APP_SERVER: Final = frozenset(
    [
        "alarm",
        "alarm-backlog",
        "alarm-freq",
        "alarm-msg-size",
        "buffer-size",
        "callable",
        "chdir",
        "chmod-socket",
        "die-on-term",
        "disable-logging",
        "env",
        "gid",
        "harakiri",
        "http",
        "http-socket",
        "http-timeout",
        "http11-socket",
        "lazy",
        "lazy-apps",
        "limit-post",
        "listen",
        "locks",
        "log-alarm",
        "log-master",
        "logto",
        "master",
        "module",
        "name",
        "need-app",
        "not-log-alarm",
        "pidfile",
        "post-buffering",
        "processes",
        "protocol",
        "pythonpath",
        "reload",
        "runtime-dir",
        "show-config",
        "no-server",
        "single-interpreter",
        "snmp",
        "snmp-community",
        "snmp-null-unset",
        "socket",
        "socket-timeout",
        "state-dir",
        "stats",
        "stats-http",
        "stats-minified",
        "stats-no-cores",
        "stats-no-metrics",
        "stop",
        "threads",
        "udp",
        "uid",
        "unenv",
        "vacuum",
        "home",
        "worker-reload-mercy",
        "wsgi-file",
    ]
)

#: Canonical names the emperor acts on besides.
EMPEROR: Final = frozenset(
    [
        "emperor",
        "emperor-freq",
        "emperor-required-heartbeat",
        "emperor-curse-tolerance",
        "emperor-throttle",
        "emperor-max-throttle",
        "emperor-no-blacklist",
        "emperor-graceful-shutdown",
        "emperor-stats",
        "emperor-pidfile",
        "emperor-tyrant",
        "emperor-tyrant-nofollow",
        "emperor-nofollow",
        "emperor-magic-exec",
        "emperor-extra-extension",
        "emperor-on-demand-extension",
        "emperor-on-demand-directory",
        "emperor-on-demand-exec",
        "emperor-wrapper",
        "emperor-exec",
        "emperor-wrapper-override",
        "emperor-wrapper-fallback",
        "vassals-inherit",
        "vassals-include",
        "vassals-inherit-before",
        "vassals-include-before",
        "vassals-set",
        "vassals-start-hook",
        "vassals-stop-hook",
        "reload-mercy",
        "min-uid",
    ]
)

#: What steers the reading itself.
READING: Final = frozenset(
    [
        "blacklist",
        "config",
        "declare-option",
        "declare-option2",
        "early-envdir",
        "exit",
        "include",
        "inherit",
        "ini",
        "ini-paste",
        "inject-after",
        "inject-before",
        "json",
        "need-plugins",
        "plugins",
        "resolve",
        "set",
        "set-placeholder",
        "strict",
        "whitelist",
        "xml",
        "yaml",
        "plugins-dir",
    ]
)

#: True without being asked here, or without meaning: there is always a master, threads always work, and so on.
MEANINGLESS: Final = frozenset(
    [
        "auto-procname",
        "enable-threads",
        "no-orphans",
        "py-call-osafterfork",
        "single-interpreter",
        "so-keepalive",
        "thread-stacksize",
        "thunder-lock",
        "log-master-bufsize",
        "log-master-stream",
    ]
)

HONOURED: Final = APP_SERVER | EMPEROR | READING | MEANINGLESS

#: Options whose silent absence would be worse than a refusal, and what to do instead.
REFUSED: Final = {
    name: reason
    for names, reason in (
        ("https https-socket ssl-socket suwsgi-socket", "TLS is not served yet: put nginx in front (uwsgi_pass)"),
        ("daemonize daemonize2", "does not go to the background: run it under systemd, or `palatine up`"),
        ("fastcgi-socket scgi-socket", "only HTTP and the uwsgi protocol are served"),
    )
    for name in names.split()
}
