"""Folders for tests of files."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.needs import NOBODY, need_root


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Make a folder that all accounts reach, and that one owns which owns no other."""
    need_root()
    folder = Path(tempfile.mkdtemp(prefix="mlepool-test-"))
    os.chmod(folder, 0o755)
    os.chown(folder, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder)
