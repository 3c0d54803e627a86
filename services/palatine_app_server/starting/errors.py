"""What can end a start, beside a config that is wrong."""

from palatine.errors import PalatineError


class GateError(PalatineError):
    """What the instance must wait for did not come, or a file is locked by another: exit code 1, as uWSGI's."""


class HookError(PalatineError):
    """A hook failed: the instance ends, as uWSGI's does."""
