import json
import time
from pathlib import Path

import pytest

from palatine.errors import ProtocolError
from palatine_stats_exporter import history_file
from palatine_stats_exporter.history import AWAITED_SECONDS, HOST, SERIES, History, Ring
from running import Runner, free_port, get
from stats_master import master

NOW = 1_700_000_000.0


def ring(*times: float) -> Ring:
    """A ring with a sample at each time, all of whose values are the sample's number."""
    made = Ring(1000)
    for number, when in enumerate(times):
        made.add(when, [float(number)] * len(SERIES))
    return made


def filled(*names: str, until: float = NOW) -> History:
    history = History()
    for name in (HOST, *names):
        history.restore(name, ring(until - 20, until - 10), until, coarse=False)
        history.restore(name, ring(until - 7200, until - 60), until, coarse=True)
    return history


def test_what_was_kept_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "history"
    history_file.save(path, history_file.packed(filled("app")))
    history = History()
    assert history_file.load(path, history, NOW) == 4
    for coarse in (False, True):
        assert history.series("app", 0, coarse=coarse) == filled("app").series("app", 0, coarse=coarse)
        assert history.series(HOST, 0, coarse=coarse) == filled("app").series(HOST, 0, coarse=coarse)
    assert [path.name for path in tmp_path.iterdir()] == ["history"]


def test_hours_ago_and_times_that_have_not_come_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "history"
    history_file.save(path, history_file.packed(filled("app")))
    for now, left in ((NOW + 20_000, [NOW - 60]), (NOW + 90_000, []), (NOW - 100, [NOW - 7200])):
        history = History()
        history_file.load(path, history, now)
        found = history.series("app", 0, coarse=True)
        assert found is not None
        assert found["time"] == left


def test_an_instance_that_does_not_come_back_is_forgotten() -> None:
    history = filled("app")
    history.take([], NOW + AWAITED_SECONDS / 2)
    assert history.instances == 1
    history.take([], NOW + AWAITED_SECONDS)
    assert history.instances == 0


@pytest.mark.parametrize("fault", ["empty", "cut", "flipped", "magic", "text"])
def test_a_damaged_file_is_refused_whole(fault: str, tmp_path: Path) -> None:
    path, data = tmp_path / "history", history_file.packed(filled("app"))
    middle = len(data) // 2
    path.write_bytes({
        "empty": b"",
        "cut": data[:-1],
        "flipped": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
        "magic": b"PALHIST9" + data[8:],
        "text": b"PALHIST1 is what it says",
    }[fault])  # fmt: skip
    history = History()
    with pytest.raises(ProtocolError):
        history_file.load(path, history, NOW)
    assert history.instances == 0


def test_a_file_of_other_series_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = history_file.packed(filled("app"))
    monkeypatch.setattr(history_file, "SERIES", (*SERIES, "more"))
    with pytest.raises(ProtocolError, match="other series"):
        list(history_file.unpacked(data))


@pytest.mark.parametrize("damaged", [False, True])
def test_the_page_goes_on_after_a_restart(programs: Runner, *, damaged: bool) -> None:
    path = programs.state / "stats-exporter" / "history"
    path.parent.mkdir(parents=True)
    data = history_file.packed(filled("app", until=time.time()))
    history_file.save(path, data[:-1] if damaged else data)
    with master(programs.runtime) as instance:
        instance.start()
        for unreadable in (damaged, False):  # the first one leaves a sound file
            port = free_port()
            running = programs.start("palatine-stats-exporter", "--http", f"127.0.0.1:{port}")
            running.wait_for("http.serving", 30)
            found = json.loads(get(f"http://127.0.0.1:{port}/api/v1/history?interval=60"))
            assert len(found["series"]["time"]) == (0 if damaged else 2)
            assert ("history.not_read" in running.output()) == unreadable
            assert running.stop() == 0
