"""Fixtures of the emperor's tests."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from realm import Realm

from palatine_emperor.deploy_journal import DeployJournal, open_journal


@pytest.fixture
def realm(tmp_path: Path) -> Iterator[Realm]:
    realm = Realm(tmp_path)
    yield realm
    realm.close()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[DeployJournal]:
    """The deploy journal of an emperor whose state directory is the test's."""
    opened = open_journal(tmp_path)
    yield opened
    opened.close()
