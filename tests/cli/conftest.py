"""Hosts for tests of the command line."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlepool.cli.main import main
from tests.cli.shell import Finished
from tests.conftest import RunningWorker


@pytest.fixture(scope="session")
def other_worker(tmp_path_factory) -> Iterator[RunningWorker]:
    """A second worker, started in a folder called other."""
    running = RunningWorker(tmp_path_factory.mktemp("second") / "other")
    yield running
    running.end()


@pytest.fixture(scope="session")
def join_url(other_worker) -> str:
    """What the second worker printed at its start."""
    url: str = other_worker.read_join_url()
    return url


@pytest.fixture
def elsewhere(tmp_path, monkeypatch) -> Path:
    """The account folder of somebody on another machine, who is the user now."""
    folder: Path = tmp_path / "elsewhere"
    monkeypatch.setenv("MLEPOOL_HOME", str(folder))
    return folder


@pytest.fixture
def host(worker) -> str:
    """How a user names the first worker."""
    return f"localhost:{worker.port}"


@pytest.fixture
def other(other_worker) -> str:
    """How a user names the second worker."""
    return f"localhost:{other_worker.port}"


@pytest.fixture
def here(monkeypatch, capsys) -> Callable[..., Finished]:
    """Runs a command in this process: faster than in one of its own."""

    def call(*arguments: str) -> Finished:
        monkeypatch.setattr(sys, "argv", ["mlepool", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        status = caught.value.code
        assert isinstance(status, int)
        return Finished(status, *capsys.readouterr())

    return call
