"""What commands of a worker's own yield, from fake workers and by hand."""

import asyncio
import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

import mlepool
from mlepool.client.listening.failures import remote_error
from mlepool.client.listening.lines import LineDecoder
from mlepool.client.listening.values import Transcript, ValueDecoder, Yields, shown
from mlepool.errors import RemoteProtocolError
from mlepool.wire.codec import encode_data
from mlepool.wire.messages import Ended, Failure, Outcome, Request, Skip
from mlepool.wire.records import (
    MAX_PAYLOAD,
    STDERR,
    STDOUT,
    YIELDED,
    Record,
    RecordParser,
)
from mlepool.wire.values import Progress
from mlepool.wire.yields import PROGRESS, VALUE, pack_yield
from tests.client.journals import ASK, COUNT, RUN, STOP, TOKEN, Journal, Served
from tests.conftest import wait_until
from tests.raw import ClientLink, FakeWorker
from tests.tools import steady

LARGE = "x" * (3 * MAX_PAYLOAD)

# -- by hand


def decoder() -> ValueDecoder:
    return ValueDecoder(LineDecoder(), lambda: None)


def records_of(journal: Journal) -> list[Record]:
    return RecordParser(checked=False).feed(bytes(journal.data))


STEPS = st.one_of(
    st.tuples(st.just("value"), st.integers(-9, 9) | st.text("a\u20ac", max_size=30)),
    st.tuples(st.just("log"), st.text("ab ", max_size=5)),
    st.tuples(st.just("progress"), st.integers(0, 100)),
)


@settings(steady, max_examples=30)
@given(st.lists(STEPS, max_size=6), st.integers(1, 100))
def test_values_and_lines_come_in_their_order_however_they_are_cut(steps, size):
    journal = Journal()
    for kind, one in steps:
        if kind == "value":
            journal.values(one)
        else:
            journal.log(one) if kind == "log" else journal.progress(one)
    got: list[Any] = []
    parser, decode, yields = RecordParser(), decoder(), Yields()
    for at in range(0, len(journal.data), size):
        records = parser.feed(bytes(journal.data[at : at + size]))
        yields.note(records)
        got += decode.decode(records)
    got += decode.finish()
    assert got == [one for kind, one in steps if kind != "progress"]
    said = [one for kind, one in steps if kind == "progress"]
    assert yields.progress == (Progress(said[-1]) if said else None)
    assert yields.has_values == any(kind == "value" for kind, _ in steps)


def test_none_is_no_message_and_a_line_is_told_from_a_text():
    journal = Journal().values(1, None, "text", None).log("text")
    one, text, line = decoder().decode(records_of(journal))
    assert (one, text, line) == (1, "text", "text")
    assert isinstance(line, mlepool.Line)
    assert not isinstance(text, mlepool.Line)
    assert [shown(message) for message in (one, text, line)] == ["1", "'text'", "text"]


@pytest.mark.parametrize("lost", [{0}, {1}, {2}, {3}, {0, 1}, {1, 2}, {2, 3}])
def test_of_a_value_that_was_not_kept_it_is_said_how_much(lost):
    journal = Journal().values("before")
    for number, part in enumerate(pack_yield(VALUE, LARGE)):
        if number in lost:
            journal.lose(YIELDED, len(part))
        else:
            journal.add(YIELDED, part)
    journal.values("after")
    messages = list(decoder().decode(records_of(journal)))
    parts = [len(part) for part in pack_yield(VALUE, LARGE)]
    missing = sum(parts[number] for number in lost)
    text = f"[mlepool: {missing} bytes of output were not kept]"
    assert messages == ["before", text, "after"]
    assert messages[1].stream == "stderr"


def test_what_is_not_whole_yet_is_counted():
    yields, parts = Yields(), pack_yield(VALUE, LARGE)
    (first, *_), size = records_of(Journal().values(LARGE)), len(parts[0]) + 24
    yields.note([first])
    assert yields.unfinished == size
    yields.note([Record(1.0, STDERR, b"x\n")])
    assert yields.unfinished == size + 26
    yields.skip()
    assert yields.unfinished == 0
    yields.note(records_of(Journal().values(LARGE)))
    assert yields.unfinished == 0


@pytest.mark.parametrize("payload", ["half", [101, 5], {"percent": 1}, [None, None]])
def test_a_progress_that_is_none_is_refused(payload):
    journal = Journal()
    for part in pack_yield(PROGRESS, payload):
        journal.add(YIELDED, part)
    with pytest.raises(RemoteProtocolError, match="a progress is wrong"):
        Yields().note(records_of(journal))


@settings(steady, max_examples=50)
@given(st.lists(st.binary(max_size=50), max_size=5))
def test_random_bytes_raise_only_what_is_documented(payloads):
    with contextlib.suppress(RemoteProtocolError):
        Yields().note([Record(1.0, YIELDED, one) for one in payloads])


def test_a_transcript_has_values_as_lines_of_stdout():
    journal = Journal().values({"a": 1}, "b").log("c").progress(5)
    translated = Transcript().translate(records_of(journal))
    assert [(one.stream, one.data) for one in translated] == [
        (STDOUT, b"{'a': 1}\n"),
        (STDOUT, b"'b'\n"),
        (STDERR, b"c\n"),
        (STDOUT, b""),
    ]


# -- from fake workers


@pytest.fixture
def pool() -> Iterator[mlepool.ClientPool]:
    with mlepool.ClientPool() as pool:
        yield pool


@contextlib.contextmanager
def worker(
    jobs: dict[str, Journal], outcomes: dict[str, Outcome], frame: int = 1000
) -> Iterator[FakeWorker]:
    """Have a fake worker with commands, by the journals and ends of their jobs."""

    def answer(client: ClientLink) -> None:
        client.let_in((COUNT, ASK, RUN, STOP), token=TOKEN)
        Served(client, jobs, outcomes, frame=frame).run()

    with FakeWorker(answer) as fake:
        yield fake


def counting(status="SUCCEEDED", **facts):
    journal = Journal().values(1, {"two": [2]}).log("three").progress(50, "half")
    journal.values("four")
    return {"count": journal}, {"count": journal.outcome(status, **facts)}


MESSAGES = [1, {"two": [2]}, "three", "four"]


def test_messages_are_what_it_yields_and_what_it_logs_between(pool):
    with worker(*counting(value=7)) as fake, pool.add(fake.url, token=TOKEN) as conn:
        live = conn.count(complete=False)
        assert list(iter(live.next, None)) == MESSAGES
        assert (live.next(), live.done, live.value) == (None, True, 7)
        assert list(live) == [live[n] for n in range(4)] == MESSAGES
        assert len(live) == 4
        assert live[2].stream == "stderr"
        assert live.progress == Progress(50, "half")
        assert live.stdout == ""
        assert live.output == live.stderr == live.read() == "three\n"
        assert {stream for _, stream, _ in live.records()} == {"yielded", "stderr"}
        assert str(live) == repr(live)
        assert repr(live).startswith("<Listener 'x' on 127.0.0.1:")


def test_they_are_echoed_by_their_repr(pool, capsys):
    with worker(*counting()) as fake, pool.add(fake.url, token=TOKEN) as conn:
        conn.count(echo_response=True)
    captured = capsys.readouterr()
    assert captured.out == "1\n{'two': [2]}\n'four'\n"
    assert captured.err == "three\n"


def test_expect_looks_at_lines_only_and_gives_back_what_follows(pool):
    with worker(*counting()) as fake, pool.add(fake.url, token=TOKEN) as conn:
        live = conn.count(complete=False)
        assert live.expect("thr") is not None
        assert live.next() == "four"
        with pytest.raises(EOFError):
            live.expect("four")


def test_messages_that_have_come_are_let_go(pool):
    with worker(*counting(value=7)) as fake, pool.add(fake.url, token=TOKEN) as conn:
        live = conn.count()
        live.clear_messages()
        assert live.next() is None
        assert live.value == 7


def test_the_asyncio_face_gives_the_same():
    async def scenario(url):
        async with (
            mlepool.AsyncClientPool() as pool,
            pool.add(url, token=TOKEN) as conn,
        ):
            live = await conn.count(complete=False)
            assert [one async for batch in live.batches() for one in batch] == MESSAGES
            assert [one async for one in live] == MESSAGES
            assert [await live.next() for _ in range(5)] == [*MESSAGES, None]
            assert live.progress.message == "half"
            asked = await conn.ask()
            assert [one async for one in asked] == [[1, 2]]
            assert str(asked) == "[1, 2]"

    jobs, outcomes = counting()
    outcomes["ask"] = Outcome("SUCCEEDED", value=[1, 2])
    with worker(jobs, outcomes) as fake:
        asyncio.run(scenario(fake.url))


@pytest.mark.parametrize(
    ("value", "messages"),
    [([1, 2], [[1, 2]]), ("a\nb", ["a\nb"]), (0, [0]), (None, []), ({}, [{}])],
)
def test_what_a_command_returns_is_its_one_message(pool, value, messages):
    # Of one that is answered at once, and of a job that yields nothing.
    journal = Journal().progress(1)
    outcomes = {
        "ask": Outcome("SUCCEEDED", value=value),
        "count": journal.outcome(value=value),
    }
    with (
        worker({"count": journal}, outcomes) as fake,
        pool.add(fake.url, token=TOKEN) as conn,
    ):
        for command in (conn.ask, conn.count):
            done = command()
            assert done.value == value
            assert list(done) == list(iter(done.next, None)) == messages
            assert len(done) == len(messages)
            assert str(done) == (str(value) if messages else repr(done))


def test_what_has_failed_says_so_as_text(pool):
    failure = Failure("FileNotFoundError", "no such file")
    outcomes = {"ask": Outcome("FAILED", failure=failure)}
    with worker({}, outcomes) as fake, pool.add(fake.url, token=TOKEN) as conn:
        failed = conn.ask()
        assert list(failed) == []
        assert str(failed).startswith("<Listener 'x' on ")
        assert f"{conn.name}: FAILED (FileNotFoundError: no such file) after" in str(
            failed
        )


@pytest.mark.parametrize(
    ("kind", "message", "text"),
    [
        ("ValueError", "7", "7"),  # its class names it
        ("SystemExit", "7", "SystemExit: 7"),
        ("OutOfPaper", "tray 2", "OutOfPaper: tray 2"),
        ("OutOfPaper", "", "OutOfPaper"),
        ("WorkerError", "no room", "no room"),  # one of ours is a sentence
    ],
)
def test_an_error_of_a_foreign_type_names_it(kind, message, text):
    assert str(remote_error(Failure(kind, message), "gpu1")) == f"{text} (on gpu1)"


def test_attach_tells_a_process_from_a_job_inside_the_worker(pool):
    inside, outside = Journal().values(1).log("two"), Journal(streams=False)
    outside.add(STDOUT, b"one\ntwo\n")
    jobs = {"inside": inside, "outside": outside}
    outcomes = {
        "inside": inside.outcome(value=3),
        "outside": outside.outcome(exit_code=0),
    }
    with worker(jobs, outcomes) as fake, pool.add(fake.url, token=TOKEN) as conn:
        assert list(conn.attach("inside")) == [1, "two"]
        assert list(conn.attach("outside")) == ["one", "two"]
        assert conn.attach("outside").wait().exit_code == 0


def test_what_is_returned_is_no_message_where_values_came_before_the_offset(pool):
    journal = Journal().values(1, 2)
    first = len(Journal().values(1).data)
    jobs, outcomes = {"job": journal}, {"job": journal.outcome(value=3)}
    with worker(jobs, outcomes) as fake, pool.add(fake.url, token=TOKEN) as conn:
        assert list(conn.attach("job", offset=first)) == [2]
        assert list(conn.attach("job", offset=len(journal.data))) == []


def test_a_position_is_never_within_a_value(pool):
    journal = Journal().values("a", LARGE)
    begin = len(Journal().values("a").data)
    jobs = {"count": Journal()}
    jobs["count"].data = journal.data[:-1000]
    with worker(jobs, {}) as fake, pool.add(fake.url, token=TOKEN) as conn:
        live = conn.count(complete=False)
        assert live.next() == "a"
        received = len(journal.data) - 1000
        wait_until(lambda: live._async.intake.received == received)
        assert live.position == begin


def test_a_value_that_a_lost_link_has_cut_comes_once(pool):
    journal = Journal().values("a", LARGE, "b")
    ends = itertools.count(1)

    def answer(client: ClientLink) -> None:
        client.let_in((COUNT,), token=TOKEN)
        if next(ends) == 1:
            cut = Journal()
            cut.data = journal.data[: MAX_PAYLOAD + 500]
            served = Served(client, {"count": cut}, {})
            served.take(client.receive())
            return  # and the link is closed
        Served(client, {"count": journal}, {"count": journal.outcome()}).run()

    with FakeWorker(answer) as fake, pool.add(fake.url, token=TOKEN) as conn:
        live = conn.count(complete=False)
        assert [one[:1] for one in live] == ["a", "x", "b"]
        assert live.ok
        assert next(ends) == 3


def test_values_that_were_let_go_before_they_were_sent_are_told_of(pool):
    # The worker has kept head and tail: what it skips ends in the middle of a value.
    journal = Journal().values("head")
    begin = len(journal.data)
    journal.values("lost", LARGE)
    end = len(journal.data) - 24 - len(pack_yield(VALUE, LARGE)[-1])
    journal.values("tail")
    missing = sum(
        map(len, [*pack_yield(VALUE, "lost"), *pack_yield(VALUE, LARGE)[:-1]])
    )

    def answer(client: ClientLink) -> None:
        client.let_in((COUNT,), token=TOKEN)
        request = client.receive()
        assert isinstance(request, Request)
        client.send_raw(encode_data(request.call, 0, bytes(journal.data[:begin])))
        client.send(Skip(request.call, end))
        client.send_raw(encode_data(request.call, end, bytes(journal.data[end:])))
        client.send(Ended(request.call, journal.outcome()))
        client.listen()

    with FakeWorker(answer) as fake, pool.add(fake.url, token=TOKEN) as conn:
        done = conn.count()
        text = f"[mlepool: {missing} bytes of output were not kept]"
        assert list(done) == ["head", text, "tail"]
        assert done.ok


def test_what_was_let_go_at_the_very_end_is_told_of(pool):
    journal = Journal().values("head").lose(YIELDED, 77)
    jobs, outcomes = {"count": journal}, {"count": journal.outcome(value=1)}
    with worker(jobs, outcomes) as fake, pool.add(fake.url, token=TOKEN) as conn:
        text = "[mlepool: 77 bytes of output were not kept]"
        assert list(conn.count()) == ["head", text]


def test_values_that_left_memory_are_read_again(pool):
    values = [[number, "x" * 1000] for number in range(700)]
    journal = Journal().values(*values)
    jobs, outcomes = {"count": journal}, {"count": journal.outcome()}
    served = worker(jobs, outcomes, 100_000)
    with served as fake, pool.add(fake.url, token=TOKEN) as conn:
        done = conn.count(memory=0)
        assert list(done) == values
        assert done[7] == values[7]


GARBAGE = {
    "no message": Journal().add(YIELDED, b"garbage"),
    "no progress": Journal().add(YIELDED, pack_yield(PROGRESS, "x")[0]),
    "no kind": Journal().add(YIELDED, pack_yield(9, 1)[0]),
    "too deep": Journal().add(YIELDED, b"\x02\x10\x00\x80" + b"\x91" * 4098),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_fails_its_own_listener_only(pool, name):
    jobs, outcomes = counting()
    jobs["ask"] = GARBAGE[name]
    with worker(jobs, outcomes) as fake, pool.add(fake.url, token=TOKEN) as conn:
        live = conn.ask(complete=False)
        with pytest.raises(mlepool.JobLostError, match="yield|progress"):
            live.wait(20)
        assert conn.state["connection"] == "connected"
        assert list(conn.count()) == MESSAGES


def test_a_process_yields_nothing(pool):
    jobs = {"run": Journal().values(1)}
    with worker(jobs, {}) as fake, pool.add(fake.url, token=TOKEN) as conn:
        live = conn.run(command="x", complete=False)
        with pytest.raises(mlepool.JobLostError, match="a process has no"):
            live.wait(20)


def test_close_stops_the_jobs_it_owns_but_not_detached_ones(pool):
    with worker({"count": Journal()}, {}) as fake:
        with pool.add(fake.url, token=TOKEN) as conn:
            owned = conn.count(complete=False)
            conn.count(complete=False, detach=True)
        wait_until(lambda: stopped(fake) == [owned.id])


def stopped(fake: FakeWorker) -> list[str]:
    requests = (one for one in fake.messages() if isinstance(one, Request))
    return [one.arguments["job_id"] for one in requests if one.command == "stop"]


def test_one_that_was_stopped_says_so_and_shows_no_exit_status(pool):
    jobs, outcomes = counting("STOPPED", reason="stopped by ann")
    with worker(jobs, outcomes) as fake, pool.add(fake.url, token=TOKEN) as conn:
        with pytest.raises(mlepool.CommandError) as caught:
            conn.count(raise_error=True)
        text = str(caught.value)
        assert "'x' on" in text
        assert "ended as STOPPED: stopped by ann" in text
        assert "three" in text
        assert "exit" not in text


def test_options_of_jobs_are_those_of_runs_but_for_output_and_files(pool):
    with worker({}, {}) as fake, pool.add(fake.url, token=TOKEN) as conn:
        for name in ("encoding", "sync", "collect_to"):
            with pytest.raises(TypeError, match=name):
                conn.count(**{name: None})
        with pytest.raises(TypeError, match="input"):
            conn.ask(input="x")
