"""The page in real Chromium: what it shows, by mouse and by keys, on a desk and on a phone, by day and by night."""

from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from browser import Browser
from palatine.counters import Segment
from palatine.schema import DAEMON, EMPEROR
from running import Runner, Running, free_port
from stats_master import StandInMaster, master
from stats_planting import planted_neighbours, sample, store

pytestmark = pytest.mark.interop

HOSTILE = "<img src=x onerror=document.title='hacked'>.ini"
ROWS = "[...document.querySelectorAll('#{} tbody tr')].map((row) => row.cells[0].textContent)"
CHOSEN = "document.querySelector('#instances [data-chosen] button')?.textContent"


@pytest.fixture
def apps(programs: Runner) -> Iterator[list[StandInMaster]]:
    """Three apps, one of which is paused."""
    with ExitStack() as stack:
        made = []
        for name in ("shop", "blog", "billing"):
            one = stack.enter_context(master(programs.runtime, name, sample("stats_hello_under_load.json")))
            one.start()
            made.append(one)
        store(made[1].segment, "server", state=5)
        yield made


def exporter(programs: Runner, port: int) -> Running:
    running = programs.start("palatine-stats-exporter", "--http", f"127.0.0.1:{port}")
    running.wait_for("http.serving", 30)
    return running


def rows(browser: Browser, table: str) -> list[str]:
    """The first cells of a table."""
    found: list[str] = browser.run(ROWS.format(table))
    return found


def test_a_desk(programs: Runner, apps: list[StandInMaster]) -> None:
    port = free_port()
    running = exporter(programs, port)
    with planted_neighbours(programs.runtime), Browser() as browser:
        browser.go(f"http://127.0.0.1:{port}/")
        browser.wait_for(f"{ROWS.format('instances')}.length === 3")
        assert rows(browser, "instances") == ["billing", "blog", "shop"]
        titles = "[...document.querySelectorAll('.panel figcaption > span')].map((one) => one.textContent)"
        assert browser.run(titles) == [
            "Requests", "Worker status", "In request", "Listen queue", "Average request time", "Requests per worker",
            "Running time", "Workers", "Respawns", "Harakiri",
        ]  # fmt: skip
        browser.wait_for("document.querySelector('[data-total=busy]').textContent === '12 of 12'")
        browser.wait_for("document.querySelector('#vassals [data-state=throttled]') !== null")
        assert rows(browser, "alarms") == ['say "hi"']
        browser.wait_for("document.querySelectorAll('#daemons li').length === 3")

        # by keys alone: sort, choose, back
        browser.run("document.querySelector('#instances th button').focus()")
        browser.press("Enter", 13, "\r")
        browser.wait_for(f"{ROWS.format('instances')}[0] === 'shop'")
        assert browser.run("document.querySelector('#instances th').ariaSort") == "descending"
        browser.run("document.querySelector('#instances tbody button').focus()")
        browser.press("Enter", 13, "\r")
        browser.wait_for(f"{ROWS.format('workers')}.length === 4")
        assert browser.run(CHOSEN) == "shop"
        assert browser.run("location.hash") == "#app=shop"
        assert "GET /" in browser.run("document.querySelector('#workers').innerText")
        browser.run("document.querySelector('#back').focus()")
        browser.press("Enter", 13, "\r")
        browser.wait_for("document.querySelector('#detail').hidden && document.title === 'palatine'")

        # what changes is shown, and what goes is gone
        browser.wait_for("document.querySelector('#instances [data-state=paused]') !== null")
        store(apps[1].segment, "server", state=1)
        browser.wait_for("!document.querySelector('#instances [data-state=paused]')")
        browser.run("document.querySelector('#filter').value = 'bil'")
        browser.run("document.querySelector('#filter').dispatchEvent(new Event('input'))")
        assert rows(browser, "instances") == ["billing"]

        # the first samples draw lines; the exporter goes and comes back
        browser.wait_for("document.querySelectorAll('.panel path.line').length > 3", 60)
        assert browser.errors == []
        running.process.kill()
        running.wait()
        browser.wait_for("document.querySelector('#link').dataset.state === 'lost'")
        exporter(programs, port)
        browser.wait_for("document.querySelector('#link').dataset.state === 'live'", 60)
        loaded = browser.run("performance.getEntriesByType('resource').map((one) => one.name)")
        assert {url.split("/")[2] for url in loaded} == {f"127.0.0.1:{port}"}


def test_a_phone_at_night_with_hundreds_of_vassals(programs: Runner, apps: list[StandInMaster]) -> None:
    del apps
    port = free_port()
    (programs.runtime / "emperor").mkdir()
    emperor = Segment.create(
        programs.runtime / "emperor" / "seg", (*DAEMON, *EMPEROR), {"vassals": 400}, {"monitors": []}
    )
    for row in range(400):
        store(emperor, "vassals", row, state=4, pid=row)
        emperor.text("vassals", row).write((f"site-{row:03}.ini" if row else HOSTILE).encode())
    with closing(Closing(emperor)), Browser(width=390, height=844, dark=True) as browser:
        emperor.publish()
        exporter(programs, port)
        browser.go(f"http://127.0.0.1:{port}/#app=shop")
        browser.wait_for(f"{ROWS.format('vassals')}.length === 400")
        browser.wait_for(f"{ROWS.format('workers')}.length === 4")
        assert HOSTILE in rows(browser, "vassals")
        assert browser.run("document.title") == "shop - palatine"
        assert browser.run("document.documentElement.scrollWidth") == 390
        paper = browser.run("getComputedStyle(document.documentElement).backgroundColor")
        assert max(map(int, paper.removeprefix("rgb(").removesuffix(")").split(","))) < 64
        browser.run("document.querySelector('#filter').value = 'site-123'")
        browser.run("document.querySelector('#filter').dispatchEvent(new Event('input'))")
        assert rows(browser, "vassals") == ["site-123.ini"]
        assert browser.errors == []


class Closing:
    """A segment to be closed and removed."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment

    def close(self) -> None:
        self._segment.close(unlink=True)
