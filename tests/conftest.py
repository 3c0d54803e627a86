from collections.abc import Iterator
from pathlib import Path

import pytest

from running import Runner, runner


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Runner]:
    """Starts real programs in directories of this test's own, and ends them."""
    with runner(tmp_path) as made:
        yield made
