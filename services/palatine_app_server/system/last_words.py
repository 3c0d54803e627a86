"""Prints exceptions without the `traceback` module, which would cost every process 300 KB. Decides nothing."""

import sys


def print_exc() -> None:
    """The exception being handled, as `traceback.print_exc` shows it; nothing where stderr is gone."""
    kind, error, where = sys.exc_info()
    if kind is not None and error is not None:
        sys.__excepthook__(kind, error, where)
