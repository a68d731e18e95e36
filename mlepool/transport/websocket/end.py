"""What both ends of a connection have in common: bytes in, frames out."""

from __future__ import annotations

import abc
import asyncio

from websockets.client import ClientProtocol
from websockets.server import ServerProtocol

from mlepool.transport.scratch import scratch
from mlepool.transport.splitter import Mask, Splitter
from mlepool.transport.websocket.link import MAX_FRAME, WebSocketLink

__all__ = ["WebSocketEnd"]


class WebSocketEnd(asyncio.BufferedProtocol, abc.ABC):
    """An end: the library's Sans-I/O protocol on a transport of ours.

    Args:
        protocol: The library's.
        unmask: Takes the mask off what comes, if that comes from a client.

    Attributes:
        link: What is made of it.
    """

    def __init__(
        self, protocol: ClientProtocol | ServerProtocol, *, unmask: Mask | None = None
    ) -> None:
        self.link = WebSocketLink(protocol)
        self._splitter = Splitter(limit=MAX_FRAME, unmask=unmask)
        self._has_ended = False
        self._buffer: memoryview | None = None

    @abc.abstractmethod
    def react(self) -> None:
        """Act on what the library has made of what it was given."""

    def get_buffer(self, sizehint: int) -> memoryview:
        """Say where the next bytes go: in a large frame to its place (asyncio)."""
        room = self._splitter.room()
        if room is not None:
            return room
        self._buffer = scratch()
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take bytes (asyncio)."""
        self.link.heard()
        buffer, self._buffer = self._buffer, None
        if buffer is None:
            frame = self._splitter.fill(nbytes)
            if frame is not None:
                self.link.take_frame(frame)
        else:
            view = buffer[:nbytes]
            frame = self._splitter.single(view)
            if frame is not None:
                self.link.take_frame(frame)
            else:
                self._part(view)

    def _part(self, view: memoryview) -> None:
        for is_frame, part in self._splitter.feed(view):
            if self._has_ended:
                break  # a part before this one had us close, and TLS told the end
            if is_frame:
                self.link.take_frame(part)
            else:
                self.link.protocol.receive_data(bytes(part))
                self.react()

    def eof_received(self) -> None:
        """Take the end of the other side's bytes (asyncio)."""
        self._has_ended = True
        self.link.protocol.receive_eof()
        self.react()

    def pause_writing(self) -> None:
        """Note that the buffer is full (asyncio)."""
        self.link.waits(full=True)

    def resume_writing(self) -> None:
        """Note that the buffer is low again (asyncio)."""
        self.link.waits(full=False)
