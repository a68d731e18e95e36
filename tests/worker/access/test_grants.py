"""Rights: roles, patterns of commands, folders."""

from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from mlepool.worker.access.grants import (
    FULL,
    Grant,
    command_line,
    common_roots,
    foreign_variables,
)


def shell(line: str) -> tuple[bytes, ...]:
    return (b"/bin/sh", b"-c", line.encode())


def test_a_role_is_one_right_and_admin_is_all():
    one = Grant("ci", frozenset({"run"}))
    assert one.has("run")
    assert not one.has("view")
    assert all(FULL.has(role) for role in ("view", "run", "sync", "admin"))
    assert Grant("root", frozenset({"admin"})).has("sync")


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ((b"python", b"train.py"), "python train.py"),
        ((b"python", b"-c", b"a b"), "python -c 'a b'"),
        ((b"git pull",), "'git pull'"),
        ((b"rm", b"*"), "rm '*'"),
        ((b"",), "''"),
        (shell("python  train.py\t--lr=0.1"), "python train.py --lr=0.1"),
        (shell("./run.sh"), "./run.sh"),
    ],
)
def test_a_command_is_judged_as_it_would_be_typed(argv, line):
    assert command_line(argv) == line


@pytest.mark.parametrize(
    "line",
    [
        *("python x; sh", "python x && sh", "python x|sh", "python x & sh"),
        *("python $(sh)", "python `sh`", "python $X", "python ~/x", "python *"),
        *("python x > y", "python < y", "python 'x'", 'python "x"', "python \\x"),
        *("python x\nsh", "(python)", "{ python; }", "python [x]", "python x?"),
        *("PATH=/tmp python x", "X=1", "python x # y", "! python", "python \x00"),
        *(" python x", "python x ", "", "python \xa0x", "pyth\xf6n"),
    ],
)
def test_a_line_in_which_the_shell_has_a_say_cant_be_judged(line):
    assert command_line(shell(line)) == ""


def test_a_shell_that_gets_more_than_a_line_cant_be_judged():
    assert command_line((b"/bin/sh", b"-c", b"python", b"x")) == ""
    assert command_line((b"/bin/sh", b"-c")) == ""


@given(st.text())
def test_no_line_that_is_judged_has_anything_but_words(line):
    judged = command_line((b"/bin/sh", b"-c", line.encode("utf-8", "replace")))
    assert not set(judged) & set(";&|$`<>()'\"\\\n*?[]#~!{}")


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("python *", True),
        ("python", False),
        ("python train.py", True),
        ("*", True),
        ("Python *", False),
        ("python tr[ae]in.py", True),
        ("pytho? train.py", True),
        ("train.py", False),
    ],
)
def test_a_pattern_must_fit_the_whole_command(pattern, fits):
    grant = Grant("ci", frozenset({"run"}), (pattern,))
    assert grant.fits("python train.py") is fits


def test_one_pattern_of_several_is_enough_and_none_is_any():
    grant = Grant("ci", frozenset({"run"}), ("make", "python *"))
    assert grant.fits("python x")
    assert not grant.fits("make x")
    assert not grant.fits()
    assert FULL.fits("make x")


def test_variables_that_could_change_a_program_are_found():
    harmless = ["LANG", "LC_ALL", "TERM", "TZ", "CUDA_VISIBLE_DEVICES"]
    foreign = ["BASH_ENV", "LD_PRELOAD", "PATH", "PYTHONPATH", "lang"]
    assert foreign_variables([*harmless, *foreign]) == foreign


def test_folders_of_two_lists_are_the_inner_ones(tmp_path):
    data, inner, other = tmp_path / "data", tmp_path / "data/a", tmp_path / "data-b"
    for one in (data, inner, other):
        one.mkdir()
    assert common_roots([], []) == ()
    assert common_roots([data], []) == common_roots([], [data]) == (data,)
    assert common_roots([data], [inner]) == common_roots([inner], [data]) == (inner,)
    assert set(common_roots([data, other], [inner, other])) == {inner, other}


def test_folders_that_have_nothing_in_common_allow_nothing(tmp_path):
    some, others = [tmp_path / "data"], [tmp_path / "data-b"]
    with pytest.raises(PermissionError, match="outside of the worker's"):
        common_roots(some, others)


def test_a_link_to_a_folder_is_that_folder(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert common_roots([tmp_path / "data"], [tmp_path / "link"]) == (
        Path(tmp_path / "data"),
    )
