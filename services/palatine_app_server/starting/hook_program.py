"""`python -m palatine_app_server.starting.hook_program MOMENT HOOK...`: hooks of an emperor, who must not wait.

They run in a process of their own: what they do to files, mounts and the host's name stays, what they do to their own
directory and environment ends with them.
"""

import sys
from collections.abc import Sequence

from palatine import exits
from palatine.errors import PalatineError
from palatine_app_server.starting import hooks


def main(argv: Sequence[str]) -> int:
    """Run the hooks; 1 for one that failed, 78 for one that is none."""
    moment, *texts = argv
    try:
        hooks.run([hooks.parse(text, moment) for text in texts], moment)
    except PalatineError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    return exits.OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
