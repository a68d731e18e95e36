"""Pools: names, replacing, connecting side by side."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

import mlepool


def test_a_connection_is_named_after_its_host_and_unusual_port():
    pool = mlepool.ClientPool()
    names = ["gpu1", "gpu2:9922", "gpu3:1234", "wss://gpu4:99", "[::1]:9922", "::2"]
    assert [pool.add(name).name for name in names] == [
        "gpu1",
        "gpu2",
        "gpu3:1234",
        "gpu4:99",
        "::1",
        "::2",
    ]
    assert pool.add("gpu1", name="mine").name == "mine"
    assert pool.add("gpu1", 77).name == "gpu1:77"
    assert len(pool) == 8
    assert [conn.name for conn in pool][0] == "gpu1"
    assert pool["gpu3:1234"] is list(pool)[2]
    assert "mine" in pool
    pool.close()


def test_a_name_twice_is_refused_unless_that_connection_is_closed():
    pool = mlepool.ClientPool()
    first = pool.add("gpu1")
    with pytest.raises(ValueError, match="has a connection 'gpu1' already"):
        pool.add("gpu1")
    first.close()
    second = pool.add("gpu1")
    assert pool["gpu1"] is second
    assert len(pool) == 1


def test_an_unknown_name_is_a_key_error_that_lists_the_names():
    pool = mlepool.ClientPool()
    pool.add("gpu1")
    with pytest.raises(KeyError, match="no 'gpu2'.*gpu1"):
        pool["gpu2"]


def test_remove_closes_and_takes_out():
    pool = mlepool.ClientPool()
    conn = pool.add("gpu1")
    pool.remove("gpu1")
    assert conn.is_closed
    assert len(pool) == 0
    with pytest.raises(KeyError):
        pool.remove("gpu1")


@pytest.mark.parametrize(
    "host", ["", "a b", "gpu:99999", "http://x", "mle://gpu1", "gpu:x", "x/y", "[::1"]
)
def test_what_is_no_host_is_refused(host):
    with pytest.raises(ValueError, match="."):
        mlepool.ClientPool().add(host)


@pytest.mark.real
def test_connect_is_side_by_side_and_names_who_failed(worker):
    with mlepool.ClientPool() as pool:
        good = pool.add("localhost", worker.port)
        pool.add("localhost", 1, name="bad1")
        pool.add("no-such-host.invalid", name="bad2")
        with pytest.raises(ExceptionGroup) as caught:
            pool.connect()
        assert {type(one) for one in caught.value.exceptions} == {mlepool.ConnectError}
        assert len(caught.value.exceptions) == 2
        assert good.is_connected


@pytest.mark.real
def test_eight_connections_to_eight_workers_from_one_pool(start_worker):
    with ThreadPoolExecutor() as starting:
        workers = list(starting.map(start_worker, "abcdefgh"))
    with mlepool.ClientPool() as pool:
        for running in workers:
            pool.add("localhost", running.port)
        pool.connect()
        lives = [conn.run("echo $MLEPOOL_JOB", complete=False) for conn in pool]
        outputs = [live.wait().stdout.strip() for live in lives]
        assert outputs == [live.id for live in lives]


def test_a_state_folder_may_have_any_name(start_worker):
    worker = start_worker(os.fsdecode(b"\xff"))
    with mlepool.ClientPool() as pool:
        for host in (f"localhost:{worker.port}", f"unix:{worker.state_dir}"):
            assert pool.add(host).run("true", cwd="/").ok


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        (("h", 99999), ValueError, "port must be 1 to 65535, not 99999"),
        (("h", 0), ValueError, "port must be 1 to 65535, not 0"),
        (("h", "9"), TypeError, "port must be an int, not '9'"),
        (("h", True), TypeError, "port must be an int, not True"),
        ((7,), TypeError, "host must be a str, not 7"),
        (("h:99999",), ValueError, "'h:99999' is not a host or host:port"),
        (("h\0",), ValueError, r"'h\\x00' is not a host or host:port"),
    ],
)
def test_a_wrong_place_is_said_by_its_name(arguments, kind, text):
    for pool in (mlepool.ClientPool(), mlepool.AsyncClientPool()):
        with pytest.raises(kind, match=text):
            pool.add(*arguments)
        assert len(pool) == 0
