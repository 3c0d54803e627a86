"""Serve the files below a directory and publish, over SNMP, how many were served and how large they were.

    palatine -s :3031 -w staticfilesnmp --udp 127.0.0.1:2222 --snmp --snmp-community foo
    snmpget -v2c -c foo 127.0.0.1:2222 1.3.6.1.4.1.35156.17.2.1

| custom value | type      | meaning                                 |
|--------------|-----------|-----------------------------------------|
| 1            | Counter32 | files served                            |
| 2            | Counter64 | bytes of them                           |
| 40           | Gauge32   | whatever was last set by ?users=NUMBER  |
"""

import os
from urllib.parse import parse_qs

import uwsgi

ROOT = os.path.realpath(os.environ.get("STATIC_ROOT", "."))


def application(environ, start_response):
    users = parse_qs(environ["QUERY_STRING"]).get("users", [""])[0]
    if users.isdigit():
        uwsgi.snmp_set_gauge(40, int(users))
    path = os.path.realpath(os.path.join(ROOT, environ["PATH_INFO"].lstrip("/")))
    if os.path.commonpath([ROOT, path]) != ROOT or not os.path.isfile(path):
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"no such file\n"]
    size = os.path.getsize(path)
    uwsgi.snmp_incr_counter32(1)
    uwsgi.snmp_incr_counter64(2, size)
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(size))])
    return environ["wsgi.file_wrapper"](open(path, "rb"))
