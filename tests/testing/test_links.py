import asyncio

import pytest

from mlepool.testing.links import (
    CLOSED,
    CUT,
    WRITE_HIGH,
    WRITE_LOW,
    MemoryLink,
    Recorder,
    memory_pair,
)
from mlepool.wire.codec import MAX_FRAME
from tests.tools import in_jumping_time


def recorded_pair() -> tuple[MemoryLink, Recorder, MemoryLink, Recorder]:
    near, far = memory_pair()
    near_recorder, far_recorder = Recorder(), Recorder()
    near.attach(near_recorder)
    far.attach(far_recorder)
    return near, near_recorder, far, far_recorder


async def settle() -> None:
    """Let everything happen that happens without a timer."""
    await asyncio.sleep(1)


@in_jumping_time
async def test_nothing_arrives_inside_of_send():
    near, _, _, recorder = recorded_pair()
    near.send(b"frame")
    assert recorder.frames == []
    await settle()
    assert recorder.frames == [b"frame"]


@in_jumping_time
async def test_what_a_real_channel_would_show_can_be_given():
    near, far = memory_pair(channel=b"key", is_local=False)
    for link in (near, far):
        assert link.info.channel == b"key"
        assert not link.info.is_local


# -- stall and resume


@in_jumping_time
async def test_a_stalled_end_takes_nothing_and_misses_nothing():
    near, _, far, recorder = recorded_pair()
    far.stall()
    near.send(b"one")
    near.send(b"two")
    await settle()
    assert (recorder.frames, recorder.notes) == ([], 0)
    far.resume()
    await settle()
    assert recorder.frames == [b"one", b"two"]
    assert recorder.notes == 2


@in_jumping_time
async def test_a_stalled_end_still_sends():
    near, recorder, far, _ = recorded_pair()
    far.stall()
    far.send(b"one way")
    await settle()
    assert recorder.frames == [b"one way"]


@in_jumping_time
async def test_a_stalled_end_learns_of_a_close_when_it_goes_on():
    near, near_recorder, far, recorder = recorded_pair()
    far.stall()
    near.send(b"last")
    near.close()
    await settle()
    assert near_recorder.losses == ["closed by this side"]
    assert recorder.losses == []
    far.resume()
    await settle()
    assert recorder.frames == [b"last"]
    assert recorder.losses == [CLOSED]


@in_jumping_time
async def test_a_stalled_end_may_close_before_it_learns_of_the_others_close():
    near, near_recorder, far, recorder = recorded_pair()
    far.stall()
    near.send(b"never taken")
    near.close()
    far.close()
    await settle()
    assert recorder.frames == []
    assert recorder.losses == near_recorder.losses == ["closed by this side"]


@in_jumping_time
async def test_what_is_sent_to_an_end_that_has_just_closed_is_lost():
    near, near_recorder, far, recorder = recorded_pair()
    far.close()
    near.send(b"too late")
    near.cut()
    far.send(b"too late")
    await settle()
    assert recorder.frames == near_recorder.frames == []
    assert recorder.losses == ["closed by this side"]


@in_jumping_time
async def test_a_receiver_may_stall_its_link_between_two_frames():
    near, _, far, _ = recorded_pair()

    class Stalling(Recorder):
        def frame_received(self, frame: bytes | memoryview) -> None:
            super().frame_received(frame)
            far.stall()

    recorder = Stalling()
    far.attach(recorder)
    for number in range(3):
        near.send(bytes([number]))
    await settle()
    assert recorder.frames == [b"\0"]
    far.resume()
    await settle()
    assert recorder.frames == [b"\0", b"\1"]


@in_jumping_time
async def test_a_link_is_full_above_its_mark_and_not_at_it():
    near, recorder, far, _ = recorded_pair()
    far.stall()
    near.send(bytes(WRITE_HIGH))
    assert not near.is_full
    near.send(b"1")
    assert near.is_full
    far.resume()
    await settle()
    assert not near.is_full
    assert recorder.resumed == 1


@in_jumping_time
async def test_a_link_stays_full_until_little_is_left():
    near, recorder, far, far_recorder = recorded_pair()
    far.stall()
    near.send(bytes(WRITE_HIGH))
    near.send(bytes(WRITE_LOW + 1))
    near.send(b"")
    assert near.is_full

    class StallsAgain(Recorder):
        def frame_received(self, frame: bytes | memoryview) -> None:
            super().frame_received(frame)
            far.stall()

    far.attach(StallsAgain())
    far.resume()
    await settle()
    assert near.is_full
    assert recorder.resumed == 0
    far.resume()
    await settle()
    assert not near.is_full
    assert recorder.resumed == 1


@in_jumping_time
async def test_who_fills_the_link_again_at_once_is_told_only_when_it_is_free():
    near, recorder, far, _ = recorded_pair()

    class Refills(Recorder):
        def frame_received(self, frame: bytes | memoryview) -> None:
            super().frame_received(frame)
            if len(self.frames) == 1:
                far.stall()
                near.send(bytes(WRITE_HIGH + 1))

    far.attach(Refills())
    far.stall()
    near.send(bytes(WRITE_HIGH + 1))
    far.resume()
    await settle()
    assert near.is_full
    assert recorder.resumed == 0


# -- cut


@in_jumping_time
async def test_a_cut_ends_both_and_loses_what_was_on_its_way():
    near, near_recorder, far, far_recorder = recorded_pair()
    near.send(b"lost")
    far.send(b"lost too")
    far.stall()
    near.stall()
    far.cut()
    await settle()
    for recorder in (near_recorder, far_recorder):
        assert recorder.frames == []
        assert recorder.losses == [CUT]
        assert recorder.late == []


@in_jumping_time
async def test_a_cut_in_the_turn_of_a_send_is_before_it():
    near, near_recorder, far, recorder = recorded_pair()
    near.send(b"lost")
    far.cut()
    await settle()
    assert (recorder.frames, recorder.notes) == ([], 0)
    assert recorder.losses == near_recorder.losses == [CUT]


@pytest.mark.parametrize(
    ("after", "frames", "notes"),
    [
        (1, [], 1),
        (2, [], 1),
        (3, [b"abc"], 1),
        (4, [b"abc"], 2),
        (5, [b"abc", b"de"], 2),
        (6, [b"abc", b"de", b""], 4),
        (9, [b"abc", b"de", b"", b"fghi"], 4),
    ],
)
@in_jumping_time
async def test_a_cut_comes_after_so_many_bytes(after, frames, notes):
    near, near_recorder, far, recorder = recorded_pair()
    far.cut(after_bytes=after)
    for frame in (b"abc", b"de", b"", b"fghi", b"j"):
        near.send(frame)
    await settle()
    assert recorder.frames == frames
    assert recorder.notes == notes
    assert recorder.losses == near_recorder.losses == [CUT]


@in_jumping_time
async def test_a_cut_counts_from_when_it_was_asked_for():
    near, _, far, recorder = recorded_pair()
    near.send(b"before")
    await settle()
    far.cut(after_bytes=4)
    near.send(b"1234")
    near.send(b"5")
    await settle()
    assert recorder.frames == [b"before", b"1234"]


@in_jumping_time
async def test_a_cut_concerns_only_what_this_end_takes_in():
    near, recorder, far, _ = recorded_pair()
    far.cut(after_bytes=2)
    far.send(b"a long frame the other way")
    await settle()
    assert recorder.frames == [b"a long frame the other way"]
    assert recorder.losses == []


@in_jumping_time
async def test_a_cut_after_the_end_changes_nothing():
    near, near_recorder, far, far_recorder = recorded_pair()
    near.close()
    await settle()
    far.cut()
    near.cut(after_bytes=5)
    await settle()
    assert len(near_recorder.losses) == len(far_recorder.losses) == 1


@in_jumping_time
async def test_a_cut_before_anybody_is_attached_is_told_at_attach():
    near, far = memory_pair()
    near.send(b"lost")
    far.cut()
    await settle()
    for link in (near, far):
        recorder = Recorder()
        link.attach(recorder)
        assert recorder.losses == [CUT]
        assert recorder.frames == []


# -- the limit


@in_jumping_time
async def test_a_frame_over_the_limit_is_blamed_on_its_sender():
    near, near_recorder, far, far_recorder = recorded_pair()
    near.send(bytes(MAX_FRAME))
    near.send(bytes(MAX_FRAME + 1))
    await settle()
    assert len(far_recorder.frames) == 1
    assert far_recorder.losses == [f"a frame of {MAX_FRAME + 1} bytes was announced"]
    assert near_recorder.losses == [CLOSED]


# -- the recorder


@in_jumping_time
async def test_a_recorder_notes_what_comes_too_late():
    recorder = Recorder()
    recorder.frame_received(b"in time")
    recorder.link_lost("first")
    recorder.frame_received(b"late")
    recorder.bytes_received()
    recorder.writable()
    recorder.link_lost("second")
    assert recorder.late == ["a frame", "bytes", "writable", "another loss"]
    assert recorder.losses == ["first", "second"]
    assert await recorder.lost() == "first"
    await recorder.noted(1)
