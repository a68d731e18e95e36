"""Waiting for descriptors, by each of the kernel's ways."""

import os
import select
import socket
import time
from collections.abc import Iterator

import pytest

from mlepool.supervisor.waiter import READ, WRITE, Waiter


@pytest.fixture(params=["epoll", "poll"])
def waiter(request, monkeypatch) -> Iterator[Waiter]:
    if request.param == "poll":
        monkeypatch.delattr(select, "epoll")
    waiter = Waiter()
    yield waiter
    waiter.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def called(waiter: Waiter, timeout: float | None = 0.0) -> int:
    callbacks = waiter.wait(timeout)
    for callback in callbacks:
        callback()
    return len(callbacks)


def test_what_is_ready_is_called_and_nothing_else(waiter, pair):
    ours, theirs = pair
    told: list[str] = []
    waiter.register(ours, READ, lambda: told.append("ours"))
    waiter.register(theirs.fileno(), READ, lambda: told.append("theirs"))
    assert called(waiter) == 0
    theirs.send(b"x")
    assert called(waiter, None) == 1
    assert told == ["ours"]
    waiter.unregister(ours)
    assert called(waiter) == 0


def test_what_is_waited_for_can_be_changed(waiter, pair):
    ours, theirs = pair
    told: list[str] = []
    waiter.register(ours, READ, lambda: told.append("read"))
    waiter.modify(ours, READ | WRITE, lambda: told.append("both"))
    assert called(waiter) == 1
    waiter.modify(ours, READ, lambda: told.append("read"))
    assert called(waiter) == 0
    theirs.send(b"x")
    assert called(waiter) == 1
    assert told == ["both", "read"]


def test_an_end_is_told(waiter, pair):
    ours, theirs = pair
    told: list[str] = []
    waiter.register(ours, READ, lambda: told.append("end"))
    theirs.close()
    assert called(waiter) == 1
    assert told == ["end"]


def test_nothing_is_waited_for_so_long_and_no_shorter(waiter):
    begin = time.monotonic()
    assert waiter.wait(0.02) == []
    assert time.monotonic() - begin >= 0.02


def test_one_callback_may_end_another_s_waiting(waiter, pair):
    ours, theirs = pair
    told: list[str] = []

    def end() -> None:
        told.append("ours")
        waiter.unregister(ours)

    for one in pair:
        one.send(b"x")
    waiter.register(ours, READ, end)
    waiter.register(theirs, READ, lambda: told.append("theirs"))
    assert called(waiter) == 2
    assert called(waiter) == 1
    assert sorted(told) == ["ours", "theirs", "theirs"]


def test_twice_is_an_error_and_so_is_what_was_never_there(waiter, pair):
    ours, theirs = pair
    waiter.register(ours, READ, print)
    with pytest.raises(KeyError, match="already"):
        waiter.register(ours, READ, print)
    with pytest.raises(KeyError):
        waiter.unregister(theirs)
    with pytest.raises(FileNotFoundError):
        waiter.modify(theirs, READ, print)


def test_what_was_closed_can_be_let_go(waiter):
    reading, writing = os.pipe()
    waiter.register(reading, READ, print)
    os.close(reading)
    os.close(writing)
    waiter.unregister(reading)
    assert waiter.wait(0.0) == []
