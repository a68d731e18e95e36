"""Takes large frames out of a WebSocket server's bytes; the library gets all others.

The library copies a frame three times on its way in, which is a third of what a
client's bulk costs. A large binary frame is its own bytes behind a header (RFC 6455,
section 5.2), so that nothing need be understood of what is left to the library:
handshake, control frames, fragments, and everything that is wrong.
"""

import struct
from collections.abc import Iterator

__all__ = ["Splitter"]

END_OF_RESPONSE = b"\r\n\r\n"
BINARY_FRAME = 0x82  # the last part of a binary message, no extension
LENGTH_IN_64_BITS = 127
FORMS = {126: struct.Struct(">H"), LENGTH_IN_64_BITS: struct.Struct(">Q")}
MASKED = 0x80  # no server may do that: the library says so
MIN_LARGE = 64 * 1024  # bytes; a frame that needs no length of 64 bits is left alone
FOR_EVER = 1 << 62  # bytes


class Splitter:
    """Parts the bytes of one connection, from the server's response on.

    Args:
        limit: Bytes of a frame; a longer one is left to the library, which refuses it.
    """

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._response: bytes | None = b""  # its last bytes; None once it has ended
        self._head = b""
        self._passing = 0
        self._store = bytearray()  # for large frames, one after another
        self._frame: memoryview | None = None
        self._filled = 0

    def room(self) -> memoryview | None:
        """Give where the rest of a large frame goes; None if none has begun."""
        return None if self._frame is None else self._frame[self._filled :]

    def fill(self, count: int) -> memoryview | None:
        """Note bytes that were put there; give the frame once it is whole."""
        assert self._frame is not None
        self._filled += count
        if self._filled < len(self._frame):
            return None
        frame, self._frame = self._frame, None
        return frame

    def feed(self, view: memoryview) -> Iterator[tuple[bool, memoryview | bytes]]:
        """Part some bytes.

        Yields:
            True and a large frame's payload, valid until the next step; or False and
            bytes for the library.
        """
        at = self._end_of_response(view)
        if at:
            yield False, view[:at]
        while at < len(view):
            if self._passing:
                count = min(self._passing, len(view) - at)
                self._passing -= count
                yield False, view[at : at + count]
                at += count
            elif (room := self.room()) is not None:
                count = min(len(room), len(view) - at)
                room[:count] = view[at : at + count]
                at += count
                if (frame := self.fill(count)) is not None:
                    yield True, frame
            else:
                head, at = self._read_head(view, at)
                if head:
                    yield False, head

    def _end_of_response(self, view: memoryview) -> int:
        """Give how many bytes still belong to the server's response."""
        if self._response is None:
            return 0
        whole = self._response + view
        found = whole.find(END_OF_RESPONSE)
        if found < 0:
            self._response = whole[1 - len(END_OF_RESPONSE) :]
            return len(view)
        end = found + len(END_OF_RESPONSE) - len(self._response)
        self._response = None
        return end

    def _read_head(self, view: memoryview, at: int) -> tuple[bytes, int]:
        """Read on in a frame's header; give it, if it is whole and the library's."""
        for _ in range(2):  # its second byte tells how long it is
            size = _size_of_head(self._head)
            taken = bytes(view[at : at + size - len(self._head)])
            self._head += taken
            at += len(taken)
            if len(self._head) < size:
                return b"", at
        head, self._head = self._head, b""
        form = FORMS.get(head[1] & 127)
        length = form.unpack_from(head, 2)[0] if form else head[1]
        is_ours = (head[0], head[1]) == (BINARY_FRAME, LENGTH_IN_64_BITS)
        if is_ours and MIN_LARGE <= length <= self._limit:
            self._begin(length)
            return b"", at
        self._store = bytearray()  # no bulk just now
        self._passing = length if head[1] < MASKED else FOR_EVER
        return head, at

    def _begin(self, length: int) -> None:
        if len(self._store) < length:
            self._store = bytearray(length)
        self._frame, self._filled = memoryview(self._store)[:length], 0


def _size_of_head(head: bytes) -> int:
    form = FORMS.get(head[1] & 127) if len(head) > 1 else None
    return 2 + (form.size if form else 0)
