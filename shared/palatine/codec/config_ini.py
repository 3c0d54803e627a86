"""The ini dialect of uWSGI: text in, entries of one section out. Must never read a file or know an option's name.

No quotes, no escapes, no continuation lines, no inline comments: a value is what stands after the first `=`, without
the blanks around it. A key without `=` has the value "". Keys repeat and keep their order.
"""

from typing import Final

from palatine.codec.config_source import Entry, Source

#: What uWSGI trims; other white space, such as a form feed, is part of keys and values.
BLANKS: Final = " \t\r"


def parse_ini(source: Source, section: str) -> list[Entry] | None:
    """The entries of every `[section]` ("uwsgi" if empty) in order, or None where there is no key in such a section."""
    section = section or "uwsgi"
    entries: list[Entry] = []
    found = False
    current = ""
    at = 0
    for raw in source.text.split("\n"):
        line = raw.strip(BLANKS)
        if line.startswith("["):
            # uWSGI drops the last character, whatever it is
            current = line[1:-1]
        elif line and line[0] not in ";#" and current == section:
            found = True
            key, _, value = line.partition("=")
            origin = source.place(at + len(raw) - len(raw.lstrip(BLANKS)))
            entries.append(Entry(key.rstrip(BLANKS), value.strip(BLANKS), origin))
        at += len(raw) + 1
    return entries if found else None


def write_ini(entries: list[tuple[str, str]], section: str = "uwsgi") -> str:
    """The text `parse_ini` reads as `entries`; raises ValueError where ini cannot express one."""
    lines = [f"[{section}]"]
    for name, value in entries:
        if "\n" in name + value or "=" in name or name != name.strip(BLANKS) or value != value.strip(BLANKS):
            raise ValueError(f"ini has no way to write {name!r} = {value!r}")
        if not name or name[0] in "[;#":
            raise ValueError(f"{name!r} is no key in ini")
        lines.append(f"{name} = {value}".replace("%", "%%"))
    return "\n".join(lines) + "\n"
