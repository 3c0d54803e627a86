"""A stand-in for palatine_app_server.serve.serve: a vassal that speaks the emperor pipe and tells what it is."""

import json
import os
import socket
import sys

from palatine.codec.emperor_pipe import CONFIG_FD_VARIABLE, FD_VARIABLE, SPAWNED, parse_config
from palatine.errors import ConfigError


def serve(argv: list[str], environ: dict[str, str], cwd: str) -> int:
    """Obey the words in argv: `refuse` and `crash` fail at once, `exit:N` exits; otherwise live until told to stop."""
    if "refuse" in argv:
        raise ConfigError("plugins = rack is another language", "rails.yml", 2, 3)
    if "crash" in argv:
        raise RuntimeError("boom")
    for word in argv:
        if word.startswith("exit:"):
            return int(word[5:])
    if "fork" in argv and os.fork() == 0:
        while True:
            signal_pause()
    pipe = socket.socket(fileno=int(environ[FD_VARIABLE]))
    facts = {
        "pid": os.getpid(),
        "ids": [os.getresuid(), os.getresgid(), sorted(os.getgroups())],
        "cwd": os.getcwd(),
        "asked_cwd": cwd,
        "argv": argv,
        "sys_argv": sys.argv,
        "environ": {name: value for name, value in os.environ.items() if name.startswith(("UWSGI_", "MARK"))},
        "session": os.getsid(0) == os.getpid() == os.getpgrp(),
        "stdin": os.readlink("/proc/self/fd/0").split(":")[0],
        "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1],
        "config": read_config(environ),
    }
    with open(argv[-1], "w", encoding="utf-8") as out:
        json.dump(facts, out)
    pipe.send(bytes((SPAWNED,)))
    while True:
        order = pipe.recv(1)
        if not order or order == b"\0":
            return 0
        pipe.send(order)


def read_config(environ: dict[str, str]) -> str:
    if CONFIG_FD_VARIABLE not in environ:
        return ""
    pipe = socket.socket(fileno=int(environ[CONFIG_FD_VARIABLE]))
    data = b""
    while (parsed := parse_config(data)) is None:
        data += pipe.recv(65536)
    return parsed[0].decode()


def signal_pause() -> None:
    import signal

    signal.pause()
