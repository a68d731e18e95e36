"""Stdin: from any source, with back-pressure, each byte once, by several writers."""

import asyncio
import io
import os
import pathlib
import sys
import threading

import pytest

import mlepool
from mlepool.client.listening.feeder import Feeder
from mlepool.client.listening.sources import CHUNK
from mlepool.testing.proxy import Cut, FaultProxy
from tests.conftest import RunningWorker, wait_until
from tests.tools import in_jumping_time

pytestmark = pytest.mark.real

COUNT = "cat | cksum"


class Process:
    """Takes what is sent when it is told to."""

    def __init__(self) -> None:
        self.may_read = asyncio.Event()
        self.got: list[tuple[int, bytes, bool]] = []

    async def send(self, data: bytes, *, offset: int, end: bool, writer: str) -> None:
        await self.may_read.wait()
        self.got.append((offset, data, end))


@in_jumping_time
async def test_what_nobody_waits_for_any_more_is_sent_as_a_whole_and_in_order():
    process = Process()
    feeder = Feeder(process.send)
    long = bytes(range(256)) * (CHUNK // 128)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await feeder.send(long)
    closing = asyncio.create_task(feeder.close())
    after = asyncio.create_task(feeder.send(b"late"))
    process.may_read.set()
    await asyncio.gather(closing, after)
    assert b"".join(data for _, data, _ in process.got) == long + b"late"
    assert [offset for offset, _, _ in process.got] == [0, CHUNK, len(long), len(long)]
    assert [end for _, _, end in process.got] == [False, False, True, False]


@in_jumping_time
async def test_what_was_not_sent_at_all_leaves_no_gap():
    process = Process()
    process.may_read.set()

    async def send(data: bytes, *, offset: int, end: bool, writer: str) -> None:
        if data == b"lost":
            raise mlepool.ConnectionClosedError("gpu1", "disconnected")
        await process.send(data, offset=offset, end=end, writer=writer)

    feeder = Feeder(send)
    await feeder.send(b"one")
    with pytest.raises(mlepool.ConnectionClosedError):
        await feeder.send(b"lost")
    await feeder.send(b"two")
    assert [offset for offset, _, _ in process.got] == [0, 3]


# -- sources


def sources(folder: pathlib.Path):
    path = folder / "input"
    path.write_text("eins\nzwei ä\n")
    yield "eins\nzwei ä\n"
    yield "eins\nzwei ä\n".encode()
    yield bytearray("eins\nzwei ä\n".encode())
    yield path
    yield open(path, "rb")  # noqa: SIM115
    yield open(path)  # noqa: SIM115
    yield io.StringIO("eins\nzwei ä\n")
    yield ["eins\n", "zwei ä\n".encode()]
    yield (f"{word}\n" for word in ("eins", "zwei ä"))
    yield asynchronous("eins\n", "zwei ä\n")


async def asynchronous(*words):
    for word in words:
        await asyncio.sleep(0)
        yield word


def test_all_that_can_be_input_is_read_by_the_process(conn, tmp_path):
    for source in sources(tmp_path):
        assert conn.run("cat", input=source).stdout == "eins\nzwei ä\n"
        if isinstance(source, io.IOBase):
            source.close()


def test_on_the_async_face_too(worker, tmp_path):
    async def scenario() -> None:
        async with (
            mlepool.AsyncClientPool() as pool,
            pool.add("localhost", worker.port) as conn,
        ):
            for source in sources(tmp_path):
                assert (await conn.run("cat", input=source)).stdout.count("\n") == 2
                if isinstance(source, io.IOBase):
                    source.close()

    asyncio.run(scenario())


def test_what_can_be_no_input_is_refused_before_anything_runs(conn, tmp_path):
    with pytest.raises(FileNotFoundError):
        conn.run(f"touch {tmp_path}/ran", input=tmp_path / "missing")
    with pytest.raises(TypeError, match="an iterator, not int"):
        conn.run(f"touch {tmp_path}/ran", input=7)
    assert not (tmp_path / "ran").exists()


def test_an_iterators_error_ends_the_input_and_is_raised_once(conn):
    def broken():
        yield "one\n"
        raise KeyError("no more")

    with pytest.raises(KeyError, match="no more"):
        conn.run("cat", input=broken())
    live = conn.run("cat; echo end", input=broken(), complete=False)
    assert [live.next(), live.next()] == ["one", "end"]
    with pytest.raises(KeyError):
        live.next()
    assert live.next() is None
    assert live.wait().ok
    with pytest.raises(TypeError, match="str or bytes, not int"):
        conn.run("cat", input=[1])


def test_an_iterator_may_not_end_the_program(conn):
    def leaving():
        yield "one\n"
        sys.exit("no more")

    with pytest.raises(RuntimeError, match=r"raised SystemExit\('no more'\)"):
        conn.run("cat", input=leaving())
    assert conn.run("echo on").output == "on\n"


def test_input_comes_to_the_process_as_it_is_given(conn):
    given = threading.Event()

    def slow():
        yield "one\n"
        assert given.wait(20)
        yield "two\n"

    live = conn.run("cat", input=slow(), complete=False)
    assert live.next() == "one"
    given.set()
    assert list(live) == ["one", "two"]


def test_what_a_pipe_holds_is_not_kept_back(conn):
    theirs, ours = os.pipe()
    with open(theirs, "rb") as file, open(ours, "wb", buffering=0) as other:
        live = conn.run("cat", input=file, complete=False)
        other.write(b"one\n")
        assert live.next() == "one"
        other.write(b"two\n")
        assert live.next() == "two"
        other.close()
        assert live.wait().ok


def test_a_source_is_read_only_as_far_as_the_process_does(conn):
    taken = [0]

    def endless():
        while True:
            taken[0] += 1
            yield b"x" * 65_536

    live = conn.run("head -c 1 >&2; exec sleep 60", input=endless(), complete=False)
    assert live.next() == "x"
    settled = 0
    while settled != taken[0]:
        settled = taken[0]
        conn.run("sleep 0.2")
    assert settled * 65_536 < 4 * 1024 * 1024
    live.stop(signal="SIGKILL")
    wait_until(
        lambda: not any(one.name == "mlepool-input" for one in threading.enumerate())
    )


def test_who_reads_only_a_part_is_no_error_and_the_rest_is_not_read(conn):
    def much():
        for _ in range(10_000):
            yield b"x" * 65_536

    listener = conn.run("head -c 3", input=much())
    assert (listener.stdout, listener.ok) == ("xxx", True)


# -- writers, and lost links


def test_an_attached_listener_writes_too(conn):
    live = conn.run("cat", stdin=True, complete=False)
    live.send_input("one\n")
    assert live.next() == "one"
    other = conn.attach(live.id)
    other.send_input("two\n")
    live.send_input("three\n")
    other.send_input("four\n")
    other.close_input()
    assert live.wait().stdout.split() == ["one", "two", "three", "four"]
    with pytest.raises(BrokenPipeError):
        live.send_input("five\n")


def test_links_that_break_lose_no_input_and_repeat_none(worker):
    data = b"".join(b"%d\n" % number for number in range(400_000))
    with (
        FaultProxy(worker.port) as proxy,
        mlepool.ClientPool() as pool,
        pool.add("localhost", proxy.port) as conn,
    ):
        pieces = (data[at : at + 100_000] for at in range(0, len(data), 100_000))
        conn.disconnect()
        places = (300_000, 9000, 270_000, 20_000, 600_000, 100_000)
        proxy.schedule(Cut(after, "to_worker") for after in places)
        conn.connect()
        live = conn.run("cat", input=pieces, complete=False, encoding=None)
        assert live.wait().stdout == data
        assert proxy.cuts == len(places)


def test_a_worker_that_is_killed_loses_no_input_and_repeats_none(own_worker):
    data = b"".join(b"%d\n" % number for number in range(200_000))
    port = own_worker.port
    go = threading.Event()

    def pieces():
        yield data[:500_000]
        assert go.wait(20)
        yield data[500_000:]

    with mlepool.ClientPool() as pool, pool.add("localhost", port) as conn:
        slow = "head -c 100; sleep 1; cat"  # so that some of it waits in a supervisor
        live = conn.run(slow, input=pieces(), complete=False, encoding=None)
        assert live.next() == b"0"
        own_worker.process.kill()
        own_worker.end()
        go.set()
        again = RunningWorker(own_worker.state_dir.parent, listen=f"127.0.0.1:{port}")
        try:
            assert live.wait(timeout=30).stdout == data
        finally:
            again.end()


# -- terminals


def test_a_terminal_from_python(conn):
    live = conn.run("stty size; read x; stty size; cat", tty=True, complete=False)
    assert live.next() == "24 80"
    live.resize(40, 120)
    live.send_input("\n")
    assert live.next() == ""  # its echo
    assert live.next() == "40 120"
    live.close_input()
    assert live.wait().ok
    live.resize(1, 1)  # it has ended
    assert conn.run("tty", tty=True).stdout.startswith("/dev/pts/")
    assert conn.run("echo $TERM", tty=True).stdout == "xterm-256color\r\n"
    assert list(conn.run("echo $TERM", tty=True, env={"TERM": "dumb"})) == ["dumb"]
    code = "import sys; print([one.isatty() for one in (sys.stdin, sys.stdout)])"
    assert list(conn.run(["python3", "-c", code], tty=True)) == ["[True, True]"]


def test_a_job_without_a_terminal_can_not_be_resized(conn):
    live = conn.run("cat", stdin=True, complete=False)
    with pytest.raises(ValueError, match="has no terminal"):
        live.resize(24, 80)
    for size in ((0, 80), (24, 65_536)):
        with pytest.raises(ValueError, match="a terminal can't have"):
            conn.run("true", tty=True, rows=size[0], cols=size[1], raise_error=True)
        with pytest.raises(ValueError, match="a terminal can't have"):
            live.resize(*size)
    with pytest.raises(LookupError):
        conn.resize("nobody", 24, 80, raise_error=True)


def test_ctrl_c_that_is_typed_interrupts_the_program(conn):
    live = conn.run(
        "trap 'echo caught; exit' INT; echo on; while :; do sleep 0.1; done",
        tty=True,
        complete=False,
    )
    live.expect("on")
    live.send_input("\x03")
    live.expect("caught")
    assert live.wait().done


def test_a_terminal_that_was_resized_before_the_worker_was_killed(own_worker):
    port = own_worker.port
    with mlepool.ClientPool() as pool, pool.add("localhost", port) as conn:
        live = conn.run("stty size; read x; stty size", tty=True, complete=False)
        assert live.next() == "24 80"
        own_worker.process.kill()
        own_worker.end()
        again = RunningWorker(own_worker.state_dir.parent, listen=f"127.0.0.1:{port}")
        try:
            live.resize(40, 120)
            live.send_input("\n")
            live.expect("40 120")
            assert live.wait(timeout=20).ok
        finally:
            again.end()
