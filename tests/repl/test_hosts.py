"""Which hosts a prompt knows."""

import pytest

import mlepool
from mlepool.client.links.trust import Target, TrustStore
from mlepool.repl.hosts import fill, keep, members


@pytest.fixture
def account(home, tmp_path, monkeypatch):
    """An account with an inventory, and a worker that it trusts."""
    (tmp_path / "hosts.toml").write_text(
        "[hosts]\nlisted = 'lab.example:7'\n[groups]\nall = 'listed'\n"
    )
    monkeypatch.setenv("MLEPOOL_HOME", str(tmp_path))
    return tmp_path


def test_listed_and_trusted_hosts_are_there_once(account):
    for number, address in enumerate(("lab.example:7", "other.example")):
        url = f"mle://{address}?key={'k' * 42}{number}&token=secret"
        TrustStore().add(Target.parse(url))
    with mlepool.ClientPool() as pool:
        fill(pool)
        fill(pool)
        assert pool.names == ["listed", "other.example"]
        assert pool["@all"].names == ["listed"]
        assert not any(one.is_connected for one in pool)


def test_workers_of_the_account_on_this_machine_are_there(account, tmp_path):
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / ("w" * 43)).write_text("/some/state\n9922\n")
    with mlepool.ClientPool() as pool:
        fill(pool)
        assert pool.names == ["listed", "localhost"]


def test_hosts_are_chosen_by_name_or_set(pool):
    assert members(pool, "gpu1") == [pool["gpu1"]]
    assert [one.name for one in members(pool, "gpu*")] == ["gpu1", "gpu-2"]
    keep(pool, ["gpu-2"])
    assert pool.names == ["gpu-2"]
    with pytest.raises(KeyError, match="gpu1"):
        members(pool, "gpu1")
