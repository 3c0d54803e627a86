"""The same configurations through the real uwsgi's `--show-config` and through ours.

The binary is `uwsgi` on PATH (Debian's, built with libyaml, yajl and libxml2) or $PALATINE_TEST_UWSGI.
$PALATINE_TEST_CORPUS says how many random configurations to compare.
"""

import os
import random
import resource
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from palatine.config import load
from palatine.config.magic import Host
from palatine.config.show import show
from palatine.errors import ConfigError

pytestmark = pytest.mark.interop

START = ";uWSGI instance configuration"
END = ";end of configuration"
ENVIRON = {"HOME": "/root", "PATH": "/usr/bin:/bin", "A": "1", "X": "$(A)", "UWSGI_FOO_BAR": "%(a)"}
#: A value that refers to itself keeps the real one busy for ever.
HANG_SECONDS = 3.0


def uwsgi() -> str:
    found = os.environ.get("PALATINE_TEST_UWSGI") or shutil.which("uwsgi")
    assert found, "install uwsgi (Debian: uwsgi-core) or set PALATINE_TEST_UWSGI"
    return found


def body(text: str) -> list[str] | None:
    lines = text.split("\n")
    return lines[lines.index(START) : lines.index(END) + 1] if START in lines and END in lines else None


def real(argv: list[str], cwd: Path, environ: dict[str, str]) -> list[str] | None:
    """What uwsgi prints, None if it ends or hangs before; it is stopped as soon as it has printed."""
    child = subprocess.Popen(
        [uwsgi(), *argv],
        cwd=cwd,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)),  # noqa: PLW1509
    )
    assert child.stdout is not None
    deadline = time.monotonic() + HANG_SECONDS
    out = b""
    try:
        while END.encode() not in out:
            readable, _, _ = select.select([child.stdout], [], [], max(0.0, deadline - time.monotonic()))
            part = os.read(child.stdout.fileno(), 1 << 16) if readable else b""
            if not part:
                break
            out += part
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    return body(out.decode("utf-8", "surrogateescape") + "\n")


def ours(argv: list[str], cwd: Path, environ: dict[str, str]) -> list[str] | str:
    host = Host(str(cwd), {"V": version()})
    try:
        found = body(show(load(argv, environ, cwd=str(cwd), host=host)))
    except ConfigError as error:
        return str(error)
    assert found is not None
    return found


def version() -> str:
    return subprocess.run([uwsgi(), "--version"], check=True, capture_output=True, text=True).stdout.strip()


def compare(argv: list[str], files: dict[str, str], cwd: Path, environ: dict[str, str] = ENVIRON) -> None:
    for name, text in files.items():
        (cwd / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    argv = [*argv, "--show-config", "--no-server"]
    theirs, mine = real(argv, cwd, environ), ours(argv, cwd, environ)
    shown = f"{argv}\n" + "\n".join(f"--- {name}\n{text}" for name, text in files.items())
    if theirs is None:
        assert isinstance(mine, str), f"uwsgi refuses what we read\n{shown}\n{mine}"
    else:
        assert mine == theirs, shown


def test_the_sample(tmp_path: Path) -> None:
    sample = Path(__file__).with_name("config_samples") / "features.ini"
    compare(["--ini", "cfg.ini"], {"cfg.ini": sample.read_text()}, tmp_path)


COMMANDS = [
    ["-Mp", "4"],
    ["-Mp4", "-s:0", "-C666", "-LTim"],
    ["-C", "666"],
    ["--chmod-socket=666", "-C"],
    ["--snmp=127.0.0.1:0", "--snmp-community", "foo"],
    ["--snmp", "x.ini"],
    ["--snmp", "127.0.0.1:0"],
    ["--processe", "4", "--workers=3"],
    ["--proc", "4"],
    ["--master=true"],
    ["--nope"],
    ["-Z"],
    ["x.ini", "-M", "y.ini"],
    ["x.ini:s"],
    ["--ini", "x.ini:s", "--ini", ":uwsgi"],
    ["--ini", "x.ini:"],
    ["--ini", "x.ini:nope"],
    ["--", "x.ini", "-M"],
    ["[label]", "-M"],
    ["foo.py"],
    ["-"],
    ["--ini", "missing.ini"],
    ["--set", "a=1", "--set-ph", "z=2", "--set", "b=%(z)"],
    ["--set-ph", "master=1"],
    ["--set", "a"],
    ["--if-env", "A", "--set", "q=%(_)", "--endif", "--set", "r=%(_)"],
    ["--declare-option", "foo=env=A$1;master=1", "--foo", "3"],
    ["--inject-before", "pre", "--inject-after", "post", "--ini", "x.ini"],
    ["--strict", "--ini", "x.ini"],
    ["--ini", "exec://echo '[uwsgi]'; echo a=%n.%o; echo home=$HOME"],
    ["--include", "x.ini", "--inherit", "y.ini", "--set", "d=%(c)"],
    ["-x", "c.xml", "-y", "c.yaml", "-j", "c.json"],
    ["--ini", "black.ini"],
    ["--ini", "white.ini"],
    ["--ini", "nested.ini"],
    ["--ini", "crlf.ini"],
    ["--ini", "fd://0"],
]


@pytest.mark.parametrize("argv", COMMANDS, ids=" ".join)
def test_command_lines(argv: list[str], tmp_path: Path) -> None:
    files = {
        "x.ini": "[uwsgi]\na = 1\nb = %(a) %N %n %x\n[s]\nq = %x %o %N\n",
        "y.ini": "[uwsgi]\nc = 3%N\n",
        "pre": "[uwsgi]\npre = %n\n",
        "post": "post = %n\n",
        "c.xml": "<uwsgi><a>1</a><b/><c> x &amp; y </c><![CDATA[code]]><socket>:0</socket></uwsgi>",
        "c.yaml": "uwsgi:\n  a: 1\n  e:\n  s: [':1', x]\n  t:\n    - 'q # r'\n    - 1.50\n  n:\n    k: v\n  z: true\n",
        "c.json": '{"uwsgi":{"t":true,"f":false,"n":null,"x":-1.50,"s":"\\u00e9","l":["p",2,{"o":1}],"d":1}}',
        "black.ini": "[uwsgi]\nblacklist = q\na = 1\nend-blacklist =\nq = 1\nblacklist = Q\nq = 2\n",
        "white.ini": "[uwsgi]\nwhitelist = a end-whitelist\na = 1\nend-whitelist =\nq = 1\n",
        "nested.ini": "[uwsgi]\nif-env = HOME\nfor = a b\nx = 1\nendfor =\nendif =\n",
        "crlf.ini": "[uwsgi]\r\n a = 1 \r\nb=\t2\r\n[uwsgi] ; x\r\nc = 3",
    }
    compare(argv, files, tmp_path)


KEYS = [
    "a",
    "b",
    "c",
    "d e",
    "master",
    "env",
    "stats",
    "xx",
    "static-index",
    "module",
    "=",
    "log-format",
    "touch-reload",
]
FRAGMENTS = [
    "1", "42", "-3", "x", "hello world", "%(a)", "%(b)", "%(c)", "%(a b)", "%(a + 3)", "%(a * b - 1)", "%(c / 2)",
    "%(a ++)", "%(num --)", "$(HOME)", "$(NOPE)", "$(HO$(A))", "%%", "%n", "%d", "%s", "%x", "%p", "%c", "%e", "%0",
    "%1", "%9", "%v", "%z", "%q", "%(_)", "(", ")", "$", "@", "%(a%(b))", "@(val.txt)", " ; c", "=", "\t", "#",
    "$$(HOME)", "%(a(b))", "%()", "%( )", "%j", "%N", "%D", "%X", "%S", "%[", "$(X)%(a)", "%k", "%h", "%U", "%i",
]  # fmt: skip
CONDITIONS = [
    "if-env = HOME", "if-env = NOPE", "if-not-env = NOPE", "if-env = A=1", "if-not-env = A=2", "if-opt = a",
    "if-opt = a=1", "if-not-opt = zz", "if-not-opt = a=7", "for = x y z", "for =  1  2 ", "for-times = 3",
    "for-times = x", "for-glob = *.txt", "for-glob = nope*", "for-glob = su*", "for-readline = val.txt",
    "if-exists = val.txt", "if-not-exists = val.txt", "if-file = val.txt", "if-dir = .", "if-not-dir = val.txt",
    "if-reload =", "if-not-reload =", "if-hostname = zzz", "if-not-hostname = zzz", "ifexists = val.txt",
    "ifdir = sub", "if-not-file = sub",
]  # fmt: skip
ARGV = [
    ["--ini", "main.ini"],
    ["main.ini"],
    ["--ini", "main.ini:other"],
    ["--set", "a=5", "--ini=main.ini"],
    ["main.ini", "--if-env", "HOME", "--env", "q=%(_)", "--endif"],
    ["--include", "main.ini"],
    ["--inherit", "main.ini"],
    ["--ini", "inc.ini", "--ini", ":uwsgi"],
]


def value(rng: random.Random) -> str:
    return "".join(rng.choice(FRAGMENTS) for _ in range(rng.randint(0, 4)))


def line(rng: random.Random, *, includes: bool) -> str:
    kind = rng.random()
    if kind < 0.55:
        return f"{rng.choice(['', ' '])}{rng.choice(KEYS)}{rng.choice([' = ', '=', '= ', ' =', ''])}{value(rng)}"
    if kind < 0.62:
        return rng.choice(["; c", "# c", "", "   ", "[other]", "[uwsgi]", "[ uwsgi ]", "["])
    if kind < 0.7:
        return f"{rng.choice(['set', 'set-ph'])} = {rng.choice('xyz')}={value(rng)}"
    if kind < 0.75 and includes:
        return rng.choice(["include = inc.ini", "inherit = inc2.ini", "ini = :other", "ini = :third"])
    inner = "\n".join(f"{rng.choice(KEYS)} = {value(rng)}%(_)" for _ in range(rng.randint(0, 2)))
    return f"{rng.choice(CONDITIONS)}\n{inner}\n{rng.choice(['end', 'endif =', 'endfor = x', 'end-if', 'end-for ='])}"


def lines(rng: random.Random, *, includes: bool = False) -> str:
    return "\n".join(line(rng, includes=includes) for _ in range(rng.randint(1, 8)))


@pytest.mark.timeout(600)
def test_a_corpus_of_random_configurations(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.txt").write_text("1\n")
    for seed in range(int(os.environ.get("PALATINE_TEST_CORPUS", "60"))):
        rng = random.Random(seed)
        again = f"[uwsgi]\n{lines(rng)}\n" if rng.random() < 0.5 else ""
        files = {
            "main.ini": f"[uwsgi]\n{lines(rng, includes=True)}\n[other]\n{lines(rng)}\n[third]\nt = %x %o\n{again}",
            "inc.ini": f"[uwsgi]\ni = %n %N %(a)\n{lines(rng)}\n",
            "inc2.ini": f"[uwsgi]\n{lines(rng)}\n",
            "val.txt": rng.choice(["one\ntwo\n", "7", "", "x\r\n", "%(a)\n"]),
        }
        compare(rng.choice(ARGV), files, tmp_path)
