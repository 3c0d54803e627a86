"""The default readers on real descriptors: limits, deadlines and the emperor's pipe."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from palatine.config import load
from palatine.config.readers import (
    MAX_BYTES,
    default_readers,
    read_command,
    read_descriptor,
    read_emperor,
    read_file,
)
from palatine.errors import ConfigError

TEXT = b"[uwsgi]\nprocesses = 3\n"


def piped(data: bytes) -> int:
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    return reader


def test_a_file_and_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "x.ini"
    path.write_bytes(b"x" * MAX_BYTES)
    assert len(read_file(str(path))) == MAX_BYTES
    path.write_bytes(b"x" * (MAX_BYTES + 1))
    with pytest.raises(ConfigError, match="larger than 1048576 bytes"):
        read_file(str(path))


@pytest.mark.parametrize("name", ["missing", "", "nul\0nul", "x" * 5000, "\ud800"])
def test_what_cannot_be_read_is_a_config_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError):
        read_file(f"{tmp_path}/{name}")


def test_proc_files_and_fifos(tmp_path: Path) -> None:
    assert read_file("/proc/self/status").startswith(b"Name:")
    fifo = tmp_path / "fifo.ini"
    os.mkfifo(fifo)

    def write() -> None:
        fifo.write_bytes(TEXT)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert load(["--ini", str(fifo)], {}, cwd="/").settings.integer("processes") == 3
    finally:
        writer.join()


def test_descriptors_and_their_deadline() -> None:
    reader = piped(TEXT)
    assert load(["--ini", f"fd://{reader}"], {}, cwd="/").settings.integer("processes") == 3
    os.close(reader)
    with pytest.raises(ConfigError, match="cannot read fd://"):
        load(["--ini", f"fd://{reader}"], {}, cwd="/")
    reader, writer = os.pipe()
    with pytest.raises(ConfigError, match="gave nothing in time"):
        read_descriptor(reader, "it", seconds=0)
    os.close(writer)
    os.close(reader)


def test_commands_get_the_environment_and_their_status_does_not_matter(tmp_path: Path) -> None:
    config = load(
        ["--ini", "exec://echo '[uwsgi]'; echo env=$GREETING; pwd; exit 3"], {"GREETING": "hi"}, cwd=str(tmp_path)
    )
    assert [option.name for option in config.options[1:]] == ["env", str(tmp_path)]
    assert config.settings.text("env") == "hi"
    assert load(["--set", "env=@(exec://echo one; echo two)"], {}, cwd="/").settings.text("env") == "one\ntwo"


def test_an_endless_command_is_cut_at_the_limit() -> None:
    with pytest.raises(ConfigError, match="larger than"):
        read_command("exec yes", "/", {"PATH": "/usr/bin:/bin"})


def test_a_command_in_a_directory_that_is_gone_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="cannot run"):
        read_command("true", "/nowhere/at/all", {})


EMPEROR: list[tuple[Callable[[], int], str]] = [
    (lambda: piped(b""), "closed the pipe before all of v.ini came"),
    (lambda: piped(b"s\x05\x00"), "closed the pipe"),
    (lambda: piped(b"s\x05\x00\x00abc"), "closed the pipe"),
    (lambda: piped(b"x\x05\x00\x00abcde"), "sent no configuration"),
    (lambda: piped(b"s\x00\x00\x00"), "sent no configuration"),
]


def test_the_emperors_pipe() -> None:
    reader = piped(b"s" + len(TEXT).to_bytes(2, "little") + b"\0" + TEXT + b"more")
    environ = {"UWSGI_EMPEROR_FD_CONFIG": str(reader)}
    config = load(["--ini", "emperor://blog.ini"], environ, cwd="/")
    assert config.settings.integer("processes") == 3
    assert str(config.options[1].origin) == "emperor://blog.ini:2:1"
    assert os.read(reader, 9) == b"more"
    os.close(reader)


@pytest.mark.parametrize(("pipe", "message"), EMPEROR)
def test_the_emperors_pipe_broken(pipe: Callable[[], int], message: str) -> None:
    reader = pipe()
    with pytest.raises(ConfigError, match=message):
        read_emperor(str(reader), "v.ini")
    os.close(reader)


def test_a_silent_or_missing_emperor() -> None:
    reader, writer = os.pipe()
    with pytest.raises(ConfigError, match="gave nothing in time"):
        read_emperor(str(reader), "v.ini", seconds=0)
    os.close(writer)
    os.close(reader)
    with pytest.raises(ConfigError, match="is for vassals"):
        read_emperor("", "v.ini")


@pytest.mark.parametrize("scheme", ["data", "sym", "section", "call", "callint", "http", "https"])
def test_sources_that_are_refused_say_why(scheme: str) -> None:
    with pytest.raises(ConfigError, match=r"use a file|fetch it with"):
        default_readers("/", {})[scheme]("1")


def test_envdirs_count_before_the_passes(tmp_path: Path) -> None:
    (tmp_path / "GREETING").write_text("hi\n")
    (tmp_path / ".hidden").write_text("no\n")
    config = load(["--early-envdir", str(tmp_path), "--set", "env=A=$(GREETING)$(.hidden)"], {}, cwd="/")
    assert config.settings.text("env") == "A=hi$(.hidden)"


def test_yaml_is_parsed_by_a_child_that_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text("uwsgi:\n  processes: 3\n  env: [A=\u00e9, B=2]\n")
    (tmp_path / "bad.yaml").write_text("uwsgi:\n\tprocesses: 3\n")
    (tmp_path / "empty.yaml").write_text("other: {}\n")
    program = """
import os, sys
from palatine.config import load
from palatine.errors import ConfigError
config = load(["--yaml", "good.yaml", "--yaml", "empty.yaml"], {}, cwd=sys.argv[1])
assert config.settings.integer("processes") == 3
assert [(item.value, item.origin) for item in config.settings.items("env")] == [
    ("A=\\u00e9", ("good.yaml", 3, 9)), ("B=2", ("good.yaml", 3, 14))]
assert config.warnings == ['empty.yaml: there is no section "uwsgi" with options in this file']
try:
    load(["--yaml", "bad.yaml"], {}, cwd=sys.argv[1])
except ConfigError as error:
    assert (error.path, error.line, error.column) == ("bad.yaml", 2, 1), error
else:
    raise SystemExit("no error")
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    pass
else:
    raise SystemExit("a child is left")
print([name for name in ("yaml", "json", "socket", "subprocess", "threading", "trio") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], check=False, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


@pytest.mark.parametrize(
    ("parse", "message"),
    [
        ("lambda *_: time.sleep(60)", "takes more than 0 seconds"),
        ("lambda *_: os._exit(0)", "the process that parses YAML died"),
        ("lambda *_: os.kill(os.getpid(), 9)", "the process that parses YAML died"),
        ("lambda *_: [Entry('a' * (1 << 24), 'b', Origin('x'))]", "becomes too large"),
    ],
)
def test_a_yaml_child_that_hangs_dies_or_talks_too_much(parse: str, message: str) -> None:
    program = f"""
import os, time
from palatine.codec.config_source import Entry, Origin, Piece, expand_magic
from palatine.config import yaml_child
from palatine.errors import ConfigError
yaml_child.parse_yaml_here = {parse}
yaml_child.SECONDS = {0.0 if "sleep" in parse else 20.0}
try:
    yaml_child.parse_yaml_in_child(expand_magic([Piece("x.yaml", "a: 1")], None), "")
except ConfigError as error:
    print(error)
try:
    os.waitpid(-1, 0)
except ChildProcessError:
    print("reaped")
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout.startswith("x.yaml:1:1: ")
    assert message in done.stdout
    assert done.stdout.endswith("reaped\n")
