"""Lines that run on hosts, one after the other."""

import sys
from collections.abc import Callable

import pytest

import mlepool
from mlepool.repl.host_mode import HostMode


@pytest.fixture
def type_lines(pool, capsys) -> Callable[..., str]:
    """Types lines in host mode; gives what was printed since."""

    def type_them(*lines: str | type[BaseException], on: str = "gpu1") -> str:
        waiting = iter([*lines, EOFError])

        def ask(prompt: str) -> str:
            sys.stdout.write(prompt)
            line = next(waiting)
            if isinstance(line, str):
                sys.stdout.write(f"{line}\n")
                return line
            raise line

        HostMode(pool, on, ask=ask).run()
        out, err = capsys.readouterr()
        return str(out + err)

    return type_them


def test_a_line_runs_there_and_its_failure_is_said(type_lines):
    said = type_lines("echo out; echo odd >&2; exit 3")
    assert "gpu1> echo out; echo odd >&2; exit 3\nout\n" in said
    assert "[FAILED exit 3 after 0." in said
    assert said.endswith("odd\n")  # on stderr


def test_cd_stays_and_belongs_to_the_connection(type_lines, pool, files):
    said = type_lines(f"cd {files}/deep", "pwd", "cd er && pwd", "cd ..", "pwd")
    assert f"gpu1> pwd\n{files}/deep\n" in said
    assert f"gpu1> cd er && pwd\n{files}/deep/er\n" in said
    assert f"gpu1> pwd\n{files}\n" in said
    assert pool["gpu1"].cwd().value == files
    assert "no such folder" in type_lines("cd /no/such/folder")


def test_exit_leaves_and_so_does_the_end_of_input(type_lines):
    for word in ("exit", "logout", " :exit ", EOFError):
        assert "never" not in type_lines(word, "echo never")


def test_ctrl_c_at_the_prompt_gives_another_one(type_lines):
    assert "still here" in type_lines(KeyboardInterrupt, "echo still here")


def test_jobs_are_listed_followed_and_stopped(type_lines, pool):
    job = pool["gpu1"].run("echo begun; sleep 60", complete=False)
    said = type_lines(":jobs", f":stop {job.id[:6]}", f":attach {job.id[:9]}")
    assert f"{job.id}  RUNNING" in said
    assert "STOPPED" in said
    assert f":attach {job.id[:9]}\nbegun\n" in said
    assert job.wait().status == "STOPPED"


def test_what_is_mistyped_is_said_and_nothing_ends(type_lines):
    said = type_lines(":jbos", ":stop", ":attach zz", ":help", "", ": comment")
    assert "there is no :jbos" in said
    assert "'zz' is the beginning of 0 jobs' ids" in said
    assert "  :attach ID" in said


def test_several_hosts_say_who_says_what(type_lines):
    said = type_lines("echo hi; exit 2", on="gpu1,gpu-2")
    lines = said.splitlines()
    assert "gpu1,gpu-2> echo hi; exit 2" in lines
    assert {"gpu1  | hi", "gpu-2 | hi"} <= set(lines)
    assert sum("[FAILED exit 2 after" in one for one in lines) == 2


def test_a_host_that_can_t_be_reached_is_said(type_lines, pool):
    pool.add("127.0.0.1", 1, name="gone")
    assert "mlepool: " in type_lines("true", on="gone")
    said = type_lines("echo hi", on="gone,gpu1")
    assert "gpu1 | hi" in said
    assert "gone | [LOST" in said


def test_a_host_that_there_is_not_is_an_error(pool):
    with pytest.raises((KeyError, mlepool.MlepoolError)):
        HostMode(pool, "nobody")


@pytest.mark.parametrize("word", [":on", "%on"])
def test_other_hosts_are_a_line_away_and_exit_comes_back(word, type_lines):
    said = type_lines(f"{word} gpu-2", "echo at $((6*7))", "exit", "echo back")
    assert "lines run on gpu-2;" in said
    assert "gpu-2> echo at $((6*7))\nat 42\n" in said
    assert "gpu1> echo back\nback\n" in said
    assert "\n42\n" in type_lines(f"{word} gpu-2 echo $((6*7))")
    assert "mlepool: the pool has no 'nobody'" in type_lines(f"{word} nobody")
    assert "mlepool: say which hosts" in type_lines(word)
