"""Workers inside other programs: with an event loop of their own, and without."""

import asyncio
import threading
from pathlib import Path

import pytest

import mlepool
from mlepool.worker import Worker, command, serve_in_thread
from mlepool.worker.assembly import make_config

pytestmark = pytest.mark.real

LISTEN = "127.0.0.1:0"


def double(number: int) -> int:
    return 2 * number


class Counter:
    """Counts."""

    def __init__(self) -> None:
        self.count = 0
        self.is_up = False

    def setup(self) -> None:
        self.is_up = True

    async def shutdown(self) -> None:
        self.is_up = False

    @command
    def up(self) -> int:
        self.count += 1
        return self.count


def test_an_asyncio_program_has_a_worker_in_it(tmp_path):
    counter = Counter()

    async def main() -> None:
        worker = Worker(commands=[double, counter], state_dir=tmp_path, listen=LISTEN)
        async with worker, mlepool.AsyncClientPool() as pool:
            assert counter.is_up
            async with pool.add(worker.join_url()) as conn:
                assert (await conn.double(4)).value == 8
                assert (await conn.counter.up()).value == 1
                assert (await conn.run("echo well")).stdout == "well\n"
        assert (counter.is_up, counter.count) == (False, 1)

    asyncio.run(main())


def test_a_threaded_program_has_one_too_and_ends_it(tmp_path):
    worker = serve_in_thread(commands=[double], state_dir=tmp_path, listen=LISTEN)
    with mlepool.ClientPool() as pool, pool.add(worker.join_url()) as conn:
        assert conn.double(4).value == 8
        assert worker.address == f"127.0.0.1:{worker.port}"
    worker.close()
    worker.close()
    assert "mlepool worker" not in [one.name for one in threading.enumerate()]


def test_what_keeps_it_from_starting_is_raised_where_it_is_started(tmp_path):
    with serve_in_thread(state_dir=tmp_path, listen=LISTEN):
        with pytest.raises(mlepool.WorkerError, match="another worker runs"):
            serve_in_thread(state_dir=tmp_path, listen=LISTEN)
        with pytest.raises(mlepool.ConfigError, match="cannot listen"):
            serve_in_thread(state_dir=tmp_path / "other", listen="http://x")


def test_new_versions_are_offered_to_who_is_connected(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from mlepool.worker import command\n@command\ndef one(): return 1\n"
    )
    changed = threading.Event()
    with (
        serve_in_thread([path], state_dir=tmp_path / "s", listen=LISTEN) as worker,
        mlepool.ClientPool() as pool,
        pool.add("localhost", worker.port) as conn,
    ):
        assert conn.one().value == 1
        conn.on("catalogue", lambda *_: changed.set())
        path.write_text(path.read_text().replace("one(): return 1", "two(): return 2"))
        assert worker.reload(timeout=20) == []
        assert changed.wait(10)
        assert conn.two().value == 2
        assert not hasattr(conn, "one")
        path.write_text("1/0")
        (error,) = worker.reload(timeout=20)
        assert conn.heartbeat()
        (shown,) = conn.state["load_errors"]
        assert f"{path}:1: ZeroDivisionError: division by zero" in error
        assert f"{path}:1: ZeroDivisionError (the worker's log says more)" in shown
        assert "division" not in shown
        assert conn.two().value == 2


def test_settings_have_the_command_lines_defaults_and_no_others():
    config = make_config(state_dir="~/x", listen="h:1", name="me")
    assert config.state_dir == Path("~/x").expanduser()
    assert (config.listen.host, config.listen.port) == ("h", 1)
    assert (config.name, config.root) == ("me", Path.cwd())
    assert make_config().listen.port == 9922
    assert make_config(config, name="other").state_dir == config.state_dir
    with pytest.raises(TypeError, match="no setting 'lisen'"):
        make_config(lisen="h:1")
