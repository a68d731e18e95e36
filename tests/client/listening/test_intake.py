"""What arrives for one call; what is no output ends that call's listener alone."""

from typing import Any

import msgspec
import pytest

import mlepool
from mlepool.supervisor.journal import Journal
from mlepool.wire.codec import encode, encode_data
from mlepool.wire.messages import Accepted, Ended, Outcome, Request
from mlepool.wire.records import HEADER_SIZE, STDOUT, pack_header
from tests.client.journals import RUN, TOKEN
from tests.raw import ClientLink, FakeWorker

pytestmark = pytest.mark.real

SIZE = 27  # bytes of the one record that is in order
DONE = Outcome("FAILED", exit_code=3, end=SIZE)


def data(position: int, payload: bytes) -> bytes:
    return encode_data(1, position, payload)


def record(offset: int, text: bytes, *, stream: int = STDOUT) -> bytes:
    return pack_header(stream, len(text), offset, time=1.0) + text


def end(**facts: Any) -> bytes:
    return encode(Ended(1, msgspec.structs.replace(DONE, **facts)))


# What comes of a journal that is damaged, where that is seen, and how it is said.
GOOD = record(0, b"hi\n")
DAMAGED: dict[str, tuple[list[bytes], int, str]] = {
    "no record": ([data(0, GOOD + b"x" * 100)], SIZE, "magic 0x78"),
    "in pieces": (
        [data(0, GOOD + b"x"), data(SIZE + 1, b"x" * 100)],
        SIZE,
        "magic 0x78",
    ),
    "before all": ([data(0, b"\0" * 5000)], 0, "magic 0x0"),
    "of no stream": ([data(0, record(0, b"x", stream=9))], 0, "stream 9"),
    "what is yielded": ([data(0, record(0, b"x", stream=3))], 25, "no stream"),
    "too long": ([data(0, pack_header(1, 2**31, 0, time=1.0))], 0, "2147483648 bytes"),
    "back": ([data(0, GOOD + record(0, b"x"))], SIZE, "goes back from 3 to 0"),
    "cut": ([data(0, GOOD[:-1]), end(end=SIZE - 1)], 0, "record is cut"),
    "other bytes": (
        [data(0, GOOD), end(stdout=3, digest="x")],
        SIZE,
        "digest.*FAILED, with the exit code 3",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_journal_fails_its_own_listener_only(name):
    frames, position, text = DAMAGED[name]

    def answer(client: ClientLink) -> None:
        client.let_in((RUN,), token=TOKEN)
        for call in (1, 2):
            assert isinstance(client.receive(), Request)
            client.send(Accepted(call))
        for frame in frames:
            client.send_raw(frame)
        client.send(Ended(2, Outcome("SUCCEEDED")))
        client.listen()

    with (
        FakeWorker(answer) as fake,
        mlepool.ClientPool() as pool,
        pool.add(fake.url, token=TOKEN) as conn,
    ):
        listener = conn.run(command="a", complete=False, detach=True)
        other = conn.run(command="b", complete=False, detach=True)
        where = f"job {listener.id} on .* damaged, as is seen at {position}: .*{text}"
        with pytest.raises(mlepool.JobLostError, match=where) as caught:
            listener.wait(20)
        assert (listener.status, listener.ok, listener.exit_code) == ("LOST", 0, None)
        assert str(listener.error) == str(caught.value)
        assert listener.position <= SIZE
        assert list(map(str, listener[:])) == (["hi"] if position == SIZE else [])
        with pytest.raises(mlepool.JobLostError, match=where):
            list(listener)
        assert other.wait(20).ok
        assert conn.state["connection"] == "connected"


def test_a_record_that_is_cut_may_be_the_last_of_a_lost_job():
    def answer(client: ClientLink) -> None:
        client.let_in((RUN,), token=TOKEN)
        client.receive()
        client.send_raw(data(0, GOOD + GOOD[:9]))
        client.send(Ended(1, Outcome("LOST", end=SIZE + 9, reason="it is cut")))
        client.listen()

    with (
        FakeWorker(answer) as fake,
        mlepool.ClientPool() as pool,
        pool.add(fake.url, token=TOKEN) as conn,
    ):
        listener = conn.run(command="a", detach=True)
        assert (listener.status, listener.reason) == ("LOST", "it is cut")
        assert list(map(str, listener)) == ["hi"]
        assert conn.state["connection"] == "connected"


def test_of_a_journal_that_is_damaged_on_disk_all_before_it_is_read(worker, conn):
    live = conn.run("read x; echo $x", stdin=True, complete=False)
    done = conn.run("echo one; sleep .2; echo two; sleep .2; echo three")
    second = HEADER_SIZE + len("one\n")
    damage(worker.state_dir, done.id, second)
    again = conn.attach(done.id)
    assert again.next() == "one"
    with pytest.raises(mlepool.JobLostError, match=f"seen at {second}: bad journal"):
        again.next()
    live.send_input("well\n")  # on the same connection
    assert live.wait(20).stdout == "well\n"
    assert conn.state["connection"] == "connected"


def damage(state_dir, job_id, position):
    journal = Journal(state_dir / "jobs", job_id)
    _, at = journal.locate(position)
    journal.close()
    with open(state_dir / "jobs" / f"{job_id}.journal", "r+b") as file:
        file.seek(at)
        file.write(b"\xff")
