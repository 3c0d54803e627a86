"""Exit codes: sysexits(3) for the daemons, uWSGI's own where a client depends on them."""

from typing import Final

OK: Final = 0
FAILURE: Final = 1
USAGE: Final = 2
UNAVAILABLE: Final = 69
SOFTWARE: Final = 70
ALREADY_RUNNING: Final = 75
PROTOCOL: Final = 76
NO_PERMISSION: Final = 77
#: A supervisor never retries this one: the config must change first.
BAD_CONFIG: Final = 78

#: uWSGI: `need-app` is set and no app could be loaded (worker and master alike).
NO_APP: Final = 22
