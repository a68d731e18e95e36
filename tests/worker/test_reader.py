"""Readers of a job's output: what is at hand goes at once, under credit."""

from pathlib import Path
from typing import Any

import pytest

from mlepool.wire.messages import Ended, Outcome
from mlepool.wire.window import SendWindow
from mlepool.worker.job import Job, Status
from mlepool.worker.reader import Reader


class Peer:
    """Takes what is sent; bytes as call, position and data."""

    is_full = is_gone = False

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        self.sent.append(message)

    def send_bytes(self, *parts: Any) -> None:
        self.sent.append(parts)


def reader_of(folder: Path, *, window: int = 1 << 20) -> tuple[Reader, Peer]:
    """Give a reader of a job that has no file: it can send news alone."""
    job, peer = Job("job", "", folder=folder / "not there"), Peer()
    job.become(Status.RUNNING)
    reader = Reader(
        *(job, 7, peer),  # type: ignore[arg-type]
        window=SendWindow(0, window),
        finished=lambda one: peer.sent.append("finished"),
    )
    return reader, peer


def test_news_are_sent_once_and_the_end_behind_them(tmp_path):
    reader, peer = reader_of(tmp_path)
    job = reader.job
    for news in (b"one", b"three"):
        job.position, job.fresh = job.position + len(news), news
        for _ in range(2):
            reader.pump()
    assert peer.sent == [(7, 0, b"one"), (7, 3, b"three")]
    job.outcome = Outcome("SUCCEEDED", end=8)
    reader.pump()
    assert peer.sent[2:] == [Ended(7, job.outcome), "finished"]


@pytest.mark.parametrize(("window", "is_sent"), [(9, False), (10, True)])
def test_news_wait_for_credit_for_all_of_them(tmp_path, window, is_sent):
    reader, peer = reader_of(tmp_path, window=window)
    reader._is_roomy = True  # there is credit to come: nothing is cut
    reader.job.position, reader.job.fresh = 10, b"0123456789"
    reader.pump()
    assert peer.sent == ([(7, 0, b"0123456789")] if is_sent else [])
    reader.grant(20)
    assert peer.sent == [(7, 0, b"0123456789")]


def test_news_wait_for_a_link_that_is_full(tmp_path):
    reader, peer = reader_of(tmp_path)
    reader.job.position, reader.job.fresh = 3, b"one"
    peer.is_full = True
    reader.pump()
    assert peer.sent == []
    peer.is_full = False
    reader.pump()
    assert peer.sent == [(7, 0, b"one")]
