"""Which of uWSGI's options have an effect here: what `config check` and the start-up warnings go by. Plain data.

A test holds it against what the app-server and the emperor really read.
"""

from typing import Final

#: Canonical names by which processes come and go; the app-server acts on them too.
PROCESSES: Final = frozenset(
    name
    for names in (
        "cheap cheaper cheaper-algo cheaper-idle cheaper-initial cheaper-overload cheaper-step cheaper-rss-limit-hard",
        "cheaper-rss-limit-soft cheaper-busyness-backlog-alert cheaper-busyness-backlog-multiplier",
        "cheaper-busyness-backlog-nonzero cheaper-busyness-backlog-step cheaper-busyness-max cheaper-busyness-min",
        "cheaper-busyness-multiplier cheaper-busyness-penalty cheaper-busyness-verbose check-interval die-on-idle idle",
        "evil-reload-on-as evil-reload-on-rss max-requests max-requests-delta max-worker-lifetime",
        "max-worker-lifetime-delta mem-collector-freq memory-report min-worker-lifetime reload-on-as reload-on-rss",
        "touch-reload touch-workers-reload touch-chain-reload touch-exec touch-signal hook-touch master-fifo",
        "pidfile pidfile2 safe-pidfile safe-pidfile2 exit-on-reload py-auto-reload py-auto-reload-ignore",
        "procname procname-prefix procname-prefix-spaced procname-append procname-master auto-procname",
        "hook-asap hook-pre-jail hook-post-jail hook-in-jail hook-as-root hook-as-user hook-as-user-atexit",
        "hook-pre-app hook-post-app hook-post-fork hook-accepting hook-accepting1 hook-accepting-once",
        "hook-accepting1-once hook-master-start exec-asap exec-pre-jail exec-post-jail exec-in-jail exec-as-root",
        "exec-as-user exec-as-user-atexit exec-pre-app exec-post-app reload-mercy",
        "attach-daemon attach-control-daemon smart-attach-daemon smart-attach-daemon2 attach-daemon2",
        "daemons-honour-stdin daemonize daemonize2 umask add-gid no-initgroups immediate-uid immediate-gid",
        "master-as-root",
        "reload-on-exception reload-on-exception-repr reload-on-exception-type reload-on-exception-value",
    )
    for name in names.split()
)

#: What the stats-exporter pushes for an app.
PUSHES: Final = frozenset(
    ["carbon", "carbon-freq", "carbon-hostname-dots", "carbon-id", "carbon-idle-avg", "carbon-max-retry", "carbon-name-resolve", "carbon-no-workers", "carbon-retry-delay", "carbon-root", "carbon-timeout", "carbon-use-metrics", "rrdtool", "rrdtool-freq", "stats-push", "stats-pusher-default-freq"]
)

#: What runs and is shared beside the workers.
FEATURES: Final = frozenset(
    name
    for names in (
        "cache cache-blocksize cache-expire-freq cache-no-expire cache-report-freed-items cache-store",
        "cache-store-sync cache2 queue queue-blocksize queue-store queue-store-sync sharedarea signal-bufsize",
        "cron cron-harakiri cron2 unique-cron",
        "farm mule mule-harakiri mule-msg-size mule-reload-mercy mules",
        "spooler spooler-chdir spooler-external spooler-frequency spooler-harakiri spooler-import",
        "spooler-max-tasks spooler-ordered spooler-processes spooler-quiet",
    )
    for name in names.split()
)

#: Canonical names the app-server acts on.
APP_SERVER: Final = frozenset(
    [
        *PROCESSES,
        *FEATURES,
        "alarm",
        "alarm-backlog",
        "alarm-freq",
        "alarm-msg-size",
        "buffer-size",
        "callable",
        "chdir",
        "chmod-socket",
        "connect-and-read",
        "die-on-term",
        "disable-logging",
        "env",
        "gid",
        "harakiri",
        "http",
        "http-socket",
        "http-timeout",
        "http11-socket",
        "https",
        "https-socket",
        "https2",
        "lazy",
        "lazy-apps",
        "limit-post",
        "listen",
        "locks",
        "log-alarm",
        "log-master",
        "logto",
        "log-format",
        "logformat-strftime",
        "log-date",
        "log-micros",
        "log-x-forwarded-for",
        "memory-report",
        "vhost",
        "log-4xx",
        "log-5xx",
        "log-slow",
        "log-zero",
        "log-big",
        "log-sendfile",
        "log-ioerror",
        "logto2",
        "logfile-chmod",
        "logfile-chown",
        "log-truncate",
        "log-reopen",
        "log-maxsize",
        "log-backupname",
        "touch-logrotate",
        "touch-logreopen",
        "logger",
        "req-logger",
        "log-syslog",
        "log-socket",
        "log-route",
        "log-req-route",
        "log-drain",
        "log-filter",
        "log-encoder",
        "log-req-encoder",
        "rsyslog-packet-size",
        "master",
        "module",
        "add-header",
        "rem-header",
        "static-map",
        "static-map2",
        "check-static",
        "check-static-docroot",
        "static-index",
        "static-skip-ext",
        "static-safe",
        "mimefile",
        "static-expires",
        "static-expires-mtime",
        "static-expires-path-info",
        "static-expires-path-info-mtime",
        "static-expires-uri",
        "static-expires-uri-mtime",
        "static-expires-type",
        "static-expires-type-mtime",
        "static-gzip",
        "static-gzip-all",
        "static-gzip-dir",
        "static-gzip-ext",
        "file-serve-mode",
        "mount",
        "manage-script-name",
        "ignore-script-name",
        "no-default-app",
        "chdir2",
        "eval",
        "paste",
        "pymodule-alias",
        "import",
        "shared-import",
        "pyargv",
        "catch-exceptions",
        "name",
        "need-app",
        "not-log-alarm",
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
        *PUSHES,
        "stats-vars",
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
        "honour-range",
        "wsgi-env-behaviour",
        "wsgi-strict",
        "reload-os-env",
        "offload-threads",
        "max-apps",
        "py-programname",
        "py-executable",
        "enable-threads",
        "no-orphans",
        "py-call-osafterfork",
        "single-interpreter",
        "so-keepalive",
        "thread-stacksize",
        "thunder-lock",
        "log-master-bufsize",
        "log-master-stream",
        "log-master-req-stream",
        "threaded-logger",
    ]
)

HONOURED: Final = APP_SERVER | EMPEROR | READING | MEANINGLESS

#: Options whose silent absence would be worse than a refusal, and what to do instead.
REFUSED: Final = {
    name: reason
    for names, reason in (
        ("ssl-socket suwsgi-socket", "TLS is served for HTTP only: use https-socket, or nginx in front"),
        ("fastcgi-socket scgi-socket", "only HTTP and the uwsgi protocol are served"),
    )
    for name in names.split()
}
