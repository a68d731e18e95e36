"""Prompts: lines that stay open while their program waits, and those that are late."""

import asyncio

import pytest

import mlepool
from mlepool.client.listening.lines import LineDecoder
from mlepool.client.listening.pauses import LOOK_AGAIN, QUIET, Pauses
from mlepool.testing.proxy import FaultProxy
from mlepool.wire.records import STDERR, STDOUT, Record
from tests.tools import in_jumping_time


class Worker:
    """Notes when it is asked; answers only if told to."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.paused: list[tuple[float, int]] = []
        self.pauses = Pauses(self.look)
        self.answers = True

    def now(self) -> float:
        return round(asyncio.get_running_loop().time() - self.began, 3)

    def look(self) -> None:
        self.asked.append(self.now())
        if self.answers:
            asyncio.get_running_loop().call_soon(self.answer)

    def answer(self) -> None:
        records = self.pauses.nothing_more()
        assert all(one.data == b"" for one in records)
        self.paused += [(self.now(), one.stream) for one in records]

    async def print(self, data: bytes, *, stream: int = STDOUT, rest: float) -> None:
        self.pauses.note([Record(0.0, stream, data)])
        await asyncio.sleep(rest)

    def begin(self) -> None:
        self.began = asyncio.get_running_loop().time()


@in_jumping_time
async def test_an_open_line_is_a_prompt_after_a_short_quiet():
    worker = Worker()
    worker.begin()
    await worker.print(b"whole\n", rest=5)
    assert not worker.asked
    worker.begin()
    await worker.print(b"Password: ", rest=5)
    assert worker.asked == [QUIET]
    assert worker.paused == [(QUIET, STDOUT)]


@in_jumping_time
async def test_what_goes_on_in_time_is_no_prompt():
    worker = Worker()
    worker.begin()
    for _ in range(50):
        await worker.print(b".", rest=QUIET / 2)
    await worker.print(b"\n", rest=5)
    assert worker.paused == []


@in_jumping_time
async def test_each_stream_is_quiet_by_itself():
    worker = Worker()
    worker.begin()
    await worker.print(b"name? ", rest=0)
    for _ in range(20):
        await worker.print(b"tick\n", stream=STDERR, rest=QUIET / 2)
    assert worker.paused == [(QUIET, STDOUT)]


@in_jumping_time
async def test_without_an_answer_it_is_asked_again_and_is_no_prompt():
    worker = Worker()
    worker.begin()
    worker.answers = False
    await worker.print(b"half a li", rest=QUIET + 2.5 * LOOK_AGAIN)
    assert worker.asked == [QUIET, QUIET + LOOK_AGAIN, QUIET + 2 * LOOK_AGAIN]
    await worker.print(b"ne\n", rest=5)
    worker.pauses.nothing_more()
    assert worker.paused == []
    await worker.print(b"half", rest=0)
    worker.pauses.stop()
    await asyncio.sleep(5)
    assert len(worker.asked) == 3


# -- as lines


def lines(*pieces: bytes) -> list[tuple[str, str]]:
    """Decode pieces; an empty one is a pause."""
    decoder = LineDecoder()
    found = []
    for piece in pieces:
        found += list(decoder.decode([Record(0.0, STDOUT, piece)]))
    return [(str(one), one.end) for one in [*found, *decoder.finish()]]


def test_a_prompt_is_a_part_of_a_line_and_what_follows_another():
    assert lines(b"name: ", b"", b"", b"ok\nnext\n") == [
        ("name: ", ""),
        ("ok", "\n"),
        ("next", "\n"),
    ]


def test_a_character_that_is_not_whole_is_waited_for():
    raw = "100 €".encode()
    assert lines(raw[:-1], b"", raw[-1:], b"") == [("100 ", ""), ("€", "")]


def test_a_newline_of_a_terminal_is_one_wherever_it_is_cut():
    assert lines(b"one\r", b"\ntwo\r\nthree\r", b"\n") == [
        ("one", "\n"),
        ("two", "\n"),
        ("three", "\n"),
    ]


def test_a_rewritten_line_is_given_once_more_only_if_it_has_changed():
    assert lines(b"\r10%", b"", b"", b"\r20%", b"", b"\r30%\n") == [
        ("10%", "\r"),
        ("20%", "\r"),
        ("30%", "\n"),
    ]
    assert lines(b"10%\r", b"", b"20%\r\n") == [("10%", "\r"), ("20%", "\n")]


# -- from a worker

ASK = "printf 'name: '; read x; printf 'Hello, %s' $x; read y; echo; echo end"


@pytest.mark.real
def test_prompts_come_as_messages_on_both_faces_and_the_output_is_whole(conn, worker):
    live = conn.run(ASK, complete=False, stdin=True)
    first = live.next()
    assert (first, first.end, first.stream) == ("name: ", "", "stdout")
    live.send_input("Ann\n")
    assert live.next() == "Hello, Ann"
    live.send_input("\n")
    assert live.next() == ""
    assert live.next() == "end"
    assert live.next() is None
    assert "".join(line + line.end for line in live) == live.stdout
    assert live.stdout == "name: Hello, Ann\nend\n"

    async def ask() -> None:
        async with (
            mlepool.AsyncClientPool() as pool,
            pool.add("localhost", worker.port) as own,
        ):
            live = await own.run(ASK, complete=False, stdin=True)
            answers = iter(("Bob\n", "\n"))
            seen = []
            async for line in live:
                seen.append(line)
                if line.end == "":
                    await live.send_input(next(answers))
            assert seen == ["name: ", "Hello, Bob", "", "end"]

    asyncio.run(ask())


@pytest.mark.real
def test_a_line_that_a_link_has_cut_is_no_prompt(worker):
    # Each record is a part of the line; the link gives a few bytes at a time.
    code = "for n in range(6): print('x' * 8000, end='', flush=True)"
    with (
        FaultProxy(worker.port) as proxy,
        mlepool.ClientPool() as pool,
        pool.add("localhost", proxy.port) as conn,
    ):
        proxy.trickle(40_000, "to_client")
        assert [len(line) for line in conn.run(["python3", "-c", code])] == [48_000]
