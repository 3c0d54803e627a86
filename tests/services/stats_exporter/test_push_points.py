"""Points against what telegraf 1.34's inputs.uwsgi and influx serializer made of the same documents."""

import gzip
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palatine.codec.line_protocol import decode, encode
from palatine_stats_exporter.push.points import common_tags, points, source
from palatine_stats_exporter.push.pushing import BATCH_BYTES, batches, lines, next_moment
from push_planting import facts_of
from stats_planting import SAMPLES, sample

TIME = 1_700_000_000_000_000_000
BARE = {"host": "", "uwsgi_host": "", "instance": ""}


@pytest.mark.parametrize("name", ["stats_hello_under_load", "stats_2.0.30_kitchen_sink"])
def test_lines_are_telegrafs_byte_for_byte(name: str, tmp_path: Path) -> None:
    facts = facts_of(tmp_path / "seg", sample(f"{name}.json"))
    ours = [encode(point) for point in points(facts, "here", common_tags("app", "here", BARE), TIME)]
    telegrafs = (SAMPLES / f"telegraf_{name}.lp").read_bytes().splitlines(keepends=True)
    assert sorted(ours) == sorted(telegrafs)


def test_tags_beside_telegrafs(tmp_path: Path) -> None:
    facts = facts_of(tmp_path / "seg", sample("stats_hello_under_load.json"))
    tags = common_tags("app", "here", {"dc": "ams", "source": "mine", "host": ""})
    found = [decode(encode(point)) for point in points(facts, "here", tags, TIME)]
    expected = {"uwsgi_host": "here", "instance": "app", "dc": "ams", "source": "127.0.0.1:1717"}
    assert all(expected.items() <= point.tags.items() for point in found)
    assert not any("host" in point.tags for point in found)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("tcp://127.0.0.1:1717", "127.0.0.1:1717"),
        ("http://[::1]:9191", "[::1]:9191"),
        ("unix:///tmp/stats.sock", "here"),
        ("unix://@stats", "here"),
        ("", "shop"),
    ],
)
def test_source_is_what_telegraf_would_say(address: str, expected: str, tmp_path: Path) -> None:
    facts = facts_of(tmp_path / "seg", sample("stats_hello_under_load.json"), address=address, name="shop")
    assert source(facts, "here") == expected


def test_what_a_dead_master_left_is_not_pushed(tmp_path: Path) -> None:
    living = facts_of(tmp_path / "seg", sample("stats_hello_under_load.json"))
    dead = attrs.evolve(living, name="dead", alive=False)
    found = [decode(line) for line in lines([dead, living], {}, TIME)]
    assert {point.tags["instance"] for point in found} == {"app"}


@settings(max_examples=30)
@given(st.lists(st.binary(min_size=1, max_size=60_000), max_size=30))
def test_batches_hold_every_line_in_order_and_are_bounded(found: list[bytes]) -> None:
    made = [gzip.decompress(batch) for batch in batches(found)]
    assert b"".join(made) == b"".join(found)
    assert all(0 < len(batch) <= BATCH_BYTES for batch in made)


@settings(max_examples=50)
@given(st.floats(0, 2e9), st.sampled_from([0.1, 0.5, 1, 10, 60]))
def test_moments_are_multiples_ahead(now: float, interval: float) -> None:
    moment = next_moment(now, interval)
    assert now < moment <= now + 1.001 * interval
    assert abs(moment / interval - round(moment / interval)) < 1e-4
