"""What a shell is told may follow."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import mlepool as package
from mlepool.cli.completing import complete, words_of
from tests.cli.shell import LIMIT, mlepool
from tests.needs import need_program

HOSTS = """
[hosts."gpu[1-2]"]
labels = { gpu = "a100", zone = "a" }

[hosts.lab]

[groups.train]
members = "gpu[1-2]"
"""


@pytest.fixture
def listed(elsewhere) -> Path:
    elsewhere.mkdir()
    (elsewhere / "hosts.toml").write_text(HOSTS)
    folder: Path = elsewhere
    return folder


def found(*words: str) -> list[str]:
    return [one.text for one in complete(words)]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("mlepool ", [""]),
        ("mlepool run -H gp", ["run", "-H", "gp"]),
        ("mlepool run -H 'gpu[1-8],!g", ["run", "-H", "gpu[1-8],!g"]),
        ('mlepool  run "a b" c\\ d ', ["run", "a b", "c d", ""]),
        ("mlepool run ''", ["run", ""]),
    ],
)
def test_a_line_is_cut_as_a_shell_does(line, words):
    assert words_of(line) == words


def test_subcommands_their_actions_and_options():
    assert found("st") == ["stop"]
    assert {"run", "sync", "top", "completion"} <= set(found(""))
    assert found("--v") == ["--version"]
    assert found("token", "r") == ["revoke", "rotate"]
    assert found("logs", "--t") == ["--tail", "--timestamps"]
    assert "--expires" in found("token", "create", "--")
    assert found("completion", "z") == ["zsh"]
    assert found("rum", "") == []


@pytest.mark.usefixtures("listed")
def test_hosts_groups_and_labels_also_after_a_comma():
    assert found("run", "-H", "") == ["gpu1", "gpu2", "lab", "@train"]
    assert found("run", "-w", "gpu1,g") == ["gpu1,gpu2"]
    assert found("jobs", "--hosts=@") == ["--hosts=@train"]
    assert found("jobs", "-H", "@train,!g") == ["@train,!gpu1", "@train,!gpu2"]
    assert found("top", "-l", "gpu=a100,zo") == ["gpu=a100,zone=a"]
    assert found("top", "-l", "!cpu.c") == ["!cpu.cores"]
    (first, *_) = complete(["run", "-H", "gpu1"])
    assert first.about == "gpu=a100,zone=a"


def test_files_and_what_is_the_commands_own():
    assert found("put", "-H", "gpu1", "") == [":files"]
    assert found("run", "--sync", "") == [":files"]
    assert found("run", "-H", "gpu1", "make", "-") == []
    assert found("run", "-H", "gpu1", "--", "") == []
    assert "--cwd" in found("run", "--timeout", "3", "--c")


@pytest.mark.real
def test_jobs_of_workers_and_for_stop_only_those_that_run(host, worker):
    with package.ClientPool() as pool, pool.add(host) as conn:
        ended = conn.run("true").id
        live = conn.run("exec sleep 60", complete=False)
        assert found("logs", "-H", host, ended[:6]) == [ended]
        assert found("stop", "-H", host, ended[:6]) == []
        assert found("stop", "-H", f"{host},localhost:1", live.id[:6]) == [live.id]
        assert found("attach", live.id[:6]) == [live.id]  # of this machine's workers
        assert found("stop", "-H", host, live.id, live.id[:6]) == []
        live.stop("SIGKILL")


@pytest.mark.real
def test_whatever_is_wrong_nothing_is_said(elsewhere):
    elsewhere.mkdir()
    (elsewhere / "hosts.toml").write_text("[hosts")
    assert mlepool("__complete", "run", "-H", "g") == (0, "", "")
    assert mlepool("__complete", "logs", "-H", "[", "") == (0, "", "")


@pytest.fixture
def program(tmp_path, monkeypatch) -> None:
    """Make ``mlepool`` a program that shells find."""
    path = tmp_path / "bin" / "mlepool"
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -m mlepool "$@"\n')
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")


def ask(*command: str) -> list[str]:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT, check=True
    )
    return done.stdout.splitlines()


@pytest.mark.real
@pytest.mark.usefixtures("program", "listed")
def test_bash_is_told_what_follows_its_own_idea_of_a_word():
    need_program("bash")
    asks = (
        'source <(mlepool completion bash); go() { COMP_LINE="$1" COMP_POINT=${#1}; '
        'COMP_WORDS=(mlepool); _mlepool; echo "${COMPREPLY[@]}"; }; '
        "go 'mlepool st'; go 'mlepool jobs --hosts=gpu1,g'; go 'mlepool top -H @t'; "
        """go "mlepool top -H 'gpu1,l" """
    )
    assert ask("bash", "-c", asks) == ["stop", "gpu1,gpu2", "@train", "gpu1,lab"]


@pytest.mark.real
@pytest.mark.usefixtures("program", "listed")
def test_fish_is_told_with_explanations():
    need_program("fish")
    asks = "mlepool completion fish | source; complete -C 'mlepool top -H @t'"
    assert ask("fish", "--no-config", "-c", asks) == ["@train\t2 hosts"]
