"""Connections that can't be accepted: tried again, and said now and then."""

import asyncio
import errno
import socket

from mlepool.transport.accepting import ACCEPT_PAUSE, SAY_EVERY, Accepting
from tests.tools import in_jumping_time


@in_jumping_time
async def test_what_lasts_is_said_now_and_then_and_who_comes_is_let_in(
    caplog, monkeypatch
):
    loop, near = asyncio.get_running_loop(), socket.socket()
    began, tried = loop.time(), 0

    async def accept(listener: socket.socket) -> tuple[socket.socket, str]:
        nonlocal tried
        tried += 1
        if loop.time() < began + 1.5 * SAY_EVERY:
            raise OSError(errno.EMFILE, "Too many open files")
        return near, "somebody"

    monkeypatch.setattr(loop, "sock_accept", accept)
    with near:
        assert await Accepting(near).next() == (near, "somebody")
    assert tried > SAY_EVERY / ACCEPT_PAUSE
    text = "cannot accept connections, who comes waits: this process has too many"
    assert [one.startswith(text) for one in caplog.messages] == [True] * 2
