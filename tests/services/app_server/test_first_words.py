"""What the command says before it serves: other masters' signals, refusals, and options without effect."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from palatine.config.effects import NOT_YET, Effects
from running import Runner, free_port, get, program, run, wait_until

APP = "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'here']\n"


def palatine(*words: str) -> subprocess.CompletedProcess[str]:
    return run("palatine-app-server", *words, check=False, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("option", ["--reload", "--stop"])
def test_reload_and_stop_signal_the_master_of_a_pidfile(programs: Runner, option: str) -> None:
    port = free_port()
    (programs.directory / "app.py").write_text(APP)
    words = ["--http-socket", f"127.0.0.1:{port}", "--wsgi-file", "app.py", "--pidfile", "my.pid"]
    server = programs.start("palatine-app-server", *words, cwd=programs.directory)
    wait_until(lambda: get(f"http://127.0.0.1:{port}/") == "here", "the app")
    assert palatine(option, str(programs.directory / "my.pid")).returncode == 0
    if option == "--stop":
        assert server.wait() == 0
    else:
        wait_until(lambda: server.output().count("spawned uWSGI worker 1") == 2, "the reload")


def test_a_pidfile_that_means_a_whole_group_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text("0\n")
    words = ("setsid", "--wait", program("palatine-app-server"), "--reload", str(tmp_path / "pid"))
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, "holds no process id" in done.stderr) == (78, True)


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        ((), 1, "The -s/--socket option is missing and stdin is not a socket."),
        (
            ("--https", "127.0.0.1:0,/no/cert,/no/key"),
            78,
            "https 127.0.0.1:0: No such file or directory (/no/cert, /no/key)",
        ),
        (("--https", "127.0.0.1:0,/no/cert"), 78, "it takes an address, a certificate and a key"),
        (("--http-socket", "127.0.0.1:0", "--chdir", "/none/such"), 78, "chdir(): No such file or directory"),
        (("--reload", "/none/such"), 78, "--reload /none/such: No such file or directory"),
    ],
)
def test_a_refusal_is_one_line(words: tuple[str, ...], status: int, text: str) -> None:
    done = palatine(*words)
    assert done.returncode == status
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_an_option_without_effect_is_named_with_its_place(programs: Runner) -> None:
    pending = next(Effects().names(NOT_YET), "")  # while there is one
    ini = programs.directory / "some.ini"
    ini.write_text(f"[uwsgi]\nhttp-socket = 127.0.0.1:0\nenable-threads = true\n{pending and f'{pending} = 1'}\n")
    server = programs.start("palatine-app-server", str(ini))
    server.wait_for("spawned uWSGI master process")
    assert "enable-threads has no effect" not in server.output()
    assert (f"some.ini:4:1: {pending} has no effect here yet" in server.output()) == bool(pending)
    checked = run("palatine", "config", "check", str(ini)).stdout
    assert "some.ini:3:1: no effect: enable-threads: Python threads always work" in checked
    assert (f"some.ini:4:1: not yet: {pending}" in checked) == bool(pending)


def test_a_listener_on_stdin_is_served_also_after_a_reload(programs: Runner) -> None:
    """As an Emperor starts on-demand vassals: fd 0 is the socket, `protocol` says what it speaks."""
    (programs.directory / "app.py").write_text(APP)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        log = programs.directory / "server.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [program("palatine-app-server"), "--protocol", "http", "--wsgi-file", "app.py", "--name", "demand"],
                cwd=programs.directory, env={**os.environ, **programs.environ()},
                stdin=listener.fileno(), stdout=output, stderr=output,
            )  # fmt: skip
    try:
        wait_until(lambda: get(url) == "here", "the app")
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: log.read_text().count("spawned uWSGI worker 1") == 2, "the reload")
        assert get(url) == "here"
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 0


def test_an_alarm_that_logs_does_not_raise_itself(programs: Runner) -> None:
    (programs.directory / "app.py").write_text("print('TERRIBLE', flush=True)\n" + APP)
    server = programs.start(
        "palatine", "--http-socket", "127.0.0.1:0", "--wsgi-file", "app.py",
        "--alarm", "tell log:again", "--log-alarm", "tell TERRIBLE", cwd=programs.directory,
    )  # fmt: skip
    server.wait_for("ALARM: again TERRIBLE", 20)
    assert server.stop(signal.SIGINT) == 0
    assert server.output().count("ALARM: again") == 1
