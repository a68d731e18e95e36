"""Links that break under a connection: it comes back, and nobody notices."""

import asyncio
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

import mlepool
from mlepool.testing.proxy import Cut, FaultProxy
from tests.conftest import RunningWorker, wait_until

pytestmark = pytest.mark.real

PRINT_MANY = """
import os, sys
for number in range({count}):
    os.write(1 + number % 2, b"%d\\n" % number)
"""


@pytest.fixture
def pool() -> Iterator[mlepool.ClientPool]:
    with mlepool.ClientPool() as pool:
        yield pool


@pytest.fixture
def proxy(worker) -> Iterator[FaultProxy]:
    with FaultProxy(worker.port) as proxy:
        yield proxy


@pytest.fixture
def conn(pool: mlepool.ClientPool, proxy: FaultProxy) -> mlepool.Connection:
    """A connection to the shared worker, over a proxy that can break it."""
    conn = pool.add("localhost", proxy.port)
    conn.connect()
    return conn


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def break_link(conn: mlepool.Connection, proxy: FaultProxy) -> None:
    """Break the link so that there is no other for now."""
    proxy.refuse()
    proxy.reset()
    wait_until(lambda: conn.state["connection"] == "reconnecting")


def heal(proxy: FaultProxy) -> None:
    proxy.accept()


def random_cuts(rng: random.Random, *, handshake: int, welcome: int) -> list[Cut]:
    """Make 60 cuts in both directions, in handshakes (of so many bytes) and after."""
    cuts = []
    for _ in range(60):
        if rng.random() < 0.7:
            cut = Cut(rng.randrange(1, 6 * welcome), "to_client")
        else:  # what is sent after it is a repeated request, and credit
            cut = Cut(rng.randrange(1, handshake + 150), "to_worker")
        cuts.append(cut._replace(reset=rng.random() < 0.5))
    return cuts


def noted(conn: mlepool.Connection, *names: str) -> list[str]:
    """Note events from now on."""
    events: list[str] = []
    for name in names:
        conn.on(name, lambda _, name=name: events.append(name))
    return events


# -- the connection


def test_a_lost_link_is_made_again_and_said(conn, proxy):
    names = ("connected", "reconnecting", "reconnected", "disconnected", "lost")
    events = noted(conn, *names)
    proxy.cut()
    wait_until(lambda: events[-1:] == ["reconnected"])
    assert events == ["reconnecting", "reconnected"]
    assert conn.state["connection"] == "connected"
    assert conn.run("echo well").stdout == "well\n"
    assert proxy.connections == 2


def test_an_unknown_event_is_said_and_which_there_are(conn):
    with pytest.raises(ValueError, match=r"no event 'nonsense'; .* reconnecting, "):
        conn.on("nonsense", print)
    with pytest.raises(TypeError):
        conn.on("lost", None)
    conn.on("state-change", print)


def test_while_it_reconnects_calls_wait_and_heartbeat_is_false_at_once(conn, proxy):
    break_link(conn, proxy)
    assert not conn.heartbeat()
    assert not conn.is_connected
    got: list[str] = []
    thread = threading.Thread(
        target=lambda: got.append(conn.run("cat", input="in").stdout)
    )
    thread.start()
    with pytest.raises(TimeoutError):
        conn._portal.call(conn._async.get_time(), 0.2)
    assert not got
    heal(proxy)
    thread.join(20)
    assert got == ["in"]
    assert conn.heartbeat()


def test_a_call_that_waits_for_a_link_is_bounded_by_its_timeout(conn, proxy, tmp_path):
    path = tmp_path / "ran"
    break_link(conn, proxy)
    with pytest.raises(mlepool.CommandTimeoutError):
        conn.run(f"touch {path}", timeout=0.1)
    heal(proxy)
    assert conn.run("true").ok
    assert not path.exists()


def test_a_call_that_is_cancelled_before_it_was_sent_is_never_run(
    conn, proxy, tmp_path
):
    path = tmp_path / "ran"
    break_link(conn, proxy)
    with pytest.raises(TimeoutError):
        conn._portal.call(conn._async.run(f"touch {path}"), 0.2)
    wait_until(lambda: not conn._async.owned())
    heal(proxy)
    assert conn.run("true").ok
    assert not path.exists()


def test_connect_while_it_reconnects_waits_for_that(conn, proxy):
    break_link(conn, proxy)
    with pytest.raises(mlepool.ConnectTimeoutError, match=r"within 0\.2 s"):
        conn.connect(timeout=0.2)
    assert conn.state["connection"] == "reconnecting"
    heal(proxy)
    conn.connect(timeout=20)
    assert conn.state["connection"] == "connected"


@pytest.mark.parametrize("verb", ["close", "disconnect"])
def test_leaving_while_it_reconnects_works_at_once(conn, proxy, *, verb, caplog):
    live = conn.run("sleep 30", complete=False)
    kept = conn.run("sleep 31", complete=False, detach=True)
    break_link(conn, proxy)
    count = proxy.connections
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        getattr(conn, verb)()
    assert time.monotonic() - began < 8  # it waits for no attempt to end
    with pytest.raises(mlepool.ConnectionLostError):
        live.wait(5)
    said = [one for one in caplog.messages if "not stopped" in one]
    assert len(said) == (verb == "close")
    assert all(live.id in one and kept.id not in one for one in said)
    heal(proxy)
    assert proxy.connections == count
    with mlepool.ClientPool().add("localhost", proxy.port) as other:
        for one in (live, kept):
            assert other.stop(one.id, signal="SIGKILL").ok
    if verb == "disconnect":
        conn.connect()
        assert conn.run("true").ok
        conn.close()  # while there is a way: it stops what it still owns


def test_after_its_time_it_gives_up_and_connect_begins_anew(pool, proxy):
    conn = pool.add("localhost", proxy.port, reconnect_timeout=0.3)
    conn.connect()
    events = noted(conn, "reconnecting", "reconnected", "lost")
    live = conn.run("echo a; read x; echo b", stdin=True, complete=False)
    assert live.next() == "a"
    break_link(conn, proxy)
    with pytest.raises(mlepool.ConnectionLostError, match="refused"):
        live.next()
    wait_until(lambda: events == ["reconnecting", "lost"])
    assert (live.status, conn.state["connection"]) == ("LOST", "lost")
    with pytest.raises(mlepool.ConnectionClosedError, match=r"lost; call connect\(\)"):
        conn.run("true")
    heal(proxy)
    conn.connect()
    back = conn.attach(live.id)
    back.send_input("\n")
    assert back.wait(20).stdout == "a\nb\n"


def test_with_a_timeout_of_0_it_does_not_dial_again(pool, proxy):
    conn = pool.add("localhost", proxy.port, reconnect_timeout=0)
    conn.connect()
    events = noted(conn, "reconnecting", "lost")
    proxy.cut()
    wait_until(lambda: events == ["lost"])
    assert conn.state["connection"] == "lost"
    assert proxy.connections == 1


@pytest.mark.parametrize("value", [-1, float("nan"), "5", True])
def test_a_wrong_reconnect_timeout_is_said(pool, value):
    with pytest.raises((ValueError, TypeError), match="reconnect_timeout"):
        pool.add("x", reconnect_timeout=value)


def test_another_worker_at_the_same_place_is_not_given_the_calls(
    conn, proxy, *, start_worker, tmp_path
):
    """It is trusted as well, but does not know the job, and would start it again."""
    path = tmp_path / "ran"
    command = f"echo ran >> {path}; read x"  # stopped soon: nobody comes back to it
    live = conn.run(command, stdin=True, complete=False, orphan_timeout=1.0)
    wait_until(path.exists)
    other = start_worker("other")
    proxy.upstream = other.port
    proxy.cut()
    with pytest.raises(mlepool.ConnectionLostError, match="another worker answers"):
        live.wait(20)
    assert conn.state["connection"] == "lost"
    assert path.read_text() == "ran\n"
    conn.connect()  # that is asked for, and to whom is seen
    assert conn.state["id"] == other_id(other)
    assert not conn.jobs().value


def other_id(worker: RunningWorker) -> str:
    with mlepool.ClientPool().add(f"unix:{worker.state_dir}") as conn:
        return str(conn.state["id"])


# -- listeners


def test_listeners_go_on_where_they_were(conn, proxy):
    live = conn.run("echo a; read x; echo b; exit 3", stdin=True, complete=False)
    assert live.next() == "a"
    for _ in range(3):
        break_link(conn, proxy)
        heal(proxy)
        conn.connect()
    live.send_input("\n")
    assert [live.next(), live.next()] == ["b", None]
    assert (live.exit_code, live.stdout) == (3, "a\nb\n")


def test_silence_is_silence_also_without_a_link(conn, proxy):
    live = conn.run("read x; echo b", stdin=True, complete=False, max_interval=0.2)
    break_link(conn, proxy)
    with pytest.raises(mlepool.ListenerTimeoutError):
        live.next()
    heal(proxy)
    live.send_input("\n")
    live.max_interval = None
    assert live.next() == "b"


def test_a_deadline_holds_on_both_sides_of_a_cut(conn, proxy):
    live = conn.run("sleep 30", complete=False, timeout=1)
    break_link(conn, proxy)
    heal(proxy)
    with pytest.raises(mlepool.CommandTimeoutError) as caught:
        live.wait(20)
    assert caught.value.stopped


def test_a_stop_that_is_repeated_is_one_stop(conn, proxy):
    """A second stop goes to the next stage; a repeated request must not be one."""
    code = (
        "import signal, time\n"
        "signal.signal(signal.SIGINT, lambda *_: print('int', flush=True))\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('term', flush=True))\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(1)\n"
    )
    live = conn.run(python(code), complete=False)
    assert live.next() == "ready"
    reports: list[mlepool.StopReport] = []
    thread = threading.Thread(target=lambda: reports.append(live.stop(grace=2)))
    thread.start()
    assert live.next() == "int"
    for _ in range(3):
        proxy.cut()
        wait_until(conn.heartbeat)
    thread.join(20)
    (report,) = reports
    signals = [one.signal for one in report.signalled]
    assert signals == ["SIGINT", "SIGTERM", "SIGKILL"]
    assert report.complete
    assert [live.next(), live.next()] == ["term", None]


def test_input_is_taken_once_whatever_is_cut(conn, proxy, monkeypatch):
    monkeypatch.setattr("mlepool.client.links.redial.MAX_PAUSE", 0.05)
    data = b"".join(b"%d\n" % number for number in range(100_000))
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    # By bytes and not by time: on a busy machine no link would live long enough.
    cuts = [Cut(rng.randrange(300_000), "to_worker") for _ in range(25)]
    proxy.schedule(cuts)
    proxy.cut(after_bytes=100_000, direction="to_worker")
    result = conn.run("cksum; echo x", input=data, encoding=None)
    expected = subprocess.run(["cksum"], input=data, capture_output=True, check=True)
    assert result.stdout == expected.stdout + b"x\n", f"seed {seed}"
    assert proxy.connections > 3


def test_many_readers_of_one_job_live_through_cuts(conn, proxy):
    live = conn.run("read x; seq 50000", stdin=True, complete=False, memory=0)
    readers = [conn.attach(live.id) for _ in range(5)]
    proxy.cut(after_bytes=100_000, direction="to_client")
    live.send_input("\n")
    expected = "".join(f"{number}\n" for number in range(1, 50001))
    for one in (live, *readers):
        assert one.read() == expected
        assert one.ok
    assert proxy.connections > 1


def test_lines_come_once_and_in_order_over_random_cuts(conn, proxy, monkeypatch):
    # Most of these links are cut before a frame has come whole, often ten in a row.
    monkeypatch.setattr("mlepool.client.links.redial.MAX_PAUSE", 0.05)
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    count = 100_000
    handshake, welcome = proxy.forwarded("to_worker"), proxy.forwarded("to_client")
    proxy.schedule(random_cuts(rng, handshake=handshake, welcome=welcome))
    proxy.cut(after_bytes=500, direction="to_client")
    live = conn.run(python(PRINT_MANY.format(count=count)), complete=False)
    lines: dict[str, list[int]] = {"stdout": [], "stderr": []}
    for line in live:
        lines[line.stream].append(int(line))
    assert lines["stdout"] == list(range(0, count, 2)), f"seed {seed}"
    assert lines["stderr"] == list(range(1, count, 2)), f"seed {seed}"
    assert live.ok, f"seed {seed}"
    assert proxy.cuts > 10


# -- attaching at an offset


def test_attach_goes_on_from_a_listeners_position(conn):
    job = conn.run("echo a; read x; echo b; read x; echo c", stdin=True, complete=False)
    assert job.next() == "a"
    first = job.position
    job.send_input("\n")
    wait_until(lambda: job.position > first)
    second = job.position
    rest = conn.attach(job.id, offset=second)
    assert rest.position == second
    job.send_input("\n")
    assert rest.wait(20).stdout == "c\n"
    assert conn.attach(job.id, offset=first).wait(20).stdout == "b\nc\n"
    assert conn.attach(job.id, offset=0).wait(20).stdout == "a\nb\nc\n"
    end = rest.position
    assert end == job.wait(20).position
    at_end = conn.attach(job.id, offset=end).wait(20)
    assert (at_end.stdout, at_end.status) == ("", job.status)


def test_an_offset_where_no_record_begins_is_refused(conn):
    job = conn.run("echo abc; echo def >&2")
    for offset in (1, 24, job.position - 1, job.position + 1, 2**60):
        with pytest.raises(ValueError, match="no record of job"):
            conn.attach(job.id, offset=offset)
    for wrong in (-1, "5", None, True, 1.0):
        with pytest.raises(ValueError, match="offset"):
            conn.attach(job.id, offset=wrong)
    assert conn.run("true").ok


def test_what_has_left_memory_is_read_again_from_the_offset(conn):
    job = conn.run("echo first; sleep .1; seq 200000", memory=0)
    records = list(job.records())
    offset = 24 + len(records[0][2])
    rest = conn.attach(job.id, offset=offset, memory=0).wait(20)
    assert rest.read() == job.read()[len(records[0][2]) :]
    assert list(rest) == list(job)[1:]


def test_both_faces_resume_and_attach_at_an_offset(worker, proxy):
    async def scenario() -> None:
        pool = mlepool.AsyncClientPool()
        async with pool.add("localhost", proxy.port) as conn:
            job = await conn.run(["sh", "-c", "echo a; sleep .3; echo b"])
            assert job.position > 0
            proxy.cut()
            live = await conn.run("echo a; read x; echo b", stdin=True, complete=False)
            assert await live.next() == "a"
            proxy.cut()
            at = live.position
            await live.send_input("\n")
            assert await live.next() == "b"
            rest = await conn.attach(live.id, offset=at)
            assert [message async for message in rest] == ["b"]
            with pytest.raises(ValueError, match="no record"):
                await conn.attach(live.id, offset=3)

    asyncio.run(scenario())


# -- exactly once


@pytest.fixture
def local(worker, tmp_path, pool) -> Iterator[tuple[FaultProxy, mlepool.Connection]]:
    """A connection without TLS, whose frames are where they are."""
    path = tmp_path / "proxy.sock"
    with FaultProxy(worker.state_dir / "worker.sock", listen=path) as proxy:
        conn = pool.add(proxy.address)
        conn.connect()
        yield proxy, conn


@pytest.mark.parametrize("direction", ["to_worker", "to_client"])
def test_a_start_that_is_cut_anywhere_in_its_exchange_runs_once(
    local, tmp_path, direction
):
    proxy, conn = local
    path = tmp_path / "runs"
    command = f"echo ran >> {path}; echo out; echo err >&2; exit 7"
    before = proxy.forwarded(direction)
    conn.run(command, complete=False).wait()
    size = proxy.forwarded(direction) - before
    assert 100 < size < 2000
    for runs, place in enumerate(range(0, size + 1, 5), 2):
        proxy.cut(after_bytes=place, direction=direction)
        done = conn.run(command, complete=False).wait(20)
        assert (done.exit_code, done.stdout, done.stderr) == (7, "out\n", "err\n")
        assert path.read_text() == "ran\n" * runs, place
    assert proxy.cuts > size // 10


@pytest.mark.parametrize("direction", ["to_worker", "to_client"])
def test_a_stop_that_is_cut_anywhere_in_its_exchange_is_proved(local, direction):
    """The answer to the first request is kept: a second stop would find nothing."""
    proxy, conn = local
    live = conn.run("exec sleep 30", complete=False)
    before = proxy.forwarded(direction)
    assert len(live.stop().signalled) == 1
    size = proxy.forwarded(direction) - before
    for place in range(0, size + 1, 20):
        live = conn.run("exec sleep 30", complete=False)
        proxy.cut(after_bytes=place, direction=direction)
        report = live.stop()
        assert [one.signal for one in report.signalled] == ["SIGINT"], place
        assert live.wait(20).status == "STOPPED"


def restarted(worker: RunningWorker) -> RunningWorker:
    """Start a worker in another one's place, at the same port."""
    worker.process.wait(20)
    worker.end()
    listen = f"127.0.0.1:{worker.port}"
    return RunningWorker(worker.state_dir.parent, listen=listen)


@pytest.fixture
def phoenix(tmp_path) -> Iterator[Callable[[], RunningWorker]]:
    """A worker that is killed and started again at each call but the first."""
    current: list[RunningWorker] = []

    def rise() -> RunningWorker:
        if current:
            current[-1].process.kill()
            current.append(restarted(current[-1]))
        else:
            current.append(RunningWorker(tmp_path / "phoenix"))
        return current[-1]

    yield rise
    current[-1].end()


def test_a_start_is_one_start_also_when_the_worker_was_killed(phoenix, pool, tmp_path):
    conn = pool.add("localhost", phoenix().port)
    conn.connect()
    path = tmp_path / "runs"
    jobs = [
        conn.run(f"echo {number} >> {path}; read x; exit {number}", **keywords)
        for number in range(5)
        for keywords in [{"stdin": True, "complete": False}]
    ]
    phoenix()
    for job in jobs:
        job.send_input("\n")
    assert [job.wait(20).exit_code for job in jobs] == list(range(5))
    assert sorted(path.read_text().split()) == list("01234")


def test_a_job_does_not_notice_that_its_worker_dies_again_and_again(phoenix, pool):
    conn = pool.add("localhost", phoenix().port)
    conn.connect()
    code = (
        "import os, sys, time\n"
        "for number in range(100_000):\n"
        "    os.write(1 + number % 2, b'%d\\n' % number)\n"
        "    if number % 5000 == 0: sys.stdin.readline()\n"
        "sys.exit(9)\n"
    )
    live = conn.run(python(code), stdin=True, complete=False)
    for number in range(20):
        if number % 7 == 3:
            phoenix()
        live.send_input("\n")
    live.wait(60)
    assert live.exit_code == 9
    numbers = [f"{number}\n" for number in range(100_000)]
    assert live.stdout == "".join(numbers[::2])
    assert live.stderr == "".join(numbers[1::2])


def test_the_worker_may_offer_something_else_after_its_restart(phoenix, pool):
    conn = pool.add("localhost", phoenix().port)
    conn.connect()
    pid = conn.state["pid"]
    events = noted(conn, "reconnected")
    phoenix()
    wait_until(lambda: events)
    assert conn.state["pid"] != pid
    assert "run" in conn.server_methods()


def test_what_was_asked_for_too_long_ago_is_refused_and_lost(
    pool, tmp_path, start_worker
):
    """Nobody can tell any more if it has run: it is not run now, and not a success."""
    let_go = tmp_path / "old" / "state" / "jobs" / ".forgotten"
    let_go.parent.mkdir(parents=True)
    let_go.write_text(str(time.time() - 1000))
    with FaultProxy(start_worker("old").port) as proxy:
        conn = pool.add("localhost", proxy.port)
        conn.connect()
        break_link(conn, proxy)
        inner = conn._async
        started: list[mlepool.AsyncListener] = []
        command = inner.find("run")
        conn._portal.do(
            lambda: started.append(inner._calls.start(command, ("echo no",), {}))
        )
        call = inner._calls._table._calls[started[0]]
        call.sent = call.made - 1500
        heal(proxy)
        conn._portal.call(started[0].wait())
        assert started[0].status == "LOST"
        assert isinstance(started[0].error, mlepool.JobLostError)
        assert "whether it has run can't be told" in str(started[0].error)


# -- the client dies


CLIENT = """
import sys
import mlepool
conn = mlepool.add("localhost", {port})
conn.connect()
live = conn.run({command!r}, complete=False)
print(live.id, flush=True)
for line in live:
    print(line, flush=True)
"""


def test_another_process_takes_over_from_a_killed_client(worker, pool, tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    command = f"for i in 1 2 3; do echo $i; done; read x < {gate}; echo end; exit 4"
    code = CLIENT.format(port=worker.port, command=command)
    with subprocess.Popen(python(code), stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        job_id = client.stdout.readline().strip()
        assert client.stdout.readline() == "1\n"
        client.send_signal(signal.SIGKILL)
    conn = pool.add("localhost", worker.port)
    conn.connect()
    live = conn.attach(job_id)
    assert [live.next() for _ in range(3)] == ["1", "2", "3"]
    gate.write_text("\n")
    assert [live.next(), live.next()] == ["end", None]
    assert live.exit_code == 4
