"""What a Listener holds, and readers that fall behind."""

import asyncio

import pytest

from mlepool.client.listening.intake import Intake
from mlepool.client.listening.output import EvictedError, Output
from mlepool.client.listening.reader import Reader
from mlepool.client.options import CallOptions
from mlepool.errors import ConnectionLostError, RemoteProtocolError
from mlepool.wire.codec import Data, encode_data
from mlepool.wire.messages import Outcome
from mlepool.wire.records import HEADER_SIZE, MAX_PAYLOAD, STDOUT, Record, pack_header


def record(number, size=10):
    return Record(0.0, STDOUT, b"%09d\n" % number + b"x" * (size - 10))


def test_the_oldest_output_goes_first_when_memory_is_full():
    output = Output(limit=100)
    for number in range(20):
        output.add([record(number)])
    assert output.held_from == 10
    assert not output.is_whole
    assert output.data(None) == b"".join(record(n).data for n in range(10, 20))
    with pytest.raises(EvictedError):
        output.batch(9)


def test_one_batch_is_held_even_if_it_is_over_the_limit():
    output = Output(limit=10)
    output.add([record(0, 100)])
    assert output.is_whole


def test_the_last_state_is_what_follows_the_last_return():
    output = Output(limit=1000)
    output.add([Record(0.0, STDOUT, b"start\n10%\r20%\r")])
    assert output.last_state() == b"20%"
    output.add([Record(0.0, STDOUT, b"done\n")])
    assert output.last_state() == b""


class FakeSource:
    """A listener without a connection: its journal is what was ever put in."""

    def __init__(self, memory):
        self.credits: list[int] = []
        options = CallOptions(memory=memory)
        self.intake = Intake(options, self.credits.append)
        self.journal = b""
        self.offset = 0
        self.ends_seen = 0

    def put(self, data):
        piece = pack_header(STDOUT, len(data), self.offset, time=0.0) + data
        frame = encode_data(1, len(self.journal), piece)
        self.intake.data(Data(1, len(self.journal), frame))
        self.journal += piece
        self.offset += len(data)

    def end(self):
        digest = self.intake.output.digest()
        self.intake.ended(Outcome("SUCCEEDED", end=len(self.journal), digest=digest))

    async def change(self):
        await self.intake.changed()

    @property
    def done(self):
        return self.ends_seen > 0

    def end_reached(self, *, quiet):
        self.ends_seen += 1

    def again(self):
        other = FakeSource(10**9)
        other.intake.begin_drain()
        for at in range(0, len(self.journal), 100_000):
            frame = encode_data(1, at, self.journal[at : at + 100_000])
            other.intake.data(Data(1, at, frame))
        other.journal = self.journal
        other.end()
        return other


async def read_all(reader):
    data = b""
    while (records := await reader.next()) is not None:
        data += b"".join(one.data for one in records)
    return data


def test_a_reader_that_fell_behind_reads_again_and_misses_nothing():
    async def scenario():
        source = FakeSource(memory=0)  # that is 512 KiB
        slow = Reader(source)
        expected = b""
        source.intake.begin_drain()
        for number in range(200):
            source.put(b"%d\n" % number * 2000)
            expected += b"%d\n" % number * 2000
            if number == 20:
                first = await slow.next()
        source.end()
        assert not source.intake.output.is_whole
        assert first is not None
        begin = b"".join(one.data for one in first)
        assert begin + await read_all(slow) == expected
        assert await read_all(Reader(source)) == expected

    asyncio.run(scenario())


def test_credit_follows_the_fastest_reader():
    async def scenario():
        source = FakeSource(memory=1000)
        for _ in range(5):
            source.put(b"x" * 60_000)
        assert source.credits == []
        reader = Reader(source)
        await reader.next()
        assert source.credits[-1] == source.intake.window + len(source.journal)

    asyncio.run(scenario())


def test_output_beyond_the_credit_is_a_protocol_error():
    async def scenario():
        source = FakeSource(memory=1000)
        for _ in range(6):
            source.put(b"x" * 60_000)
        with pytest.raises(RemoteProtocolError, match="credit"):
            source.put(b"x" * 60_000)

    asyncio.run(scenario())


def test_what_was_not_taken_before_a_gap_gives_its_credit_after_it():
    async def scenario():
        source = FakeSource(memory=0)
        for _ in range(6):
            source.put(b"x" * 60_000)
        left = source.intake.window
        source.intake.skip(len(source.journal) + 10_000_000)
        assert source.intake.window == left  # a gap neither gives credit nor takes any
        await Reader(source).next()
        position = source.intake.received
        assert source.credits[-1] == position + source.intake.window > position + left

    asyncio.run(scenario())


def test_what_nobody_has_taken_is_held_however_its_frames_are_cut():
    async def scenario():
        source = FakeSource(memory=0)
        record = pack_header(STDOUT, MAX_PAYLOAD, 0, time=0.0) + b"y" * MAX_PAYLOAD
        at, cut = 0, 50_000
        journal = b"".join(
            pack_header(STDOUT, MAX_PAYLOAD, n * MAX_PAYLOAD, time=0.0)
            + record[HEADER_SIZE:]
            for n in range(10)
        )
        while source.intake.window >= cut:
            piece = encode_data(1, at, journal[at : at + cut])
            source.intake.data(Data(1, at, piece))
            at += cut
        assert source.intake.output.is_whole

    asyncio.run(scenario())


@pytest.mark.parametrize("position", [1, 7])
def test_output_out_of_place_is_a_protocol_error(position):
    async def scenario():
        source = FakeSource(memory=1000)
        frame = encode_data(1, position, b"x")
        with pytest.raises(RemoteProtocolError, match="expected at 0"):
            source.intake.data(Data(1, position, frame))

    asyncio.run(scenario())


def test_an_end_before_its_output_is_a_protocol_error():
    async def scenario():
        source = FakeSource(memory=1000)
        with pytest.raises(RemoteProtocolError, match="should be at 10"):
            source.intake.ended(Outcome("SUCCEEDED", end=10))

    asyncio.run(scenario())


def test_a_wrong_digest_is_a_protocol_error():
    async def scenario():
        source = FakeSource(memory=1000)
        source.put(b"hello")
        with pytest.raises(RemoteProtocolError, match="digest"):
            source.intake.ended(
                Outcome("SUCCEEDED", end=len(source.journal), digest="xxh3-128:0,0")
            )

    asyncio.run(scenario())


def test_what_was_on_its_way_when_the_link_broke_is_no_error():
    async def scenario():
        source = FakeSource(memory=1000)
        source.intake.fail(ConnectionLostError("gpu1", "cut"))
        source.put(b"late")
        assert source.intake.output.end == 0

    asyncio.run(scenario())
