"""What is kept of jobs that have ended, when the rules change."""

import os

from mlepool.config import Retention
from mlepool.worker.retention import Shelf


def test_other_rules_hold_from_the_next_sweep_on(tmp_path):
    for number in range(5):
        path = tmp_path / f"job{number}.journal"
        path.write_bytes(b"x")
        os.utime(path, (1000 + number, 1000 + number))
    rules = Retention(seconds=float("inf"))
    shelf = Shelf(tmp_path, rules, keep_free=0.0)
    assert shelf.sweep(()) == []
    shelf.change(Retention(seconds=float("inf"), jobs=2), keep_free=0.0)
    assert shelf.sweep(()) == ["job2", "job1", "job0"]
    assert shelf.latest(9) == ["job3", "job4"]
