"""Callbacks are somebody else's code: what they raise is logged, and that is all."""

import logging
import sys

import pytest

from mlepool.client.events import Callbacks


@pytest.mark.parametrize("leave", [lambda name: {}[name], sys.exit])
def test_what_a_callback_raises_is_logged_and_the_others_are_called(leave, caplog):
    callbacks = Callbacks()
    seen: list[str] = []
    callbacks.add("lost", leave)
    callbacks.add("lost", seen.append)
    with caplog.at_level(logging.ERROR, "mlepool.client"):
        callbacks.emit("lost", "gpu1")
    assert seen == ["gpu1"]
    assert [one.getMessage() for one in caplog.records] == [
        "a callback for 'lost' failed"
    ]
