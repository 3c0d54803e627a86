"""Which uWSGI plugins are built in here, and which need another language's runtime. Names only; nothing is loaded."""

from typing import Final

#: Accepted silently: palatine does what they do, or does it in one of its daemons.
BUILT_IN: Final = """
    python python2 python27 python3 python35 python36 python37 python38 python39 python310 python311 python312
    python313 python314 asyncio gevent greenlet tornado stackless
    http cache carbon cheaper_backlog2 cheaper_busyness clock_monotonic clock_realtime corerouter
    emperor_amqp emperor_mongodb emperor_pg emperor_zeromq alarm_curl alarm_xmpp alarm_speech airbrake
    fastrouter rawrouter sslrouter logfile logpipe logsocket logzmq syslog rsyslog redislog graylog2 mongodblog
    systemd_logger msgpack nagios notfound ping pty rpc signal spooler symcall
    router_access router_basicauth router_cache router_expires router_hash router_http router_memcached
    router_metrics router_radius router_redirect router_redis router_rewrite router_static router_uwsgi
    router_xmldir ssi stats_pusher_file stats_pusher_mongodb stats_pusher_socket stats_pusher_statsd rrdtool zabbix
    transformation_chunked transformation_gzip transformation_offload transformation_template
    transformation_tofile transformation_toupper zergpool dumbloop curl_cron webdav xattr ugreen
    """

#: Plugin names by the language whose runtime they bring.
LANGUAGES: Final = {
    "ruby": "rack rack19 rack193 rack20 rack21 rack27 rack30 rack31 rbthreads fiber ruby19 ruby rails mruby",
    "perl": "psgi coroae perl",
    "php": "php php5 php7 php74 php81 php82 php83 php84",
    "lua": "lua lua51 lua52 lua53 luajit",
    "jvm": "jvm jwsgi ring jvm_openjdk servlet",
    "mono": "mono",
    "go": "gccgo go",
    "cgi": "cgi",
    "pypy": "pypy",
    "v8": "v8 teajs",
    "cplusplus": "cplusplus",
    "objc": "objc matheval_objc",
    "erlang": "erlang",
}

_INSTEAD: Final = {
    "cgi": "run CGI scripts behind the web server or with a wrapper",
    "pypy": "run palatine itself under PyPy",
    "ruby": "run the app with puma or passenger",
    "php": "run the app with php-fpm",
}


def is_built_in(name: str) -> bool:
    """Whether palatine does itself what the plugin `name` does."""
    return name in BUILT_IN.split()


def plugin_names(value: str) -> list[str]:
    """The bare names in the value of `plugins`: `0:python3,/usr/lib/http_plugin.so` is python3 and http."""
    names = []
    for word in value.split(","):
        name = word.strip().partition("|")[0].rpartition(":")[2].rpartition("/")[2].removesuffix("_plugin.so")
        if name:
            names.append(name)
    return names


def language_of(plugin: str) -> str:
    """The language a plugin brings, or ""."""
    return next((language for language, names in LANGUAGES.items() if plugin in names.split()), "")


def foreign(kind: str, name: str, language: str) -> str:
    """Why palatine refuses `kind` ("plugin" or "option") `name`, and what to do instead."""
    instead = _INSTEAD.get(language, f"run the app with a server made for {language}")
    return (
        f"{kind} {name!r} needs uWSGI's {language} runtime, and palatine runs Python only: {instead},"
        " or let palatine-emperor run this vassal with the real uwsgi (--emperor-exec=uwsgi)"
    )
