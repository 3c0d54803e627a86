"""What a vassal of one worker costs: memory of each of its processes, and how soon an on-demand one answers.

    python tests/bench/bench_vassals.py [--vassals 10] [--calls 20] [--maps] [--ksm]

Memory is the proportional set size (Pss of smaps_rollup), in KiB, of the vassals after one request each: the median of
each kind of process, and of their sums. The first answer is the time from connect() to the end of the answer of a
vassal that has no process when the call comes; the next is the same call once more. `--maps` shows where the memory of
one vassal's processes lies and, for root, with how many processes they share it: a page that is a process's own was
written to by it since the fork (or by the other side: the copy stays with whoever did not write). Bytecode is written
and used, whatever the environment says: a keeper that compiles what it imports costs each vassal half a megabyte more.
"""

import argparse
import contextlib
import socket
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from running import Runner, Running, free_port, runner, session, wait_until

_KSM = Path("/sys/kernel/mm/ksm")
PAGE_BYTES = 4096
#: proc(5), pagemap: a word a page; the last bit says whether it is present, the first 55 where.
_WORD = struct.Struct("=Q")
_PRESENT = 1 << 63
_FRAME = (1 << 55) - 1
APP = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vassals", type=int, default=10)
    parser.add_argument("--calls", type=int, default=20, help="on-demand vassals to wake")
    parser.add_argument("--maps", action="store_true", help="show the mappings of one worker")
    parser.add_argument("--ksm", action="store_true", help="let the kernel merge equal pages; for root")
    options = parser.parse_args()
    merging = _merging() if options.ksm else contextlib.nullcontext()
    place = partial(tempfile.TemporaryDirectory, ignore_cleanup_errors=True)
    with place() as directory, merging, runner(Path(directory)) as programs:
        _running(programs, options.vassals, maps=options.maps, ksm=options.ksm)
    with place() as directory, runner(Path(directory)) as programs:
        _on_demand(programs, options.calls)


def _running(programs: Runner, count: int, *, maps: bool, ksm: bool) -> None:
    ports = [free_port() for _ in range(count)]
    for port in ports:
        _vassal(programs, port, f"http-socket = 127.0.0.1:{port}\n")
    emperor = _start(programs, "--emperor", "v", *["--ksm"] * ksm)
    for port in ports:
        wait_until(lambda port=port: _call(port), "an answer")  # type: ignore[misc]
    if ksm:
        _wait_merged()
    sizes: dict[str, list[int]] = {"emperor": [_pss(emperor.pid)]}
    for pid in _keepers(emperor.pid):
        sizes.setdefault("keeper and sibling", []).append(_pss(pid))
    sums = []
    for port in ports:
        pids = _vassal_of(port)
        sums.append(sum(map(_pss, pids)))
        for kind, pid in _named(pids):
            sizes.setdefault(kind, []).append(_pss(pid))
    for kind, values in sizes.items():
        print(f"{kind:20} {statistics.median(values):8.0f} KiB")
    print(f"{'a vassal':20} {statistics.median(sums):8.0f} KiB, {len(pids)} processes")
    if maps:
        for kind, pid in _named(pids):
            _show_maps(kind, pid)
            _show_sharers(pid)


@contextlib.contextmanager
def _merging() -> Iterator[None]:
    """The kernel merges equal pages of whom allows it, fast; for root, and put back as it was."""
    switches = {"pages_to_scan": "8000", "sleep_millisecs": "10", "run": "1"}
    before = {name: (_KSM / name).read_text() for name in switches}
    try:
        for name, value in switches.items():
            (_KSM / name).write_text(value)
        yield
    finally:
        for name, value in before.items():
            (_KSM / name).write_text(value)


def _wait_merged() -> None:
    """Pages are compared by two scans, and merged by the next."""
    enough = int((_KSM / "full_scans").read_text()) + 4
    wait_until(lambda: int((_KSM / "full_scans").read_text()) >= enough, "four scans", 300)


def _start(programs: Runner, *words: str) -> Running:
    """An emperor, the second time one is started: by then there is bytecode."""
    bytecode = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(programs.directory / "bytecode")}
    port = free_port()
    _vassal(programs, port, f"http-socket = 127.0.0.1:{port}\n", "w")
    first = programs.start("palatine-emperor", "--emperor", "w", environ=bytecode)
    wait_until(lambda: _call(port), "an answer")
    first.stop()
    return programs.start("palatine-emperor", *words, environ=bytecode)


def _named(pids: Sequence[int]) -> list[tuple[str, int]]:
    """Each with what it is: a vassal's only worker may be its zygote."""
    kinds = ("master", "worker") if len(pids) == 2 else ("master", "zygote", "worker")
    return list(zip(kinds, pids, strict=True))


def _on_demand(programs: Runner, count: int) -> None:
    ports = [free_port() for _ in range(count)]
    for port in ports:
        path = _vassal(programs, port, "")
        path.with_name(f"{path.name}.socket").write_text(f"127.0.0.1:{port}\n")
    emperor = _start(programs, "--emperor", "v", "--emperor-on-demand-extension", ".socket")
    emperor.wait_for("waiting for connections")
    wait_until(lambda: emperor.output().count("waiting for connections") >= count, "all wait")
    first, second = [], []
    for port in ports:
        for times in (first, second):
            began = time.perf_counter()
            assert _call(port), "no answer"
            times.append((time.perf_counter() - began) * 1000)
    print(
        f"on demand: first answer {statistics.median(first):.1f} ms at the median, {max(first):.1f} at most;"
        f" the next {statistics.median(second):.1f} ms"
    )


def _vassal(programs: Runner, port: int, more: str, directory: str = "v") -> Path:
    home = programs.directory
    (home / "app.py").write_text(APP)
    (home / directory).mkdir(exist_ok=True)
    path = home / directory / f"{port}.ini"
    path.write_text(f"[uwsgi]\nmaster = true\nchdir = {home}\nmodule = app\nprotocol = http\n{more}")
    return path


def _call(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        answer = b""
        while data := client.recv(4096):
            answer += data
        return answer


def _vassal_of(port: int) -> list[int]:
    """Its master first, then what else is in its session, in the order of birth."""
    wanted = f":{port:04X}"
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            leader = int((directory / "stat").read_text().rpartition(")")[2].split()[3])
        except OSError:
            continue
        if int(directory.name) == leader and _listens(leader, wanted):
            return [leader, *sorted(pid for pid in session(leader) if pid != leader)]
    raise AssertionError(f"nobody serves {port}")


def _listens(pid: int, wanted: str) -> bool:
    inodes = {
        line.split()[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[1].endswith(wanted) and line.split()[3] == "0A"
    }
    try:
        links = [entry.readlink().name for entry in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return False
    return any(f"socket:[{inode}]" in links for inode in inodes)


def _keepers(emperor: int) -> Sequence[int]:
    """The keeper of this emperor and its sibling: they say so, and are younger than the emperor."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            words = (directory / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if int(directory.name) > emperor and (
            b"--keeper" in words or b"palatine_app_server.linking.link_server" in words
        ):
            found.append(int(directory.name))
    return found


def _pss(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def _show_maps(kind: str, pid: int) -> None:
    sums: dict[str, list[int]] = {}
    name = ""
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            name = Path(words[5]).name if len(words) > 5 else "[anonymous]"
        elif words[0] in {"Pss:", "Private_Dirty:"}:
            sums.setdefault(name, [0, 0])[words[0] != "Pss:"] += int(words[1])
    print(f"\n{kind} {pid}: KiB of Pss, private and dirty")
    for name, (pss, dirty) in sorted(sums.items(), key=lambda one: -one[1][0])[:12]:
        print(f"  {name:45} {pss:6} {dirty:6}")


def _show_sharers(pid: int) -> None:
    """By the kernel's count of who maps each page (proc(5): pagemap, kpagecount), which only root may read."""
    sums: dict[tuple[str, int], int] = {}
    try:
        with open("/proc/kpagecount", "rb", buffering=0) as counts, open(f"/proc/{pid}/pagemap", "rb") as pages:
            for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
                words = line.split()
                first, last = (int(bound, 16) // PAGE_BYTES for bound in words[0].split("-"))
                pages.seek(first * _WORD.size)
                for (entry,) in _WORD.iter_unpack(pages.read((last - first) * _WORD.size)):
                    if entry & _PRESENT:
                        counts.seek((entry & _FRAME) * _WORD.size)
                        (sharers,) = _WORD.unpack(counts.read(_WORD.size))
                        key = "written" if "w" in words[1] else "read only", min(sharers, 3)
                        sums[key] = sums.get(key, 0) + PAGE_BYTES // 1024
    except PermissionError:
        return
    named = {1: "its own", 2: "shared with one", 3: "shared with more"}
    print("  ", ", ".join(f"{kind}, {named.get(n, 'unmapped')}: {kib} KiB" for (kind, n), kib in sorted(sums.items())))


if __name__ == "__main__":
    main()
