"""The supervisor's end of its socket: frames in and out, never blocking."""

import socket
import struct

from mlepool.errors import RemoteProtocolError

__all__ = ["Channel"]

_LENGTH = struct.Struct(">I")
MAX_FRAME = 1024 * 1024  # bytes; the same limit as on every other link
READ_SIZE = 64 * 1024  # bytes
FRAMES_AT_ONCE = 8  # then jobs' ends have their turn


class Channel:
    """One worker's connection.

    Raises OSError from :meth:`receive` and :meth:`flush` when the worker is gone.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._incoming = bytearray()
        self._outgoing = bytearray()

    @property
    def has_backlog(self) -> bool:
        """True while bytes wait for the worker to read."""
        return bool(self._outgoing)

    @property
    def has_frames(self) -> bool:
        """True while a whole frame has come and was not given."""
        return self._next_end() is not None

    def receive(self) -> list[bytes]:
        """Give some frames that are whole; read what is there if there are none.

        Raises:
            EOFError: If the worker has closed.
            RemoteProtocolError: If a frame is too long.
        """
        end = self._next_end()
        if end is None:
            self._read()
            end = self._next_end()
        frames: list[bytes] = []
        while end is not None and len(frames) < FRAMES_AT_ONCE:
            frames.append(bytes(self._incoming[_LENGTH.size : end]))
            del self._incoming[:end]
            end = self._next_end()
        return frames

    def _read(self) -> None:
        try:
            data = self.sock.recv(READ_SIZE)
        except BlockingIOError:
            return
        if not data:
            raise EOFError
        self._incoming += data

    def _next_end(self) -> int | None:
        """Give where the next frame ends, if it is whole."""
        if len(self._incoming) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._incoming)
        if length > MAX_FRAME:
            raise RemoteProtocolError(f"a frame of {length} bytes was announced")
        end: int = _LENGTH.size + length
        return end if len(self._incoming) >= end else None

    def send(self, frame: bytes) -> None:
        """Queue a frame."""
        self._outgoing += _LENGTH.pack(len(frame))
        self._outgoing += frame

    def flush(self) -> None:
        """Write what the socket takes now."""
        while self._outgoing:
            try:
                count = self.sock.send(self._outgoing)
            except BlockingIOError:
                return
            del self._outgoing[:count]

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()
