"""Turns: others wait until nobody is at it."""

import threading
import time

from mlepool.files.chunks import chunk_bytes
from mlepool.files.proofs import Record, file_clock
from mlepool.files.store import STEP_PATIENCE, Store
from mlepool.files.turns import Turn

SOON = 30.0  # seconds; far above what it takes


def test_nobody_is_waited_for_where_nobody_is():
    assert Turn().wait_out(0)


def test_who_is_at_it_is_waited_for_but_not_for_ever():
    turn = Turn()
    with turn:
        assert not turn.wait_out(0.01)
    assert turn.wait_out(0)


def test_all_who_are_at_it_are_waited_for():
    turn, waited = Turn(), []
    turn.begin()
    turn.begin()
    other = threading.Thread(target=lambda: waited.append(turn.wait_out(SOON)))
    other.start()
    turn.end()
    assert not turn.wait_out(0.01)
    assert not waited
    turn.end()
    other.join()
    assert waited == [True]


def test_what_is_noted_gives_way_to_who_syncs_but_not_for_ever(tmp_path):
    store, path = Store(tmp_path / "store"), tmp_path / "file"
    path.write_bytes(b"content")
    chunks = chunk_bytes(b"content")
    noted = [Record(bytes(path), path.stat(), chunks, file_clock())]
    with store.syncs:
        way = {"gives_way": True}
        other = threading.Thread(target=store.note, args=[noted], kwargs=way)
        begin = time.monotonic()
        other.start()
        other.join()
        assert time.monotonic() - begin >= STEP_PATIENCE
    assert store.find([chunks[0].digest])
    store.close()
