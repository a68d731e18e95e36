"""Python's own prompt, typed at on a terminal; and what it gives for lines."""

import builtins
from collections.abc import Iterator

import pytest

from mlepool.repl.console import Console, display
from tests.cli.shell import mlepool
from tests.repl.prompts import prompt

pytestmark = pytest.mark.real

CALLED = '  File "<console>", line 1, in <module>'


@pytest.fixture
def console(pool) -> Iterator[Console]:
    yield Console({"pool": pool, "gpu1": pool["gpu1"]})
    if hasattr(builtins, "_"):
        del builtins._


def test_hosts_are_names_tab_knows_them_and_lines_run_there(home, tmp_path):
    with prompt(home, str(tmp_path), "--plain") as at:
        assert at.wait_for(r"hosts: ([\w, ]+)\r\n")[1] == "gpu1, gpu_2"
        at.wait_for(">>> ")
        at.type("gpu1.server_m\t()[0]\r")
        at.wait_for(r"server_methods\(\)\[0\]\r\n'\w+'")
        at.type("gpu_2.run('echo from there').stdout\r")
        at.wait_for("'from there")
        at.type("gpu1.ls('/etc/hostn\t').value.path\r")
        at.wait_for(r"\n'/etc/hostname'")
        at.type(":on gpu1\r")
        at.wait_for("gpu1> ")
        at.type("cd /us\t\r")
        at.wait_for("/usr\r\n.*gpu1> ")
        at.type("pwd; sleep 60\r")
        at.wait_for("\n/usr")
        at.type("\x03")
        job_id = at.wait_for(r"job (\w{16}) goes on on gpu1")[1]
        at.wait_for("gpu1> ")
        at.type(f":stop {job_id[:9]}\r")
        at.wait_for("STOPPED; SIGINT to .*nothing is left")
        at.type("exit\r1 + 1\r")
        at.wait_for(r"2\r\n>>> ")
        at.type("gpu1.cwd()\r")
        at.wait_for("/usr\r\n>>> ")  # its value; and it is where host mode has gone
        at.type("\x04")
        assert at.end() == 0


def test_lines_from_a_pipe_run_and_jobs_that_go_on_are_named(home):
    asked = "-w", "gpu1,new-host:7"
    lines = "pool.names\n:on gpu1 echo there\nlive = gpu1.run('sleep 60', \
complete=False)\n"
    done = mlepool("shell", "--plain", *asked, stdin=lines, MLEPOOL_HOME=home)
    assert "hosts: gpu1, new_host_7\n" in done.err
    assert (done.status, ">>> there\n" in done.out) == (0, True)
    assert "['gpu1', 'new-host:7']" in done.out
    job_id = done.err.rpartition("mlepool: job ")[2][:16]
    assert f"job {job_id} goes on on gpu1: attach('{job_id}')" in done.err
    chosen = f"print(pool.names, gpu_2.stop('{job_id}').value.status)\n"
    done = mlepool("shell", "--plain", "-l", "zone=b", stdin=chosen, MLEPOOL_HOME=home)
    assert "['gpu-2'] STOPPED" in done.out


def test_a_statement_in_the_making_is_python_s(console, capsys):
    assert console.push("text = '''")
    assert console.push(":on gpu1 echo there")
    assert not console.push("'''")
    assert not console.push("print(text)")
    assert capsys.readouterr().out == "\n:on gpu1 echo there\n\n"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (":on", "mlepool: say which hosts"),
        (":on nobody", "mlepool: the pool has no 'nobody'"),
        (":on -l zone=moon", "mlepool: no host fits 'zone=moon'"),
        (":on gpu1 exit 3", "[FAILED exit 3 after"),
        (":onwards", None),
    ],
)
def test_what_can_t_be_done_is_a_line(console, capsys, *, line, said):
    assert not console.push(line)
    out, err = capsys.readouterr()
    assert (said in out and not err) if said else "SyntaxError" in err


def test_an_error_is_as_short_as_it_can_be(console, capsys):
    console.push("gpu1.no_such_command()")
    short = capsys.readouterr().err.splitlines()
    assert short[:2] == ["Traceback (most recent call last):", CALLED]
    assert short[2].startswith("AttributeError: the worker gpu1 has no command")
    assert len(short) == 3
    console.push("1 / 0")
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_value_is_shown_and_the_listener_is_the_last_result(console, capsys, pool):
    display(pool["gpu1"].which("sh"))
    assert "/sh" in capsys.readouterr().out
    assert builtins._.ok  # type: ignore[attr-defined]
    display(pool["gpu1"].run("true"))
    assert capsys.readouterr().out.startswith("<Listener run 'true' on gpu1: SUCC")
