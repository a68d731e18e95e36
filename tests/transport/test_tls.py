"""TLS of our own against asyncio's, and against who breaks it."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator

import pytest

from mlepool.transport.scratch import SCRATCH_SIZE
from mlepool.transport.tls import BULK, RECORD, TlsEnd
from tests.tools import in_real_time

SIZES = [1, RECORD - 1, RECORD, RECORD + 1, 3 * BULK + 7]


class Above(asyncio.BufferedProtocol):
    """What stands above: keeps all that comes, in rooms of many sizes."""

    def __init__(self) -> None:
        self.room = bytearray(1)
        self.transport: asyncio.Transport
        self.data = b""
        self.ends: list[object] = []
        self.changed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.room

    def buffer_updated(self, nbytes: int) -> None:
        self.data += self.room[:nbytes]
        self.room = bytearray(len(self.room) * 3 % 50_021)
        self.changed.set()

    def eof_received(self) -> None:
        self.ends.append("eof")

    def connection_lost(self, exc: Exception | None) -> None:
        self.ends.append(exc)
        self.changed.set()

    async def until(self, size: int) -> None:
        while len(self.data) < size and not self.has_ended:
            self.changed.clear()
            await self.changed.wait()

    @property
    def has_ended(self) -> bool:
        return bool(self.ends) and self.ends[-1] != "eof"


def client_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def ends(
    identity, above: Above, *, accepts: bool
) -> AsyncIterator[tuple[TlsEnd, Streams]]:
    """Put our end and asyncio's on the two ends of a socket."""
    near, far = socket.socketpair()
    loop = asyncio.get_running_loop()
    end = TlsEnd(
        above, identity.tls() if accepts else client_tls(), server_side=accepts
    )
    await loop.create_connection(lambda: end, sock=near)
    if accepts:
        streams = await asyncio.open_connection(
            sock=far, ssl=client_tls(), server_hostname="worker"
        )
    else:
        reader = asyncio.StreamReader()
        other = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(
            lambda: other, far, ssl=identity.tls()
        )
        streams = reader, asyncio.StreamWriter(transport, other, reader, loop)
    await end.secured()
    try:
        yield end, streams
    finally:
        above.transport.abort()
        streams[1].transport.abort()
        while not above.has_ended:
            above.changed.clear()
            await above.changed.wait()


@pytest.mark.parametrize("accepts", [True, False])
@in_real_time
async def test_all_bytes_arrive_both_ways(identity, *, accepts):
    above = Above()
    async with ends(identity, above, accepts=accepts) as (_, (reader, writer)):
        for size in SIZES:
            data = bytes(range(256)) * (size // 256 + 1)
            above.data = b""
            writer.write(data[:size])
            await above.until(size)
            assert above.data == data[:size]
            above.transport.write(memoryview(data)[:size])
            assert await reader.readexactly(size) == data[:size]


@pytest.mark.parametrize("accepts", [True, False])
@in_real_time
async def test_what_was_written_comes_before_the_farewell(identity, *, accepts):
    above = Above()
    async with ends(identity, above, accepts=accepts) as (_, (reader, _)):
        above.transport.write(bytes(3 * BULK))
        above.transport.close()
        above.transport.write(b"too late")
        assert len(await reader.read(-1)) == 3 * BULK


@pytest.mark.parametrize("accepts", [True, False])
@in_real_time
async def test_the_other_sides_farewell_is_the_end(identity, *, accepts):
    above = Above()
    async with ends(identity, above, accepts=accepts) as (_, (_, writer)):
        writer.write(b"last words")
        writer.close()
        while not above.has_ended:
            above.changed.clear()
            await above.changed.wait()
    assert above.data == b"last words"
    assert above.ends == ["eof", None]


@in_real_time
async def test_a_quiet_connection_keeps_no_large_buffer(identity):
    above = Above()
    async with ends(identity, above, accepts=True) as (end, (_, writer)):
        writer.write(bytes(3 * BULK))
        await above.until(3 * BULK)
        writer.write(b"quiet")
        await above.until(3 * BULK + 5)
        assert len(end.get_buffer(-1)) == SCRATCH_SIZE


# -- who breaks it


async def begun(
    above: Above, context: ssl.SSLContext, *, accepts: bool
) -> tuple[TlsEnd, socket.socket]:
    """Begin our end; give the bare socket at the other."""
    near, far = socket.socketpair()
    far.setblocking(False)
    end = TlsEnd(above, context, server_side=accepts)
    await asyncio.get_running_loop().create_connection(lambda: end, sock=near)
    return end, far


@pytest.mark.parametrize("accepts", [True, False])
@in_real_time
async def test_who_leaves_in_the_handshake_is_told_of_as_gone(identity, *, accepts):
    context = identity.tls() if accepts else client_tls()
    end, far = await begun(Above(), context, accepts=accepts)
    far.close()
    with pytest.raises(ConnectionError):
        await end.secured()


@pytest.mark.parametrize("accepts", [True, False])
@in_real_time
async def test_garbage_is_no_handshake(identity, *, accepts):
    loop = asyncio.get_running_loop()
    context = identity.tls() if accepts else client_tls()
    end, far = await begun(Above(), context, accepts=accepts)
    await loop.sock_sendall(far, b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(ssl.SSLError):
        await end.secured()
    far.close()


@in_real_time
async def test_one_who_waits_no_longer_gives_the_handshake_up():
    loop = asyncio.get_running_loop()
    end, far = await begun(Above(), client_tls(), accepts=False)
    waiter = asyncio.create_task(end.secured())
    await asyncio.sleep(0)  # it waits now
    hello = await loop.sock_recv(far, 65536)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert hello
    assert await loop.sock_recv(far, 1) == b""
    far.close()


@in_real_time
async def test_a_changed_byte_ends_the_connection(identity):
    """Nothing of a record that was tampered with is handed up."""
    loop = asyncio.get_running_loop()
    above = Above()
    end, far = await begun(above, identity.tls(), accepts=True)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    other = client_tls().wrap_bio(incoming, outgoing)
    while True:
        try:
            other.do_handshake()
            break
        except ssl.SSLWantReadError:
            await loop.sock_sendall(far, outgoing.read())
            incoming.write(await loop.sock_recv(far, 65536))
    other.write(b"good")
    await loop.sock_sendall(far, outgoing.read())
    await end.secured()
    await above.until(4)
    other.write(b"evil")
    record = bytearray(outgoing.read())
    record[-1] ^= 1
    await loop.sock_sendall(far, record)
    await above.until(8)
    assert above.data == b"good"
    assert isinstance(above.ends[-1], ssl.SSLError)
    far.close()
