import json
from collections.abc import AsyncGenerator
from typing import Any

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from palatine_stats_exporter.live import Live, difference

ITEMS = st.dictionaries(st.sampled_from("abc"), st.integers(0, 3))
SECTIONS = st.fixed_dictionaries({"x": ITEMS, "y": ITEMS})


def told(event: bytes) -> tuple[str, dict[str, Any]]:
    """An event's name and data, the moment left out."""
    name, data = event.decode().removesuffix("\n\n").split("\n")
    found = json.loads(data.removeprefix("data: "))
    assert found.pop("now") == 7.0
    return name.removeprefix("event: "), found


@given(before=SECTIONS, after=SECTIONS)
def test_a_change_applied_gives_the_state(before: dict[str, dict[str, int]], after: dict[str, dict[str, int]]) -> None:
    state = {name: dict(items) for name, items in before.items()}
    for section, items in difference(before, after).items():
        assert items
        for name, item in items.items():
            if item is None:
                del state[section][name]
            else:
                state[section][name] = item
    assert state == after


class Host:
    """A state that is another each time it is looked at."""

    def __init__(self) -> None:
        self.looks = 0

    def __call__(self) -> dict[str, dict[str, int]]:
        self.looks += 1
        return {"apps": {"a": self.looks, "b": 0}}


async def following(events: AsyncGenerator[bytes, None], count: int) -> list[tuple[str, dict[str, Any]]]:
    return [told(await anext(events)) for _ in range(count)]


async def test_a_slow_watcher_gets_the_whole_state_again(autojump_clock: trio.testing.MockClock) -> None:
    assert autojump_clock.autojump_threshold == 0
    host = Host()
    live = Live(host, lambda: 7.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(live.run)
        quick, slow = live.watch(), live.watch()
        assert await following(quick, 3) == [
            ("state", {"apps": {"a": 1, "b": 0}}),
            ("change", {"apps": {"a": 2}}),
            ("change", {"apps": {"a": 3}}),
        ]
        assert await following(slow, 1) == [("state", {"apps": {"a": 3, "b": 0}})]
        await following(quick, 2)
        assert await following(slow, 2) == [("state", {"apps": {"a": 6, "b": 0}}), ("change", {"apps": {"a": 7}})]
        await quick.aclose()
        await slow.aclose()
        looks = host.looks
        await trio.sleep(60)
        assert host.looks <= looks + 1  # nobody watches, nobody looks
        again = live.watch()
        assert (await following(again, 1))[0][0] == "state"
        assert live.statistics().watchers == 1
        await again.aclose()
        nursery.cancel_scope.cancel()
