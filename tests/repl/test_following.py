"""What is printed while a command runs, and what Ctrl-C leaves."""

import io
import sys

import pytest

from mlepool.repl.following import Follower


class Interrupted(io.StringIO):
    """A screen at which somebody presses Ctrl-C when a word is printed."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self.word = word

    def write(self, text: str) -> int:
        if self.word in text:
            raise KeyboardInterrupt
        return super().write(text)


@pytest.fixture
def hosts(pool):
    pool.connect()
    return list(pool)


def test_what_is_rewritten_is_rewritten_for_one_host_and_not_for_many(
    pool, hosts, capsys
):
    line = "printf '10%%\\r'; sleep 0.15; printf '20%%\\r'; sleep 0.15; echo done"
    assert Follower(hosts).follow(pool["gpu1"].run(line, complete=False))
    said = capsys.readouterr().out
    assert said.startswith("10%\r")
    assert said.endswith("done\n")
    assert Follower(hosts).follow_all(pool.run(line, complete=False))
    lines = capsys.readouterr().out.splitlines()
    assert sorted(lines) == ["gpu-2 | done", "gpu1  | done"]


def test_values_are_shown_as_python_writes_them(pool, hosts, capsys):
    Follower(hosts).follow(pool["gpu1"].cwd())
    assert capsys.readouterr().out.startswith("'/")


def test_ctrl_c_while_printing_leaves_the_job_and_says_so_once(
    pool, hosts, *, caplog, monkeypatch
):
    live = pool["gpu1"].run("echo begun; sleep 60", complete=False)
    monkeypatch.setattr(sys, "stdout", Interrupted("begun"))
    assert not Follower(hosts).follow(live)
    (said,) = [one.getMessage() for one in caplog.records]
    assert said.startswith(f"job {live.id} goes on on gpu1")
    assert hosts[0]._async.owned() == []
    live.stop()


def test_ctrl_c_leaves_the_jobs_of_all_hosts(pool, hosts, *, caplog, monkeypatch):
    live = pool.run("echo begun; sleep 60", complete=False, max_parallel=1)
    monkeypatch.setattr(sys, "stdout", Interrupted("begun"))
    assert not Follower(hosts).follow_all(live)
    assert [one.getMessage()[:16] for one in caplog.records] == ["1 job goes on: g"]
    assert len(live.skipped) == 1
    live.stop()
