"""What some commands' answers need before their listeners tell of them.

Where ``cd`` has led to is kept by the connection. Of a file or a listing that does not
fit in one answer, the rest is asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
from msgspec import structs

from mlepool.client.listening.listener import AsyncListener
from mlepool.errors import (
    ConnectionClosedError,
    ConnectionLostError,
    LocalProtocolError,
    RemoteProtocolError,
)
from mlepool.wire.answers import MAX_CONTENT, Content, Listing
from mlepool.wire.codec import MAX_FRAME, NOT_ENCODABLE
from mlepool.wire.messages import CommandSpec, Outcome

__all__ = ["check_size", "expect_more", "explained"]

encode_value = msgspec.msgpack.encode

MAX_READ = 256 * 1024 * 1024  # bytes of a file that one call brings into memory
MAX_ENTRIES = 5_000_000  # of a listing
UNKNOWN = 1 << 61  # bytes: no file is as large; one of /proc that is not at its end
PAGE = 512 * 1024  # bytes of entries that an answer may have

End = Callable[[Outcome], None]


class Asker(Protocol):
    """The calls of a connection.

    Attributes:
        name: The connection's.
        cwd: Where the connection is on its worker; empty where its worker began.
    """

    name: str
    cwd: str

    async def ask(
        self,
        name: str,
        arguments: dict[str, Any],
        *,
        size: int = 0,
        cwd: str | None = None,
    ) -> Any:
        """Call a command for its value alone."""


def check_size(name: str, arguments: dict[str, Any]) -> None:
    """Check that what is to be written fits in a request.

    Raises:
        ValueError: If it does not; the text says what to do.
    """
    if name not in {"write", "wrfile"}:
        return
    data = arguments.get("data")
    data = data.encode("utf-8", "replace") if isinstance(data, str) else data
    size = len(data) if isinstance(data, bytes) else 0
    if size > MAX_CONTENT:
        raise ValueError(
            f"{name}(): {size} bytes are over the {MAX_CONTENT} that fit in one call; "
            "put() takes any size"
        )


def explained(
    error: LocalProtocolError, name: str, arguments: dict[str, Any]
) -> Exception:
    """Give a better error of a request that can't be sent, if it is for its size."""
    try:
        sizes = {key: len(encode_value(one)) for key, one in arguments.items()}
    except NOT_ENCODABLE:
        return error
    largest = max(sizes, key=sizes.__getitem__, default="")
    if sum(sizes.values()) < MAX_FRAME // 2:
        return error
    return ValueError(
        f"{name}(): {largest} takes {sizes[largest]} bytes; all that a call is given "
        f"must fit in {MAX_FRAME}: put() takes files of any size, input= feeds a "
        "program"
    )


def expect_more(
    asker: Asker,
    listener: AsyncListener,
    *,
    spec: CommandSpec,
    given: dict[str, Any],
) -> None:
    """Have done what a command's answer needs, if it is one of those.

    Args:
        asker: The connection's calls.
        listener: Who is told of the answer.
        spec: The command.
        given: Its arguments.
    """
    kind = _KINDS.get((spec.name, spec.returns))
    if kind is not None:
        answer = kind(asker, listener, name=spec.name, given=given)
        listener.intake.errand = answer.take


class _Answer:
    """What a command answers, and who asked for it."""

    def __init__(
        self,
        asker: Asker,
        listener: AsyncListener,
        *,
        name: str,
        given: dict[str, Any],
    ) -> None:
        self.asker = asker
        self.cwd = asker.cwd
        self.name = name
        self.given = given
        self.listener = listener
        self.began = asyncio.get_running_loop().time()

    def take(self, outcome: Outcome, end: End) -> None:
        """Do what is needed before the end is told."""
        raise NotImplementedError


class _Place(_Answer):
    """What ``cd`` answers: where relative paths of this connection count from."""

    def take(self, outcome: Outcome, end: End) -> None:
        if outcome.status == "SUCCEEDED" and isinstance(outcome.value, str):
            self.asker.cwd = outcome.value
        end(outcome)


class _Paged(_Answer):
    """An answer that may be the first of several."""

    _task: asyncio.Task[None] | None = None

    def take(self, outcome: Outcome, end: End) -> None:
        """Ask for the rest, if there is one, and then tell of the end."""
        if outcome.status == "SUCCEEDED":
            self._task = asyncio.ensure_future(self._complete(outcome, end))
        else:
            end(outcome)

    async def whole(self, first: Any) -> Any:
        """Give the value, of which there is the first part."""
        raise NotImplementedError

    async def _complete(self, outcome: Outcome, end: End) -> None:
        try:
            async with asyncio.timeout_at(self._deadline()):
                value = await self.whole(outcome.value)
            end(structs.replace(outcome, value=value))
        except TimeoutError:
            end(structs.replace(outcome, status="TIMED_OUT", value=None))
        except (ConnectionLostError, ConnectionClosedError) as exc:
            self.listener.intake.fail(ConnectionLostError(self.asker.name, str(exc)))
        except Exception as exc:
            # The top of a task: whatever it was, who listens is told.
            self.listener.failure = exc
            end(structs.replace(outcome, status="FAILED", value=None))

    def _deadline(self) -> float | None:
        limit = self.listener.timeout
        return None if limit is None else self.began + limit


class _Listing(_Paged):
    """A listing, by pages."""

    async def whole(self, first: Any) -> Listing:
        """Ask for the pages that follow."""
        page = _convert(first, Listing)
        entries = list(page.entries)
        while page.more and len(entries) < MAX_ENTRIES:
            last = page.more
            place = {**self.given, "after": last}
            answer = await self.asker.ask(self.name, place, size=PAGE, cwd=self.cwd)
            page = _convert(answer, Listing)
            if page.more and page.more <= last:
                raise RemoteProtocolError("a listing does not go on where it was")
            entries += page.entries
        found = tuple(one.decoded() for one in entries)
        return Listing(page.path, found, page.more)


class _Content(_Paged):
    """A file, by parts."""

    async def whole(self, first: Any) -> str | bytes:
        """Ask for the parts that follow, and make them text."""
        part = begin = _convert(first, Content)
        length = part.end - part.offset
        data = bytearray(part.data)
        if MAX_READ < length < UNKNOWN:
            raise ValueError(self._too_large())
        while part.data and len(data) < length:
            if len(data) >= MAX_READ:
                raise ValueError(self._too_large())
            part = await self._part(begin, begin.offset + len(data))
            data += part.data
        return self._as_text(bytes(data))

    async def _part(self, begin: Content, offset: int) -> Content:
        size = min(MAX_CONTENT, begin.end - offset)
        place = {"path": begin.path, "encoding": None, "offset": offset, "size": size}
        answer = await self.asker.ask("read", place, size=size)
        part: Content = _convert(answer, Content)
        if part.offset != offset or len(part.data) > size:
            raise RemoteProtocolError("a part of a file is not the one asked for")
        if part.file != begin.file:
            raise OSError(f"{begin.path} was replaced while it was read")
        return part

    def _too_large(self) -> str:
        return (
            f"{self.name}(): the file is over {MAX_READ} bytes: get() takes it to a "
            "file here, offset= and size= or tail= read a part"
        )

    def _as_text(self, data: bytes) -> str | bytes:
        encoding = self.given.get("encoding", "utf-8")
        if self.name == "rdfile" or encoding is None:
            return data
        try:
            return data.decode(encoding, self.given.get("errors", "strict"))
        except UnicodeError as exc:
            raise ValueError(
                f"{self.name}(): not {encoding} text: {exc}; encoding=None gives bytes"
            ) from exc


_KINDS: dict[tuple[str, str], Any] = {
    ("cd", "str"): _Place,
    ("ls", "Listing"): _Listing,
    ("glob", "Listing"): _Listing,
    ("read", "Content"): _Content,
    ("rdfile", "Content"): _Content,
}


def _convert(answer: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as exc:
        raise RemoteProtocolError(f"an answer is wrong: {exc}") from exc
