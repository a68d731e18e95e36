"""What a listener's repr says of its command."""

import asyncio
import re

import pytest

import mlepool

pytestmark = pytest.mark.real


def fits(pattern, listener):
    said = repr(listener)
    assert re.fullmatch(f"<Listener {pattern}>", said), said
    return True


def test_it_says_what_runs_where_for_how_long_and_how_much_has_come(conn):
    with conn.run("echo a; printf b; echo c >&2; sleep 30", complete=False) as live:
        assert fits("run 'echo a; .*' on localhost:.*: RUNNING 0 s, [0-3] lines?", live)
        assert {live.next(), live.next(), live.next()} == {"a", "b", "c"}
        assert fits(".* RUNNING [0-9] s, 3 lines", live)
        live.stop()
    assert fits(r".*: STOPPED \(SIGINT\) after [0-9.]+ s, 3 lines", live)
    assert fits(r".*: SUCCEEDED \d+\.\d s, 1 line", conn.run("echo a"))
    assert fits(r"run 'ls -d /tmp' .*", conn.run(["ls", "-d", "/tmp"]))


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("exit 2", "exit code 2"),
        ("kill -SEGV $$", "SIGSEGV"),
        ("kill -40 $$", "signal 40"),
        (["/no/such"], "FileNotFoundError: No such file or directory: '/no/such'"),
        ("x\ny", "exit code 127"),
    ],
)
def test_of_what_has_failed_it_says_why(conn, command, why):
    assert fits(
        rf".*: FAILED \({why}\) after 0\.[0-9] s, [0-3] lines?", conn.run(command)
    )


def test_commands_with_values_and_syncs_are_no_runs(conn, tmp_path):
    failed = conn.ls(tmp_path / "none")
    assert fits(
        r"'ls' on .*: FAILED \(FileNotFoundError: .*none.*\) after .* s", failed
    )
    assert str(failed) == repr(failed)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "file").write_text("")
    done = conn.sync(tmp_path / "src", tmp_path / "dest")
    assert fits(r"'sync .*' on .*: SUCCEEDED \d+\.\d s, 1 line", done)
    assert fits(r"'mkdir' on .*: SUCCEEDED \d+\.\d s", conn.mkdir(tmp_path / "new"))


def test_who_waits_in_line_has_a_place_and_no_output(start_worker):
    worker = start_worker("narrow", MLEPOOL_MAX_CONCURRENT="1")
    with mlepool.ClientPool() as pool, pool.add("localhost", worker.port) as conn:
        first, second = (conn.run("sleep 30", complete=False) for _ in range(2))
        assert fits("run 'sleep 30' on .*: PENDING, 1 in line", second)
        second.stop()
        second.wait()
        assert fits(r".*: STOPPED \(stopped by .*\) after 0.0 s, 0 lines", second)
        first.stop()


def test_what_has_left_memory_is_told_by_its_size(conn):
    done = conn.run(["seq", "400000"], memory=512 * 1024)
    assert fits("run 'seq 400000' .* s, 3 MiB", done)


def test_the_async_face_has_its_own_name(worker):
    async def scenario():
        async with (
            mlepool.AsyncClientPool() as pool,
            pool.add("localhost", worker.port) as conn,
        ):
            return repr(await conn.run("true"))

    assert asyncio.run(scenario()).startswith("<AsyncListener run 'true' on localhost:")
