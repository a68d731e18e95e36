"""The blocking Listener: what it refuses, and what no time is too short for."""

import gc
import io
import math
import signal
import sys
import threading
import weakref

import pytest

import mlepool
from tests.conftest import wait_until


def test_no_time_is_too_short_for_what_has_ended(conn):
    done = conn.run("exit 3")
    assert done.wait(timeout=0).exit_code == 3


@pytest.mark.parametrize("seconds", [math.inf, 1e300, 10**12])
def test_a_time_may_be_longer_than_the_system_can_count(conn, seconds):
    with conn.run("read line", stdin=True, complete=False) as live:
        live.send_input("go\n", timeout=seconds)
        assert live.wait(timeout=seconds).ok


def test_a_silence_may_be_longer_than_the_system_can_count(conn):
    live = conn.run("sleep 0.2; echo go", complete=False, max_interval=1e300)
    assert list(live) == ["go"]


@pytest.mark.parametrize("seconds", ["1", True, [], b""])
def test_a_limit_that_is_no_number_is_refused(conn, seconds):
    done = conn.run("true")
    for face in (done, done._async):
        with pytest.raises(TypeError, match="max_interval is a number of seconds"):
            face.max_interval = seconds
    with conn.run("read line", stdin=True, complete=False) as live:
        with pytest.raises(TypeError, match="a timeout is a number of seconds"):
            live.wait(seconds)
        live.close_input()


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf])
def test_a_silence_that_no_clock_has_is_refused(conn, seconds):
    done = conn.run("true")
    for face in (done, done._async):
        with pytest.raises(ValueError, match="max_interval must be"):
            face.max_interval = seconds


def test_a_stream_that_is_none_is_refused(conn):
    with pytest.raises(ValueError, match="stream is 'stdout', 'stderr' or None"):
        conn.run("echo hi").read("stdot")


@pytest.mark.parametrize("data", [5, None, ["a"]])
def test_input_that_is_none_is_refused_and_harms_nothing(conn, data):
    with conn.run("cat", stdin=True, complete=False) as live:
        with pytest.raises(TypeError, match="input is str or bytes, not"):
            live.send_input(data)
        live.send_input(bytearray(b"a"))
        live.send_input(memoryview(b"b\n"))
        live.close_input()
        assert live.read() == "ab\n"


def test_a_closed_stdin_says_how_to_have_one(conn):
    with (
        conn.run("sleep 5", complete=False) as live,
        pytest.raises(BrokenPipeError, match="it needs stdin=True"),
    ):
        live.send_input("x")
    live.stop()


@pytest.mark.parametrize("job_id", [5, None, b"5f3a"])
def test_a_job_id_of_another_type_is_refused_and_harms_nothing(conn, job_id):
    with pytest.raises(TypeError, match="a job's id is a str"):
        conn.attach(job_id)
    assert conn.run("true").ok


def test_the_output_of_what_has_ended_waits_for_nobody(conn):
    done = conn.run("echo out; echo err >&2")
    begun, go_on = threading.Event(), threading.Event()

    def work():
        begun.set()
        go_on.wait()

    conn._portal.post(work)  # the loop is busy meanwhile
    begun.wait()
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    assert sorted(done.output.split()) == ["err", "out"]
    go_on.set()


def test_a_closed_listener_keeps_nobody_waiting(conn):
    live = conn.run("echo first; sleep 20", complete=False)
    assert live.next() == "first"
    live.close()
    with pytest.raises(mlepool.ClientError, match="its listener was closed; it goes"):
        live.next()
    assert (live.next(), live.next()) == (None, None)
    for wait in (live.wait, live.read, lambda: list(live)):
        with pytest.raises(mlepool.ClientError, match="its listener was closed"):
            wait()
    assert live._portal.call(live._async.next(), 5) == "first"
    with pytest.raises(mlepool.ClientError, match="its listener was closed"):
        live._portal.call(live._async.next(), 5)
    assert conn.attach(live.id).stop().status == "STOPPED"


def test_who_waits_while_a_listener_is_closed_is_told(conn):
    live = conn.run("echo first; sleep 20", complete=False)
    told: list[BaseException] = []
    has_begun = threading.Barrier(3)

    def read(messages):
        try:
            next(messages)
            has_begun.wait(5)
            next(messages)
        except BaseException as exc:
            told.append(exc)

    readers = (iter(live), iter(live.next, None))
    threads = [threading.Thread(target=read, args=(one,)) for one in readers]
    for thread in threads:
        thread.start()
    has_begun.wait(5)
    live.close()
    for thread in threads:
        thread.join(5)
    assert [type(one) for one in told] == [mlepool.ClientError] * 2
    conn.stop(live.id)


@pytest.mark.parametrize(
    "verb", [lambda conn: conn.run("sleep 20"), lambda conn: conn.sleep(20)]
)
def test_ctrl_c_says_how_to_come_back_to_a_job_alone(conn, caplog, verb):
    before = {job.id for job in conn.jobs().value}
    main = threading.main_thread().ident
    assert main is not None
    interrupt = threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT))
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        verb(conn)
    interrupt.join()
    running = [job.id for job in conn.jobs().value if job.id not in before]
    said = [one.getMessage() for one in caplog.records if "goes on" in one.getMessage()]
    assert [one.split()[1] for one in said] == running
    for job_id in running:
        conn.stop(job_id)


class Interrupted(io.StringIO):
    """A terminal whose user presses Ctrl-C on what is printed."""

    def flush(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("is_group", [False, True])
def test_ctrl_c_on_what_is_echoed_leaves_the_job_alone(worker, caplog, is_group):
    with mlepool.ClientPool() as pool, pytest.MonkeyPatch.context() as patch:
        conn = pool.add("localhost", worker.port)
        patch.setattr(sys, "stdout", Interrupted())
        with pytest.raises(KeyboardInterrupt):
            (pool if is_group else conn).run("echo on; sleep 60", echo_response=True)
    said = [one.getMessage() for one in caplog.records if "attach(" in one.getMessage()]
    assert len(said) == 1
    with mlepool.ClientPool() as pool:
        conn = pool.add("localhost", worker.port)
        jobs = [one for one in conn.jobs().value if "on; sleep" in one.command]
        (running,) = [one.id for one in jobs if one.outcome is None]
        assert running in said[0]
        conn.stop(running)


def read_to_the_end(conn):
    live = conn.run("seq 1000", complete=False)
    assert len(list(live)) == len(live) == 1000
    assert live.next() == live[0] == "1"
    return live


def closed_while_it_printed(conn):
    live = conn.run("seq 1000; echo '#loss 1 2'; sleep 60", complete=False)
    assert (live.next(), next(iter(live)), live.expect("7")[0]) == ("1", "1", "7")
    wait_until(lambda: live.points.get("loss") == [(1, 2)])
    live.close()
    assert "1000" in live.stdout  # what has come is there, also of a closed one
    return live


def closed_with_a_prompt(conn):
    live = conn.run("printf 'name? '; cat", stdin=True, complete=False)
    live.expect("name")
    live.send_input("x\n")
    live.close()
    return live


def attached(conn):
    job_id = conn.run("seq 1000").id
    live = conn.attach(job_id)
    return live.wait()


def failed(conn):
    live = conn.run("seq 1000; exit 3")
    assert live.error.listener is live
    return live


def a_value(conn):
    names = conn.ls("/")
    assert names[0] == names.next() == names.value
    return names


@pytest.fixture
def without_collection():
    """No collection: it comes late where objects are few, however large they are."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def of(live: mlepool.Listener) -> list[weakref.ref[object]]:
    return [weakref.ref(one) for one in (live, live._async, live._async.intake)]


def are_gone(held: list[weakref.ref[object]]) -> bool:
    return all(one() is None for one in held)


@pytest.mark.parametrize(
    "make",
    [
        *(read_to_the_end, closed_while_it_printed, closed_with_a_prompt),
        *(attached, failed, a_value),
    ],
)
def test_what_it_holds_goes_with_the_last_reference(conn, without_collection, make):
    live = make(conn)
    held = of(live)
    del live
    wait_until(lambda: are_gone(held))


def test_what_a_group_holds_goes_with_the_last_reference(worker, without_collection):
    with mlepool.ClientPool() as pool:
        pool.add("localhost", worker.port, name="gpu1")
        live = pool.run("seq 1000", complete=False)
        assert len(list(live)) == len(list(iter(live.next, None))) == 1000
        held = of(live["gpu1"])
        del live
        wait_until(lambda: are_gone(held))


def test_an_error_in_a_loop_over_a_dropped_one_carries_one(conn):
    with pytest.raises(mlepool.CommandError) as caught:
        list(conn.run("seq 3; exit 3", complete=False, raise_error=True))
    live = caught.value.listener
    assert isinstance(live, mlepool.Listener)
    assert (live.stdout, live.exit_code) == ("1\n2\n3\n", 3)
