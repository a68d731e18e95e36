"""The mlepool command itself: help, version, how errors end it."""

import importlib
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable

import pytest

import mlepool as package
from mlepool.cli.main import COMMANDS
from tests.cli.shell import LIMIT, MLEPOOL, mlepool


@pytest.mark.real
def test_python_dash_m_mlepool_is_the_command():
    assert mlepool("--version") == (0, f"mlepool {package.__version__}\n", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_plain_text_and_names_every_subcommand(name, here):
    whole, own = here("--help"), here(name, "--help")
    assert (whole.status, own.status) == (0, 0)
    assert f"\n  {name} " in whole.out
    assert own.out.startswith(f"Usage: mlepool {name} ")
    # What help says without loading a subcommand is what that says itself.
    assert f"\n  {COMMANDS[name].summary}\n" in own.out
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


@pytest.mark.real
def test_ctrl_c_while_it_loads_leaves_no_traceback():
    script = """
        import os, signal, sys
        class Finder:
            def find_spec(self, name, path, target=None):
                if name == "mlepool.cli.hosts":
                    os.kill(os.getpid(), signal.SIGINT)
        sys.meta_path.insert(0, Finder())
        from mlepool.cli.entry import main; main()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), "hosts"],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


# -- what is loaded, and where


Loader = Callable[..., tuple[int, set[str]]]


@pytest.fixture
def load(tmp_path) -> Loader:
    """Runs a command; gives its status, and the modules that it has loaded."""
    path = tmp_path / "modules"

    def call(*arguments: str, missing: tuple[str, ...] = ()) -> tuple[int, set[str]]:
        script = (
            "import atexit, sys\n"
            f"sys.modules.update(dict.fromkeys({missing!r}))\n"
            f"note = lambda: open({str(path)!r}, 'w').write(' '.join(sys.modules))\n"
            "atexit.register(note)\n"
            "from mlepool.cli.entry import main; main()\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return done.returncode, set(path.read_text().split())

    return call


@pytest.mark.real
def test_a_command_loads_nothing_that_only_others_need(host, load):
    status, modules = load("run", "-H", host, "--", "true")
    assert status == 0
    # Half of the time that it took, each of them in its turn.
    unwanted = {
        "cryptography",
        "tabulate",
        "pydantic",
        "rich",
        "blake3",
        "pathspec",
        "sqlite3",
        "mlepool.files",
        "mlepool.worker",
        "mlepool.cli.demo",
        "mlepool.cli.rollout",
        "mlepool.client.groups",
        "mlepool.client.inventory",
    }
    assert modules & unwanted == set()


@pytest.mark.real
@pytest.mark.parametrize("name", COMMANDS)
def test_typer_has_no_annotations_to_compile(name):
    command = COMMANDS[name]
    module = importlib.import_module(f"mlepool.cli.{command.module}")
    for function in command.actions.values() or [command.function]:
        given = getattr(module, function).__annotations__.values()
        assert not [one for one in given if isinstance(one, str)]


def test_a_shell_that_asks_for_hosts_loads_next_to_nothing(elsewhere, load):
    elsewhere.mkdir()
    status, modules = load("__complete", "run", "-H", "g")
    assert status == 0
    unwanted = {"typer", "asyncio", "websockets", "mlepool.client.connection"}
    assert modules & unwanted == set()


@pytest.mark.real
def test_a_worker_loads_nothing_that_its_start_does_not_need(tmp_path, load):
    (tmp_path / "state").mkdir()
    place = ("--state-dir", str(tmp_path / "state"))
    status, modules = load("worker", *place, "--check-config")
    assert status == 0
    unwanted = {
        "cryptography",
        "pydantic",
        "rich",
        "python_socks",
        "websockets.asyncio",
    }
    assert modules & unwanted == set()


@pytest.mark.real
def test_a_client_needs_nothing_that_windows_has_not(host, load):
    missing = ("fcntl", "grp", "pwd", "resource", "termios", "tty")
    assert load("run", "-H", host, "--", "exit 3", missing=missing)[0] == 3
    assert load("jobs", "-H", host, missing=missing)[0] == 0
    assert load("--help", missing=missing)[0] == 0
    assert load("worker", missing=missing)[0] == 1


# -- streams that are not as usual


def shell(line: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a line of shell, in which "$@" is mlepool and the arguments."""
    return subprocess.run(
        ["bash", "-c", line, "bash", *MLEPOOL, *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


@pytest.mark.real
def test_closed_streams_are_as_the_null_device(host):
    done = shell('"$@" >&-', "run", "-H", host, "--", "echo out; echo err >&2; exit 4")
    assert (done.returncode, done.stdout, done.stderr) == (4, "", "err\n")
    done = shell('"$@" <&- >&- 2>&-', "run", "-H", host, "--", "echo out; exit 5")
    assert (done.returncode, done.stdout, done.stderr) == (5, "", "")


@pytest.mark.real
def test_a_reader_that_has_enough_is_told_of_by_the_status_only(host):
    done = shell(
        'exec 4> >(exec true); wait $!; "$@" >&4', "jobs", "-H", host, "--json"
    )
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.real
def test_a_full_disk_is_one_line(host):
    done = shell('"$@" > /dev/full', "jobs", "-H", host, "--json")
    assert done.returncode == 1
    assert done.stderr.startswith("mlepool: ")
    assert len(done.stderr.splitlines()) == 1
