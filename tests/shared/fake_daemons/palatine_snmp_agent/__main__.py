"""A stand-in; see fake.py."""

from fake import main

main("snmp-agent")
