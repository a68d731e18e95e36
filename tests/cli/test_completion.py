"""mlepool completion: scripts that shells can read."""

import subprocess

import pytest

from mlepool.cli.completion import SCRIPTS
from tests.needs import need_program


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_script_is_one_of_its_shell(shell, here):
    need_program(shell)
    done = here("completion", shell)
    assert (done.status, done.out, done.err) == (0, SCRIPTS[shell], "")
    subprocess.run([shell, "-n"], input=done.out, text=True, check=True)


def test_by_default_it_is_for_the_users_own_shell(here, monkeypatch):
    monkeypatch.setenv("SHELL", "/usr/bin/zsh")
    assert here("completion").out == SCRIPTS["zsh"]
    monkeypatch.setenv("SHELL", "/bin/dash")
    done = here("completion")
    assert (done.status, done.out) == (2, "")
    assert "give bash, zsh or fish" in done.err
