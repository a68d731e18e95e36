"""A unit says what systemd understands as it was meant, whatever the names."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from mlepool.cli.unit import is_ours, mark, quote, unit_name, unit_text
from tests.cli import units
from tests.needs import need_program
from tests.tools import steady

ODD = Path('/tmp/a b/100%n/$HOME/"q"/it\'s/back\\slash/\t\n/\xe9\udcff')


def written(folder: Path, *arguments: str, is_system: bool = False) -> Path:
    """Write a unit that starts a program with arguments."""
    path = folder / "mlepool.service"
    command = ["/bin/sh", *arguments]
    text = unit_text(command, {}, state_dir=ODD, is_system=is_system)
    path.write_text(text, "utf-8")
    return path


@given(st.text(st.characters(exclude_characters="\0")))
@steady
def test_a_word_is_read_as_it_was_written(word):
    assert units.words(quote(word)) == [word]


def test_arguments_are_no_variables_and_no_specifiers(tmp_path):
    odd = ["--name=100%", "$HOME", "${X}$$", "a b", '"', "\\", "\n;", "\udcff", ""]
    path = written(tmp_path, *odd)
    assert units.command(path) == ["/bin/sh", *odd]
    (line,) = units.values(path, "ExecStart")
    assert '"--name=100%%" "$$HOME" "$${X}$$$$"' in line


def test_settings_are_quoted_and_their_dollars_stay():
    setting = {"MLEPOOL_HOME": "/a b/$x%"}
    text = unit_text(["/x"], setting, state_dir=Path("/s"), is_system=False)
    assert 'Environment="MLEPOOL_HOME=/a b/$x%%"\n' in text


def test_a_unit_minds_the_worker_alone_and_for_ever(tmp_path):
    path = written(tmp_path)
    wanted = {
        "Restart": "always",
        "StartLimitIntervalSec": "0",
        "KillMode": "process",
        "OOMPolicy": "continue",
        "Delegate": "yes",
        "WantedBy": "default.target",
    }
    assert {key: units.values(path, key)[-1] for key in wanted} == wanted
    assert units.values(written(tmp_path, is_system=True), "WantedBy") == [
        "multi-user.target"
    ]


def test_a_unit_is_known_by_its_first_line(tmp_path):
    text = written(tmp_path).read_text()
    assert is_ours(text)
    assert text.splitlines()[0] == mark(ODD) != mark(ODD.parent)
    assert mark(ODD).isascii()
    assert not is_ours("[Unit]\n")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("", "mlepool.service"),
        ("second", "mlepool-second.service"),
        ("a b/c@d%", "mlepool-a-b-c-d.service"),
        ("-..-", "mlepool.service"),
        ("x" * 300, f"mlepool-{'x' * 200}.service"),
    ],
)
def test_a_units_name_is_one(name, file):
    assert unit_name(name) == file


@pytest.mark.real
@pytest.mark.parametrize("manager", ["--user", "--system"])
def test_systemd_finds_nothing_wrong(tmp_path, manager):
    program = need_program("systemd-analyze")
    path = written(tmp_path, "a b", "$x", "100%", is_system=manager == "--system")
    done = subprocess.run(
        [program, manager, "verify", "--recursive-errors=no", str(path)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
