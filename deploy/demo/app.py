"""The demo app: each path shows one thing the daemons do."""

import time

import uwsgi

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>palatine demo</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 40rem; margin: 3rem auto; padding: 0 1rem }
  :root { color-scheme: light dark }
  code { background: color-mix(in srgb, currentcolor 8%%, transparent); padding: .1em .3em; border-radius: .2em }
  td { padding: .2rem 1rem .2rem 0; vertical-align: top }
</style>
<h1>It works</h1>
<p>Worker %(worker)d answered; %(requests)d requests so far.</p>
<table>
  <tr><td><a href="/slow">/slow</a><td>takes a quarter of a second: watch the workers turn busy in the stats
  <tr><td><a href="/users?42">/users?42</a><td>sets SNMP value 40 to 42
  <tr><td><a href="/alarm">/alarm</a><td>prints a line the alarm rule of <code>app.ini</code> matches
  <tr><td><a href="/stuck">/stuck</a><td>sleeps past its deadline: harakiri after ten seconds, and its alarm
  <tr><td><a href="/error">/error</a><td>raises: a plain 500 here, a traceback in the log
</table>
</html>
"""


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/slow":
        time.sleep(0.25)
    elif path == "/stuck":
        time.sleep(60)
    elif path == "/users" and environ["QUERY_STRING"].isdigit():
        uwsgi.snmp_set_gauge(40, int(environ["QUERY_STRING"]) % 2**32)
    elif path == "/alarm":
        print("TERRIBLE ALARM! The world exploded!!!", flush=True)
    elif path == "/error":
        raise RuntimeError("as you wished")
    elif path != "/":
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"not here\n"]
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    return [(PAGE % {"worker": uwsgi.worker_id(), "requests": uwsgi.total_requests()}).encode()]
