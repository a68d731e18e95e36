import threading

from mlepool.transport.scratch import SCRATCH_SIZE, scratch


def test_a_thread_has_one_room_and_another_thread_has_another():
    ours, theirs = scratch(), []
    thread = threading.Thread(target=lambda: theirs.append(scratch()))
    thread.start()
    thread.join()
    assert scratch() is ours
    assert theirs[0] is not ours
    assert len(ours) == len(theirs[0]) == SCRATCH_SIZE
