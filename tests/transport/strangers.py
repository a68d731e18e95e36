"""Who speaks to a link's port without being a link: byte by byte, as we like it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from mlepool.transport.websocket import WebSocketAcceptor
from tests.tools import abort, at_end

UPGRADE = {
    "Host": "127.0.0.1",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


class Stranger(NamedTuple):
    """A bare TCP connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def says(self, data: bytes) -> None:
        """Send bytes at once."""
        self.writer.write(data)
        await self.writer.drain()

    async def hears(self) -> bytes:
        """Read all until the other side ends; a reset is an end too."""
        with contextlib.suppress(ConnectionError):
            return await self.reader.read()
        return b""

    async def upgrades(self, *extra: tuple[str, str]) -> bytes:
        """Ask for a WebSocket; give the whole head of the answer."""
        await self.says(request(*UPGRADE.items(), *extra))
        return await self.reader.readuntil(b"\r\n\r\n")

    def leaves(self) -> None:
        """Break off."""
        abort(self.writer.transport)


def request(*headers: tuple[str, str], line: str = "GET / HTTP/1.1") -> bytes:
    """Make an HTTP request without a body."""
    lines = [line, *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode()


def from_client(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    """Make a WebSocket frame as clients send it."""
    return Frame(opcode, data, fin).serialize(mask=True)


def from_server(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    """Make a WebSocket frame as servers send it."""
    return Frame(opcode, data, fin).serialize(mask=False)


async def stranger_at(acceptor: WebSocketAcceptor, host: str = "127.0.0.1") -> Stranger:
    """Connect to an acceptor, from one of this machine's addresses."""
    ours = (host, 0)
    stranger = Stranger(
        *await asyncio.open_connection("127.0.0.1", acceptor.port, local_addr=ours)
    )
    at_end(stranger.leaves)
    return stranger


@contextlib.asynccontextmanager
async def strange_server(
    answer: Callable[[Stranger, bytes], None],
) -> AsyncIterator[str]:
    """Listen, and answer each client's first bytes in our own way.

    Yields:
        The URL to dial.
    """
    strangers = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        strangers.append(Stranger(reader, writer))
        with contextlib.suppress(ConnectionError):
            answer(strangers[-1], await reader.read(4096))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for stranger in strangers:
            stranger.leaves()
        await server.wait_closed()


def accept_then(*frames: bytes) -> Callable[[Stranger, bytes], None]:
    """Answer with a right handshake, and these bytes in the same breath."""

    def answer(stranger: Stranger, data: bytes) -> None:
        protocol = ServerProtocol()
        protocol.receive_data(data)
        (event,) = protocol.events_received()
        assert isinstance(event, Request)
        protocol.send_response(protocol.accept(event))
        stranger.writer.write(b"".join(protocol.data_to_send()) + b"".join(frames))

    return answer


def just_say(data: bytes) -> Callable[[Stranger, bytes], None]:
    """Answer with these bytes, whatever was asked, and end."""

    def answer(stranger: Stranger, _: bytes) -> None:
        stranger.writer.write(data)
        stranger.writer.close()

    return answer
