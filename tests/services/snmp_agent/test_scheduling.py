"""The agent's thread goes before ordinary processes where that is allowed, within its share; elsewhere it says so."""

import contextlib
import os
import resource
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import trio

from palatine.bus import request
from running import Runner, program

#: May this process do what the systemd unit lets the agent do?
PROBE = "import os; os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))"
#: A program that may not, whoever runs it.
WITHOUT_RIGHT = ("setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice", "--no-new-privs")


def status(programs: Runner, config: str, *before: str) -> tuple[dict[str, Any], int, str]:
    """What the agent says of its scheduling, the policy of its first thread, and its log."""
    path = programs.directory / "snmp-agent.yaml"
    path.write_text(config)
    running = programs.start(*before, program("palatine-snmp-agent"), "--config", str(path))
    running.wait_for("daemon.ready")
    body = trio.run(request, programs.runtime / "snmp-agent" / "ctl", "status")
    policy = os.sched_getscheduler(running.pid) & ~os.SCHED_RESET_ON_FORK
    others = [os.sched_getscheduler(thread) & ~os.SCHED_RESET_ON_FORK for thread in threads(running.pid)[1:]]
    assert os.SCHED_RR not in others
    assert running.stop() == 0
    scheduling: dict[str, Any] = body["scheduling"]
    return scheduling, policy, running.output()


def threads(pid: int) -> list[int]:
    return sorted(int(task.name) for task in Path(f"/proc/{pid}/task").iterdir())


def test_it_goes_first_by_default_where_that_is_allowed(programs: Runner) -> None:
    allowed = subprocess.run([sys.executable, "-c", PROBE], check=False, stderr=subprocess.DEVNULL).returncode == 0
    scheduling, policy, log = status(programs, "")
    if allowed:
        assert scheduling == {"realtime": True, "share": 0.5, "yielded": 0}
    else:
        assert scheduling["refused"]
    assert policy == (os.SCHED_RR if allowed else os.SCHED_OTHER)
    assert ("scheduling.ordinary" in log) is not allowed


def test_where_it_is_not_allowed_it_says_so_and_serves(programs: Runner) -> None:
    with contextlib.ExitStack() as stack:
        before = resource.getrlimit(resource.RLIMIT_RTPRIO)
        stack.callback(resource.setrlimit, resource.RLIMIT_RTPRIO, before)
        resource.setrlimit(resource.RLIMIT_RTPRIO, (0, before[1]))
        scheduling, policy, log = status(programs, "", *WITHOUT_RIGHT)
    assert (scheduling["realtime"], scheduling["share"], policy) == (False, 0.0, os.SCHED_OTHER)
    assert scheduling["refused"] in log
    assert log.count("scheduling.ordinary") == 1


def test_it_may_be_switched_off(programs: Runner) -> None:
    scheduling, policy, log = status(programs, "realtime-share: 0")
    assert (scheduling, policy) == ({"realtime": False, "share": 0.0, "yielded": 0}, os.SCHED_OTHER)
    assert "scheduling." not in log


def test_what_the_operator_chose_stays(programs: Runner) -> None:
    scheduling, policy, _log = status(programs, "", "chrt", "--batch", "0")
    assert (scheduling["refused"], policy) == ("started with another policy", os.SCHED_BATCH)


IN_CIRCLES = """
    import os, time
    from palatine_snmp_agent.scheduling import Scheduling

    scheduling = Scheduling()
    scheduling.use(0.5)
    deadline = time.monotonic() + 30
    while os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR and time.monotonic() < deadline:
        {each}
    seen = scheduling.statistics()
    while not scheduling.statistics()["realtime"] and scheduling.statistics()["share"] and time.monotonic() < deadline:
        time.sleep(0.01)
        scheduling.look()
    time.sleep(0.01)
    print("refused" in seen or (seen["yielded"], seen["realtime"], scheduling.statistics()["realtime"]))
"""


@pytest.mark.parametrize("each", ["scheduling.look()", "pass"])
def test_who_uses_up_his_share_goes_along_with_everybody_else_for_a_while(each: str) -> None:
    """Also when nothing looks any more: then RLIMIT_RTTIME's signal comes, which is not fatal."""
    code = textwrap.dedent(IN_CIRCLES).format(each=each)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout in {"(1, False, True)\n", "True\n"}
