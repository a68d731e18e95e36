"""Connections that open when they are used, and not when they are looked at."""

import pytest

import mlepool


def test_looking_does_not_connect(pool):
    conn = pool["gpu1"]
    shown = repr(conn), dir(conn), conn.state, conn._repr_html_(), conn.is_connected
    assert shown[0] == "<Connection gpu1: new>"
    assert conn.state["connection"] == "new"


@pytest.mark.parametrize(
    "use",
    [
        lambda conn: conn.run("true"),
        lambda conn: conn.call_named("run", "true"),
        lambda conn: conn.get("/etc/hostname"),
        lambda conn: conn.metrics(),
        lambda conn: conn.commands,
    ],
    ids=["run", "call_named", "get", "metrics", "commands"],
)
def test_using_does(pool, use):
    conn = pool["gpu1"]
    use(conn)
    assert conn.is_connected


def test_attaching_does_and_so_does_a_method_that_was_kept(pool):
    conn = pool["gpu1"]
    job, run = conn.run("echo there"), conn.run
    conn.disconnect()
    assert conn.attach(job.id).wait().stdout == "there\n"
    conn.disconnect()
    assert run("echo again").stdout == "again\n"


def test_what_is_closed_stays_closed(pool):
    conn = pool["gpu1"]
    conn.run("true")
    conn.close()
    with pytest.raises(mlepool.ConnectionClosedError):
        conn.run("true")


def test_a_name_that_there_is_not_names_the_worker(pool):
    with pytest.raises(AttributeError, match="gpu1"):
        pool["gpu1"].no_such_command()
