"""mlepool worker --install: a unit whose restarts leave jobs alone; --uninstall."""

import contextlib
import getpass
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import mlepool
from mlepool.cli import service
from mlepool.testing.kill import alive, worker_pid
from mlepool.worker.access.identity import Identity
from tests.cli import units
from tests.cli.shell import Finished
from tests.conftest import wait_until

MANAGER = """\
#!/bin/sh
# Stands for systemctl and loginctl: notes how it was called.
echo "${0##*/} $*" >> "$MANAGER_LOG"
case " $MANAGER_FAILS " in *" ${0##*/} "*) echo "no bus here" >&2; exit 1;; esac
case "$*" in *show-user*) echo "Linger=$MANAGER_LINGER";; esac
"""


class User:
    """A user with folders of their own, where systemd answers as it is told to.

    Attributes:
        root: Holds all that is written.
        units: Where the user's units go.
    """

    def __init__(
        self,
        root: Path,
        here: Callable[..., Finished],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self.root = root
        self.units = root / "config/systemd/user"
        self._here = here
        self._log = root / "log"
        self._set = monkeypatch.setenv
        self._set("XDG_CONFIG_HOME", str(root / "config"))
        self._set("MLEPOOL_STATE_DIR", str(root / "default"))
        self._set("MANAGER_LOG", str(self._log))
        self._set("PATH", f"{root}/bin:{os.environ['PATH']}")
        self.systemd(linger="yes", fails="")
        (root / "bin").mkdir()
        for name in ("systemctl", "loginctl"):
            (root / "bin" / name).write_text(MANAGER)
            (root / "bin" / name).chmod(0o755)

    def systemd(self, *, linger: str, fails: str) -> None:
        """Say how systemd is to answer."""
        self._set("MANAGER_LINGER", linger)
        self._set("MANAGER_FAILS", fails)

    def asked(self) -> list[str]:
        """Give what systemd was asked since the last time."""
        text = self._log.read_text() if self._log.exists() else ""
        self._log.unlink(missing_ok=True)
        return text.splitlines()

    def worker(self, *options: str) -> Finished:
        """Run mlepool worker with options."""
        return self._here("worker", *options)


@pytest.fixture
def user(tmp_path, here, monkeypatch) -> User:
    monkeypatch.setattr(service, "SYSTEM_UNITS", tmp_path / "etc")
    monkeypatch.delenv("MLEPOOL_LOOP", raising=False)
    return User(tmp_path, here, monkeypatch)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


# -- install


def test_install_writes_a_unit_and_starts_it(user):
    done = user.worker("--install", "--listen", "127.0.0.1:4711", "--name", "a $b 100%")
    path = user.units / "mlepool.service"
    assert done.status == 0
    assert done.out.startswith(f"wrote {path}\n")
    assert units.command(path)[1:] == [
        *("-P", "-m", "mlepool", "worker"),
        f"--state-dir={user.root / 'default'}",
        "--listen=127.0.0.1:4711",
        "--name=a $b 100%",
    ]
    home = os.environ["MLEPOOL_HOME"]
    (setting,) = units.values(path, "Environment")
    assert units.words(setting) == [f"MLEPOOL_HOME={home}"]
    assert user.asked() == [
        "systemctl --user daemon-reload",
        "systemctl --user enable mlepool.service",
        "systemctl --user restart mlepool.service",
        f"loginctl show-user {getpass.getuser()} --property=Linger",
    ]
    assert files(user.units) == ["mlepool.service"]


def test_the_join_url_goes_to_the_terminal_and_not_to_the_log(user):
    options = ["--install", "--listen", "127.0.0.1:4711"]
    url = Identity(user.root / "other").join_url("127.0.0.1", 4711)
    assert "mle://127.0.0.1:4711?key=" in user.worker(*options).out
    identity = Identity(user.root / "default")
    assert not identity.is_new  # so the worker's own first start prints none
    assert "mle://" not in user.worker(*options).out
    assert (
        identity.join_url("127.0.0.1", 4711) in user.worker(*options, "--join-url").out
    )
    assert (
        url not in user.worker("--install", "--listen", "127.0.0.1:0", "--join-url").out
    )


def test_installing_again_changes_what_is_to_be_changed(user):
    user.worker("--install")
    user.asked()
    path = user.units / "mlepool.service"
    before = path.stat()
    done = user.worker("--install")
    assert f"{path} is up to date\n" in done.out
    assert path.stat() == before
    assert "systemctl --user start mlepool.service" in user.asked()
    assert f"wrote {path}\n" in user.worker("--install", "--listen", ":4712").out
    assert "--listen=:4712" in units.command(path)
    assert "systemctl --user restart mlepool.service" in user.asked()
    assert files(user.units) == ["mlepool.service"]


def test_each_state_folder_has_a_unit_of_its_own(user):
    second, third = user.root / "a/second", user.root / "b/second"
    assert user.worker("--install").status == 0
    assert user.worker("--install", "--state-dir", str(second)).status == 0
    clash = user.worker("--install", "--state-dir", str(third))
    assert clash.status == 1
    assert clash.err == (
        f"mlepool worker: {user.units}/mlepool-second.service is of a worker with "
        "another state folder; give this one a --name\n"
    )
    assert (
        user.worker("--install", "--state-dir", str(third), "--name", "3 d").status == 0
    )
    units_now = ["mlepool-3-d.service", "mlepool-second.service", "mlepool.service"]
    assert files(user.units) == units_now
    # The folder counts, not the name, once there is a unit.
    assert (
        user.worker("--install", "--state-dir", str(second), "--name", "new").status
        == 0
    )
    assert files(user.units) == units_now
    assert user.worker("--uninstall", "--state-dir", str(third)).status == 0
    assert files(user.units) == units_now[1:]


@pytest.mark.parametrize("option", ["--install", "--uninstall"])
def test_somebody_elses_unit_is_left_alone(user, option):
    user.units.mkdir(parents=True)
    path = user.units / "mlepool.service"
    path.write_text("[Service]\nExecStart=/bin/true\n")
    done = user.worker(option)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(f"mlepool worker: {path} was not written by --install")
    assert len(done.err.splitlines()) == 1
    assert path.read_text() == "[Service]\nExecStart=/bin/true\n"
    assert user.asked() == []


def test_a_masked_unit_is_left_alone(user):
    user.units.mkdir(parents=True)
    (user.units / "mlepool.service").symlink_to("/dev/null")
    assert user.worker("--install").status == 1
    assert (user.units / "mlepool.service").is_symlink()


def test_a_unit_for_the_system(user):
    done = user.worker("--install", "--system")
    assert done.status == 0
    assert units.values(user.root / "etc/mlepool.service", "WantedBy") == [
        "multi-user.target"
    ]
    assert not user.units.exists()
    assert user.asked()[-1] == "systemctl restart mlepool.service"
    assert (
        user.worker("--uninstall").status == 1
    )  # that of the system is none of the user's
    assert user.worker("--uninstall", "--system").status == 0
    assert files(user.root / "etc") == []


@pytest.mark.parametrize("options", [["--system"], ["--install", "--uninstall"]])
def test_options_that_do_not_go_together_are_one_line(user, options):
    done = user.worker(*options)
    assert (done.status, len(done.err.splitlines())) == (1, 1)
    assert user.asked() == []


def test_a_listen_address_that_is_none_is_not_installed(user):
    assert "cannot listen on" in user.worker("--install", "--listen", "nonsense:x").err
    assert not user.units.exists()


def test_a_folder_that_cannot_be_written_is_one_line(user):
    user.units.parent.parent.mkdir()
    user.units.parent.write_text("a file, not a folder")
    done = user.worker("--install")
    assert (done.status, len(done.err.splitlines())) == (1, 1)
    assert f"cannot write {user.units}/mlepool.service: " in done.err


def test_elsewhere_than_on_linux_it_says_so(user, monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")
    assert user.worker("--install").err == (
        "mlepool worker: --install needs systemd, which is on Linux only\n"
    )


# -- lingering


def test_lingering_is_turned_on_and_said(user):
    user.systemd(linger="no", fails="")
    assert "'loginctl enable-linger' was done for you" in user.worker("--install").out
    assert user.asked()[-1] == "loginctl --no-ask-password enable-linger"


def test_lingering_that_may_not_be_turned_on_is_said(user):
    user.systemd(linger="no", fails="loginctl")
    done = user.worker("--install")
    assert done.status == 0
    assert done.out.endswith("type:\n  loginctl enable-linger\n")


# -- without systemd


def test_where_systemd_does_not_answer_it_says_what_to_type(user):
    user.systemd(linger="no", fails="systemctl")
    done = user.worker("--install")
    assert done.status == 1
    assert (user.units / "mlepool.service").exists()
    assert done.err == (
        "systemctl cannot be used here: no bus here\n"
        "What is left to do, where it can:\n"
        "  systemctl --user daemon-reload\n"
        "  systemctl --user enable mlepool.service\n"
        "  systemctl --user restart mlepool.service\n"
    )


def test_where_there_is_no_systemctl_it_says_what_to_type(user, monkeypatch):
    monkeypatch.setenv("PATH", str(user.root))
    done = user.worker("--install")
    assert done.status == 1
    assert "No such file or directory: 'systemctl'" in done.err
    assert (user.units / "mlepool.service").exists()
    done = user.worker("--uninstall")
    assert (done.status, files(user.units)) == (1, [])
    assert "  systemctl --user disable --now mlepool.service\n" in done.err


# -- uninstall


def test_uninstall_stops_and_removes_it(user):
    user.worker("--install")
    wants = user.units / "default.target.wants"
    wants.mkdir()
    (wants / "mlepool.service").symlink_to(user.units / "mlepool.service")
    user.asked()
    done = user.worker("--uninstall")
    assert done == (0, f"removed {user.units}/mlepool.service; jobs go on\n", "")
    assert files(user.units) == ["default.target.wants"]
    assert user.asked() == [
        "systemctl --user disable --now mlepool.service",
        "systemctl --user daemon-reload",
    ]
    done = user.worker("--uninstall")
    assert (done.status, len(done.err.splitlines())) == (1, 1)
    assert "no unit starts a worker with " in done.err


# -- what systemd then does


@contextlib.contextmanager
def started(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start the unit's command as systemd does: its own environment, at home."""
    settings = [
        one for line in units.values(path, "Environment") for one in units.words(line)
    ]
    environment = dict(one.split("=", 1) for one in settings)
    with subprocess.Popen(
        units.command(path),
        env={"PATH": os.environ["PATH"], "HOME": str(Path.home()), **environment},
        cwd=Path.home(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def runs(state_dir: Path) -> bool:
    """Tell if a worker listens."""
    return (state_dir / "worker.sock").is_socket()


@pytest.mark.real
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_of_the_unit_leaves_jobs_running(user, number):
    state = user.root / "odd $HOME 100%n"
    options = ["--listen", f"127.0.0.1:{free_port()}", "--name", "$me %i"]
    assert user.worker("--install", "--state-dir", str(state), *options).status == 0
    (path,) = user.units.iterdir()
    with mlepool.ClientPool() as pool:
        with started(path) as first:
            wait_until(lambda: runs(state))
            conn = pool.add(f"unix:{state}", name="before")
            conn.connect()
            job = conn.run(
                "echo $$; read x; echo end", stdin=True, complete=False, detach=True
            )
            job_pid = int(job.next())
            # What KillMode=process does at stop, restart and a crash.
            os.kill(first.pid, number)
            first.wait()
        assert alive(job_pid)
        (state / "worker.sock").unlink(missing_ok=True)
        with started(path) as second:
            wait_until(lambda: runs(state))
            assert worker_pid(state) == second.pid != first.pid
            with pool.add(f"unix:{state}", name="after") as conn:
                assert conn.state["name"] == "$me %i"
                again = conn.attach(job.id)
                again.close_input()
                assert again.wait().stdout == f"{job_pid}\nend\n"
                assert again.exit_code == 0
            second.terminate()  # in good order: it takes its name off this account
            second.wait()
