"""The background loop: threads, fork, exit, Ctrl-C, its own thread."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

import mlepool
from mlepool.client.portal import Portal
from mlepool.errors import PortalError

pytestmark = pytest.mark.real


@pytest.fixture
def portal():
    portal = Portal()
    yield portal
    portal.stop()


async def give(value):
    await asyncio.sleep(0)
    return value


async def fail():
    raise LookupError("no")


def test_a_coroutine_s_result_and_exception_come_back(portal):
    assert portal.call(give(5)) == 5
    with pytest.raises(LookupError, match="no"):
        portal.call(fail())


def test_calls_from_many_threads_at_once(portal):
    results = []
    threads = [
        threading.Thread(target=lambda n=n: results.append(portal.call(give(n))))
        for n in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == list(range(16))


def test_a_timeout_cancels_the_coroutine(portal):
    cancelled = threading.Event()

    async def wait():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(TimeoutError):
        portal.call(wait(), 0.01)
    assert cancelled.wait(5)


def test_a_coroutine_that_is_cancelled_before_it_begins_never_does(portal):
    begun, go_on = threading.Event(), threading.Event()

    async def begin():
        begun.set()

    portal.call(give(1))
    portal.post(go_on.wait)  # the loop is busy while the call comes and is given up
    with pytest.raises(TimeoutError):
        portal.call(begin(), 0)
    go_on.set()
    portal.call(give(1))
    assert not begun.is_set()


def test_a_call_from_the_loop_s_own_thread_is_refused(portal):
    async def call_back():
        portal.call(give(1))

    with pytest.raises(PortalError, match="own thread"):
        portal.call(call_back())


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_ctrl_c_at_any_step_of_a_call_is_never_lost(portal, bare_signals):
    assert portal.call(give(1)) == 1
    for step in range(1, 100):
        steps: list[int] = []

        def interrupt(*_: object, steps=steps, step=step) -> None:
            steps.append(step)
            if len(steps) == step:
                signal.raise_signal(signal.SIGINT)

        try:
            sys.setprofile(interrupt)
            portal.call(give(1))
            sys.setprofile(None)
        except KeyboardInterrupt:
            continue  # what has raised it is not called any more
        assert len(steps) < step
    assert portal.call(give(1)) == 1


def test_a_daemon_thread_s_call_at_the_interpreter_s_end_stands_still(worker):
    code, out, err = run_script(
        """
        import atexit, threading
        from mlepool.client.portal import Portal

        portal = Portal()

        def at_the_end():
            thread = threading.Thread(target=portal.do, args=(print,), daemon=True)
            thread.start()
            thread.join(0.5)
            print(thread.is_alive())

        atexit.register(at_the_end)
        portal.do(lambda: None)  # what ends it is registered now, and called before
        """,
        worker,
    )
    assert (code, out, err) == (0, "True\n", "")


def test_a_call_inside_a_running_loop_works(portal):
    async def cell():  # as in a notebook
        return portal.call(give("fine"))

    assert asyncio.run(cell()) == "fine"


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_what_ends_a_program_does_not_end_the_loop(portal, kind):
    async def leave():
        raise kind("bye")

    gone, waiting = asyncio.Event(), threading.Event()

    async def wait():
        waiting.set()
        await gone.wait()
        return "still here"

    answers = []
    other = threading.Thread(target=lambda: answers.append(portal.call(wait())))
    other.start()
    waiting.wait()
    with pytest.raises(kind, match="bye"):
        portal.call(leave())
    portal.post(gone.set)
    other.join()
    assert answers == ["still here"]


def test_a_call_after_the_end_is_refused(portal):
    portal.call(give(1))
    portal.stop()
    portal.stop()
    with pytest.raises(PortalError, match="ending"):
        portal.call(give(1))


def test_a_call_in_a_forked_child_is_refused_and_does_not_hang(portal):
    portal.call(give(1))
    pid = os.fork()
    if pid == 0:  # the child: report by exit status
        try:
            portal.call(give(2))
        except PortalError:
            os._exit(7)
        os._exit(8)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def run_script(text, worker, *, interrupt_on=None):
    env = {**os.environ, "PORT": str(worker.port), "PYTHONWARNINGS": "error"}
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    )
    if interrupt_on is not None:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert interrupt_on in line
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_a_script_that_closes_nothing_ends_at_once_and_leaves_its_jobs(worker, conn):
    code, out, err = run_script(
        """
        import os, mlepool
        conn = mlepool.add("localhost", int(os.environ["PORT"]))
        conn.connect()
        live = conn.run("sleep 30", complete=False)
        print(live.id)
        """,
        worker,
    )
    assert (code, err) == (0, "")
    job_id = out.strip()
    assert conn.attach(job_id).status == "RUNNING"
    assert conn.stop(job_id).value.complete


def test_a_forked_child_makes_connections_of_its_own(worker):
    code, out, err = run_script(
        """
        import os, mlepool
        port = int(os.environ["PORT"])
        with mlepool.add("localhost", port) as conn:
            conn.run("true")
            pid = os.fork()
            if pid == 0:
                with mlepool.add("localhost", port) as mine:
                    print(mine.run("echo child").stdout, end="", flush=True)
                try:
                    conn.run("true")
                except mlepool.PortalError as exc:
                    print("refused", flush=True)
                os._exit(0)
            os.waitpid(pid, 0)
            print(conn.run("echo parent").stdout, end="")
        """,
        worker,
    )
    assert (code, err) == (0, "")
    assert out.split() == ["child", "refused", "parent"]


@pytest.mark.parametrize(
    "wait", ["conn.run(command)", "list(conn.run(command, complete=False))"]
)
def test_the_first_ctrl_c_leaves_the_job_running_and_says_its_id(worker, conn, wait):
    code, out, err = run_script(
        f"""
        import os, signal, sys, threading, mlepool
        command = "echo $MLEPOOL_JOB >&2; sleep 30"
        with mlepool.add("localhost", int(os.environ["PORT"])) as conn:
            known = len(conn.jobs().value)
            def tell():
                while len(conn.jobs().value) == known:
                    pass
                print("running", flush=True)
            threading.Thread(target=tell).start()
            {wait}
        """,
        worker,
        interrupt_on="running",
    )
    assert code == -signal.SIGINT
    assert "KeyboardInterrupt" in err
    job_id = err.split("job ", 1)[1].split()[0]
    assert f"job {job_id} goes on on localhost:{worker.port}" in err
    assert conn.attach(job_id).status == "RUNNING"
    assert conn.stop(job_id).value.complete


@pytest.mark.parametrize(
    "verb",
    [
        lambda conn: conn.run("exit 3", raise_error=True),
        lambda conn: conn.ls("/no/such", raise_error=True),
        lambda conn: conn.put("/no/such", "x", raise_error=True),
        lambda conn: conn.run("exit 3", complete=False, raise_error=True).wait(),
        lambda conn: list(conn.run("exit 3", complete=False, raise_error=True)),
    ],
)
def test_an_error_that_says_what_is_wrong_does_not_show_what_it_came_through(
    conn, verb
):
    with pytest.raises((mlepool.MlepoolError, FileNotFoundError)) as caught:
        verb(conn)
    ours = [one for one in caught.traceback if Path(one.path).parent.name == "sync"]
    assert 1 <= len(ours) <= 3
    assert len(caught.traceback) == 2 + len(ours)  # this function and the lambda


def test_a_fault_of_ours_is_shown_with_all_that_it_came_through(portal):
    with pytest.raises(LookupError) as caught:
        portal.call(fail())
    assert caught.traceback[-1].name == "fail"
