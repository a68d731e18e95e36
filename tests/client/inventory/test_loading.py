"""pool.load: from a file to hosts that commands run on."""

import asyncio
import socket

import pytest

import mlepool
from mlepool.errors import ConfigError


@pytest.fixture
def pool():
    with mlepool.ClientPool() as pool:
        yield pool


@pytest.fixture
def inventory(tmp_path):
    path = tmp_path / "hosts.toml"
    path.write_text(
        "[defaults]\nconnect_timeout = 3\nlabels.site = 'lab'\n"
        "[hosts]\n'gpu[1-3]' = '10.0.0.{}'\nlab = {labels.site='home'}\n"
        "[groups]\ntrain = 'gpu[2-3]'\n"
    )
    return path


def test_hosts_labels_and_groups_are_in_the_pool(pool, inventory):
    pool.add("mine")
    group = pool.load(inventory)
    assert group.names == ["gpu1", "gpu2", "gpu3", "lab"]
    assert pool.names == ["mine", *group.names]
    assert pool["@train"].names == ["gpu2", "gpu3"]
    assert pool.select("site=lab,site!=home").names == ["gpu1", "gpu2", "gpu3"]
    assert not pool["lab"].is_connected
    assert group["lab"] is pool["lab"]


def test_twice_is_fine_and_takes_what_is_new(pool, inventory):
    first = pool.add("10.9.9.9", name="gpu1", labels={"site": "mine"})
    pool.load(inventory)
    second = pool["gpu2"]
    inventory.write_text(
        "[hosts]\n'gpu[1-4]' = {}\n[groups]\ntrain = ['gpu4']\nnew = 'gpu1'"
    )
    second.close()
    again = pool.load(inventory)
    assert again.names == ["gpu1", "gpu2", "gpu3", "gpu4"]
    assert (pool["gpu1"], pool["gpu1"].labels) == (first, {"site": "mine"})
    assert pool["gpu2"] is not second
    assert pool["@train"].names == ["gpu4"]
    assert pool["@new"].names == ["gpu1"]
    assert sorted(pool.names) == ["gpu1", "gpu2", "gpu3", "gpu4", "lab"]


def test_what_is_wrong_changes_nothing(pool, inventory):
    with inventory.open("a") as file:
        file.write("[hosts.last]\ntoken_file = 'none'\n")
    with pytest.raises(ConfigError, match="the token of last: .*none: No such file"):
        pool.load(inventory)
    assert (len(pool), pool.groups) == (0, {})


def test_the_accounts_own_is_the_default(pool, monkeypatch, inventory):
    monkeypatch.setenv("MLEPOOL_HOME", str(inventory.parent / "none"))
    with pytest.raises(ConfigError, match="there is no .*none/hosts.toml: write it"):
        pool.load()
    monkeypatch.setenv("MLEPOOL_HOME", str(inventory.parent))
    assert pool.load().names == pool.names


def test_what_the_inventory_says_of_time_bounds_every_way_to_connect(pool, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        path = tmp_path / "hosts.toml"
        path.write_text(
            f"[hosts]\nh = {{ address = '127.0.0.1:{port}', connect_timeout = 0.2 }}"
        )
        pool.load(path)
        with pytest.raises(mlepool.ConnectTimeoutError, match=r"within 0\.2 s"):
            pool["h"].connect()
        assert "within 0.2 s" in str(pool.run("true")["h"].error)


@pytest.mark.real
def test_commands_run_on_what_was_loaded(pool, worker, tmp_path):
    path = tmp_path / "hosts.toml"
    path.write_text(
        f"[hosts]\n'w[1-2]' = 'unix:{worker.state_dir}'\ngone = 'localhost:1'\n"
        "[groups]\nup = '!gone'\n"
    )
    pool.load(path)
    live = pool["@up"].run("echo $((6 * 7))")
    assert {name: one.output for name, one in live.items()} == {
        "w1": "42\n",
        "w2": "42\n",
    }
    assert pool["@up"].select("os=linux,pid>1,!broken").names == ["w1", "w2"]
    assert pool.select("os!=linux").names == ["gone"]


def test_an_inventory_of_ansibles_is_loaded_as_it_is(pool, tmp_path, caplog):
    (tmp_path / "inventory.ini").write_text(
        "[web]\nweb[1:2] rack=7 api_token=s3\n[web:vars]\nzone=b\n"
    )
    with caplog.at_level("INFO", "mlepool.client"):
        assert pool.load(tmp_path / "inventory.ini").names == ["web1", "web2"]
    assert pool["@web"].select("rack>6,zone=b").names == ["web1", "web2"]
    assert "left out 'api_token' of web[1:2]" in caplog.text
    assert "s3" not in caplog.text


async def load_and_count(path) -> list[str]:
    async with mlepool.AsyncClientPool() as pool:
        group = pool.load(path)
        assert pool["lab"] in group
        return group.select("site=lab").names


def test_in_asyncio_it_is_the_same(inventory):
    assert asyncio.run(load_and_count(inventory)) == ["gpu1", "gpu2", "gpu3"]
