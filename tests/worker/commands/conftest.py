"""What the tests of commands share: a folder of their own, and who calls them."""

from types import SimpleNamespace

import pytest

from mlepool.worker.access.grants import FULL
from mlepool.worker.jail import Jail


@pytest.fixture
def ctx(tmp_path):
    """A client's context: its folder is the only one that is open to it."""
    folder = tmp_path / "open"
    folder.mkdir()
    jail = Jail(folder, limits=[[folder]], own=[folder / "own"])
    return SimpleNamespace(jail=jail, cwd=folder, grant=FULL)
