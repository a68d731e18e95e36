"""A descriptor that tells of ended children: in a process of its own, as it is one."""

import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.real

TOLD = """
import os, select, signal
from mlepool.supervisor.signals import INHERITED_MASK, read_signals, watch_children
children = watch_children()
def is_told(limit):
    return bool(select.select([children], [], [], limit)[0])
before = is_told(0)
pid = os.posix_spawn("/bin/true", ["true"], {})
told = is_told(20)
read_signals(children)
read_signals(children)  # there is nothing more, and it does not wait
mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
print(before, told, is_told(0), os.waitpid(pid, 0)[1], mask - INHERITED_MASK)
"""
UNABLE = """
import ctypes, signal
from mlepool.supervisor import signals
class Library:
    def __init__(self, *arguments, **options):
        self.sigemptyset = self.sigaddset = lambda *arguments: 0
ctypes.CDLL = Library
print(signals.watch_children(), end=" ")
Library.signalfd = lambda *arguments: -1
print(signals.watch_children(), signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""


def said(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.strip()


def test_a_child_s_end_is_told_by_a_descriptor():
    assert said(TOLD) == f"False True False 0 { {signal.SIGCHLD} }"


def test_where_there_is_none_no_signal_is_blocked():
    assert said(UNABLE) == "None None set()"
