"""What `run` asks for, and its other name."""

import inspect
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from mlepool.worker.commands import builtin_commands, shell
from mlepool.worker.registry import Registry, describe

CTX = SimpleNamespace(cwd=Path("/exp"))


def test_a_command_runs_where_the_connection_is():
    for cwd, place in ((None, "/exp"), ("out", "/exp/out"), ("/x", "/x")):
        assert shell.run(CTX, "true", cwd=cwd).cwd == place
    assert shell.run(CTX, ["true"], cwd="~").cwd == str(Path.home())


@pytest.mark.parametrize(
    ("command", "keywords", "cause"),
    [
        (["a\0b"], {}, "command: there is a NUL in it"),
        (["echo", b"a\0b"], {}, "command: there is a NUL in it"),
        ("echo a\0b", {}, "command: there is a NUL in it"),
        ("true", {"cwd": "/tmp/\0"}, "cwd: there is a NUL in it"),
        ("true", {"env": {"A": "b\0c"}}, "env: there is a NUL in A"),
        ("true", {"env": {"A=B": "c"}}, "env: 'A=B' can't be a variable's name"),
        ("true", {"env": {"": "c"}}, "env: '' can't be a variable's name"),
    ],
)
def test_what_no_process_can_be_given_is_named(command, keywords, cause):
    with pytest.raises(ValueError, match=re.escape(f"run(): {cause}")):
        shell.run(CTX, command, **keywords)


def test_exec_is_run_by_the_name_of_conplyent():
    ours, theirs = (describe(one, getattr(shell, one)) for one in ("run", "exec"))
    assert [one.name for one in theirs.parameters][0] == "cmd"
    assert theirs.parameters[1:] == ours.parameters[1:]
    assert theirs.spawns
    assert "    cmd: A list" in (inspect.getdoc(shell.exec) or "")
    registry = Registry(builtin_commands())
    called = registry.find("exec").call(CTX, {"cmd": ["echo", "x"], "cwd": "out"})
    assert called == shell.run(CTX, ["echo", "x"], cwd="out")
