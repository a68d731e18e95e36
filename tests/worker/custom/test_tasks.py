"""Custom commands as jobs: run, read, stopped, fed, and once only."""

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mlepool
from mlepool.config import Limits
from mlepool.testing.kill import kill_supervisor, supervisor_pid
from mlepool.worker import Context, WorkerThread, serve_in_thread
from tests.conftest import RunningWorker, wait_until
from tests.needs import small_disk

pytestmark = pytest.mark.real

GO = threading.Event()  # what the test lets commands wait for
RUNS: list[str] = []


def add(a: int, b: int = 1) -> int:
    return a + b


async def add_later(a: int) -> int:
    await asyncio.sleep(0)
    return a + 1


def count(to: int) -> Iterator[int]:
    yield from range(to)
    return "counted"  # type: ignore[return-value]


async def count_later(to: int) -> Any:
    for number in range(to):
        yield {"number": number}


def passed_on() -> Any:
    """A plain function that gives a coroutine, as some decorators do."""
    return add_later(4)


def talk(ctx: Context, lines: int) -> None:
    for number in range(lines):
        ctx.progress(step=number + 1, total=lines, message=f"at {number}")
        ctx.log(f"line {number}")


def say_where(ctx: Context) -> list[object]:
    return [ctx.id, str(ctx.cwd), ctx.state["name"], bool(ctx.stopped)]


def block(ctx: Context) -> None:
    GO.wait(20)


async def hold(ctx: Context) -> str:
    await ctx.stopped
    return "told"


def nap(ctx: Context) -> bool:
    return ctx.stopped.wait(20)


async def nap_wrongly(ctx: Context) -> None:
    ctx.stopped.wait(20)


async def doze() -> None:
    time.sleep(0.6)  # noqa: ASYNC251


async def hang() -> None:
    await asyncio.sleep(100)


async def hug(ctx: Context) -> None:
    """Ignore the flag, and a first cancellation."""
    for _ in range(2):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            RUNS.append("cancelled")


def tick(path: str) -> Iterator[int]:
    try:
        for number in range(10_000):
            yield number
            time.sleep(0.001)
    finally:
        Path(path).write_text("closed")


def deaf(seconds: float) -> None:
    GO.wait(seconds)


def deaf_yields() -> Iterator[str]:
    yield "before"
    GO.wait(20)
    yield "after"


def shout(ctx: Context) -> Iterator[str]:
    for line in ctx.input:
        yield line.upper()


async def shout_later(ctx: Context) -> Any:
    async for line in ctx.input:
        yield line.upper()


def fail() -> None:
    raise FileNotFoundError(2, "no such thing", "/there")


def leave() -> None:
    raise SystemExit(3)


class OddError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def fail_oddly() -> None:
    raise OddError


async def fail_later() -> None:
    raise KeyboardInterrupt


def give(kind: str) -> Any:
    kinds = {"object": object(), "large": b"x" * 2_000_000, "path": Path("/a")}
    return kinds[kind]


def yield_object() -> Iterator[object]:
    yield object()


def note(text: str) -> None:
    RUNS.append(text)


def flood(ctx: Context, values: int) -> Iterator[bytes]:
    for _ in range(values):
        yield b"x" * 100_000


ALL = [
    *(
        add,
        add_later,
        count,
        count_later,
        passed_on,
        talk,
        say_where,
        block,
        hold,
        hang,
    ),
    *(
        doze,
        nap,
        nap_wrongly,
        hug,
        tick,
        deaf,
        deaf_yields,
        shout,
        shout_later,
        fail,
        leave,
        fail_oddly,
    ),
    *(fail_later, give, yield_object, note, flood),
]


@pytest.fixture(scope="module")
def inside(tmp_path_factory) -> Iterator[WorkerThread]:
    folder = tmp_path_factory.mktemp("inside")
    limits = Limits(job_quota=2**20)
    with serve_in_thread(
        ALL, state_dir=folder, listen="127.0.0.1:0", name="here", limits=limits
    ) as worker:
        yield worker


@pytest.fixture
def conn(inside) -> Iterator[mlepool.Connection]:
    GO.clear()
    RUNS.clear()
    with mlepool.ClientPool() as pool, pool.add("localhost", inside.port) as conn:
        yield conn
    GO.set()


# -- what they give


@pytest.mark.parametrize(
    ("call", "given"),
    [
        (("add", {"a": 1}), (2, None)),
        (("add_later", {"a": 1}), (2, None)),
        (("passed_on", {}), (5, None)),
        (("count", {"to": 3}), ("counted", [0, 1, 2])),
        (("count_later", {"to": 2}), (None, [{"number": 0}, {"number": 1}])),
        (("give", {"kind": "path"}), ("/a", None)),
    ],
)
def test_functions_of_all_kinds_run(conn, call, given):
    name, arguments = call
    value, messages = given
    listener = getattr(conn, name)(**arguments)
    assert (listener.status, listener.value) == ("SUCCEEDED", value)
    if messages is not None:
        assert list(listener) == messages


def test_progress_is_bounded_in_rate_and_its_last_state_comes(conn):
    listener = conn.talk(5000)
    last = listener.progress
    assert (last.step, last.total, last.message) == (5000, 5000, "at 4999")
    assert len(listener.stderr.splitlines()) == 5000
    outcome = next(one for one in conn.jobs().value if one.id == listener.id).outcome
    seconds = outcome.ended - outcome.started
    assert outcome.yielded < 100 * (seconds / 0.1 + 3)


def test_a_command_knows_where_it_is(conn):
    listener = conn.say_where()
    assert listener.value == [listener.id, str(Path.cwd()), "here", False]


def test_a_blocking_function_holds_up_nobody(conn):
    listener = conn.block(complete=False)
    assert conn.add(1, timeout=5).value == 2
    assert listener.status == "RUNNING"
    assert listener.id in [one.id for one in conn.jobs().value if one.outcome is None]
    GO.set()
    assert listener.wait().ok


def test_they_go_on_while_their_supervisor_is_killed(conn, inside):
    listener = conn.block(complete=False)
    old = kill_supervisor(inside.worker.config.state_dir)
    wait_until(lambda: conn.run("true").ok)
    assert supervisor_pid(inside.worker.config.state_dir) != old
    assert listener.status == "RUNNING"
    GO.set()
    assert listener.wait().status == "SUCCEEDED"


def test_an_async_function_that_blocks_is_told_of_in_the_log(conn, caplog):
    assert conn.doze().ok
    assert "doze() kept all clients waiting for 0.6 s" in caplog.text


def test_another_client_reads_all_of_it_while_it_runs_and_after(conn, inside):
    listener = conn.deaf_yields(complete=False)
    with mlepool.ClientPool() as pool, pool.add("localhost", inside.port) as other:
        attached = other.attach(listener.id)
        assert attached.next() == "before"
        GO.set()
        assert [*attached] == ["before", "after"]
    assert list(conn.attach(listener.id).wait()) == ["before", "after"]
    done = conn.add(3)
    assert conn.attach(done.id).wait().value == 4
    assert conn.job(done.id).value.outcome.value == 4
    assert conn.jobs().value[-1].outcome.value is None  # many have to fit in a frame


def test_at_its_quota_the_head_and_the_tail_are_kept(conn):
    listener = conn.flood(30, complete=False)
    listener.wait()
    (info,) = [one for one in conn.jobs().value if one.id == listener.id]
    assert info.outcome.yielded > 3_000_000
    again = conn.attach(listener.id).wait()
    kept = [one for one in again if isinstance(one, bytes)]
    assert (again.status, set(kept)) == ("SUCCEEDED", {b"x" * 100_000})
    assert 2 <= len(kept) <= 11


def fill_up(path: str) -> Iterator[bytes]:
    yield b"before"
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    yield from [b"x" * 50_000] * 3
    return b"x" * 50_000  # type: ignore[return-value]


def test_a_full_disk_stops_nothing_and_gets_the_end_once_there_is_room(tmp_path):
    with (
        small_disk(tmp_path / "disk", "6m") as disk,
        serve_in_thread([fill_up], state_dir=disk, listen="127.0.0.1:0") as worker,
        mlepool.ClientPool() as pool,
        pool.add("localhost", worker.port) as conn,
    ):
        listener = conn.fill_up(str(disk / "filler"))
        assert (listener.status, len(listener.value)) == ("SUCCEEDED", 50_000)
        (path,) = (disk / "jobs").glob("*.journal")
        assert not path.read_bytes().endswith(b"MLEE")
        (disk / "filler").unlink()
        wait_until(lambda: path.read_bytes().endswith(b"MLEE"))
        again = conn.attach(listener.id).wait()
        assert (again.status, len(again.value)) == ("SUCCEEDED", 50_000)
        assert again[0] == b"before"
        outcome = conn.job(listener.id).value.outcome
        assert outcome.yielded > 150_000 > path.stat().st_size
        conn.fill_up(str(disk / "filler"))
        refused = conn.fill_up(str(disk / "other"))
        assert isinstance(refused.error, OSError)
        assert not (disk / "other").exists()
        assert not (disk / f"jobs/{refused.id}.journal").exists()


# -- how they fail


def test_an_exception_comes_with_the_authors_own_traceback(conn):
    error = conn.fail().error
    assert isinstance(error, FileNotFoundError)
    assert (error.errno, error.filename) == (2, "/there")
    assert "in fail" in error.traceback  # type: ignore[attr-defined]
    assert "mlepool/worker" not in error.traceback  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (("leave", {}), "3"),
        (("fail_oddly", {}), "its text can't be had: RuntimeError"),
        (("fail_later", {}), "KeyboardInterrupt"),
        (("give", {"kind": "object"}), r"give\(\): what it returned can't be sent"),
        (("give", {"kind": "large"}), r"give\(\): what it returned is 2000005 bytes"),
        (("yield_object", {}), "what it yielded is not a value that can be sent"),
    ],
)
def test_whatever_is_wrong_is_the_commands_own_failure(conn, call, text):
    name, arguments = call
    listener = getattr(conn, name)(**arguments)
    assert listener.status == "FAILED"
    with pytest.raises(mlepool.RemoteError, match=text):
        raise listener.error
    assert conn.add(1).value == 2


def size(path: Path) -> int:
    return path.stat().st_size


async def size_later(paths: list[Path]) -> int:
    return sum(one.stat().st_size for one in paths)


def test_a_path_must_be_where_the_client_may_go(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/file").write_text("1234")
    (tmp_path / "out").write_text("secret")
    (tmp_path / "in/link").symlink_to(tmp_path / "out")
    roots = {"root": tmp_path / "in", "roots": (tmp_path / "in",)}
    settings = {"state_dir": tmp_path / "state", "listen": "127.0.0.1:0", **roots}
    settings["limits"] = Limits(durability="power")  # each end waits for the disk
    with (
        serve_in_thread([size, size_later], **settings) as worker,
        mlepool.ClientPool() as pool,
        pool.add("localhost", worker.port) as conn,
    ):
        assert conn.size("file").value == 4
        assert conn.size_later(["file", str(tmp_path / "in/file")]).value == 8
        for path in ("../out", str(tmp_path / "out"), "link"):
            assert isinstance(conn.size(path).error, PermissionError)
            assert isinstance(conn.size_later(["file", path]).error, PermissionError)


# -- stops


def test_a_stop_is_seen_in_ctx_and_what_is_returned_then_is_kept(conn):
    listener = conn.hold(complete=False)
    report = listener.stop()
    assert (report.status, report.complete) == ("STOPPED", True)
    assert [one.signal for one in report.signalled] == ["stop"]
    assert (listener.status, listener.value) == ("STOPPED", "told")
    assert conn.stop(listener.id).value.signalled == ()


def test_a_thread_that_sleeps_with_ctx_is_woken_by_a_stop(conn):
    listener = conn.nap(complete=False)
    assert listener.stop(grace=60).complete
    assert listener.value is True
    with pytest.raises(RuntimeError, match="await ctx.stopped"):
        conn.nap_wrongly(raise_error=True)


def test_an_async_function_without_ctx_is_cancelled_at_once(conn):
    listener = conn.hang(complete=False)
    report = listener.stop(grace=60)
    assert [one.signal for one in report.signalled] == ["stop", "cancel"]
    assert (listener.status, report.complete) == ("STOPPED", True)


def test_a_generator_is_closed_at_its_next_value(conn, tmp_path):
    path = tmp_path / "note"
    listener = conn.tick(str(path), complete=False)
    assert listener.next() == 0
    assert listener.stop().complete
    assert path.read_text() == "closed"
    assert listener.wait().status == "STOPPED"


def test_a_thread_that_ignores_a_stop_is_said_to_go_on_and_heard_no_more(conn, inside):
    listener = conn.deaf_yields(complete=False)
    assert listener.next() == "before"
    report = listener.stop(grace=0.1)
    (survivor,) = report.survivors
    assert (report.status, survivor.pid) == ("STOPPED", os.getpid())
    assert "takes no ctx" in survivor.cause
    assert "wait()" in survivor.cause
    assert "threading.py" in survivor.cause
    listener.wait()
    tasks = inside.worker.jobs.tasks
    assert tasks.count_left() == 1
    GO.set()
    wait_until(lambda: tasks.count_left() == 0)
    assert list(listener) == ["before"]
    assert list(conn.attach(listener.id).wait()) == ["before"]


def test_a_second_stop_goes_on_to_the_next_stage(conn):
    listener = conn.hug(complete=False)
    first = threading.Thread(target=lambda: listener.stop(grace=60))
    first.start()
    wait_until(lambda: conn.add(1).ok and not RUNS)
    report = {}
    for name in ("cancel", "give up"):
        before = len(RUNS)
        second = threading.Thread(
            target=lambda name=name: report.update({name: listener.stop(grace=60)})
        )
        second.start()
        if name == "cancel":
            wait_until(lambda before=before: len(RUNS) > before)
    first.join(10)
    assert not first.is_alive()
    wait_until(lambda: len(report) == 2)
    assert "does not let itself be cancelled" in report["give up"].survivors[0].cause
    assert listener.wait().status == "STOPPED"


def test_a_timeout_stops_it(conn):
    with pytest.raises(mlepool.CommandTimeoutError):
        conn.hang(timeout=0.1)
    listener = conn.hold(timeout=0.1, complete=False)
    with pytest.raises(mlepool.CommandTimeoutError):
        listener.wait()
    assert (listener.status, listener.value) == ("TIMED_OUT", "told")


# -- input


@pytest.mark.parametrize("name", ["shout", "shout_later"])
def test_lines_that_a_client_sends_are_read(conn, name):
    listener = getattr(conn, name)(complete=False)
    listener.send_input("one\ntw")
    listener.send_input("o\nthree")
    assert listener.next() == "ONE"
    listener.close_input()
    assert list(listener) == ["ONE", "TWO", "THREE"]
    with pytest.raises(BrokenPipeError):
        listener.send_input("more\n")


@pytest.mark.parametrize("name", ["shout", "shout_later"])
def test_who_waits_for_input_is_stopped(conn, name):
    listener = getattr(conn, name)(complete=False)
    assert listener.stop(grace=60).complete
    assert listener.status == "STOPPED"


# -- once only


def repeat(conn: mlepool.Connection, job_id: str, text: str) -> Any:
    """Send a request again under an id."""
    inner = conn._async
    call = inner.call(inner.find("note"), (text,), {}, job_id=job_id)
    return conn._portal.call(call)


def test_a_repeated_request_joins_the_job(conn):
    assert repeat(conn, "the-same-id", "once").status.value == "SUCCEEDED"
    assert repeat(conn, "the-same-id", "once").status.value == "SUCCEEDED"
    assert RUNS == ["once"]


def test_where_a_damaged_journal_is_nothing_is_run(conn, inside):
    folder = inside.worker.config.state_dir / "jobs"
    (folder / "damaged-id.journal").write_bytes(b"")
    listener = repeat(conn, "damaged-id", "never")
    assert (listener.status.value, RUNS) == ("LOST", [])


def test_what_another_worker_has_run_is_not_run_again(tmp_path):
    RUNS.clear()
    settings = {"state_dir": tmp_path, "listen": "127.0.0.1:0"}
    for _ in range(2):
        with (
            serve_in_thread([note], **settings) as worker,
            mlepool.ClientPool() as pool,
            pool.add("localhost", worker.port) as conn,
        ):
            listener = repeat(conn, "one-id", "once")
            assert (listener.status.value, RUNS) == ("SUCCEEDED", ["once"])


def test_a_worker_that_ends_stops_them_and_tells_the_next_one(tmp_path):
    settings = {"state_dir": tmp_path, "listen": "127.0.0.1:0"}
    with (
        mlepool.ClientPool() as pool,
        serve_in_thread([hold, hang, add], **settings) as worker,
        pool.add("localhost", worker.port) as conn,
    ):
        jobs = [conn.hold(complete=False), conn.hang(complete=False)]
        done = conn.add(4)
        port = worker.port
        worker.close()
        with serve_in_thread([add], state_dir=tmp_path, listen=f"127.0.0.1:{port}"):
            for job in jobs:
                assert job.wait().status == "STOPPED"
            assert jobs[0].value == "told"
            assert conn.attach(done.id).wait().value == 5


def test_a_killed_worker_loses_them_says_so_and_runs_none_twice(tmp_path):
    commands = tmp_path / "mine.py"
    commands.write_text(
        "from mlepool.worker import command\n"
        "import time\n"
        "@command\n"
        "def work(path: str):\n"
        "    open(path, 'a').write('x')\n"
        "    yield 'begun'\n"
        "    time.sleep(60)\n"
    )
    env = {"MLEPOOL_COMMANDS": str(commands)}
    worker = RunningWorker(tmp_path / "own", **env)
    with mlepool.ClientPool() as pool, pool.add("localhost", worker.port) as conn:
        job = conn.work(str(tmp_path / "ran"), complete=False)
        assert job.next() == "begun"
        listen = f"127.0.0.1:{worker.port}"
        worker.process.send_signal(signal.SIGKILL)
        worker.end()
        after = RunningWorker(tmp_path / "own", listen=listen, **env)
        try:
            job.wait()
            assert job.status == "LOST"
            assert isinstance(job.error, mlepool.JobLostError)
            assert "its worker process has ended" in str(job.error)
            assert (tmp_path / "ran").read_text() == "x"
            (info,) = conn.jobs().value
            assert (info.id, info.status) == (job.id, "LOST")
            assert list(conn.attach(job.id).wait()) == ["begun"]
        finally:
            after.end()
