"""The contracts find what they are there to find: each fault is caught by one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mlepool.testing import contracts
from mlepool.testing.contracts import LINK_CONTRACTS, LinkPair
from mlepool.testing.links import MemoryLink, memory_pair
from mlepool.testing.loop import run
from mlepool.transport.base import LinkInfo, Piece, Receiver
from tests.tools import memory_links


class Wrapped:
    """A link that does as a right one does, but for what a subclass changes."""

    def __init__(self, link: MemoryLink) -> None:
        self.link = link
        self.receiver: Receiver | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.link if self.receiver is None else self.receiver, name)

    info = property(lambda self: self.link.info)
    is_full = property(lambda self: self.link.is_full)

    def send(self, frame: bytes) -> None:
        self.link.send(frame)

    def send_file(self, head: bytes, piece: Piece) -> None:
        self.link.send_file(head, piece)

    def close(self) -> None:
        self.link.close()

    def attach(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.link.attach(self)


class SwapsFrames(Wrapped):
    held: bytes | None = None

    def send(self, frame: bytes) -> None:
        if self.held is None:
            self.held = frame
        else:
            self.link.send(frame)
            self.link.send(self.held)
            self.held = None


class DropsEmptyFrames(Wrapped):
    def send(self, frame: bytes) -> None:
        if frame:
            self.link.send(frame)


class TakesAnySize(Wrapped):
    def send(self, frame: bytes) -> None:
        self.link.send(frame[: 1024 * 1024])


class SendsOnlyTheHead(Wrapped):
    def send_file(self, head: bytes, piece: Piece) -> None:
        self.link.send(head)


class ForgetsEarlyFrames(Wrapped):
    def attach(self, receiver: Receiver) -> None:
        self.link._inbox.clear()
        super().attach(receiver)


class IsLostTwice(Wrapped):
    def link_lost(self, cause: str) -> None:
        assert self.receiver is not None
        self.receiver.link_lost(cause)
        self.receiver.link_lost(cause)


class TellsNoEnd(Wrapped):
    def link_lost(self, cause: str) -> None:
        pass


class TellsNoCause(Wrapped):
    def link_lost(self, cause: str) -> None:
        assert self.receiver is not None
        self.receiver.link_lost("")


class ClosesTooEarly(Wrapped):
    def close(self) -> None:
        self.link.cut()


class ClosesInsideOfTheCall(Wrapped):
    def close(self) -> None:
        self.link._lose("closed")


class SendsAfterClose(Wrapped):
    def close(self) -> None:
        asyncio.get_running_loop().call_soon(self.link.close)


class IsNeverFull(Wrapped):
    is_full = property(lambda self: False)


class IsFullForEver(Wrapped):
    def writable(self) -> None:
        pass


class GivesNoSignOfLife(Wrapped):
    def bytes_received(self) -> None:
        pass


class HasNoAddress(Wrapped):
    info = property(lambda self: LinkInfo())


FAULTS = [
    (SwapsFrames, contracts.frames_arrive_whole_and_in_order_both_ways),
    (DropsEmptyFrames, contracts.frames_arrive_whole_and_in_order_both_ways),
    (TakesAnySize, contracts.a_frame_over_the_limit_ends_the_link),
    (SendsOnlyTheHead, contracts.frames_from_a_file_arrive_whole),
    (ForgetsEarlyFrames, contracts.frames_before_attach_are_kept_in_order),
    (ForgetsEarlyFrames, contracts.an_end_before_attach_is_told_at_attach),
    (TellsNoEnd, contracts.an_end_before_attach_is_told_at_attach),
    (IsLostTwice, contracts.a_close_comes_after_what_was_sent),
    (IsLostTwice, contracts.both_may_close_at_once),
    (TellsNoCause, contracts.the_accepting_end_may_close_too),
    (ClosesTooEarly, contracts.a_close_comes_after_what_was_sent),
    (SendsAfterClose, contracts.a_close_comes_after_what_was_sent),
    (TellsNoEnd, contracts.sending_after_the_end_does_nothing),
    (ClosesInsideOfTheCall, contracts.a_receiver_may_close_while_it_takes_a_frame),
    (IsNeverFull, contracts.a_link_is_full_while_the_reader_stalls),
    (IsFullForEver, contracts.a_link_is_full_while_the_reader_stalls),
    (SwapsFrames, contracts.bytes_are_noted_before_their_frame),
    (GivesNoSignOfLife, contracts.bytes_are_noted_before_their_frame),
    (HasNoAddress, contracts.a_link_knows_its_other_end),
]


@pytest.mark.parametrize(
    ("fault", "contract"), FAULTS, ids=[f"{one.__name__}" for one, _ in FAULTS]
)
def test_a_fault_is_found(fault, contract):
    @contextlib.asynccontextmanager
    async def open_faulty() -> AsyncIterator[LinkPair]:
        near, far = memory_pair()
        yield LinkPair(fault(near), fault(far), far.stall, far.resume)

    with pytest.raises((AssertionError, TimeoutError)):
        run(contract(open_faulty))


@pytest.mark.parametrize("contract", LINK_CONTRACTS, ids=lambda one: one.__name__)
def test_a_link_that_is_only_wrapped_keeps_the_contract(contract):
    @contextlib.asynccontextmanager
    async def open_wrapped() -> AsyncIterator[LinkPair]:
        async with memory_links() as (near, far, stall, resume):
            assert isinstance(near, MemoryLink)
            assert isinstance(far, MemoryLink)
            yield LinkPair(Wrapped(near), Wrapped(far), stall, resume)

    run(contract(open_wrapped))


def test_every_contract_is_in_the_list():
    found = {
        value
        for name, value in vars(contracts).items()
        if asyncio.iscoroutinefunction(value) and not name.startswith("_")
    }
    assert found == set(LINK_CONTRACTS)


def test_every_contract_says_what_it_is_about():
    assert all(contract.__doc__ for contract in LINK_CONTRACTS)
