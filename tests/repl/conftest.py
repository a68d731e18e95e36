"""A worker for the prompt's tests, in a thread of theirs, and who knows it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import mlepool
from mlepool.repl.lazy import LazyConnection
from mlepool.worker import WorkerThread, serve_in_thread


@pytest.fixture(scope="package")
def folder(tmp_path_factory) -> Path:
    """The worker's state folder."""
    made: Path = tmp_path_factory.mktemp("prompt")
    return made


@pytest.fixture(scope="package")
def place(folder) -> Iterator[WorkerThread]:
    """A worker that all tests of the prompt share."""
    with serve_in_thread(state_dir=folder, listen="127.0.0.1:0") as running:
        yield running


@pytest.fixture(scope="package")
def home(tmp_path_factory, place, folder) -> str:
    """An account's folder whose inventory has that worker twice."""
    made = tmp_path_factory.mktemp("home")
    (made / "hosts.toml").write_text(
        f"[hosts]\ngpu1 = 'unix:{folder}'\n"
        f"gpu-2 = {{address='unix:{folder}', labels={{zone='b'}}}}\n"
        "[groups]\ntrain = 'gpu1'\n"
    )
    return str(made)


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
