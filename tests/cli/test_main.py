"""The mlepool command itself: help, version, how errors end it."""

import pytest

import mlepool as package
from tests.cli.shell import mlepool


@pytest.mark.real
def test_python_dash_m_mlepool_is_the_command():
    assert mlepool("--version") == (0, f"mlepool {package.__version__}\n", "")


@pytest.mark.parametrize("name", ["worker", "trust", "hosts", "run", "demo"])
def test_help_is_plain_text_and_names_every_subcommand(name, here):
    whole, own = here("--help"), here(name, "--help")
    assert (whole.status, own.status) == (0, 0)
    assert f"\n  {name} " in whole.out
    assert own.out.startswith(f"Usage: mlepool {name} ")
    assert (whole.out + own.out).isascii()


def test_a_subcommand_that_is_none_ends_with_2_and_says_so(here):
    done = here("rum")
    assert (done.status, done.out) == (2, "")
    assert "Error: No such command 'rum'." in done.err


def test_a_damaged_file_of_the_account_is_one_line(here, tmp_path, monkeypatch):
    key = "A" * 43
    (tmp_path / "known").mkdir()
    (tmp_path / "known" / key).write_text("{")
    monkeypatch.setenv("MLEPOOL_HOME", str(tmp_path))
    done = here("hosts")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("mlepool: ")
    assert f"known/{key} is damaged" in done.err
    assert len(done.err.splitlines()) == 1
