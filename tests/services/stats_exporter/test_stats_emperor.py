import json
from pathlib import Path

import pytest

from palatine.counters import Segment, SegmentView
from palatine.errors import ProtocolError
from palatine.schema import DAEMON
from palatine_stats_exporter.emperor import EmperorEncoder
from stats_planting import SAMPLES, plant_emperor, sample

EMPEROR = "emperor_stats_2.json"


def rendered(segment: Segment, *, minified: bool = False) -> str:
    segment.publish()
    with SegmentView.open(segment.path) as view:
        text = EmperorEncoder(view, minified=minified).render().decode()
    segment.close(unlink=True)
    return text


def test_it_is_uwsgis_to_the_byte(tmp_path: Path) -> None:
    captured = (SAMPLES / EMPEROR).read_text().replace("2.0.21-debian", "2.0.31")
    assert rendered(plant_emperor(tmp_path / "seg", sample(EMPEROR))) == captured


def test_minified_it_is_the_same(tmp_path: Path) -> None:
    found = rendered(plant_emperor(tmp_path / "seg", sample(EMPEROR)), minified=True)
    assert json.loads(found) == {**sample(EMPEROR), "version": "2.0.31"}
    assert "\n" not in found


def test_an_emperor_without_vassals(tmp_path: Path) -> None:
    captured = {**sample(EMPEROR), "vassals": [], "blacklist": [], "emperor": []}
    found = json.loads(rendered(plant_emperor(tmp_path / "seg", captured)))
    assert (found["vassals"], found["blacklist"], found["emperor"]) == ([], [], [])


def test_a_vassal_that_is_gone_is_on_the_blacklist_only(tmp_path: Path) -> None:
    captured = sample(EMPEROR)
    segment = plant_emperor(tmp_path / "seg", captured)
    for row in range(len(captured["vassals"]) + len(captured["blacklist"])):
        segment.cells("vassals", row)[segment.word("vassals", "state")] = 0
    found = json.loads(rendered(segment))
    assert (found["vassals"], found["blacklist"]) == ([], captured["blacklist"])


def test_passwords_are_not_shown(tmp_path: Path) -> None:
    captured = sample(EMPEROR)
    captured["emperor"] = ["pg://host=db user=emp password=s3cret dbname=x;SELECT 1"]
    captured["vassals"][0]["monitor"] = "amqp://emp:s3cret@host:5672"
    found = rendered(plant_emperor(tmp_path / "seg", captured))
    assert "s3cret" not in found
    assert "amqp://emp:***@host:5672" in found


def test_a_segment_that_is_no_emperors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match="not an emperor's"):
        rendered(Segment.create(tmp_path / "seg", DAEMON, {}, {}))
