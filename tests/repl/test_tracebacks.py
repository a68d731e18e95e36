"""Errors at a prompt: short where they say all, whole where they may be a fault."""

import sys
from collections.abc import Callable

import pytest

import mlepool
from mlepool.repl.tracebacks import is_short, shortened


def raised(function: Callable[[], object]) -> Exception:
    try:
        function()
    except Exception as exc:
        return exc
    raise AssertionError("nothing was raised")


@pytest.fixture(autouse=True)
def forgetful():
    yield
    for name in ("last_type", "last_value", "last_traceback"):
        vars(sys).pop(name, None)


def test_a_host_that_is_away_is_a_line(pool):
    gone = pool.add("127.0.0.1", 1, name="gone")
    exc = raised(lambda: gone.run("true"))
    assert is_short(exc)
    text = shortened(exc)
    assert [line for line in text.splitlines() if "ConnectError" in line] == [
        f"mlepool.errors.ConnectError: {exc}"
    ]
    assert "handshake.py" not in text
    assert "test_tracebacks.py" in text  # where the line was that met it
    assert "The above exception" not in text
    assert sys.last_value is exc
    assert exc.__cause__ is not None  # nothing of it is lost


def test_of_several_each_is_a_line(pool):
    for number in (1, 2):
        pool.add("127.0.0.1", 1, name=f"gone{number}")
    exc = raised(pool.connect)
    assert is_short(exc)
    assert shortened(exc).count("ConnectError: cannot connect") == 2
    assert "group.py" not in shortened(exc)


def test_what_is_mistyped_is_a_line(pool):
    conn = pool["gpu1"]
    for mistake in (
        lambda: conn.no_such_command(),
        lambda: conn.run("true", bogus=1),
        lambda: pool["nobody"],
    ):
        exc = raised(mistake)
        assert is_short(exc)
        assert "catalogue" not in shortened(exc)


def test_other_errors_are_shown_whole():
    assert not is_short(raised(lambda: 1 / 0))
    assert not is_short(raised(lambda: "".nosuch))  # type: ignore[attr-defined]
    assert not is_short(ExceptionGroup("", [mlepool.ClientError(""), OSError()]))
    assert not is_short(KeyError())
    assert not is_short(KeyboardInterrupt())
