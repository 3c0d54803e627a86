"""`palatine snmp`: names in, values out, against the real agent."""

import socket
from pathlib import Path

import pytest

from palatine.cli import main
from palatine.cli.snmp_client import Address, parse_address
from palatine.cli.snmp_names import Names, show_value
from palatine.codec import ber, snmp
from palatine.errors import ProtocolError
from palatine.schema import mib
from palatine.schema.mib import MIB_TABLES
from palatine.schema.mib_exporter import exporter_text
from palatine.schema.mib_file import mib_text
from palatine.schema.notifications import DEFAULT_BASE
from running import Runner, free_port, wait_until
from snmp_master import stand_in

BASE = ".".join(map(str, DEFAULT_BASE))
NAMES = Names(DEFAULT_BASE)


@pytest.mark.parametrize(
    ("name", "arcs", "shown"),
    [
        ("1.3.6.1", "1.3.6.1", "1.3.6.1"),
        (".1.3.6.1.2.1.1.3.0", "1.3.6.1.2.1.1.3.0", "sysUpTime"),
        ("uwsgiRequests", "1.3.6.1.4.1.35156.17.1.1", "uwsgiRequests"),
        ("uwsgiCustom.40", "1.3.6.1.4.1.35156.17.2.40", "uwsgiCustom.40"),
        ("uwsgi.5.101", "1.3.6.1.4.1.35156.17.5.101", "uwsgi.5.101"),
        ("palHostVersion", f"{BASE}.1.1.1.0", "palHostVersion"),
        ("palHostVersion.0", f"{BASE}.1.1.1.0", "palHostVersion"),
        ("palatine", BASE, "palatine"),
        ("palInstanceTable", f"{BASE}.2", "palInstanceTable"),
        ("palInstanceRequests", f"{BASE}.2.1.51", "palInstanceRequests"),
        ("palInstanceRequests.shop", f"{BASE}.2.1.51.4.115.104.111.112", "palInstanceRequests.shop"),
        ('PALATINE-MIB::palInstanceUp."a.b"', f"{BASE}.2.1.3.3.97.46.98", 'palInstanceUp."a.b"'),
        ("palInstanceUp.a.b", f"{BASE}.2.1.3.3.97.46.98", 'palInstanceUp."a.b"'),
        ("palWorkerPid.a.b.2", f"{BASE}.3.1.11.3.97.46.98.2", 'palWorkerPid."a.b".2'),
        ("palWorkerPid.a.b", f"{BASE}.3.1.11.3.97.46.98", 'palWorkerPid."a.b"'),
        ("palWorkerPid.7.2", f"{BASE}.3.1.11.1.55.2", "palWorkerPid.7.2"),
        ('palAlarmRaised."a.b".c', f"{BASE}.8.1.11.3.97.46.98.1.99", 'palAlarmRaised."a.b".c'),
        ("palCoreRequests.ab.2.1", f"{BASE}.4.1.11.2.97.98.2.1", "palCoreRequests.ab.2.1"),
        ("palAlarmRaised.ab.cd", f"{BASE}.8.1.11.2.97.98.2.99.100", "palAlarmRaised.ab.cd"),
    ],
)
def test_names_and_numbers(name: str, arcs: str, shown: str) -> None:
    assert NAMES.resolve(name) == ber.oid_arcs(ber.parse_oid(arcs))
    assert NAMES.show(NAMES.resolve(name))[0] == shown


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("palInstanceReqests", "did you mean 'palInstanceRequests'?"),
        ("palAlarmRaised.shop.disk.x", "'x' is no number"),
        ('palInstanceUp."shop', "after the object come its indexes"),
        ("frobnicate", "no object is called 'frobnicate'"),
        ("1.3.99999999999", "is no dotted"),
    ],
)
def test_a_typo_is_explained(name: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["palatine", "snmp", "get", "127.0.0.1:1", name]) == 2
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("h", Address("h", 161)),
        ("h:1", Address("h", 1)),
        (":2222", Address("127.0.0.1", 2222)),
        ("[::1]:5", Address("::1", 5)),
        ("[::1]", Address("::1", 161)),
        ("h:", None),
        ("h:x", None),
        ("h:70000", None),
        ("::1:5", None),
    ],
)
def test_addresses(text: str, address: Address | None) -> None:
    if address is not None:
        assert parse_address(text) == address
        return
    with pytest.raises(ProtocolError, match="an address is"):
        parse_address(text)


def column(table: str, name: str) -> mib.MibObject:
    (found,) = [one for each in MIB_TABLES if each.name == table for one in each.objects if one.name == name]
    return found


@pytest.mark.parametrize(
    ("element", "one", "shown"),
    [
        (snmp.counter64(42), column("instance", "requests"), "42 requests"),
        (snmp.integer32(2), column("instance", "state"), "ready"),
        (snmp.integer32(99), column("instance", "state"), "99"),
        (snmp.integer32(1), column("instance", "up"), "yes"),
        (snmp.integer32(2), column("instance", "up"), "no"),
        (snmp.gauge32(0), column("instance", "started"), "never"),
        (snmp.gauge32(86400), column("instance", "started"), "1970-01-02 00:00:00 UTC"),
        (snmp.gauge32(7), column("instance", "pid"), "7"),
        (snmp.unsigned(snmp.TIME_TICKS, 150), None, "1.50 s"),
        (snmp.octet_string(b"caf\xc3\xa9\xff"), None, "café\\xff"),
        (snmp.object_identifier(ber.parse_oid("1.3.6")), None, "1.3.6"),
        (snmp.unsigned(snmp.IP_ADDRESS, 0)[:1] + b"\x04\x7f\0\0\1", None, "7f000001"),
        (snmp.NO_SUCH_OBJECT, None, "no such object"),
        (snmp.NO_SUCH_INSTANCE, None, "no such instance"),
        (snmp.NULL, None, "null"),
    ],
)
def test_values_as_people_read_them(element: bytes, one: mib.MibObject | None, shown: str) -> None:
    assert show_value(element, one) == shown


def test_the_mib_for_another_base(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["palatine", "snmp", "mib", "--base", "1.3.6.1.4.1.99999.1"]) == 0
    assert capsys.readouterr().out == mib_text((1, 3, 6, 1, 4, 1, 99999, 1))
    assert main(["palatine", "snmp", "mib", "--exporter"]) == 0
    assert capsys.readouterr().out == exporter_text()
    assert main(["palatine", "snmp", "mib", "--base", "1.3.6.1.2"]) == 2
    assert "below 1.3.6.1.4.1" in capsys.readouterr().err


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["palatine", "help", "snmp"])
    assert "palatine snmp walk localhost palInstanceTable" in capsys.readouterr().out


def test_an_agent_is_looked_at(programs: Runner, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port(socket.SOCK_DGRAM)
    config = tmp_path / "agent.yaml"
    config.write_text(f'listen: ["127.0.0.1:{port}"]\ncommunities: [{{community: public}}]\n')
    quick = ("--timeout", "0.2", "--tries", "2")

    def said(action: str, *words: str, where: int = port) -> tuple[int, str, str]:
        code = main(["palatine", "snmp", action, f"127.0.0.1:{where}", *words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    code, _, err = said("get", *quick, "palHostVersion")
    assert (code, "nobody listens at" in err) == (69, True)
    with stand_in(programs.runtime, "shop") as master:
        programs.start("palatine-snmp-agent", "--config", str(config)).wait_for("daemon.ready")
        wait_until(lambda: said("get", "palInstanceUp.shop")[1] == "palInstanceUp.shop = yes\n", "the shop")
        assert said("get", "palInstanceRequests.shop", "palCustomValue.shop.40") == (
            0,
            "palInstanceRequests.shop = 1 requests\npalCustomValue.shop.40 = 77\n",
            "",
        )
        assert said("get", "palInstanceUp.blog")[:2] == (1, "palInstanceUp.blog = no such instance\n")
        code, walk, _ = said("walk", "palWorkerTable", "system")
        assert code == 0
        assert "palWorkerRequests.shop.4 = 0 requests\n" in walk
        assert "sysServices = 72\n" in walk
        everything = said("walk")[1].splitlines()
        assert len(everything) > 300
        assert not [line for line in everything if line.startswith("1.3")], "all have names"
        assert said("walk", "--v1", "palInstanceTable")[1].startswith("palInstanceText.shop = shop\n")
        assert said("walk", "-c", "foo", where=master.port)[1].startswith("uwsgiRequests = 1\nuwsgiGeneral.31 = 1\n")
        code, out, err = said("walk", "1.3.9")
        assert (code, out, "nothing below" in err) == (1, "", True)
        code, _, err = said("get", "--v1", "palInstanceUp.blog")
        assert (code, "has no 1.3.6" in err) == (69, True)
        code, _, err = said("get", *quick, "-c", "wrong", "palHostVersion")
        assert (code, "is the community right?" in err) == (75, True)
