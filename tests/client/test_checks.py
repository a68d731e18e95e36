"""What add() and connect() are given is looked at when it is given."""

import contextlib
import math
import re
from collections.abc import Callable
from typing import Any

import pytest

import mlepool

WRONG: dict[str, Any] = {
    "name": 5,
    "token": 5,
    "labels": ["a"],
    "enter_connect": "no",
    "enter_connect_timeout": "1",
    "raise_error": 1,
    "proxy": 5,
    "connect_timeout": True,
    "reconnect_timeout": "never",
}


@pytest.mark.parametrize("pool", [mlepool.ClientPool(), mlepool.AsyncClientPool()])
@pytest.mark.parametrize(("name", "value"), WRONG.items())
def test_a_wrong_type_is_refused_where_it_is_given(pool, name, value):
    with pytest.raises(TypeError, match=rf"^{name} (must be|is) a .*, not "):
        pool.add("gpu1", **{name: value})
    assert len(pool) == 0


def test_the_name_of_a_label_is_a_text():
    with pytest.raises(TypeError, match="a label's name must be a str, not 1"):
        mlepool.ClientPool().add("gpu1", labels={1: "a"})  # type: ignore[dict-item]


@pytest.mark.parametrize("seconds", [-1, math.nan])
def test_a_time_to_connect_is_not_below_zero(seconds):
    pool = mlepool.ClientPool()
    for name in ("connect_timeout", "enter_connect_timeout", "reconnect_timeout"):
        text = f"^{name} must be a number of seconds, not {seconds}"
        with pytest.raises(ValueError, match=text):
            pool.add("gpu1", **{name: seconds})
    with pytest.raises(ValueError, match="timeout must be a number of seconds"):
        pool.add("gpu1").connect(seconds)


def test_a_time_to_wait_is_a_number(worker):
    with (
        mlepool.ClientPool() as pool,
        pool.add("localhost", worker.port) as conn,
        conn.run("cat", stdin=True, complete=False) as job,
    ):
        waits: list[Callable[..., object]] = [
            lambda wait: conn.heartbeat(timeout=wait),
            lambda wait: job.wait(timeout=wait),
            lambda wait: job.expect("x", timeout=wait),
        ]
        for wait in waits:
            with pytest.raises(TypeError, match="a timeout is a number of seconds or"):
                wait("1")
            with pytest.raises(ValueError, match="or None, not nan"):
                wait(math.nan)
            # What was left of a time may be less than nothing.
            with contextlib.suppress(TimeoutError):
                assert wait(-1) is False
        assert job.stop().complete


def test_a_time_to_connect_may_be_without_end(worker):
    endless: dict[str, Any] = {
        "connect_timeout": math.inf,
        "enter_connect_timeout": math.inf,
    }
    with (
        mlepool.ClientPool() as pool,
        pool.add("localhost", worker.port, **endless) as conn,
    ):
        assert conn.heartbeat()
        conn.disconnect()
        conn.connect(timeout=math.inf)


def test_a_pool_connects_as_many_at_once_as_a_number_says():
    pool = mlepool.ClientPool()
    with pytest.raises(ValueError, match="max_parallel must be 1 or more, not 0"):
        pool.connect(max_parallel=0)
    with pytest.raises(TypeError, match="max_parallel must be an int, not '2'"):
        pool.connect(max_parallel="2")  # type: ignore[arg-type]


def test_a_selector_that_is_no_text_is_refused():
    with pytest.raises(TypeError, match=re.escape("a selector is a str, not 5")):
        mlepool.ClientPool().select(5)  # type: ignore[arg-type]
