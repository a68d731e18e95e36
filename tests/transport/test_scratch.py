import platform
import subprocess
import sys
import threading

import pytest

from mlepool.transport.scratch import SCRATCH_SIZE, scratch


def test_a_thread_has_one_room_and_another_thread_has_another():
    ours, theirs = scratch(), []
    thread = threading.Thread(target=lambda: theirs.append(scratch()))
    thread.start()
    thread.join()
    assert scratch() is ours
    assert theirs[0] is not ours
    assert len(ours) == len(theirs[0]) == SCRATCH_SIZE


FRAMES = """
import resource, sys
from mlepool.transport.scratch import keep_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def take_frames():
    return [bytearray(1 << 20) for _ in range(4)]

if sys.argv[1:]:
    keep_memory()
take_frames()
before = faults()
for _ in range(20):
    take_frames()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's way")
def test_memory_of_large_frames_is_kept_for_the_next_ones():
    kept, given_back = page_faults("keep"), page_faults()
    assert kept < 1000 < given_back  # of 20,000 pages


def page_faults(*arguments: str) -> int:
    """Count what it takes to make large frames anew, several at a time."""
    command = [sys.executable, "-c", FRAMES, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout)
