"""A worker for the prompt's tests, in a thread of theirs, and a pool that knows it."""

from collections.abc import Iterator

import pytest

import mlepool
from mlepool.repl.lazy import LazyConnection
from mlepool.worker import WorkerThread, serve_in_thread


@pytest.fixture(scope="package")
def place(tmp_path_factory) -> Iterator[WorkerThread]:
    """A worker that all tests of the prompt share."""
    folder = tmp_path_factory.mktemp("prompt")
    with serve_in_thread(state_dir=folder, listen="127.0.0.1:0") as running:
        yield running


@pytest.fixture
def pool(place) -> Iterator[mlepool.ClientPool]:
    """A pool of two hosts, not connected: both are that worker."""
    with mlepool.ClientPool() as pool:
        pool._kind = LazyConnection
        for name in ("gpu1", "gpu-2"):
            pool.add("127.0.0.1", place.port, name=name)
        yield pool


@pytest.fixture
def files(tmp_path) -> str:
    """A folder on the host, with something in it."""
    for name in ("data.csv", "data.txt", ".hidden", 'qu"ote'):
        (tmp_path / name).write_text("")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    return str(tmp_path)
