"""The pool as an executor: functions, called on real workers."""

import concurrent.futures
import math
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import mlepool
from mlepool.testing.kill import alive
from mlepool.worker import WorkerThread, serve_in_thread
from mlepool.worker.access.identity import Identity, new_secret
from mlepool.worker.access.tokens import Token, TokenStore
from mlepool.worker.functions import Functions
from tests.conftest import wait_until

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def offering(tmp_path_factory) -> Iterator[WorkerThread]:
    folder = tmp_path_factory.mktemp("offering")
    with serve_in_thread(
        [Functions()], state_dir=folder, listen="127.0.0.1:0", root=folder
    ) as worker:
        yield worker


@pytest.fixture
def pool(offering) -> Iterator[mlepool.ClientPool]:
    with mlepool.ClientPool() as pool:
        pool.add("localhost", offering.port, name="one")
        pool.add("localhost", offering.port, name="other")
        yield pool


def test_functions_are_called_there_and_give_what_they_return(pool):
    here, factor = os.getpid(), 3
    with pool.executor(slots=2) as executor:
        future = executor.submit(lambda: (os.getpid(), factor))  # a closure
        assert list(executor.map(math.factorial, range(20))) == [
            math.factorial(number) for number in range(20)
        ]
        pid, seen = future.result()
    assert (pid != here, seen) == (True, 3)


def test_what_is_large_goes_there_and_back(pool):
    data = os.urandom(20 * 1024 * 1024)
    with pool.executor() as executor:
        assert executor.submit(lambda given: given[::-1], data).result() == data[::-1]


def test_what_a_function_raises_is_raised_here_and_says_where(pool):
    def fail() -> None:
        raise LookupError("no such thing")

    with pool.executor() as executor:
        future = executor.submit(fail)
        with pytest.raises(LookupError, match="no such thing") as caught:
            future.result()
        (note,) = caught.value.__notes__
        assert "in fail" in note
        with pytest.raises(SystemExit):
            executor.submit(sys.exit, 3).result()
        assert executor.submit(len, "four").result() == 4  # the process is still there


def test_what_cannot_be_pickled_is_a_plain_error(pool):
    def unreadable() -> None:
        class UnreadableError(Exception):
            def __init__(self, one: int, two: int) -> None:
                super().__init__(one)  # that is all of it that is written

        raise UnreadableError(1, 2)

    with pool.executor() as executor:
        with pytest.raises(TypeError, match="pickle"):
            executor.submit(lambda lock: lock, threading.Lock())
        with pytest.raises(TypeError, match="what it returned can't be pickled"):
            executor.submit(threading.Lock).result()
        with pytest.raises(TypeError, match="what it raised, UnreadableError"):
            executor.submit(unreadable).result()


def test_a_process_that_dies_fails_its_call_alone(pool):
    with pool.executor(slots=1) as executor:
        dying = executor.submit(os.kill, 0, 9)  # itself, and all of its session
        with pytest.raises(ChildProcessError, match="ended with signal 9"):
            dying.result()
        with pytest.raises(ChildProcessError, match="ended with status 7"):
            executor.submit(os._exit, 7).result()
        assert executor.submit(len, "four").result() == 4


def test_what_functions_print_is_shown_with_the_host(pool, capfd):
    def talk() -> None:
        sys.stdout.write("to stdout\n")
        os.write(2, b"to stderr, without an end")

    with pool.group("one").executor(echo_response=True) as executor:
        executor.submit(talk).result()
    shown = capfd.readouterr().err
    assert "one: to stdout\n" in shown
    assert "one: to stderr, without an end\n" in shown


def test_no_more_at_once_than_there_are_slots_and_what_waits_can_be_cancelled(
    pool, tmp_path
):
    gate = tmp_path / "gate"

    def wait() -> str:
        while not gate.exists():
            time.sleep(0.01)
        return "done"

    executor = pool.executor(slots=1)
    futures = [executor.submit(wait) for _ in range(5)]
    wait_until(lambda: sum(one.running() for one in futures) == 2)
    executor.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(len, "")
    gate.touch()
    done, _ = concurrent.futures.wait(futures, timeout=20)
    outcomes = ["cancelled" if one.cancelled() else one.result() for one in done]
    assert sorted(outcomes) == ["cancelled"] * 3 + ["done"] * 2
    executor.shutdown()


def test_a_stopped_call_ends_with_all_that_it_has_started(pool, tmp_path):
    place = tmp_path / "pid"

    def start(place: str) -> None:
        import subprocess

        child = subprocess.Popen(["sleep", "60"])
        with open(place, "w") as file:
            file.write(f"{child.pid}\n")
        child.wait()

    executor = pool.group("one").executor()
    future = executor.submit(start, str(place))
    wait_until(lambda: place.exists() and place.read_text().endswith("\n"))
    pid = int(place.read_text())
    conn = pool["one"]
    (job,) = [one for one in conn.jobs().value if one.status == "RUNNING"]
    conn.stop(job.id)
    with pytest.raises(mlepool.MlepoolError):
        future.result(20)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}/cwd"))
    executor.shutdown()


def test_a_worker_that_does_not_offer_it_says_what_to_do(worker):
    with (
        mlepool.ClientPool() as pool,
        pool.add("localhost", worker.port, name="plain"),
        pool.executor() as executor,
        pytest.raises(mlepool.ClientError, match="--commands mlepool.worker.functions"),
    ):
        executor.submit(len, "four").result(20)


def test_it_takes_the_role_of_an_admin(offering):
    state = offering.worker.config.state_dir
    token = Token("runner", new_secret(), ("run",))
    TokenStore(state).create(token)
    url = Identity(state).join_url("127.0.0.1", offering.port, token=token.secret)
    with mlepool.ClientPool() as pool:
        conn = pool.add(url)
        with pool.executor() as executor:
            future = executor.submit(len, "four")
            with pytest.raises(mlepool.PermissionDeniedError, match="role 'admin'"):
                future.result(20)
        assert conn.run("true").ok


def test_a_lost_worker_fails_its_calls_and_calls_nothing_twice(start_worker, tmp_path):
    offers = {"MLEPOOL_COMMANDS": "mlepool.worker.functions"}
    marks = tmp_path / "marks"
    first = start_worker("w", **offers)

    def note(path: str) -> None:
        with open(path, "a") as file:
            file.write("called\n")
        time.sleep(60)

    with mlepool.ClientPool() as pool:
        pool.add(f"unix:{first.state_dir}")
        executor = pool.executor(slots=1)
        future = executor.submit(note, str(marks))
        wait_until(lambda: marks.exists() and marks.read_text() == "called\n")
        first.process.kill()
        first.process.wait()
        start_worker("w", **offers)
        with pytest.raises(mlepool.JobLostError):
            future.result(20)
        assert executor.submit(len, "four").result(20) == 4
        executor.shutdown()
    assert marks.read_text() == "called\n"


def test_slots_are_a_number(pool):
    for slots in (0, -1, True):
        with pytest.raises(ValueError, match="slots must be 1 or more"):
            pool.executor(slots=slots)


def test_what_the_page_shows(offering):
    page = Path(__file__).parents[1] / "docs/howto/functions.md"
    (code,) = re.findall(
        r"<!-- executor -->\n```python\n(.*?)```", page.read_text(), re.S
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code.replace("PORT", str(offering.port))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == (f"{2**100}\n[1, 1, 2, 6, 24, 120]\n", "")


def test_a_call_that_outlasts_its_worker_leaves_no_process():
    functions, pids = Functions(), []
    functions.setup()

    class Context:
        cwd, stopped = "/", False

        def log(self, line: str) -> None:
            pids.append(int(line))
            functions.shutdown()

    def call() -> None:
        os.write(1, f"{os.getpid()}\n".encode())

    context: Any = Context()
    answers = functions.call(context, cloudpickle.dumps((call, (), {})))
    assert len(list(answers)) == 1
    (pid,) = pids
    assert not alive(pid)
