"""Takes binary frames out of a WebSocket's bytes; the library gets all the rest.

The library's parser costs as much for a small frame as all else that is done with it,
and copies a large one three times. A binary frame is its own bytes behind a header
(RFC 6455, section 5.2), so that nothing need be understood of what is left to the
library: handshake, control and empty frames, fragments, and everything that is wrong.
"""

import struct
from collections.abc import Callable, Iterator

from mlepool.transport.scratch import keep_memory

__all__ = ["Splitter"]

END_OF_HANDSHAKE = b"\r\n\r\n"
BINARY_FRAME = 0x82  # the last part of a binary message, no extension
LAST_PART = 0x80
CONTROL = 0x08
FORMS = {126: struct.Struct(">H"), 127: struct.Struct(">Q")}
MASKED = 0x80  # each frame of a client, and none of a server
MASK_SIZE = 4  # bytes
MAX_HEAD = 14  # bytes
SMALLEST = 4  # bytes that a frame has at least which is taken at once
MIN_ROOM = 16 * 1024  # bytes; for less it is not worth reading what follows apart
FEW = 8  # small frames in a row, after which there is no bulk just now
LARGE = 128 * 1024  # bytes; glibc maps what is larger for itself, at first
FOR_EVER = 1 << 62  # bytes

Bytes = memoryview | bytes
Mask = Callable[[memoryview | bytearray, bytes], bytes]


class Splitter:
    """Parts the bytes of one connection, from the other side's handshake on.

    Args:
        limit: Bytes of a frame; a longer one is left to the library, which refuses it.
        unmask: Takes the mask off a client's frame; None where a server's frames come.
    """

    def __init__(self, *, limit: int, unmask: Mask | None = None) -> None:
        self._limit = limit
        self._unmask = unmask
        self._handshake: bytes | None = b""  # its last bytes; None once it has ended
        self._head = b""  # the beginning of a frame's header
        self._passing = 0  # bytes that are the library's
        self._is_parted = False  # in a message of several frames
        self._store = bytearray()  # for frames that come in pieces, one after another
        self._small = 0  # frames since the last of those
        self._frame: memoryview | None = None
        self._missing = 0  # bytes of a frame that has begun
        self._mask = b""  # of that one

    def room(self) -> memoryview | None:
        """Give where the rest of a large frame goes; None if none has begun."""
        if self._frame is None or self._missing < MIN_ROOM:
            return None
        return self._frame[-self._missing :]

    def fill(self, count: int) -> Bytes | None:
        """Note bytes that were put there; give the frame once it is whole."""
        self._missing -= count
        if self._missing:
            return None
        frame, self._frame = self._frame, None
        return self._whole(memoryview(self._store) if frame is None else frame)

    def single(self, view: memoryview) -> Bytes | None:
        """Give the payload of bytes that are one small frame: most that come are.

        Returns:
            The payload, valid until the next bytes; None if they are anything else:
            :meth:`feed` parts them then.
        """
        if self._is_within or len(view) < SMALLEST or view[0] != BINARY_FRAME:
            return None
        size, begin = view[1] & ~MASKED, 2
        if size == 126:
            size, begin = view[2] << 8 | view[3], 4
        elif size == 127:
            return None
        if self._unmask is not None:
            begin += MASK_SIZE
            self._mask = bytes(view[begin - MASK_SIZE : begin])
        is_right = (view[1] >= MASKED) is (self._unmask is not None)
        if not is_right or begin + size != len(view) or not 0 < size <= self._limit:
            return None
        self._count_small()
        return self._whole(view[begin:])

    @property
    def _is_within(self) -> bool:
        """True if what comes next is not, for certain, a whole message's beginning."""
        return bool(
            self._missing
            or self._passing
            or self._head
            or self._is_parted
            or self._handshake is not None
        )

    def _count_small(self) -> None:
        self._small += 1
        if self._small == FEW:
            self._store = bytearray()

    def feed(self, view: memoryview) -> Iterator[tuple[bool, Bytes]]:
        """Part some bytes.

        Yields:
            True and a binary frame's payload, valid until the next step; or False and
            bytes for the library.
        """
        at = 0 if self._handshake is None else self._end_of_handshake(view)
        if at:
            yield False, view[:at]
        while at < len(view):
            is_frame, part, at = self._step(view, at)
            if part:
                yield is_frame, part

    def _step(self, view: memoryview, at: int) -> tuple[bool, Bytes | None, int]:
        """Take a header, or what follows it; give what to yield, if that is all."""
        if self._passing:
            end = min(at + self._passing, len(view))
            self._passing -= end - at
            return False, view[at:end], end
        if self._missing:
            frame, at = self._gather(view, at)
            return True, frame, at
        head, at = self._read_head(view, at)
        size = self._size_if_ours(head) if head else 0
        if not size:
            return False, head, at
        if at + size > len(view):
            self._begin(size)
            return True, None, at
        self._count_small()
        return True, self._whole(view[at : at + size]), at + size

    def _end_of_handshake(self, view: memoryview) -> int:
        """Give how many bytes still belong to the other side's handshake."""
        assert self._handshake is not None
        whole = self._handshake + view
        found = whole.find(END_OF_HANDSHAKE)
        if found < 0:
            self._handshake = whole[1 - len(END_OF_HANDSHAKE) :]
            return len(view)
        end = found + len(END_OF_HANDSHAKE) - len(self._handshake)
        self._handshake = None
        return end

    def _read_head(self, view: memoryview, at: int) -> tuple[bytes, int]:
        """Read on in a frame's header; empty until it is whole."""
        known = len(self._head)
        head = self._head + view[at : at + MAX_HEAD]
        size = _size_of_head(head)
        if len(head) < size:
            self._head = head
            return b"", len(view)
        self._head = b""
        return head[:size], at + size - known

    def _size_if_ours(self, head: bytes) -> int:
        """Give the size of a frame's payload; 0 if it is the library's."""
        form = FORMS.get(head[1] & ~MASKED)
        size: int = form.unpack_from(head, 2)[0] if form else head[1] & ~MASKED
        is_right = (head[1] >= MASKED) is (self._unmask is not None)
        is_binary = head[0] == BINARY_FRAME and not self._is_parted
        if is_right and is_binary and 0 < size <= self._limit:
            self._mask = head[-MASK_SIZE:]
            return size
        self._passing = size if is_right else FOR_EVER
        if not head[0] & CONTROL:
            self._is_parted = head[0] < LAST_PART
        return 0

    def _begin(self, size: int) -> None:
        """Make room for a frame; a client's takes no more than what has come of it."""
        self._missing, self._small = size, 0
        if size > LARGE:
            keep_memory()
        if len(self._store) < size:
            self._store = bytearray(size if self._unmask is None else 0)
        if len(self._store) >= size:
            self._frame = memoryview(self._store)[:size]

    def _gather(self, view: memoryview, at: int) -> tuple[Bytes | None, int]:
        """Put bytes to their frame; give it once it is whole."""
        part = view[at : at + self._missing]
        if self._frame is None:
            self._store += part
        else:
            begin = len(self._frame) - self._missing
            self._frame[begin : begin + len(part)] = part
        return self.fill(len(part)), at + len(part)

    def _whole(self, frame: memoryview) -> Bytes:
        return frame if self._unmask is None else self._unmask(frame, self._mask)


def _size_of_head(head: bytes) -> int:
    if len(head) < 2:
        return 2  # bytes; the second one tells how long it is
    form = FORMS.get(head[1] & ~MASKED)
    mask = MASK_SIZE if head[1] >= MASKED else 0
    return 2 + (form.size if form else 0) + mask
