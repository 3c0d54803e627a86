"""What the master hears from workers: whatever it is, the master goes on."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from palatine_app_server.supervision.hearing import Hearing
from palatine_app_server.system import channel

NONSENSE: list[bytes] = [b"{", b"[]", b"5", b"{}", b'{"op": []}', b'{"op": "number"}', b'{"op": "number", "n": "x"}']


@pytest.fixture
def heard() -> Iterator[tuple[Hearing, list[int], list[str]]]:
    numbers: list[int] = []
    lines: list[str] = []

    def number(said: dict[str, Any]) -> None:
        numbers.append(int(said["n"]))

    hearing = Hearing({"number": number}, lines.append)
    with contextlib.closing(hearing.theirs):
        yield hearing, numbers, lines
        hearing.close_in_child()


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_nonsense_is_a_line_in_the_log(heard: tuple[Hearing, list[int], list[str]], nonsense: bytes) -> None:
    hearing, numbers, lines = heard
    channel.send(hearing.theirs, {"op": "number", "n": 1})
    hearing.theirs.send(nonsense)
    channel.send(hearing.theirs, {"op": "number", "n": 2})
    hearing.hear()
    assert numbers == [1, 2]
    assert len(lines) == 1
    assert lines[0].startswith("*** a worker, mule or spooler asked for what cannot be: ")


def test_unknown_words_mean_nothing(heard: tuple[Hearing, list[int], list[str]]) -> None:
    hearing, _, lines = heard
    channel.send(hearing.theirs, {"op": "unheard of"})
    hearing.hear()
    assert lines == []
