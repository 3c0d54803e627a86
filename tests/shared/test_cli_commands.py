import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from palatine.cli import become, config_command, doctor_command, main
from palatine.cli.doctor_command import BAD, GOOD, ODD, Finding

FAKES = Path(__file__).parent / "fake_daemons"
ECHO = """
import json, os, sys
print(json.dumps({"pid": os.getpid(), "words": sys.argv[1:], "umbrella": os.environ.get("PALATINE_UMBRELLA"),
    "fds": [int(fd) for fd in os.listdir("/proc/self/fd")]}))
"""


@pytest.mark.parametrize(("link", "words"), [("palatine", ["hello.ini", "--master"]), ("uwsgi", ["status", "-x"])])
def test_an_app_is_run_by_the_same_process(tmp_path: Path, link: str, words: list[str]) -> None:
    for name in ("palatine_app_server", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "palatine_app_server" / "__init__.py").touch()
    (tmp_path / "palatine_app_server" / "__main__.py").write_text(ECHO)
    program = f"import sys; sys.argv[0] = '/bin/{link}'; from palatine.cli import become, main\n"
    program += "become._script = lambda: ''\n"
    program += "raise SystemExit(main())"
    inherited, other = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", program, *words],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path / "elsewhere",
        pass_fds=[inherited],
    ) as process:
        out, _ = process.communicate()
    told = json.loads(out)
    assert told["pid"] == process.pid
    assert told["words"] == words
    assert told["umbrella"] == "1"
    assert inherited in told["fds"]
    for fd in (inherited, other):
        os.close(fd)


def test_the_installed_script_gives_the_process_its_name() -> None:
    argv = become.app_server_argv(["x.ini"])
    assert argv[-1] == "x.ini"
    assert argv[0].endswith("/palatine-app-server")


def test_without_the_app_server_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        become, "missing", lambda daemon: f"palatine-{daemon} needs x: pip install 'palatine[{daemon}]'"
    )
    with pytest.raises(SystemExit) as left:
        main(["palatine", "hello.ini"])
    assert left.value.code == 69
    assert "pip install 'palatine[app-server]'" in capsys.readouterr().err


def test_the_umbrella_loads_nothing_it_does_not_need() -> None:
    program = "import sys; sys.argv = ['palatine', '--version']; from palatine.cli import main; main()\n"
    program += "print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"trio", "zmq", "attrs", "structlog", "yaml", "asyncio", "argparse", "subprocess"}
    assert not heavy & set(loaded)
    assert not [name for name in loaded if name.startswith("palatine_")]


def test_help_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["palatine", "help", "up"])
    assert left.value.code == 0
    assert "--demo DIR" in capsys.readouterr().out


@pytest.fixture
def ini(tmp_path: Path) -> Path:
    path = tmp_path / "hello.ini"
    path.write_text("[uwsgi]\nhttp = :9090\nprocesses = 4\nproceses = 5\n")
    return path


def test_config_show_says_where_each_option_comes_from(ini: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["palatine", "config", "show", str(ini)]) == 0
    out = capsys.readouterr().out
    assert f"processes = 4  ; {ini}:3:1" in out
    assert "unknown" in out
    assert main(["palatine", "config", "show", "--ini", str(ini)]) == 0
    assert "[uwsgi]\n" in capsys.readouterr().out


def test_config_check_tells_what_is_wrong(ini: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["palatine", "config", "check", str(ini)]) == 0
    out = capsys.readouterr().out
    assert f"{ini}:3:1: implemented: processes: workers (1)\n" in out
    assert (
        f'{ini}:4:1: unknown: proceses: unknown option "proceses", kept as a placeholder; did you mean "processes"?'
        in out
    )
    assert out.endswith("4 options: 3 implemented, 1 unknown\n")
    assert main(["palatine", "config", "check", "-q", str(ini)]) == 0
    assert capsys.readouterr().out.count("\n") == 2
    assert main(["palatine", "config", "check", "--", "--ini", str(ini), "--strict"]) == 78
    assert main(["palatine", "config", "check", str(ini.with_name("none.ini"))]) == 78


def test_doctor_finds_this_machine_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["palatine", "doctor", "--runtime-dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "locks of open files" in out
    assert f"{tmp_path} is writable" in out


def test_doctor_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "private-77").mkdir()
    (tmp_path / "i" / "broken").mkdir(parents=True)

    def refuse() -> Any:
        raise PermissionError(13, "Permission denied", "/x")

    monkeypatch.setattr(doctor_command, "_locks", refuse)
    monkeypatch.setattr(doctor_command, "missing", lambda daemon: f"palatine-{daemon} needs x")
    findings = list(doctor_command.examine(str(tmp_path)))
    assert Finding(ODD, "palatine-emperor needs x") in findings
    assert any(found.verdict == BAD and "Permission denied" in found.what for found in findings)
    assert any("private-77 is left over" in found.what for found in findings)
    assert any("broken" in found.what and found.verdict == ODD for found in findings)
    assert any(found.verdict == GOOD for found in findings)
    assert main(["palatine", "doctor", "--runtime-dir", str(tmp_path)]) == 1
    assert "bad  a check failed" in capsys.readouterr().out


def test_config_words_after_two_dashes_are_options(ini: Path) -> None:
    assert len(config_command.inspected(["--", "--http", ":1", str(ini)]).options) > 3
