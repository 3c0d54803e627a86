"""The library all palatine daemons stand on: counters, bus, config, daemon life, codecs."""

__version__ = "0.1.0"
