"""What every Link must do, whichever way it moves frames.

Each contract is a coroutine function that takes a way to open a pair of links and
raises AssertionError where a link breaks its word::

    @pytest.mark.parametrize("contract", LINK_CONTRACTS)
    def test_my_link_keeps_the_contract(contract):
        asyncio.run(contract(open_my_pair))
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, NamedTuple

from mlepool.testing.links import Recorder
from mlepool.transport.base import Link, Piece
from mlepool.wire.codec import MAX_DATA, MAX_FRAME

__all__ = ["LINK_CONTRACTS", "LinkContract", "LinkPair", "OpenPair"]

LIMIT = 20.0  # seconds for one contract: none should come near it
BULK = bytes(64 * 1024)
NOTHING = Piece(-1, 0, 0)
BURST = 12  # bulk frames: more than one kernel buffer
MAX_BULK = 1000  # bulk frames until a link must be full: no kernel buffers 64 MB
SIZES = (0, 1, 125, 126, 4091, 4092, 4093, 65535, 65536, MAX_DATA, 2, 1, 0)


class LinkPair(NamedTuple):
    """Both ends of one way, open and without receivers.

    Attributes:
        dialled: The end of who dialled; ``accepted`` the other one.
        stall: Makes the accepted end read nothing; ``resume`` ends that.
    """

    dialled: Link
    accepted: Link
    stall: Callable[[], None]
    resume: Callable[[], None]


OpenPair = Callable[[], contextlib.AbstractAsyncContextManager[LinkPair]]
LinkContract = Callable[[OpenPair], Coroutine[Any, Any, None]]


class _Both(NamedTuple):
    pair: LinkPair
    near: Recorder
    far: Recorder


@contextlib.asynccontextmanager
async def _attached(open_pair: OpenPair) -> AsyncIterator[_Both]:
    """Open a pair, record both ends, and see to it that both end as they should."""
    async with asyncio.timeout(LIMIT), open_pair() as pair:
        both = _Both(pair, Recorder(), Recorder())
        pair.dialled.attach(both.near)
        pair.accepted.attach(both.far)
        yield both
        if not both.far.losses:
            pair.resume()
        pair.dialled.close()
        pair.accepted.close()
        await both.near.lost()
        await both.far.lost()
        await _a_few_turns()
        for recorder in (both.near, both.far):
            assert len(recorder.losses) == 1, recorder.losses
            assert recorder.losses[0], "a loss without a cause"
            assert not recorder.late, recorder.late


async def _a_few_turns() -> None:
    """Let the loop do what is due by now."""
    for _ in range(10):
        await asyncio.sleep(0)


async def frames_arrive_whole_and_in_order_both_ways(open_pair: OpenPair) -> None:
    """Send every size, from none to the largest."""
    sent = [bytes([size % 251]) * size for size in (*SIZES, MAX_FRAME, 0, 7)]
    async with _attached(open_pair) as (pair, near, far):
        for frame in sent:
            pair.dialled.send(frame)
            pair.accepted.send(frame[::-1])
        await near.until(lambda: len(near.frames) >= len(sent))
        await far.until(lambda: len(far.frames) >= len(sent))
        assert far.frames == sent
        assert near.frames == sent


async def a_frame_over_the_limit_ends_the_link(open_pair: OpenPair) -> None:
    """Hand out neither it nor what comes after it."""
    async with _attached(open_pair) as (pair, near, far):
        pair.dialled.send(b"before")
        pair.dialled.send(bytes(MAX_FRAME + 1))
        pair.dialled.send(b"after")
        await far.lost()
        await near.lost()
        assert far.frames == [b"before"]


async def frames_from_a_file_arrive_whole(open_pair: OpenPair) -> None:
    """Send neither more nor less than the head and the piece; fail if it is short."""
    with tempfile.TemporaryFile() as file:
        file.write(b"abc" + BULK + b"def")
        file.flush()
        fd = file.fileno()
        async with _attached(open_pair) as (pair, near, far):
            pair.dialled.send_file(b"head", Piece(fd, 0, 3))
            pair.dialled.send_file(b"", Piece(fd, 3, len(BULK)))
            pair.accepted.send_file(b"", Piece(fd, 0, 0))
            for _ in range(BURST):
                pair.accepted.send_file(b"h", Piece(fd, 3, len(BULK)))
            pair.accepted.send(b"behind")
            await far.until(lambda: len(far.frames) >= 2)
            await near.until(lambda: near.frames[-1:] == [b"behind"])
            assert far.frames == [b"headabc", BULK]
            assert near.frames == [b"", *[b"h" + BULK] * BURST, b"behind"]
            try:
                pair.dialled.send_file(b"h", Piece(fd, len(BULK), 7))
            except EOFError:
                return
            raise AssertionError("a piece beyond the file's end was no error")


async def frames_before_attach_are_kept_in_order(open_pair: OpenPair) -> None:
    """Attach late, and miss nothing."""
    async with asyncio.timeout(LIMIT), open_pair() as pair:
        near, far = Recorder(), Recorder()
        pair.dialled.attach(near)
        for number in range(5):
            pair.dialled.send(bytes([number]))
        pair.accepted.send(b"come")
        await near.until(lambda: near.frames == [b"come"])
        await _a_few_turns()
        pair.accepted.attach(far)
        pair.dialled.send(b"\x05")
        await far.until(lambda: len(far.frames) >= 6)
        assert b"".join(far.frames) == bytes(range(6))
        pair.dialled.close()
        await far.lost()


async def an_end_before_attach_is_told_at_attach(open_pair: OpenPair) -> None:
    """Tell it once, after the frames that came before it."""
    async with asyncio.timeout(LIMIT), open_pair() as pair:
        near, far = Recorder(), Recorder()
        pair.dialled.attach(near)
        pair.dialled.send(b"last words")
        pair.dialled.close()
        await near.lost()
        pair.accepted.attach(far)
        await far.lost()
        assert far.frames == [b"last words"]
        assert len(far.losses) == 1
        assert not far.late


async def a_close_comes_after_what_was_sent(open_pair: OpenPair) -> None:
    """Close twice, and try to send after that."""
    async with _attached(open_pair) as (pair, near, far):
        for _ in range(10):
            pair.dialled.send(BULK)
        pair.dialled.close()
        pair.dialled.close()
        pair.dialled.send(b"too late")
        pair.dialled.send_file(b"too late", NOTHING)
        await far.lost()
        await near.lost()
        assert far.frames == [BULK] * 10


async def the_accepting_end_may_close_too(open_pair: OpenPair) -> None:
    """Close the other way round."""
    async with _attached(open_pair) as (pair, near, far):
        pair.accepted.send(b"bye")
        pair.accepted.close()
        await near.lost()
        await far.lost()
        assert near.frames == [b"bye"]


async def sending_after_the_end_does_nothing(open_pair: OpenPair) -> None:
    """Send and close once more: who sends need not know yet that it is gone."""
    async with _attached(open_pair) as (pair, near, far):
        pair.accepted.close()
        await near.lost()
        await far.lost()
        for link in (pair.dialled, pair.accepted):
            for _ in range(10):  # asyncio would warn from the fifth on
                link.send(b"x")
                link.send_file(b"xy", NOTHING)
            link.close()


async def both_may_close_at_once(open_pair: OpenPair) -> None:
    """Tell each of the end once."""
    async with _attached(open_pair) as (pair, near, far):
        pair.dialled.close()
        pair.accepted.close()
        await near.lost()
        await far.lost()


async def a_receiver_may_close_while_it_takes_a_frame(open_pair: OpenPair) -> None:
    """Tell it of the loss later, not inside of its own call."""
    async with asyncio.timeout(LIMIT), open_pair() as pair:
        near = Recorder()
        closer = _Closer(pair.accepted)
        pair.dialled.attach(near)
        pair.accepted.attach(closer)
        for _ in range(3):
            pair.dialled.send(b"close, please")
        await closer.lost()
        await near.lost()
        assert closer.losses_inside == 0
        assert len(closer.losses) == len(near.losses) == 1


class _Closer(Recorder):
    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link
        self.losses_inside = 0

    def frame_received(self, frame: bytes | memoryview) -> None:
        """Close."""
        super().frame_received(frame)
        self._link.close()
        self.losses_inside += len(self.losses)


async def a_link_is_full_while_the_reader_stalls(open_pair: OpenPair) -> None:
    """Fill it; then let the reader go on, and lose nothing."""
    async with _attached(open_pair) as (pair, near, far):
        assert not pair.dialled.is_full
        pair.stall()
        count = 0
        while not pair.dialled.is_full and count < MAX_BULK:
            pair.dialled.send(BULK)
            await asyncio.sleep(0)
            count += 1
        assert pair.dialled.is_full, "never full"
        pair.dialled.send(b"control goes on")
        pair.resume()
        # What lies between may take some more in while the reader stalls, so that the
        # link is writable and full again: what counts is how it ends.
        await near.until(lambda: near.resumed > 0 and not pair.dialled.is_full)
        await far.until(lambda: len(far.frames) > count)
        assert not pair.dialled.is_full
        assert far.frames == [BULK] * count + [b"control goes on"]


async def two_floods_at_once_do_not_block(open_pair: OpenPair) -> None:
    """Have each end send much before it reads anything."""
    async with _attached(open_pair) as (pair, near, far):
        for _ in range(64):
            pair.dialled.send(BULK)
            pair.accepted.send(BULK)
        await near.until(lambda: len(near.frames) >= 64)
        await far.until(lambda: len(far.frames) >= 64)
        assert near.frames == far.frames == [BULK] * 64


async def bytes_are_noted_before_their_frame(open_pair: OpenPair) -> None:
    """Give a sign of life no later than the frame."""
    async with _attached(open_pair) as (pair, _, far):
        pair.dialled.send(b"one")
        await far.until(lambda: far.notes > 0)
        await far.until(lambda: far.frames == [b"one"])
        notes = far.notes
        pair.dialled.send(b"two")
        await far.until(lambda: len(far.frames) == 2)
        assert far.notes > notes


async def a_link_knows_its_other_end(open_pair: OpenPair) -> None:
    """Give an address for people and the channel's key."""
    async with _attached(open_pair) as (pair, _, _):
        for link in (pair.dialled, pair.accepted):
            assert link.info.address
            assert isinstance(link.info.channel, bytes)
            assert isinstance(link.info.is_local, bool)
        assert pair.dialled.info.channel == pair.accepted.info.channel


LINK_CONTRACTS: tuple[LinkContract, ...] = (
    frames_arrive_whole_and_in_order_both_ways,
    a_frame_over_the_limit_ends_the_link,
    frames_from_a_file_arrive_whole,
    frames_before_attach_are_kept_in_order,
    an_end_before_attach_is_told_at_attach,
    a_close_comes_after_what_was_sent,
    the_accepting_end_may_close_too,
    sending_after_the_end_does_nothing,
    both_may_close_at_once,
    a_receiver_may_close_while_it_takes_a_frame,
    a_link_is_full_while_the_reader_stalls,
    two_floods_at_once_do_not_block,
    bytes_are_noted_before_their_frame,
    a_link_knows_its_other_end,
)
