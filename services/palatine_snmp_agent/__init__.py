"""The MIB view of every app on a host, served over SNMP: the snmp-agent daemon."""
