"""A real InfluxDB 1.x of the test's own, asked as Grafana and people ask it."""

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from running import Runner, Running, free_port, wait_until

_CONFIG = """
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
  dir = "{home}/meta"
  logging-enabled = false
[data]
  dir = "{home}/data"
  wal-dir = "{home}/wal"
  query-log-enabled = false
[monitor]
  store-enabled = false
[subscriber]
  enabled = false
[continuous_queries]
  enabled = false
[http]
  bind-address = "127.0.0.1:{port}"
  auth-enabled = {auth}
  log-enabled = false
  unix-socket-enabled = true
  bind-socket = "{socket}"
[[udp]]
  enabled = true
  bind-address = "127.0.0.1:{udp}"
  database = "udp"
  batch-size = 1
"""


class Influx:
    """One server; it may be killed and started again on its data."""

    def __init__(self, programs: Runner, *, auth: bool = False) -> None:
        self._programs = programs
        self.home = programs.directory / "influx"
        self.home.mkdir()
        self.socket = programs.runtime / "influx.sock"
        self.port, self.udp = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._config = self.home / "influxdb.conf"
        ports = {"rpc": free_port(), "port": self.port, "udp": self.udp}
        words = {"home": self.home, "socket": self.socket, "auth": str(auth).lower()}
        self._config.write_text(_CONFIG.format(**ports, **words))
        self._user = ""
        self.running: Running | None = None

    def start(self) -> "Influx":
        """Start it, and wait until it answers."""
        self.socket.unlink(missing_ok=True)
        environ = {"HOME": str(self.home), "GOMAXPROCS": "1"}
        self.running = self._programs.start("influxd", "-config", str(self._config), environ=environ)
        wait_until(self._answers, f"InfluxDB: {self.running.output()[-2000:]}", 30)
        return self

    def kill(self) -> None:
        """No chance to write anything."""
        assert self.running is not None
        self.running.stop(9)

    def make_admin(self, user: str, password: str) -> None:
        """The first user of a server with authentication."""
        self.ask(f"CREATE USER \"{user}\" WITH PASSWORD '{password}' WITH ALL PRIVILEGES")
        self._user = urllib.parse.urlencode({"u": user, "p": password})

    def write(self, lines: bytes, database: str = "uWSGI") -> None:
        """Write lines."""
        self._http("POST", f"/write?db={database}", lines)

    def ask(self, query: str, database: str = "uWSGI") -> list[dict[str, Any]]:
        """The series a query returns: name, tags, columns, values; AssertionError with the server's word for it."""
        words = urllib.parse.urlencode({"q": query, "db": database, "epoch": "ms"})
        results = json.loads(self._http("POST", f"/query?{words}"))["results"]
        assert "error" not in results[0], (query, results[0])
        found: list[dict[str, Any]] = results[0].get("series", [])
        return found

    def values(self, query: str, database: str = "uWSGI") -> list[Any]:
        """The last column of every row of every series, those that are null left out."""
        rows = [row for series in self.ask(query, database) for row in series["values"]]
        return [row[-1] for row in rows if row[-1] is not None]

    def _answers(self) -> bool:
        self._http("GET", "/ping")
        return True

    def _http(self, method: str, path: str, body: bytes | None = None) -> bytes:
        separator = "&" if "?" in path else "?"
        request = urllib.request.Request(f"{self.url}{path}{separator}{self._user}", body, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                read: bytes = answer.read()
                return read
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{path}: {error.code} {error.read().decode()}") from error


def rows(series: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every row of every series as a dict, tags included."""
    found = []
    for one in series:
        found += [{**one.get("tags", {}), **dict(zip(one["columns"], row, strict=True))} for row in one["values"]]
    return found
