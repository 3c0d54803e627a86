"""`zabbix-template`: the metrics as a template Zabbix imports, to the byte as uWSGI's plugin writes it. Plain."""

import sys
from collections.abc import Iterable

from palatine.errors import ConfigError


def text(names: Iterable[str]) -> str:
    """A trapper item (type 2) that holds an unsigned number (value type 3) for each metric."""
    items = "".join(
        f"\t\t<item>\n\t\t\t<name>{name}</name>\n\t\t\t<type>2</type>\n\t\t\t<key>{name}</key>\n"
        "\t\t\t<value_type>3</value_type>\n\t\t</item>\n"
        for name in names
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<zabbix_export>\n'
        "<version>2.0</version><groups><group><name>uWSGI</name></group></groups>\n"
        "\t<templates><template><template>uWSGI metrics</template><name>uWSGI metrics</name>\n"
        f"\t<groups><group><name>uWSGI</name></group></groups>\n\t<items>\n{items}"
        "\t</items></template></templates>\n</zabbix_export>\n"
    )


def write(path: str, names: Iterable[str]) -> None:
    """Write it to a file, or with "" or `1` (the option without a value) to stdout; ConfigError if that cannot be."""
    if path in {"", "1"}:
        sys.stdout.write(text(names))
        sys.stdout.flush()
        return
    try:
        with open(path, "w") as file:
            file.write(text(names))
    except OSError as error:
        raise ConfigError(f"zabbix-template: {path}: {error.strerror}") from error
    sys.stderr.write(f"zabbix template written to {path}\n")
