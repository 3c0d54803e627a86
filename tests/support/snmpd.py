"""net-snmp's snmpd, in front of the agent or beside it."""

from running import Runner, Running

#: What it is asked for in tests: its own scalars, forwarding, and access by community and by user.
MODULES = ("system_mib", "sysORTable", "proxy", "vacm_conf", "vacm_context", "snmp_community", "usmConf")


def start_snmpd(programs: Runner, port: int, config: str, *modules: str) -> Running:
    """snmpd on a port of the loopback with these lines of configuration, and these modules beside `MODULES`."""
    path = programs.directory / "snmpd.conf"
    path.write_text(f"agentaddress udp:127.0.0.1:{port}\n{config}")
    words = ("-f", "-Lo", "-C", "-c", str(path), "-I", ",".join((*MODULES, *modules)))
    environ = {"MIBS": "", "SNMP_PERSISTENT_DIR": str(programs.directory / "snmpd")}
    return programs.start("snmpd", *words, environ=environ)
