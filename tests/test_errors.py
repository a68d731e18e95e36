"""Errors cross the border between processes, and hold what their base types promise."""

import pickle
import subprocess
import sys
from types import SimpleNamespace

import pytest

from mlepool import errors
from mlepool.client.listening.failures import remote_error
from mlepool.wire.messages import Failure

LISTENER = SimpleNamespace(
    id="5f3a",
    host="gpu1",
    command="make",
    exit_code=None,
    status="STOPPED",
    reason="by you",
)
LISTENER.own = lambda: LISTENER  # no Listener can be pickled, and this neither


def failed(name: str, **facts: object) -> errors.RemoteError:
    failure = Failure(name, "it says", "Traceback: ...", **facts)  # type: ignore[arg-type]
    return remote_error(failure, "gpu1")


EVERY_KIND = [
    errors.ConnectError("gpu1", 9922, "refused"),
    errors.ConnectTimeoutError("gpu1", 9922, "late"),
    errors.AuthenticationError("gpu1", 9922, "no token"),
    errors.ConnectionLostError("gpu1", "cut"),
    errors.ConnectionClosedError("gpu1", "closed"),
    errors.ListenerTimeoutError("gpu1", "make", seconds=0.5, job_id="5f3a"),
    errors.SkippedError("gpu1", "drained"),
    errors.PortalError("no"),
    errors.SweepPlanError("plan", "damaged"),
    errors.CommandError(LISTENER, host="gpu1", command=["make"], returncode=2),
    errors.CommandTimeoutError(LISTENER, 1.0, output="so far", stopped=False),
    errors.JobLostError("5f3a", "gpu1", cause="killed"),
    errors.SyncHaltedError("empty"),
    errors.LinkError("tls", "no TLS"),
    errors.ConfigError("no key"),
    failed("ValueError"),
    failed("FileNotFoundError", errno=2, filename="/nope"),
    failed("PermissionDeniedError"),
    failed("OfTheirOwn"),
]


@pytest.mark.parametrize("error", EVERY_KIND, ids=lambda one: type(one).__name__)
def test_a_pickled_error_says_the_same(error):
    error.add_note("seen by hand")
    copied = pickle.loads(pickle.dumps(error))
    assert type(copied) is type(error)
    assert (str(copied), copied.args) == (str(error), error.args)
    assert vars(copied) == {
        **vars(error),
        **({"listener": None} if hasattr(error, "listener") else {}),
    }
    if isinstance(error, OSError):
        assert (copied.errno, copied.filename) == (error.errno, error.filename)


def test_a_remote_error_is_of_its_type_in_another_process():
    error = failed("FileNotFoundError", errno=2, filename="/nope")
    program = (
        "import pickle, sys\n"
        "try: raise pickle.load(sys.stdin.buffer)\n"
        "except FileNotFoundError as exc: print(exc, exc.errno, exc.filename)"
    )
    read = subprocess.run(
        [sys.executable, "-c", program], input=pickle.dumps(error), capture_output=True
    )
    assert read.stdout.decode() == "it says: '/nope' (on gpu1) 2 /nope\n", read.stderr


@pytest.mark.parametrize("error", EVERY_KIND, ids=lambda one: type(one).__name__)
def test_an_errno_is_a_number_or_none(error):
    assert isinstance(getattr(error, "errno", None), int | None)


def test_a_failed_command_has_the_arguments_of_a_called_process_error():
    error = errors.CommandError(LISTENER, host="gpu1", command="make", returncode=2)
    assert repr(error) == "CommandError(2, 'make')"
