"""What a process that dies of a fault leaves behind: its frames in the log, and an alarm that carries them."""

import faulthandler
import os
import signal
import sys
from importlib.util import find_spec

import pytest

from app_server import AppServer
from palatine_app_server.supervision.crash_reports import CrashReports
from palatine_app_server.system import crashes
from running import Runner, wait_until

CRASH = """
import ctypes
def more(environ):
    if environ["PATH_INFO"] == "/crash":
        ctypes.string_at(0)
"""
#: Who can walk them: the compiled build.
C_FRAMES = find_spec("palatine_app_server.system.crash_frames") is not None


@pytest.mark.parametrize("alarmed", [False, True])
def test_a_crash_says_where(programs: Runner, alarmed: bool) -> None:  # noqa: FBT001 - a parameter of the test
    words = ["--alarm", "tell log:crashed", "--alarm-segfault", "tell"] if alarmed else []
    server = AppServer(programs, *words, app=CRASH)
    (pid,) = server.pids()
    with server.connect() as client:
        client.send(b"GET /crash HTTP/1.1\r\nHost: h\r\n\r\n")
        assert client.rest() == b""
    server.wait_other_worker(pid)
    output = server.running.wait_for(f"DAMN ! worker 1 (pid: {pid}) died, killed by signal 11")
    assert f"!!! uWSGI process {pid} got Segmentation Fault !!!" in output
    assert output.count("Fatal Python error: Segmentation fault") == 1
    assert 'app.py", line' in output
    assert (f"*** backtrace of {pid} ***" in output) is C_FRAMES
    assert ("*** end of backtrace ***" in output) is C_FRAMES
    wait_until(lambda: server.server()["alarms_raised"] == alarmed, "the alarm, where there is one", 30)


def test_a_mule_that_crashes_raises_the_alarm(programs: Runner) -> None:
    words = ["--alarm", "tell log:crashed", "--alarm-segfault", "tell", "--mule"]
    server = AppServer(programs, *words, app=CRASH)
    wait_until(lambda: server.read("mules")[0]["pid"], "the mule")
    mule = server.read("mules")[0]["pid"]
    os.kill(mule, signal.SIGSEGV)
    server.running.wait_for(f"OOOPS mule 1 (pid: {mule}) crippled")
    assert f"!!! uWSGI process {mule} got Segmentation Fault !!!" in server.running.output()
    wait_until(lambda: server.server()["alarms_raised"] == 1, "the alarm", 30)


def test_an_alarm_carries_what_its_worker_said() -> None:
    """Those of the same number in two generations are told apart, and who comes after them begins anew."""
    raised: list[str] = []
    said: list[str] = []
    reports = CrashReports(2, wanted=True, raise_alarm=raised.append, say=said.append)
    for worker, generation in ((2, 1), (2, 2), (2, 3)):
        pid = os.fork()
        if not pid:
            crashes.report_to(reports.fd(worker, generation))
            faulthandler._sigabrt()  # type: ignore[attr-defined]
        _, status = os.waitpid(pid, 0)
        assert os.WTERMSIG(status) == signal.SIGABRT
        reports.died(pid, status, f"generation {generation}", worker, generation)
        assert said.count(f"!!! uWSGI process {pid} got Abort !!!") == 1
    for generation, text in enumerate(raised, 1):
        assert text.startswith(f"generation {generation}\nFatal Python error: Aborted\n")
        assert text.count(sys._getframe().f_code.co_name) == 1
        assert ("*** end of backtrace ***" in text) is C_FRAMES
    reports.died(1, signal.SIGSEGV, "nothing said", 1, 1)
    reports.died(1, signal.SIGKILL, "no crash", 1, 1)
    assert raised[3:] == ["nothing said"]


def test_without_alarms_nothing_is_kept() -> None:
    assert CrashReports(2, wanted=False, raise_alarm=print, say=print).fd(1, 1) == 2
