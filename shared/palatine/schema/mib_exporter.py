"""A module of Prometheus' snmp_exporter, written from the schema; must never declare an object.

`python -m palatine.schema.mib_exporter FILE` writes it anew. The format is that of snmp_exporter 0.23 and later.
Metrics have the MIB's names, rows its index names as labels; texts that say what a number stands for are labels, too.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Final

from palatine.schema import mib
from palatine.schema.mib import MIB_GROUPS, MIB_TABLES, MibObject, MibTable, identifier
from palatine.schema.notifications import DEFAULT_BASE

_HEAD: Final = """\
# For Prometheus' snmp_exporter (0.23 and later); generated from palatine's schema, do not edit.
#
#   snmp_exporter --config.file=snmp.yml
#
# and in prometheus.yml a job with `metrics_path: /snmp`, `params: {module: [palatine], auth: [palatine]}` and
# `__param_target` the agent's address, as snmp_exporter's README shows. The community is that of snmp-agent.yaml.
auths:
  palatine:
    community: public
    version: 2
modules:
  palatine:
    walk:
"""
#: Texts that become labels of all of a table's metrics.
_LOOKUPS: Final = {"socket": "name", "app": "mountpoint", "metric": "name"}
_GAUGES: Final = "gauge"


def exporter_text(base: Sequence[int] = DEFAULT_BASE) -> str:
    """The file for a base."""
    oid = ".".join(map(str, base))
    below = [f"{oid}.{mib.SCALARS_ARC}", *(f"{oid}.{table.arc}" for table in MIB_TABLES)]
    walks = "".join(f"    - {name}\n" for name in below)
    return _HEAD + walks + "    metrics:\n" + "".join(_metrics(oid))


def _metrics(oid: str) -> Iterator[str]:
    for group in MIB_GROUPS:
        for one in group.objects:
            if one.syntax != mib.TEXT:
                place = f"{oid}.{mib.SCALARS_ARC}.{group.arc}.{one.arc}"
                yield _metric(identifier(group.name, one.name), place, one)
    for table in MIB_TABLES:
        beside = _indexes(table) + _lookups(oid, table)
        for one in table.objects:
            if one.syntax not in {mib.TEXT, mib.INDEX_NAME, mib.INDEX_NUMBER}:
                yield _metric(identifier(table.name, one.name), f"{oid}.{table.arc}.1.{one.arc}", one) + beside


def _metric(name: str, oid: str, one: MibObject) -> str:
    kind = "counter" if one.syntax == mib.COUNTER64 else _GAUGES
    said = (
        f"    - name: {name}\n      oid: {oid}\n      type: {kind}\n      help: {json.dumps(f'{one.help} - {oid}')}\n"
    )
    if one.syntax == mib.STATES:
        words = "".join(f"        {number}: {word}\n" for number, word in enumerate(one.states, 1))
        said += f"      enum_values:\n{words}"
    return said


def _indexes(table: MibTable) -> str:
    kinds = {index: "DisplayString" if index.endswith("Name") else _GAUGES for index in table.indexes}
    return "      indexes:\n" + "".join(
        f"      - labelname: {index}\n        type: {kind}\n" for index, kind in kinds.items()
    )


def _lookups(oid: str, table: MibTable) -> str:
    if table.name not in _LOOKUPS:
        return ""
    (text,) = [one for one in table.objects if one.name == _LOOKUPS[table.name]]
    labels = "".join(f"        - {index}\n" for index in table.indexes)
    return (
        f"      lookups:\n      - labels:\n{labels}        labelname: {identifier(table.name, text.name)}\n"
        f"        oid: {oid}.{table.arc}.1.{text.arc}\n        type: DisplayString\n"
    )


if __name__ == "__main__":
    with open(sys.argv[1], "w", encoding="ascii") as file:
        file.write(exporter_text())
