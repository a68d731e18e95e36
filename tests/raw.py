"""Clients and workers made by hand: they say whatever a test likes."""

import contextlib
import hashlib
import hmac
import os
import secrets
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import msgspec
from websockets.exceptions import ConnectionClosed, InvalidMessage
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve

from mlepool.wire.catalogue import pack
from mlepool.wire.codec import Data, decode, encode
from mlepool.wire.messages import CommandSpec, Hello, Message, Proof, Welcome
from mlepool.wire.session import NEWEST_VERSION, OLDEST_VERSION
from mlepool.worker.access.identity import Identity

LIMIT = 20.0  # seconds for an answer, on a busy machine
CROWDED = 20  # attempts to come in

T = TypeVar("T")


def any_certificate() -> ssl.SSLContext:
    """Make TLS settings that believe everybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Way(Protocol):
    """How frames get to a worker and back."""

    channel: bytes

    def send(self, frame: bytes) -> None: ...

    def receive(self) -> bytes:
        """Take a frame; EOFError once the worker has closed."""

    def close(self) -> None: ...


class TcpWay:
    """A WebSocket by the websockets library; through TLS, or not."""

    def __init__(
        self, port: int, *, tls: bool = True, source: str = "127.0.0.1"
    ) -> None:
        place = ("127.0.0.1", port)
        self._stack = contextlib.ExitStack()
        self._socket: ClientConnection = self._stack.enter_context(
            connect(
                f"{'wss' if tls else 'ws'}://127.0.0.1:{port}",
                sock=socket.create_connection(place, LIMIT, (source, 0)),
                ssl=any_certificate() if tls else None,
                compression=None,
                proxy=None,
                max_size=None,
                open_timeout=LIMIT,
            )
        )
        self.channel = b""
        if tls:
            assert isinstance(self._socket.socket, ssl.SSLSocket)
            certificate = self._socket.socket.getpeercert(binary_form=True)
            assert certificate is not None
            self.channel = hashlib.sha256(certificate).digest()

    def send(self, frame: bytes) -> None:
        with contextlib.suppress(ConnectionClosed):
            self._socket.send(frame)

    def receive(self) -> bytes:
        try:
            frame = self._socket.recv(LIMIT)
        except ConnectionClosed:
            raise EOFError from None
        assert isinstance(frame, bytes)
        return frame

    def close(self) -> None:
        self._stack.close()


class UnixWay:
    """A worker's local socket."""

    channel = b""

    def __init__(self, folder: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(LIMIT)
        here = os.open(folder, os.O_RDONLY)  # the whole path may be too long
        try:
            self.socket.connect(f"/proc/self/fd/{here}/worker.sock")
        finally:
            os.close(here)
        self._file = self.socket.makefile("rb")

    def send(self, frame: bytes) -> None:
        self.send_raw(struct.pack(">I", len(frame)) + frame)

    def send_raw(self, data: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def receive(self) -> bytes:
        with contextlib.suppress(ConnectionResetError):
            head = self._file.read(4)
            if len(head) == 4:
                return self._file.read(struct.unpack(">I", head)[0])
        raise EOFError

    def close(self) -> None:
        self._file.close()
        self.socket.close()


class RawClient:
    """A conversation with a worker, message by message."""

    def __init__(self, way: Way) -> None:
        self.way = way
        self.nonce = secrets.token_bytes(32)

    def send(self, *messages: Message) -> None:
        for one in messages:
            self.way.send(encode(one))

    def receive(self) -> Message | Data:
        return decode(self.way.receive())

    def wait_for(self, kind: type[T]) -> T:
        """Take the next message of a kind; what comes before is passed over."""
        while not isinstance(message := self.receive(), kind):
            pass
        return message

    def rest(self) -> list[Message | Data]:
        """Take everything until the worker closes."""
        messages = []
        with contextlib.suppress(EOFError):
            while True:
                messages.append(self.receive())
        return messages

    def greet(self) -> Hello:
        """Say Hello; the worker's."""
        self.send(Hello(OLDEST_VERSION, NEWEST_VERSION, "raw", nonce=self.nonce))
        return self.wait_for(Hello)

    def prove(self, hello: Hello, token: str) -> Proof:
        """Make a proof as the protocol's documents say, by other code than ours."""
        parts = (self.nonce, hello.nonce, hello.key.encode(), self.way.channel)
        text = b"".join(struct.pack(">H", len(part)) + part for part in parts)
        message = b"mlepool 1 client\0" + text
        mac = hmac.new(token.encode(), message, hashlib.sha256).digest()
        return Proof(hashlib.sha256(token.encode()).hexdigest()[:16], mac)

    def enter(self, token: str = "") -> Welcome:
        """Go through the whole handshake."""
        self.send(self.prove(self.greet(), token))
        return self.wait_for(Welcome)


@contextlib.contextmanager
def raw_client(worker: Any, *, token: str | None = None) -> Iterator[RawClient]:
    """Open a conversation with a running worker: by its token, or its socket."""
    way: Way = UnixWay(worker.state_dir) if token is None else _let_in(worker.port)
    client = RawClient(way)
    try:
        client.enter(token or "")
        yield client
    finally:
        way.close()


def _let_in(port: int) -> TcpWay:
    """Come in by TLS, though a crowd of strangers may keep us out for a moment."""
    for _ in range(CROWDED):
        with contextlib.suppress(InvalidMessage, ConnectionError, EOFError):
            return TcpWay(port)
    return TcpWay(port)


class FakeWorker:
    """Listens like a worker, over the websockets library; a test says what it answers.

    Args:
        answer: Called in a thread for each client, with its link; at its end the link
            is closed.
        identity: Whose key and certificate it shows; None for no TLS.

    Attributes:
        heard: Every frame that clients have sent, in order.
    """

    def __init__(
        self, answer: Callable[["ClientLink"], None], identity: Identity | None = None
    ) -> None:
        self.heard: list[bytes] = []
        self._answer = answer
        self._server = serve(
            self._serve,
            "127.0.0.1",
            0,
            ssl=identity.tls() if identity is not None else None,
            compression=None,
            max_size=None,
        )
        self.port: int = self._server.socket.getsockname()[1]
        scheme = "ws" if identity is None else "wss"
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()

    def messages(self) -> list[Message | Data]:
        """Give what clients have sent."""
        return [decode(one) for one in self.heard]

    def _serve(self, connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            self._answer(ClientLink(connection, self.heard))


class ClientLink:
    """A fake worker's link to one client."""

    def __init__(self, connection: ServerConnection, heard: list[bytes]) -> None:
        self._connection = connection
        self._heard = heard

    def send(self, *messages: Message) -> None:
        for one in messages:
            self._connection.send(encode(one))

    def send_raw(self, frame: bytes | str) -> None:
        self._connection.send(frame)

    def receive(self) -> Message | Data:
        frame = self._connection.recv(LIMIT)
        assert isinstance(frame, bytes)
        self._heard.append(frame)
        return decode(frame)

    def listen(self) -> None:
        """Take what comes until the client leaves."""
        while True:
            self.receive()

    def greet(self, key: str) -> Hello:
        """Say Hello with a key; the client's."""
        nonce = secrets.token_bytes(32)
        self.send(Hello(OLDEST_VERSION, NEWEST_VERSION, "fake", key, nonce))
        hello = self.receive()
        assert isinstance(hello, Hello)
        return hello

    def let_in(self, commands: tuple[CommandSpec, ...], *, token: str) -> None:
        """Let a client in as a worker does that knows the token; without TLS."""
        nonce, key = secrets.token_bytes(32), "k" * 43
        self.send(Hello(OLDEST_VERSION, NEWEST_VERSION, "fake", key, nonce))
        hello = self.receive()
        assert isinstance(hello, Hello)
        self.receive()
        parts = (hello.nonce, nonce, key.encode(), b"")
        text = b"".join(struct.pack(">H", len(part)) + part for part in parts)
        message = b"mlepool 1 worker\0" + text
        mac = hmac.new(token.encode(), message, hashlib.sha256).digest()
        self.send(Welcome(mac, "fake", msgspec.Raw(pack(commands).commands)))
