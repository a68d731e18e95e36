"""Callbacks that are due at a time."""

import gc
import time
import weakref

from mlepool.supervisor.timers import Timers


class Held:
    """Something that a callback keeps alive."""

    def call(self) -> None:
        """Do nothing."""


def test_what_is_due_is_called_once_and_in_order():
    timers, called = Timers(), []
    timers.after(0.002, lambda: called.append("second"))
    timers.set("name", 0.001, lambda: called.append("first"))
    assert timers.is_set("name")
    while len(called) < 2:
        time.sleep(timers.wait() or 0.0)
        timers.run()
    timers.run()
    assert called == ["first", "second"]
    assert (timers.wait(), timers.is_set("name")) == (None, False)


def test_what_is_set_again_is_called_at_its_new_time_only():
    timers, called = Timers(), []
    timers.set("name", 0.0, lambda: called.append("old"))
    timers.set("name", 0.0, lambda: called.append("new"))
    timers.run()
    assert called == ["new"]


def test_what_is_cancelled_is_never_called():
    timers, called = Timers(), []
    timers.set("name", 0.0, lambda: called.append("no"))
    assert timers.cancel("name")
    assert not timers.cancel("name")
    timers.run()
    assert called == []
    assert timers.wait() is None


def test_deadlines_that_are_days_away_hold_nothing_once_cancelled():
    timers = Timers()
    timers.set("stays", 1e6, Held().call)
    held = []
    for number in range(5000):
        one = Held()
        held.append(weakref.ref(one))
        timers.set(f"deadline {number}", 1e6, one.call)
        timers.cancel(f"deadline {number}")
    del one
    gc.collect()
    assert sum(ref() is not None for ref in held) < 200
    assert timers.is_set("stays")
    wait = timers.wait()
    assert wait is not None
    assert wait > 1e5
