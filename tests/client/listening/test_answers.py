"""Answers in several parts: whole or an error, whatever the worker says."""

import asyncio
from typing import Any

import msgspec
import pytest

from mlepool.client.listening import answers
from mlepool.client.listening.answers import check_size, expect_more
from mlepool.client.listening.listener import AsyncListener
from mlepool.client.options import CallOptions
from mlepool.errors import (
    CommandTimeoutError,
    ConnectionLostError,
    RemoteProtocolError,
)
from mlepool.wire.answers import MAX_CONTENT, Content, FileInfo, Listing
from mlepool.wire.messages import CommandSpec, Outcome
from tests.tools import in_jumping_time

RETURNS = {"cd": "str", "ls": "Listing", "read": "Content", "rdfile": "Content"}


class Worker:
    """Answers what it was told to; owner of the listener, too."""

    name = "gpu1"

    def __init__(self, *parts: Any) -> None:
        self.parts = list(parts)
        self.asked: list[tuple[str, dict[str, Any], str | None]] = []
        self.cwd = "/exp"

    async def ask(
        self, name: str, arguments: dict[str, Any], *, size: int = 0, cwd: Any = None
    ) -> Any:
        self.asked.append((name, arguments, cwd))
        part = self.parts.pop(0)
        if isinstance(part, Exception):
            raise part
        if part is None:
            await asyncio.sleep(1000)
        return wired(part)

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **keywords: None


def wired(value: Any) -> Any:
    """Give a value as it comes out of a frame."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(value))


def call(
    worker: Worker, name: str, first: Any, *, timeout: float | None = None, **given: Any
) -> AsyncListener:
    """Call a command whose first answer is there."""
    owner: Any = worker
    options = CallOptions(timeout=timeout)
    listener = AsyncListener("0" * 16, name, options, owner=owner)
    listener.returns = RETURNS[name]
    expect_more(
        owner, listener, spec=CommandSpec(name, returns=RETURNS[name]), given=given
    )
    listener.intake.ended(Outcome("SUCCEEDED", value=wired(first)))
    return listener


def part(data: bytes, offset: int = 0, end: int = 10, *, file: int = 1) -> Content:
    return Content("/exp/file", data, offset, end, (1, file))


def listed(*names: str, more: bytes = b"") -> Listing:
    return Listing("/exp", tuple(FileInfo(one, "file") for one in names), more)


@in_jumping_time
async def test_where_cd_has_led_to_is_kept():
    worker = Worker()
    assert (await call(worker, "cd", "/exp/out").wait()).value == "/exp/out"
    assert worker.cwd == "/exp/out"


@in_jumping_time
async def test_a_listing_goes_on_until_it_is_whole():
    worker = Worker(listed("c", "d", more=b"d"), listed("e"))
    listener = call(worker, "ls", listed("a", "b", more=b"b"), src="sub")
    worker.cwd = "/elsewhere"  # by a cd that came later
    assert (await listener.wait()).value.names == ["a", "b", "c", "d", "e"]
    assert worker.asked == [
        ("ls", {"src": "sub", "after": b"b"}, "/exp"),
        ("ls", {"src": "sub", "after": b"d"}, "/exp"),
    ]


@in_jumping_time
async def test_a_file_goes_on_until_it_is_whole():
    last = part(b"", 6)  # it has become shorter: that is its end
    worker = Worker(part(b"\x98\x83x", 1), part(b"yz", 4), last)
    listener = call(worker, "read", part(b"\xe2"), path="f")
    assert (await listener.wait()).value == "\N{SNOWMAN}xyz"
    place = {"path": "/exp/file", "encoding": None, "offset": 1, "size": 9}
    assert worker.asked[0] == ("read", place, None)


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ({}, "\xe9"),
        ({"encoding": None}, b"\xc3\xa9"),
        ({"encoding": "latin-1"}, "\xc3\xa9"),
        ({"encoding": "ascii", "errors": "replace"}, "\ufffd\ufffd"),
    ],
)
def test_text_is_made_of_all_of_it(given, value):
    @in_jumping_time
    async def test() -> None:
        listener = call(Worker(), "read", part(b"\xc3\xa9", end=2), **given)
        assert (await listener.wait()).value == value
        whole = call(Worker(), "rdfile", part(b"\xc3\xa9", end=2))
        assert (await whole.wait()).value == b"\xc3\xa9"

    test()


@pytest.mark.parametrize(
    ("first", "answer", "error"),
    [
        (part(b"a"), part(b"b", 2), RemoteProtocolError),
        (part(b"a"), part(b"b" * 10, 1), RemoteProtocolError),
        (part(b"a"), part(b"b", 1, file=2), OSError),
        (part(b"a"), {"no": "content"}, RemoteProtocolError),
        (part(b"a"), FileNotFoundError("gone"), FileNotFoundError),
        (part(b"a", end=1 << 40), part(b""), ValueError),
        (part(b"\xff", end=1), None, ValueError),
        ("nonsense", None, RemoteProtocolError),
    ],
)
def test_what_is_wrong_is_an_error_and_never_a_part(first, answer, error):
    @in_jumping_time
    async def test() -> None:
        listener = await call(Worker(answer), "read", first).wait()
        assert (listener.status, listener.value) == ("FAILED", None)
        assert isinstance(listener.error, error)

    test()


@in_jumping_time
async def test_a_listing_that_goes_round_is_an_error():
    worker = Worker(listed("a", more=b"b"))
    listener = await call(worker, "ls", listed("a", "b", more=b"b")).wait()
    assert isinstance(listener.error, RemoteProtocolError)


@in_jumping_time
async def test_a_file_without_an_end_is_not_read_for_ever(monkeypatch):
    monkeypatch.setattr(answers, "MAX_READ", 100)
    worker = Worker(*(part(b"x" * 50, 50 * n, 1 << 62) for n in range(1, 4)))
    listener = await call(worker, "read", part(b"x" * 50, end=1 << 62)).wait()
    assert "get()" in str(listener.error)


@in_jumping_time
async def test_the_time_for_all_of_it_is_limited():
    listener = call(Worker(None), "read", part(b"a"), timeout=5)
    with pytest.raises(CommandTimeoutError):
        await listener.wait()


@in_jumping_time
async def test_a_link_that_is_lost_for_good_is_told():
    lost = ConnectionLostError("gpu1", "cut")
    with pytest.raises(ConnectionLostError):
        await call(Worker(lost), "read", part(b"a")).wait()


def test_what_is_too_large_to_write_is_said_before_it_is_sent():
    check_size("write", {"data": b"x" * MAX_CONTENT})
    check_size("run", {"data": b"x" * (MAX_CONTENT + 1)})
    check_size("write", {"data": 3})  # the worker's to refuse
    for data in (b"x" * (MAX_CONTENT + 1), "\N{SNOWMAN}" * (MAX_CONTENT // 3 + 1)):
        with pytest.raises(ValueError, match=r"put\(\) takes any size"):
            check_size("wrfile", {"data": data})
