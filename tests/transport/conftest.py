from collections.abc import Iterator

import pytest

from mlepool.worker.access.identity import Identity


@pytest.fixture(scope="session")
def identity(tmp_path_factory) -> Identity:
    """A worker's key and certificate, thrown away afterwards."""
    return Identity(tmp_path_factory.mktemp("identity"))


@pytest.fixture(autouse=True)
def nothing_goes_wrong_in_callbacks(caplog) -> Iterator[None]:
    """Whatever the other side does: no traceback, and no word from asyncio."""
    yield
    for one in caplog.records:
        assert one.exc_info is None, one.getMessage()
        assert one.name != "asyncio", one.getMessage()
