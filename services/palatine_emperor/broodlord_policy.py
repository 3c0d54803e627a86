"""When a vassal that asks for help gets a zerg: another instance of it, from the section [zerg] of its config; pure.

As uWSGI's broodlord mode: so many zergs in all, whoever they help; one that failed is held back as any vassal. A zerg
lives as long as it wants to (it leaves when it is idle) and its vassal is wanted; nobody starts it again.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import attrs

from palatine_emperor.throttle_policy import retry_at
from palatine_emperor.vassal import Limits, Phase, Vassal, Wanted

#: What uWSGI calls the section, and a zerg behind its vassal's name.
SECTION: Final = "zerg"


def reinforcement(caller: Vassal, known: Mapping[str, Vassal], now: float, limits: Limits) -> Wanted | None:
    """The zerg `caller` gets, None for none now; `known` are the vassals of its monitor by name, and all others' zergs.

    A zerg that asks gets another one of its own vassal's.
    """
    wanted = caller.wanted
    if wanted is None or wanted.executable:
        return None
    zergs = [zerg for vassal in known.values() if (zerg := vassal.wanted or vassal.started) and zerg.zerg]
    if len(zergs) >= limits.broodlord:
        return None
    base = wanted.zerg_of or wanted.name
    name = next(name for name in _names(base) if name not in known or not _lives(known[name]))
    failed = known[name].blame if name in known else None
    if failed is not None and now < retry_at(failed, limits.throttle, now):
        return None
    return attrs.evolve(
        wanted, name=name, zerg_of=base, zerg=max((zerg.zerg for zerg in zergs), default=0) + 1, socket=""
    )


def _lives(vassal: Vassal) -> bool:
    return vassal.phase is not Phase.ABSENT


def _names(base: str) -> Iterable[str]:
    yield f"{base}:{SECTION}"
    number = 2
    while True:
        yield f"{base}:{SECTION}-{number}"
        number += 1
