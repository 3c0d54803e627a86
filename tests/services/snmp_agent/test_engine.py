import json
import os
from pathlib import Path

import pytest

from palatine.codec.snmp_v3 import MAX_NUMBER
from palatine.errors import ConfigError
from palatine_snmp_agent.engine import Engine, parse_engine_id, start_engine


def test_the_id_stays_and_boots_grow_from_start_to_start(tmp_path: Path) -> None:
    path = tmp_path / "engine.json"
    first = start_engine(path)
    assert first.boots == 1
    assert first.id[:5] == bytes.fromhex("8000895405")
    assert (path.stat().st_mode & 0o777, os.listdir(tmp_path)) == (0o600, ["engine.json"])
    again = start_engine(path)
    assert (again.id, again.boots) == (first.id, 2)
    configured = bytes.fromhex("80001f8804aabbcc")
    other = start_engine(path, configured)
    assert (other.id, other.boots) == (configured, 3)
    assert start_engine(path).boots == 4
    assert start_engine(path, first.id).boots == 5  # taken again: no boot of it comes twice
    path.write_text(json.dumps({"engine_id": configured.hex(), "boots": MAX_NUMBER}))
    assert start_engine(path).boots == MAX_NUMBER
    assert start_engine(path, first.id).boots == 1


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "nonsense", '{"engine_id": "80", "boots": 1}', '{"engine_id": "8000895405aa", "boots": 0}']
)
def test_a_damaged_file_is_an_error_that_names_it_and_stays(tmp_path: Path, text: str) -> None:
    path = tmp_path / "engine.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="remove it") as refused:
        start_engine(path)
    assert refused.value.path == str(path)
    assert path.read_text() == text


def test_a_directory_that_takes_no_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be kept"):
        start_engine(tmp_path / "gone" / "engine.json")


def test_time_is_whole_seconds_and_ticks_hundredths_since_the_start() -> None:
    now = 1000.0
    engine = Engine(b"12345", 1, lambda: now)
    now += 12.349
    assert (engine.time(), engine.ticks()) == (12, 1234)
    another = Engine(b"54321", 2, lambda: now, engine.up_since)
    now += 1
    assert (another.time(), another.ticks()) == (1, 1334)


@pytest.mark.parametrize("text", ["", "80", "0x00000000000000", "ff" * 8, "80 00 89 54 05", "8" * 66, "80008954zz"])
def test_engine_ids_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="engine id"):
        parse_engine_id(text)
