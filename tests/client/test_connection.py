"""Connections against a real worker: life, binding, threads, ownership."""

import asyncio
import inspect
import os
import threading
import time

import pytest

import mlepool

pytestmark = pytest.mark.real


def test_what_is_called_first_connects_and_looking_does_not(worker, tmp_path):
    with mlepool.ClientPool() as pool:
        conn = pool.add("localhost", worker.port)
        assert conn.server_methods() == []
        assert not conn.heartbeat()
        assert "run of a worker that was not connected" in repr(conn.run)
        assert not hasattr(conn.run, "__wrapped__")
        assert not conn.is_connected
        assert conn.run("echo it").stdout == "it\n"
        for number, verb in enumerate(
            (
                lambda conn: conn.put(b"text", tmp_path / "put").ok,
                lambda conn: conn.metrics().memory,
                lambda conn: conn.call_named("get_time").ok,
                lambda conn: conn.get(tmp_path / "put").value == b"text",
                lambda conn: conn.sync(tmp_path, tmp_path / "2").ok,
            )
        ):
            assert verb(pool.add("localhost", worker.port, name=str(number)))
        with pytest.raises(LookupError, match="no job"):
            pool.add("localhost", worker.port, name="attach").attach("none")


def test_a_name_that_a_worker_does_not_have_is_told_by_the_first_call(worker):
    with mlepool.ClientPool() as pool:
        conn = pool.add("localhost", worker.port)
        with pytest.raises(AttributeError, match="did you mean 'run'"):
            conn.rnu("true")
        with pytest.raises(AttributeError, match=r"no command 'images.resize'"):
            pool.add("localhost", worker.port, name="2").images.resize()


def test_a_first_call_raises_what_connecting_does(tmp_path):
    with mlepool.ClientPool() as pool:
        conn = pool.add(f"unix:{tmp_path}")
        for call in (conn.run, conn.attach, conn.images.resize):
            with pytest.raises(mlepool.ConnectError, match=str(tmp_path)):
                call("true")
        conn.close()
        with pytest.raises(mlepool.ConnectionClosedError):
            conn.run("true")


def test_enter_connect_false_does_not_connect(worker):
    pool = mlepool.ClientPool()
    with pool.add("localhost", worker.port, enter_connect=False) as conn:
        assert not conn.is_connected
        conn.connect()
        assert conn.run("true").ok


def test_disconnect_and_connect_again(worker):
    conn = mlepool.ClientPool().add("localhost", worker.port)
    conn.connect(timeout=20)
    conn.connect()  # twice is fine
    conn.disconnect()
    conn.disconnect()
    assert conn.server_methods()  # still known
    with pytest.raises(mlepool.ConnectionClosedError, match="disconnected; call"):
        conn.run("true")
    conn.connect()
    assert conn.run("true").ok
    conn.close()
    conn.close()
    with pytest.raises(mlepool.ConnectionClosedError):
        conn.connect()


def test_commands_are_bound_with_signature_and_docs(conn):
    assert {"run", "stop", "jobs", "get_time"} <= set(dir(conn))
    assert conn.run.__name__ == "run"
    assert conn.run.__doc__.startswith("Run a command on the worker's host")
    assert "command" in inspect.signature(conn.run).parameters
    table = conn.commands
    assert {name for name, *_ in table} == set(conn.server_methods())
    assert table.headers == ("name", "signature", "role", "summary")
    assert "Run a command on the worker's host" in str(table)
    assert "<table>" in table._repr_html_()
    assert max(map(len, str(table).splitlines())) < 200
    run = next(row for row in table if row[0] == "run")
    assert "(command: str | list[Any], *, cwd: str | None = None, env..." in str(table)
    assert run[1].endswith(")")  # a row has the whole


def test_two_connections_never_share_a_method(worker):
    pool = mlepool.ClientPool()
    with pool.add("localhost", worker.port) as one:
        other = pool.add("localhost", worker.port, name="other")
        assert one.server_methods()
        assert other.server_methods() == []
        assert other.run is not one.run


def test_an_unknown_command_names_the_worker_and_the_nearest(conn):
    with pytest.raises(AttributeError, match="has no command 'get_tim'.*'get_time'"):
        conn.get_tim()
    with pytest.raises(TypeError, match="unexpected keyword"):
        conn.run("true", wrong=1)


def test_sixteen_threads_use_one_connection_at_once(conn):
    results = {}

    def work(number):
        for turn in range(5):
            listener = conn.run(f"echo {number} {turn}; exit {number}")
            results[number, turn] = (listener.stdout, listener.exit_code)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {(n, t): (f"{n} {t}\n", n) for n in range(16) for t in range(5)}


def test_close_stops_the_jobs_it_owns_but_not_detached_ones(worker, conn):
    with mlepool.ClientPool().add("localhost", worker.port) as mine:
        owned = mine.run("sleep 30", complete=False)
        detached = mine.run("sleep 30", complete=False, detach=True)
    assert conn.attach(owned.id).wait().status == "STOPPED"
    assert conn.attach(detached.id).status == "RUNNING"
    conn.stop(detached.id)


def test_attach_gives_history_first_then_live(worker, conn):
    job = conn.run("echo one; read x; echo two", complete=False, stdin=True)
    assert job.next() == "one"
    with mlepool.ClientPool().add("localhost", worker.port) as other:
        live = other.attach(job.id)
        assert live.next() == "one"
        assert live.command == "echo one; read x; echo two"
        job.send_input("\n")
        assert live.next() == "two"
        assert live.next() is None
        assert live.exit_code == 0


def test_attach_to_what_is_not_there_is_a_lookup_error(conn):
    for name in ("ffffffffffffffff", "../../etc/passwd", "", "x" * 300):
        with pytest.raises(LookupError):
            conn.attach(name)
    with pytest.raises(TypeError):
        conn.attach("x", colour=1)


def test_a_request_sent_again_under_its_id_is_the_same_job(conn, tmp_path):
    portal, connection = conn._portal, conn._async
    path = tmp_path / "runs"
    command = connection.find("run")
    for _ in range(3):
        call = connection.call(
            command, (f"echo x >> {path}; echo y",), {}, job_id="same"
        )
        listener = portal.call(call)
        assert (listener.exit_code, listener.stdout) == (0, "y\n")
    assert path.read_text() == "x\n"


def test_jobs_lists_what_runs(conn):
    live = conn.run("sleep 30", complete=False)
    found = {job.id: job for job in conn.jobs().value}[live.id]
    assert found.status == "RUNNING"
    assert found.command == "sleep 30"
    assert os.path.exists(f"/proc/{found.pid}")
    live.stop()
    found = {job.id: job for job in conn.jobs().value}[live.id]
    assert found.status == "STOPPED"


def test_env_cwd_and_argv_travel_as_data(conn, tmp_path):
    odd = "a b;$HOME 'quoted' \u00e4\n*"
    listener = conn.run(
        ["sh", "-c", 'printf %s "$1"; printf %s "$ODD" >&2; pwd', "sh", odd],
        env={"ODD": odd},
        cwd=tmp_path,
    )
    assert listener.stdout == f"{odd}{tmp_path}\n"
    assert listener.stderr == odd


def test_state_and_events(worker):
    events = []
    conn = mlepool.ClientPool().add("localhost", worker.port, labels={"gpu": "a100"})
    for event in ("connected", "disconnected"):
        conn.on(event, lambda who, event=event: events.append((who.name, event)))
    with conn:
        assert conn.state["connection"] == "connected"
        assert conn.state["os"] == "linux"
        assert conn.labels == {"gpu": "a100"}
        conn.disconnect()
    name = f"localhost:{worker.port}"
    assert events == [(name, "connected"), (name, "disconnected")]


def test_a_killed_worker_is_a_lost_connection_and_the_job_is_not_a_success(own_worker):
    pool = mlepool.ClientPool()
    with pool.add("localhost", own_worker.port, reconnect_timeout=0) as conn:
        live = conn.run("echo a; sleep 30", complete=False)
        assert live.next() == "a"
        own_worker.process.kill()
        with pytest.raises(mlepool.ConnectionLostError):
            live.next()
        assert live.status == "LOST"
        assert not live.ok
        with pytest.raises(
            mlepool.ConnectionClosedError, match=r"lost; call connect\(\) again"
        ):
            conn.run("true")
        assert not conn.heartbeat()


@pytest.mark.parametrize(
    ("host", "port", "cause"),
    [
        ("no-such-host.invalid", 9922, "unknown host"),
        ("localhost", 1, "refused"),
        ("unix:/no/such/place", 0, "no worker listens"),
    ],
)
def test_connect_errors_name_the_host_the_port_and_the_cause(host, port, cause):
    pool = mlepool.ClientPool()
    conn = pool.add(host, port) if port else pool.add(host)
    with pytest.raises(mlepool.ConnectError, match=cause) as caught:
        conn.connect()
    assert caught.value.port == port
    assert caught.value.host in host


def test_connect_in_time_or_not_at_all(tmp_path):
    import socket

    with socket.socket() as silent:  # listens, and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        conn = mlepool.ClientPool().add("127.0.0.1", silent.getsockname()[1])
        began = time.monotonic()
        with pytest.raises(mlepool.ConnectTimeoutError, match="within 0.3 s"):
            conn.connect(timeout=0.3)
        assert time.monotonic() - began < 10  # not the 30 s of all others
        with (
            pytest.raises(TimeoutError),
            mlepool.ClientPool().add(
                "127.0.0.1", silent.getsockname()[1], enter_connect_timeout=0.2
            ),
        ):
            pass


def test_the_local_socket_needs_nothing(worker):
    with mlepool.ClientPool().add(f"unix:{worker.state_dir}") as conn:
        assert conn.run("echo hi").stdout == "hi\n"


def test_a_connection_in_another_loop_says_so_and_does_not_hang(worker):
    first, pool = asyncio.new_event_loop(), mlepool.AsyncClientPool()
    conn = pool.add("localhost", worker.port)
    done = first.run_until_complete(conn.run("echo hi"))
    for verb in (
        lambda: conn.run("true"),
        lambda: conn.attach(done.id),
        lambda: conn.put(b"", "x"),
        conn.connect,
        conn.heartbeat,
        conn.metrics,
        conn.disconnect,
        conn.close,
    ):
        with pytest.raises(mlepool.PortalError, match="another event loop"):
            asyncio.run(asyncio.wait_for(verb(), 5))
    assert first.run_until_complete(conn.run("echo hi")).ok
    first.run_until_complete(conn.disconnect())

    async def come_again() -> bool:
        await conn.connect()
        ok = (await conn.run("true")).ok
        await conn.close()
        return ok

    assert asyncio.run(come_again())
    first.close()
