"""How a worker of this account is dialled that listens without TLS; real ones."""

from collections.abc import Iterator

import pytest

import mlepool
from mlepool.client.links.trust import Target, TrustStore
from mlepool.config import account_dir, write_private
from tests.conftest import RunningWorker

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Iterator[RunningWorker]:
    """A worker without TLS."""
    folder = tmp_path_factory.mktemp("plain")
    running = RunningWorker(folder, listen="ws://127.0.0.1:0")
    running.join_url = running.read_join_url()
    yield running
    running.end()


@pytest.fixture
def elsewhere(tmp_path, monkeypatch) -> None:
    """Be an account that knows no worker."""
    monkeypatch.setenv("MLEPOOL_HOME", str(tmp_path / "elsewhere"))


def refused(*place, **keywords) -> str:
    """Connect in vain; what the error says."""
    with mlepool.ClientPool() as pool:
        connection = pool.add(*place, **keywords)
        with pytest.raises(mlepool.ConnectError) as caught:
            connection.connect(timeout=20)
    return str(caught.value)


def echo(*place, **keywords) -> str:
    with mlepool.ClientPool() as pool, pool.add(*place, **keywords) as connection:
        text: str = connection.run("echo well").stdout
        return text


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_it_needs_nothing_but_its_port(plain, host):
    assert echo(host, port=plain.port) == "well\n"
    assert "TLS client" not in plain.log


def test_who_asks_for_tls_gets_nothing_else(plain):
    assert "does not speak TLS" in refused(f"wss://localhost:{plain.port}")


@pytest.mark.usefixtures("elsewhere")
def test_nobody_at_a_port_can_talk_a_client_out_of_tls(plain):
    TrustStore().add(Target.parse(plain.join_url))
    assert "does not speak TLS" in refused("localhost", plain.port)


def test_by_way_of_a_proxy_localhost_is_another_machine(plain):
    text = refused("localhost", plain.port, proxy="http://127.0.0.1:1")
    assert "(by way of a proxy)" in text


@pytest.mark.usefixtures("elsewhere")
def test_one_that_was_killed_is_not_in_the_way(start_worker, tmp_path):
    # A worker of another account has its port now, or a tunnel.
    successor = start_worker("successor", MLEPOOL_HOME=str(tmp_path / "other"))
    TrustStore().add(Target.parse(successor.read_join_url()))
    registration = f"{tmp_path}/killed\n{successor.port}\nws\n"
    write_private(account_dir() / "workers" / ("k" * 43), registration.encode())
    assert echo("localhost", port=successor.port) == "well\n"
