"""Listeners against a real worker: messages, outcome, waits, stop, input."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import mlepool
from tests.conftest import command_line, processes, wait_until

pytestmark = pytest.mark.real

COUNT = "import time; [print(i) or time.sleep(.2) for i in range(5)]"

# No other run of the tests on this machine has processes of these names.
ONE, TWO = (f"sleep {number}.{os.getpid()}" for number in (161, 162))


def python(code):
    return [sys.executable, "-c", code]


def running() -> set[str]:
    return {command_line(pid).strip() for pid in processes()}


def test_lines_arrive_as_they_are_printed(conn):
    code = "[print(input()) for _ in range(3)]"
    live = conn.run(python(code), stdin=True, complete=False)
    for line in ("first", "second", "third"):
        live.send_input(f"{line}\n")
        assert live.next() == line  # and not all at the end
    assert live.next() is None


def test_next_gives_none_at_the_end_and_ever_after(conn):
    live = conn.run("echo a; echo b", complete=False)
    assert list(iter(live.next, None)) == ["a", "b"]
    assert live.done
    assert live.next() is None
    assert live.next() is None


def test_every_for_starts_at_the_first_message(conn):
    live = conn.run("echo a; echo b; echo c", complete=False)
    assert live.next() == "a"
    assert list(live) == ["a", "b", "c"]
    assert list(live) == ["a", "b", "c"]
    assert live.next() == "b"


def test_messages_by_number_and_their_count(conn):
    live = conn.run("echo a; echo b >&2; printf c")
    assert len(live) == 3
    assert {live[0], live[1]} == {"a", "b"}
    assert live[2] == live[-1] == "c"
    assert (live[2].end, live[2].stream) == ("", "stdout")
    with pytest.raises(IndexError):
        live[3]


def test_a_live_listener_is_not_done_until_its_last_message_was_read(conn):
    live = conn.run("echo a", complete=False)
    assert not live.done
    assert live.next() == "a"
    assert live.next() is None
    assert live.done
    assert live.ok


def test_max_interval_raises_after_the_silence_and_the_listener_goes_on(conn):
    live = conn.run("sleep 1; echo late", complete=False, max_interval=0.3)
    began = time.monotonic()
    with pytest.raises(mlepool.ListenerTimeoutError, match="0.3 s; the job"):
        live.next()
    assert time.monotonic() - began >= 0.3
    assert isinstance(mlepool.ListenerTimeoutError("", "", seconds=1), TimeoutError)
    live.max_interval = None
    assert live.next() == "late"


def test_timeout_stops_the_whole_tree_and_raises_with_the_output_so_far(conn):
    began = time.monotonic()
    with pytest.raises(mlepool.CommandTimeoutError) as caught:
        conn.run(f"echo so far; {ONE} & {TWO}", timeout=1)
    assert time.monotonic() - began >= 1.0
    assert caught.value.stopped is True
    assert caught.value.output == "so far\n"
    listener = caught.value.listener
    assert isinstance(listener, mlepool.Listener)
    assert listener.status == "TIMED_OUT"
    assert not {ONE, TWO} & running()


def test_timeout_of_a_live_listener_is_raised_by_next_once(conn):
    live = conn.run("echo a; sleep 30", complete=False, timeout=0.5)
    assert live.next() == "a"
    with pytest.raises(mlepool.CommandTimeoutError):
        live.next()
    assert live.next() is None
    assert live.status == "TIMED_OUT"


def test_who_attaches_to_what_timed_out_is_told_so(conn):
    with pytest.raises(mlepool.CommandTimeoutError) as caught:
        conn.run("sleep 30", timeout=0.3)
    live = conn.attach(caught.value.listener.id)
    with pytest.raises(mlepool.CommandTimeoutError, match="it was stopped"):
        live.wait()
    assert live.status == "TIMED_OUT"


def test_on_timeout_detach_leaves_the_job_running(conn):
    with pytest.raises(mlepool.CommandTimeoutError) as caught:
        conn.run("sleep 30", timeout=0.3, on_timeout="detach")
    assert caught.value.stopped is False
    job_id = caught.value.listener.id
    assert conn.attach(job_id).status == "RUNNING"
    assert conn.stop(job_id).value.complete


@pytest.mark.parametrize(
    ("command", "code"), [("exit 1", 1), ("exit 3", 3), ("exit 255", 255)]
)
def test_raise_error_raises_for_every_non_zero_exit(conn, command, code):
    with pytest.raises(mlepool.CommandError) as caught:
        conn.run(f"echo oops >&2; {command}", raise_error=True)
    assert isinstance(caught.value, subprocess.CalledProcessError)
    assert caught.value.returncode == caught.value.listener.exit_code == code
    assert caught.value.stderr == "oops\n"
    assert "oops" in str(caught.value)


def test_raise_error_raises_for_a_signal(conn):
    with pytest.raises(mlepool.CommandError, match="signal 9") as caught:
        conn.run("kill -9 $$", raise_error=True)
    assert caught.value.returncode == -9
    assert caught.value.listener.signal == 9


def test_without_raise_error_the_error_is_kept(conn):
    listener = conn.run(["no-such-program"])
    assert listener.status == "FAILED"
    assert listener.exit_code is None
    assert isinstance(listener.error, FileNotFoundError)


def test_raise_error_of_a_live_listener_comes_after_its_last_message(conn):
    live = conn.run("echo a; exit 4", complete=False, raise_error=True)
    assert live.next() == "a"
    with pytest.raises(mlepool.CommandError):
        live.next()
    assert live.next() is None


def test_echo_response_prints_as_it_arrives(conn, capsys):
    listener = conn.run("echo a; echo b >&2; printf c", echo_response=True)
    assert listener.exit_code == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("a\nc", "b\n")


def test_records_are_the_bytes_as_they_were_read(conn):
    listener = conn.run(r"printf 'a\377b'; sleep .1; printf c >&2")
    records = list(listener.records())
    assert [(stream, data) for _, stream, data in records] == [
        ("stdout", b"a\xffb"),
        ("stderr", b"c"),
    ]
    assert records[0][0] < records[1][0]
    assert listener.stdout == "a\ufffdb"


def test_encoding_none_gives_bytes_throughout(conn):
    listener = conn.run(r"printf 'a\377\nb'", encoding=None)
    assert list(listener) == [b"a\xff", b"b"]
    assert listener.stdout == listener.output == b"a\xff\nb"


def test_utf8_in_every_width_comes_through_whole(conn):
    text = "a\u00e4\u20ac\U0001f600" * 12000
    code = f"import sys; sys.stdout.buffer.write({text[:4]!a}.encode() * 12000)"
    listener = conn.run(python(code))
    assert listener.stdout == text
    assert "\ufffd" not in "".join(listener)


def test_what_left_memory_is_read_again_from_the_worker(conn):
    listener = conn.run("seq 200000", memory=50_000)
    expected = [str(n) for n in range(1, 200_001)]
    assert list(listener) == expected
    assert listener.stdout == "\n".join(expected) + "\n"
    assert len(listener) == 200_000
    assert listener[5] == "6"


def test_a_reader_that_stops_gets_everything_when_it_goes_on(conn):
    live = conn.run("seq 300000", complete=False, memory=100_000)
    assert live.next() == "1"
    conn.run("true")  # other commands of the connection are not held up
    assert sum(1 for _ in iter(live.next, None)) == 299_999


def test_two_readers_of_one_live_listener_see_the_same(conn):
    live = conn.run(python(COUNT), complete=False)
    seen = []
    thread = threading.Thread(target=lambda: seen.extend(live))
    thread.start()
    mine = list(live)
    thread.join()
    assert mine == seen == list("01234")


def test_input_is_read_by_the_process(conn):
    listener = conn.run("tr a-z A-Z", input="hello\nworld\n")
    assert listener.stdout == "HELLO\nWORLD\n"
    big = "x" * 3_000_000
    assert conn.run("wc -c", input=big).stdout.strip() == str(len(big))
    assert conn.run("true", input=big).ok  # nobody reads it: as subprocess.run()


def test_send_input_and_expect_and_close_input(conn):
    code = "for n in iter(input, 'end'): print(int(n) ** 2)"
    live = conn.run(python(code), complete=False, stdin=True)
    live.send_input("12\n")
    assert live.expect(r"^(\d+)$", timeout=10)[1] == "144"
    live.send_input(b"end\n")
    live.close_input()
    live.close_input()
    with pytest.raises(EOFError):
        live.expect("never")
    assert live.wait().ok
    with pytest.raises(BrokenPipeError):
        live.send_input("late")


def test_clear_messages_goes_on_with_new_ones(conn):
    live = conn.run("echo old; read x; echo new", complete=False, stdin=True)
    assert live.next() == "old"
    live.clear_messages()
    live.send_input("\n")
    assert live.next() == "new"
    assert live.next() is None


def test_stop_reports_what_was_signalled(conn):
    live = conn.run(f"{ONE} | {TWO}", complete=False)
    wait_until(lambda: {ONE, TWO} <= running())
    report = live.stop()
    assert report.complete
    assert report.status == "STOPPED"
    assert {ONE, TWO} <= {one.command for one in report.signalled}
    assert live.wait().status == "STOPPED"
    assert not live.ok
    assert live.reason.startswith("stopped by 127.0.0.1:")
    again = live.stop()
    assert (again.status, again.signalled) == ("STOPPED", ())


@pytest.mark.parametrize("said", ["TERM", signal.SIGTERM])
def test_a_signal_may_be_said_in_several_ways(conn, said):
    for stop in (
        lambda live: live.stop(said),
        lambda live: conn.stop(live.id, signal=said).value,
    ):
        live = conn.run("exec sleep 60", complete=False)
        assert [one.signal for one in stop(live).signalled] == ["SIGTERM"]


def test_what_is_no_signal_stops_nothing_and_says_what_is(conn):
    with conn.run("exec sleep 60", complete=False) as live:
        with pytest.raises(ValueError, match="no signal 'SIGFOO'; SIGINT, SIGTERM and"):
            live.stop("foo")
        with pytest.raises(ValueError, match="no signal 999"):
            live.stop(999)
        assert conn.is_alive(live.id).value
        live.stop("KILL")


def test_a_question_is_no_job_that_could_be_stopped(conn):
    with (
        conn.sleep(20, complete=False) as asked,
        pytest.raises(LookupError, match=r"sleep\(\) is a question and no job"),
    ):
        asked.stop()


def test_wait_with_a_timeout_leaves_the_job_alone(conn):
    live = conn.run("sleep 30", complete=False)
    with pytest.raises(TimeoutError):
        live.wait(timeout=0.1)
    assert live.status == "RUNNING"
    live.stop()


def test_what_never_began_is_stopped_without_asking(conn):
    live = conn.run("true", cwd="/nowhere", complete=False)
    live.wait()
    report = live.stop()
    assert (report.status, report.signalled, report.complete) == ("FAILED", (), True)


def test_close_stops_listening_and_the_job_goes_on(conn):
    with conn.run("sleep 30", complete=False) as live:
        pass
    live.close()
    assert conn.attach(live.id).status == "RUNNING"
    conn.stop(live.id)


def test_progress_is_the_latest_state_of_a_rewritten_line(conn):
    code = (
        r"import time; print('10%', end='\r'); time.sleep(.3); print('20%', end='\r')"
    )
    live = conn.run(python(code))
    assert live.progress == "20%"
    assert [line.end for line in live][0] == "\r"


def test_the_async_face(worker):
    async def scenario():
        async with (
            mlepool.AsyncClientPool() as pool,
            pool.add("localhost", worker.port) as conn,
        ):
            live = await conn.run(python(COUNT), complete=False)
            assert await live.next() == "0"
            assert [line async for line in live] == list("01234")
            assert live.done
            result = await conn.run("exit 3")
            assert (result.exit_code, result.stdout) == (3, "")
            with pytest.raises(mlepool.CommandError):
                await conn.run("exit 3", raise_error=True)
            live = await conn.run("sleep 30", complete=False)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await live.next()
            assert (await live.stop()).complete
            assert await conn.heartbeat()

    asyncio.run(scenario())


def test_next_tells_of_a_failure_once_whoever_was_told_before(worker):
    async def main() -> None:
        async with (
            mlepool.AsyncClientPool() as pool,
            pool.add("localhost", worker.port) as conn,
        ):
            live = await conn.run("exit 3", complete=False, raise_error=True)
            for wait in (live.wait, live.next):
                with pytest.raises(mlepool.CommandError):
                    await wait()
            assert await live.next() is None

    asyncio.run(main())


def test_what_was_waited_for_is_done(conn):
    assert conn.run("true").done
    assert not conn.run("true", complete=False).done


def test_raise_error_is_raised_by_wait_whoever_came_to_the_end_first(conn):
    for _ in range(20):
        live = conn.run("echo a; exit 4", complete=False, raise_error=True)
        assert live.next() == "a"
        with pytest.raises(mlepool.CommandError):
            live.wait()
        with pytest.raises(mlepool.CommandError):
            live.next()
        assert live.next() is None
        assert list(live) == ["a"]  # it was told: looking at the output is free
        assert live.read() == "a\n"
