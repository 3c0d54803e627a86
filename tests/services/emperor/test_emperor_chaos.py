"""Kills in random order: whatever of emperor, keeper and vassals is killed, in the end everything wanted runs once."""

import contextlib
import os
import random
import signal
from pathlib import Path

import pytest
from realm import Realm, free_port, get, is_zombie, master_of, wait_for

from palatine.errors import PalatineError

ROUNDS = 25


def victims(realm: Realm) -> dict[str, int]:
    """Who can be killed now, by name."""
    found = {"emperor": realm.emperors[-1].pid}
    with contextlib.suppress(PalatineError, OSError):
        found["keeper"] = realm.keeper_pid()
        found |= {name: vassal["pid"] for name, vassal in realm.list().items() if vassal["pid"]}
    return {name: pid for name, pid in found.items() if pid and not is_zombie(pid)}


@pytest.mark.chaos
@pytest.mark.timeout(240)
def test_kills_in_random_order(realm: Realm) -> None:
    seed = int(os.environ.get("PALATINE_CHAOS_SEED") or random.randrange(10**6))
    print(f"\nPALATINE_CHAOS_SEED={seed}")
    dice = random.Random(seed)
    ports = {f"{number}.ini": free_port() for number in range(4)}
    paths = {name: realm.vassal(name, port) for name, port in ports.items()}
    words = ("--emperor", str(realm.vassals), "--emperor-freq", "1", "--emperor-throttle", "100")
    realm.start(*words)
    story = []
    for _ in range(ROUNDS):
        name, pid = dice.choice(sorted(victims(realm).items()))
        also = dice.choice(["", "touch", "wait", "wait"])
        story.append((name, also))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        if also == "touch":
            os.utime(dice.choice(list(paths.values())))
        if name == "emperor":
            realm.emperors[-1].wait(10)
            realm.start(*words)
        if also == "wait":
            wait_for("ctl answers", lambda: answers(realm))
    for name, port in ports.items():
        wait_for(f"{name} serves after {story}", lambda port=port: get(port), 60)
    masters = {name: master_of(port) for name, port in ports.items()}

    def settled() -> bool:
        return {name: vassal["pid"] for name, vassal in realm.list().items()} == masters

    wait_for(f"the emperor knows its vassals after {story}", settled)
    realm.close()  # the keeper and its sibling end a moment after the emperor
    wait_for(f"nobody is left after {story}", lambda: not living_in(realm.directory))


def answers(realm: Realm) -> bool:
    try:
        realm.ask("ping")
    except (PalatineError, OSError):
        return False
    return True


def living_in(directory: Path) -> list[int]:
    """Processes whose working directory or log is in `directory`."""
    found = []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with contextlib.suppress(OSError):
            places = [os.readlink(f"/proc/{pid}/{place}") for place in ("cwd", "fd/2")]
            if any(place.startswith(f"{directory}/") or place == str(directory) for place in places):
                found.append(pid)
    return found
