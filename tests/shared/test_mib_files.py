"""The MIB and the snmp_exporter module: made from the schema, committed as made, and read by the field's own tools."""

import os
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from palatine.schema import AGENT, ALARMS, EMPEROR, EXPORTER, INSTANCE, by_name, mib
from palatine.schema.mib import MIB_GROUPS, MIB_TABLES, identifier
from palatine.schema.mib_exporter import exporter_text
from palatine.schema.mib_file import mib_text
from palatine.schema.notifications import DEFAULT_BASE, OBJECTS_ARC
from running import run

ROOT = Path(__file__).parents[2]
MIB = ROOT / "deploy" / "mibs" / "PALATINE-MIB.txt"
BASES = ROOT / "tests" / "support" / "mibs"
BASE = ".".join(map(str, DEFAULT_BASE))


def translate(*words: str) -> str:
    environ = {**os.environ, "MIBDIRS": f"{BASES}:{MIB.parent}", "MIBS": "PALATINE-MIB"}
    return run("snmptranslate", *words, env=environ).stdout.strip()


def lint(path: Path) -> "subprocess.CompletedProcess[str]":
    return run("smilint", "-l", "6", str(path), check=False, env={**os.environ, "SMIPATH": f"{BASES}:{path.parent}"})


def test_the_files_are_what_the_schema_makes() -> None:
    assert mib_text() == MIB.read_text(), (
        "write it anew: python -m palatine.schema.mib_file deploy/mibs/PALATINE-MIB.txt"
    )
    module = ROOT / "deploy" / "prometheus" / "snmp.yml"
    assert exporter_text() == module.read_text(), f"write it anew: python -m palatine.schema.mib_exporter {module}"


@pytest.mark.interop
@pytest.mark.parametrize("base", [DEFAULT_BASE, (1, 3, 6, 1, 4, 1, 99999, 7), (1, 3, 6, 1, 4, 1, 99999)])
def test_smilint_finds_nothing_to_say(tmp_path: Path, base: tuple[int, ...]) -> None:
    (tmp_path / "PALATINE-MIB").write_text(mib_text(base))
    done = lint(tmp_path / "PALATINE-MIB")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    (tmp_path / "PALATINE-MIB").write_text(mib_text(base).replace("UNITS ", "UNIT "))
    assert "syntax error" in lint(tmp_path / "PALATINE-MIB").stderr


@pytest.mark.parametrize("base", [(1, 3, 6, 1, 3, 5), (1, 3, 6, 1, 4, 1), (1, 3, 6, 1, 4, 1, 35156, 17)])
def test_a_base_is_below_somebodys_number(base: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="below"):
        mib_text(base)


@pytest.mark.interop
def test_net_snmp_knows_names_units_and_descriptions() -> None:
    name = f"{BASE}.2.1.51.4.115.104.111.112"
    assert translate("-On", 'PALATINE-MIB::palInstanceRequests."shop"') == f".{name}"
    said = translate("-Td", f".{name}")
    assert said.startswith('PALATINE-MIB::palInstanceRequests."shop"')
    assert 'UNITS\t\t"requests"' in said
    assert 'DESCRIPTION\t"Requests finished."' in said
    assert translate("1.3.6.1.4.1.35156.17.1.1") == "PALATINE-MIB::uwsgiRequests"
    assert translate("1.3.6.1.4.1.35156.17.2.40") == "PALATINE-MIB::uwsgiCustom.40"
    assert translate(f"{BASE}.0.1") == "PALATINE-MIB::palEventWorkerDied"


def test_every_object_has_a_name_and_an_arc_of_its_own_and_every_index_an_object() -> None:
    every = [(some, one) for some in (*MIB_GROUPS, *MIB_TABLES) for one in some.objects]
    names = [identifier(some.name, one.name) for some, one in every]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= 32, "what RFC 2578 section 3.1 asks of an identifier"
    for some in (*MIB_GROUPS, *MIB_TABLES):
        arcs = [one.arc for one in some.objects]
        assert len(set(arcs)) == len(arcs), some.name
        assert all(one.help.endswith(".") for one in some.objects)
    for table in MIB_TABLES:
        assert table.objects[0].arc == mib.INDEX_ARC
        assert table.indexes[-1] == identifier(table.name, table.objects[0].name)
        assert set(table.indexes) <= set(names)
    arcs = [mib.SCALARS_ARC, *(table.arc for table in MIB_TABLES), OBJECTS_ARC, mib.CONFORMANCE_ARC]
    assert all(before < after for before, after in pairwise(arcs))


def test_every_counter_of_an_instance_with_an_snmp_number_is_shown() -> None:
    """A field added to one of these tables is in the MIB by itself."""
    shown = {(one.source, one.field) for some in (*MIB_GROUPS, *MIB_TABLES) for one in some.objects}
    declared = by_name((*INSTANCE, *AGENT, *EXPORTER, *ALARMS, *EMPEROR))
    for name in ("server", "slots", "workers", "cores", "sockets", "apps", "agent", "emperor", "vassals", "alarms"):
        for field in declared[name].fields:
            assert not field.snmp or (name, field.name) in shown


def test_the_exporters_module_has_every_number() -> None:
    module = yaml.safe_load(exporter_text())["modules"]["palatine"]
    numbers = [
        identifier(some.name, one.name)
        for some in (*MIB_GROUPS, *MIB_TABLES)
        for one in some.objects
        if one.syntax not in {mib.TEXT, mib.INDEX_NAME, mib.INDEX_NUMBER}
    ]
    assert [metric["name"] for metric in module["metrics"]] == numbers
    (requests,) = [metric for metric in module["metrics"] if metric["name"] == "palWorkerRequests"]
    assert requests["type"] == "counter"
    assert requests["indexes"] == [
        {"labelname": "palInstanceName", "type": "DisplayString"},
        {"labelname": "palWorkerNumber", "type": "gauge"},
    ]
    (state,) = [metric for metric in module["metrics"] if metric["name"] == "palInstanceState"]
    assert state["enum_values"][2] == "ready"
