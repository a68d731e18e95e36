"""The lock on a worker's state folder."""

import os

import pytest

from mlepool.errors import WorkerError
from mlepool.worker.lock import take_lock


def test_a_folder_has_one_worker_until_that_lets_go(tmp_path):
    folder = tmp_path / "a" / "state"
    lock = take_lock(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    with pytest.raises(WorkerError, match=f"runs with the state folder {folder}"):
        take_lock(folder)
    os.close(lock)
    os.close(take_lock(folder))


def test_what_is_no_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkerError, match="file is not usable"):
        take_lock(tmp_path / "file")
