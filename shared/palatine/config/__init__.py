"""Configuration as uWSGI reads it: `load` in, an ordered list of options and typed settings out. Standard library only.

`load` never acts on an option; the app-server, the emperor and the umbrella command do, each on those it knows.
"""

from palatine.codec.config_source import Origin
from palatine.config.directives import ConfigExit
from palatine.config.load import Config, Verdict, inspect, load
from palatine.config.settings import Option, Settings
from palatine.config.table import Kind

__all__ = ["Config", "ConfigExit", "Kind", "Option", "Origin", "Settings", "Verdict", "inspect", "load"]
