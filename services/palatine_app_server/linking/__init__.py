"""The link: the one process of an instance that speaks on the bus, and its master's end."""
