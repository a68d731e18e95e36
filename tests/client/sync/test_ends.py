"""Ends that a thread waits for: given up, refused, in time."""

import functools
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import mlepool
from mlepool.client.ids import new_job_id
from mlepool.client.listening.listener import AsyncListener
from mlepool.client.sync.ends import End
from mlepool.testing.proxy import FaultProxy
from mlepool.wire.answers import MAX_CONTENT
from tests.conftest import wait_until

MORE_STEPS = 200  # than a call has, of calls and returns in the caller's thread


@pytest.fixture
def proxy(worker) -> Iterator[FaultProxy]:
    with FaultProxy(worker.port) as proxy:
        yield proxy


@pytest.fixture
def proxied(proxy: FaultProxy) -> Iterator[mlepool.Connection]:
    with mlepool.ClientPool() as pool:
        conn = pool.add("localhost", proxy.port)
        conn.connect()
        yield conn


def started(threads: Iterable[threading.Thread]) -> list[threading.Thread]:
    threads = list(threads)
    for thread in threads:
        thread.start()
    return threads


def end_of(conn: mlepool.Connection, command: str) -> End[AsyncListener]:
    begin = functools.partial(
        conn._async.start_call,
        conn._async.find("run"),
        (command,),
        {},
        job_id=new_job_id(),
    )
    return End(begin, conn._async.give_up_call, wrap=lambda listener: listener)


def test_what_is_given_up_before_it_was_sent_is_never_run(worker, tmp_path):
    path = tmp_path / "ran"
    with FaultProxy(worker.port) as proxy, mlepool.ClientPool() as pool:
        conn = pool.add("localhost", proxy.port)
        conn.connect()
        proxy.refuse()
        proxy.reset()
        wait_until(lambda: conn.state["connection"] == "reconnecting")
        end = end_of(conn, f"touch {path}")
        conn._portal.do(end.start)
        assert not end.wait(0)
        conn._portal.do(end.cancel)
        assert not conn._async.owned()
        proxy.accept()
        assert conn.run("true").ok
        assert not path.exists()


def test_what_is_given_up_after_its_start_goes_on_and_is_not_listened_to(conn):
    end = end_of(conn, "sleep 30")
    conn._portal.do(end.start)
    live = conn._portal.do(lambda: end._listener)
    for _ in range(2):  # twice is fine
        conn._portal.do(end.cancel)
    assert conn.attach(live.id).status == "RUNNING"
    assert live.intake._drains == 0
    assert not live.intake._watchers
    assert conn.stop(live.id).value.complete


def test_what_the_caller_gets_is_made_while_the_worker_is_busy(conn):
    made: list[AsyncListener] = []

    def wrap(listener: AsyncListener) -> AsyncListener:
        made.append(listener)
        return listener

    end = end_of(conn, "sleep 30")
    end._wrap = wrap
    conn._portal.do(end.start)
    assert not end.wait(0)
    assert len(made) == 1
    assert conn.stop(made[0].id).value.complete
    assert end.wait(10)
    assert end.result() is made[0]
    assert len(made) == 1


def test_what_cannot_begin_is_an_error_of_the_caller(conn):
    with pytest.raises(TypeError, match="nonsense"):
        conn.run("true", nonsense=1)
    with pytest.raises(TypeError, match="complete"):
        conn.run("true", complete="no")
    assert conn.run("true").ok


def test_a_call_ends_with_its_deadline_whether_the_job_does_or_not(conn):
    with pytest.raises(mlepool.CommandTimeoutError) as caught:
        conn.run("sleep 30", timeout=0.1)
    assert caught.value.listener.status == "TIMED_OUT"
    with pytest.raises(mlepool.CommandTimeoutError) as caught:
        conn.run("echo hi; sleep 30", timeout=0.1, on_timeout="detach")
    live = caught.value.listener
    assert conn.attach(live.id).status == "RUNNING"
    assert conn.stop(live.id).value.complete


def test_output_comes_whole_however_much_it_is(conn):
    done = conn.run("head -c 3000000 /dev/zero", encoding=None)
    assert len(done.stdout) == 3_000_000


def run_interrupted(conn: mlepool.Connection, step: int) -> None:
    """Run a command, with Ctrl-C in a step of it, if it has so many."""
    count = 0

    def interrupt(*_: object) -> None:
        nonlocal count
        count += 1
        if count == step:
            signal.raise_signal(signal.SIGINT)

    try:
        sys.setprofile(interrupt)
        conn.run(["true"])
        sys.setprofile(None)
    except KeyboardInterrupt:
        pass  # what has raised it is not called any more


def test_ctrl_c_at_any_step_of_a_call_harms_no_other(conn, bare_signals):
    events: list[str] = []
    for event in ("reconnecting", "lost"):
        conn.on(event, lambda _, event=event: events.append(event))
    assert conn.run(["true"]).ok  # what is made once is made
    for step in range(1, MORE_STEPS):
        run_interrupted(conn, step)
    assert not events
    assert conn.run(["echo", "fine"]).stdout == "fine\n"


def test_what_threads_call_while_links_are_cut_runs_once(proxied, proxy, tmp_path):
    path, answers = tmp_path / "ran", []

    def call(thread: int) -> None:
        for number in range(30):
            done = proxied.run(f"echo {thread}.{number} | tee -a {path}")
            assert done.ok
            answers.append(done.stdout)

    calls = [functools.partial(call, thread) for thread in range(6)]
    threads = started(threading.Thread(target=one) for one in calls)
    for count in range(15, 180, 15):
        wait_until(lambda count=count: len(answers) >= count)
        proxy.reset()
    for thread in threads:
        thread.join()
    expected = {f"{thread}.{number}\n" for thread in range(6) for number in range(30)}
    assert len(answers) == 180
    assert set(answers) == expected
    with open(path) as file:
        assert sorted(file) == sorted(expected)


def test_what_threads_call_while_the_link_is_full_comes_whole(proxied, proxy, tmp_path):
    parts = {tmp_path / f"{one}": os.urandom(MAX_CONTENT) for one in range(16)}
    answers: list[mlepool.Listener] = []

    def write(path: Path, data: bytes) -> None:
        answers.append(proxied.write(path, data))

    def run() -> None:
        answers.append(proxied.run("true"))

    calls = [functools.partial(write, *part) for part in parts.items()] + [run] * 16
    proxied.run("true")
    proxy.stall("to_worker")
    threads = started(threading.Thread(target=one) for one in calls)
    wait_until(lambda: proxied._async._conversation.peer.is_full)
    assert not answers
    proxy.resume()
    for thread in threads:
        thread.join()
    assert len(answers) == 32
    assert all(one.ok for one in answers)
    assert all(path.read_bytes() == data for path, data in parts.items())
