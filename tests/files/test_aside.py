"""Long calculations beside an event loop."""

import asyncio
import threading

import pytest

from mlepool.files.aside import FEW, aside


@pytest.mark.parametrize(("count", "is_aside"), [(FEW, False), (FEW + 1, True)])
def test_what_takes_long_has_a_thread_of_its_own(count, is_aside):
    thread = asyncio.run(aside(count, threading.current_thread))
    assert (thread is not threading.main_thread()) == is_aside
