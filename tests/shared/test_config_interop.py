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


#: Small configurations of the logic, each by what it is about. HOST is this machine's name.
LOGIC = {
    "for": "for = a  b c\nenv = X=%(_)\nendfor =",
    "for uses the item twice": "for = a b\nenv = %(_)=%(_)\nendfor =",
    "for over nothing": "for =\nenv = X=%(_)\nendfor =\nafter = 1",
    "for does not expand placeholders": "set-ph = l=a b\nfor = %(l)\nenv = X=%(_)\nendfor =",
    "for-times": "for-times = 3\nenv = X%(_)=1\nend-for =",
    "for-times 0": "for-times = 0\nenv = X%(_)=1\nend-for =",
    "for-times negative": "for-times = -2\nenv = X%(_)=1\nend-for =",
    "for-times no number": "for-times = many\nenv = X%(_)=1\nend-for =",
    "for-readline": "for-readline = lines.txt\nenv = X=%(_)\nendfor =",
    "for-glob": "for-glob = *.txt\nenv = X=%(_)\nendfor =",
    "for-glob of nothing": "for-glob = *.none\nenv = X=%(_)\nendfor =",
    "for-glob of a directory": "for-glob = d*\nenv = X=%(_)\nendfor =",
    "a set option in a loop": "for = 1 2\nset = n%(_)=%(_)\nendfor =\nenv = S=%(n1)%(n2)",
    "a file in a loop": "for = one two\ninclude = %(_).ini\nendfor =",
    "if-env": "if-env = HOME\nenv = H=%(_)\nendif =",
    "if-env with a value": "if-env = A=1\nenv = H=%(_)\nendif =\nif-env = A=2\nenv = no=1\nendif =",
    "if-env of an empty one": "if-env = EMPTY\nenv = H=[%(_)]\nendif =\nif-env = EMPTY=\nenv = J=1\nendif =",
    "if-not-env": "if-not-env = NOPE\nenv = H=1\nendif =\nif-not-env = HOME\nenv = no=1\nendif =",
    "if-opt": "processes = 4\nif-opt = processes\nenv = P=%(_)\nendif =\nif-opt = processes=4\nenv = Q=1\nendif =",
    "if-opt of another spelling": "processes = 4\nif-opt = workers\nenv = P=%(_)\nendif =",
    "if-opt with another value": "processes = 4\nif-opt = processes=5\nenv = no=1\nendif =",
    "if-opt of a bare flag": "master =\nif-opt = master\nenv = M=[%(_)]\nendif =",
    "if-opt of the second value": "env = A=1\nenv = B=2\nif-opt = env=B=2\nenv = no=1\nendif =",
    "if-not-opt": "if-not-opt = threads\nthreads = 2\nendif =\nif-not-opt = threads=2\nenv = no=1\nendif =",
    "if-opt of a placeholder": "set-ph = x=1\nif-opt = x=1\nenv = X=%(_)\nendif =",
    "if-file": "if-file = lines.txt\nenv = F=%(_)\nendif =\nif-file = dir\nenv = no=1\nendif =",
    "if-not-file": "if-not-file = dir\nenv = F=1\nendif =\nif-not-file = lines.txt\nenv = no=1\nendif =",
    "if-dir": "if-dir = dir\nenv = D=%(_)\nendif =\nif-dir = lines.txt\nenv = no=1\nendif =",
    "if-directory": "if-directory = dir\nenv = D=1\nend-if =\nif-not-dir = dir\nenv = no=1\nend =",
    "if-exists": "if-exists = dir\nenv = E=%(_)\nendif =\nif-exists = none\nenv = no=1\nendif =",
    "if-not-exists": "if-not-exists = none\nenv = E=1\nendif =",
    "if-reload": "if-reload =\nenv = no=1\nendif =\nif-not-reload =\nenv = R=1\nendif =",
    "if-plugin of none": "if-plugin = nosuch\nenv = no=1\nendif =\nif-not-plugin = nosuch\nenv = P=1\nendif =",
    "if-hostname": "if-hostname = HOST\nenv = H=%(_)\nendif =\nif-hostname = x\nenv = no=1\nendif =",
    "if-not-hostname": "if-not-hostname = x\nenv = H=1\nendif =\nif-not-hostname = HOST\nenv = no=1\nendif =",
    "if-hostname-match": "if-hostname-match = ^.\nenv = H=%(_)\nendif =\nif-hostname-match = ^$\nenv = no=1\nendif =",
    "if-not-hostname-match": "if-not-hostname-match = ^$\nenv = H=1\nendif =",
    "logic in logic": "if-env = HOME\nfor = a b\nenv = X=%(_)\nendfor =\nendif =",
    "an end without logic": "endif =\nenv = H=1",
    "a wrong end": "for = a b\nenv = H=%(_)\nendif =\nenv = I=1",
    "arithmetic": "set-ph = a=5\nenv = X=%(a + 3)\nenv = Y=%(a - 7)\nenv = Z=%(a * a)\nenv = Q=%(a / 2)",
    "arithmetic from left to right": "set-ph = a=5\nenv = X=%(a + 3 * 2)\nenv = Y=%(2 * a + 1)",
    "arithmetic with ++ and --": "set-ph = a=5\nenv = X=%(a ++)\nenv = Y=%(a --)",
    "arithmetic of words": "set-ph = a=5\nset-ph = b=7\nenv = X=%(a b)\nenv = Y=%(a + b)\nenv = Z=%(a+b)",
    "arithmetic of what is not there": "env = X=%(none + 3)\nenv = Y=%(3 + none)\nenv = Z=%(none)",
    "arithmetic by zero": "set-ph = a=5\nset-ph = z=0\nenv = X=%(a + z)\nenv = Y=%(a - z)",
    "references to references": "set-ph = a=1\nset-ph = b=%(a)2\nset-ph = c=%(b)3\nenv = X=%(c)",
    "references forward": "env = X=%(later)\nset-ph = later=1",
    "an option as a placeholder": "processes = 4\nthreads = %(processes)\nenv = X=%(threads)",
    "blacklist": "blacklist = env threads\nprocesses = 2",
    "blacklist meets": "blacklist = env threads\nthreads = 2",
    "blacklist ended": "blacklist = threads end-blacklist\nend-blacklist =\nthreads = 2",
    "whitelist": "whitelist = processes end-whitelist\nprocesses = 2\nend-whitelist =\nthreads = 2",
    "whitelist meets": "whitelist = processes\nprocesses = 2\nthreads = 2",
    "strict": "strict = true\nprocesss = 2",
    "strict with placeholders": "strict = true\nset-ph = mine=2\nenv = X=%(mine)",
    "declare-option": "declare-option = both=processes=$1;threads=$2\nboth = 3 4",
    "declare-option without an argument": "declare-option = two=processes=2\ntwo =",
    "environment": "env = X=$(HOME)$(NOPE)\nset-ph = v=$(A)\nenv = Y=%(v)",
    "a file's text": "env = X=@(lines.txt)\nenv = Y=@(exec://echo two words)",
    "exit under a condition": "if-env = NOPE\nexit = 3\nendif =\nprocesses = 2",
}

#: Where uWSGI passes over a fault or loses options, ours says what is wrong: configuration, and what is said.
FAULTS = {
    "for-readline = none.txt\nenv = X=%(_)\nendfor =": "main.ini:2:1: cannot read ",  # uWSGI: no repetition
    "if-env = HOME\nenv = H=1": 'main.ini:2:1: "if-env" is never ended',  # uWSGI: a segmentation fault
}


@pytest.mark.parametrize("text", FAULTS)
def test_faults_of_logic_are_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "main.ini").write_text(f"[uwsgi]\n{text}\n")
    try:
        said = load(["--ini", "main.ini"], ENVIRON, cwd=str(tmp_path)).warnings
    except ConfigError as error:
        said = [str(error)]
    assert any(line.startswith(FAULTS[text]) for line in said), said


@pytest.mark.parametrize("name", LOGIC)
def test_logic(name: str, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    files = {
        "main.ini": f"[uwsgi]\n{LOGIC[name]}\n".replace("HOST", os.uname().nodename),
        "lines.txt": "first line\nsecond\n",
        "more.txt": "",
        "one.ini": "[uwsgi]\nenv = ONE=1\n",
        "two.ini": "[uwsgi]\nenv = TWO=2\n",
    }
    compare(["--ini", "main.ini"], files, tmp_path, {**ENVIRON, "EMPTY": ""})
