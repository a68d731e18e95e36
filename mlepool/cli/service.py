"""``mlepool worker --install`` and ``--uninstall``: a worker as a systemd service."""

import getpass
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mlepool.cli.unit import is_ours, mark, unit_name, unit_text
from mlepool.config import default_state_dir
from mlepool.errors import WorkerError
from mlepool.settings.keys import KEYS

__all__ = ["Service", "find", "remove", "start", "write"]

SYSTEM_UNITS = Path("/etc/systemd/system")
# Settings that the worker is to have there, too; a unit is no place for secrets.
KEPT = (
    *("MLEPOOL_HOME", "MLEPOOL_LOOP"),
    *(key.variable for key in KEYS.values() if not key.is_secret and not key.is_path),
)
LIMIT = 60.0  # seconds for one call of systemctl


class Service(NamedTuple):
    """A worker's unit.

    Attributes:
        path: Its file.
        state_dir: The state folder of the worker that it starts.
        is_system: True for the system's manager, False for the user's.
        is_new: True if the file was written, or changed, just now.
    """

    path: Path
    state_dir: Path
    is_system: bool
    is_new: bool = False

    @property
    def systemctl(self) -> list[str]:
        """The program that minds it, with its option."""
        return ["systemctl"] if self.is_system else ["systemctl", "--user"]


def find(state_dir: Path, name: str = "", *, is_system: bool) -> Service:
    """Find a state folder's unit, or say where it would be.

    Args:
        state_dir: The state folder.
        name: What the worker calls itself; names the unit of a folder that is not the
            default one.
        is_system: True to look among the system's units, False among the user's.

    Raises:
        WorkerError: Where there is no systemd.
    """
    if sys.platform != "linux":
        raise WorkerError("--install needs systemd, which is on Linux only")
    folder = SYSTEM_UNITS if is_system else _user_units()
    for path in sorted(folder.glob("mlepool*.service")):
        if _text(path).partition("\n")[0] == mark(state_dir):
            return Service(path, state_dir, is_system)
    is_default = state_dir == default_state_dir().absolute()
    file = unit_name("" if is_default else name or state_dir.name)
    return Service(folder / file, state_dir, is_system)


def write(service: Service, options: Sequence[str]) -> Service:
    """Write the unit's file; leave it as it is if nothing has changed.

    Args:
        service: What :func:`find` gave.
        options: Those of ``mlepool worker`` that it is to have besides ``--state-dir``.

    Raises:
        WorkerError: If the file is somebody else's, or can't be written.
    """
    # -P: a file of the home folder never takes a module's place.
    command = [sys.executable, "-P", "-m", "mlepool", "worker"]
    command += [f"--state-dir={service.state_dir}", *options]
    environment = {name: os.environ[name] for name in KEPT if os.environ.get(name)}
    text = unit_text(
        command,
        environment,
        state_dir=service.state_dir,
        is_system=service.is_system,
    )
    if os.path.lexists(service.path):
        _check_owner(service)
        if _text(service.path) == text:
            print(f"{service.path} is up to date")
            return service
    beside = service.path.with_suffix(".new")
    try:
        service.path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, "utf-8")
        beside.replace(service.path)
    except OSError as exc:
        raise WorkerError(f"cannot write {service.path}: {exc.strerror}") from exc
    print(f"wrote {service.path}")
    return service._replace(is_new=True)


def start(service: Service) -> bool:
    """Have systemd start it now and at every boot, or say what to type.

    Returns:
        False if systemd could not be told.
    """
    unit = service.path.name
    # A changed unit counts from the next start; jobs do not mind a restart.
    verb = "restart" if service.is_new else "start"
    steps = [["daemon-reload"], ["enable", unit], [verb, unit]]
    if not _tell(service, steps):
        return False
    user = "" if service.is_system else "--user "
    print(f"started {unit}; its log: journalctl {user}-u {unit}")
    if not service.is_system:
        _linger()
    return True


def remove(service: Service) -> bool:
    """Stop the worker, and remove its unit. Jobs go on.

    Returns:
        False if systemd could not be told.

    Raises:
        WorkerError: If there is no unit of this folder, or it can't be removed.
    """
    unit = service.path.name
    if not os.path.lexists(service.path):
        raise WorkerError(f"no unit starts a worker with {service.state_dir}")
    _check_owner(service)
    is_told = _tell(service, [["disable", "--now", unit]])
    try:
        service.path.unlink()
        for folder in service.path.parent.glob("*.wants"):
            (folder / unit).unlink(missing_ok=True)  # what enabling it has made
    except OSError as exc:
        raise WorkerError(f"cannot remove {service.path}: {exc.strerror}") from exc
    print(f"removed {service.path}; jobs go on")
    return is_told and _tell(service, [["daemon-reload"]])


def _user_units() -> Path:
    config = os.environ.get("XDG_CONFIG_HOME")
    return (Path(config) if config else Path.home() / ".config") / "systemd/user"


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "surrogateescape")
    except OSError:
        return ""


def _check_owner(service: Service) -> None:
    """See that a file of the unit's name starts the worker of the same folder."""
    text = _text(service.path)
    if not is_ours(text):
        raise WorkerError(
            f"{service.path} was not written by --install: it is left as it is; "
            "remove it first, or give the worker a --state-dir of its own"
        )
    if text.partition("\n")[0] != mark(service.state_dir):
        raise WorkerError(
            f"{service.path} is of a worker with another state folder; "
            "give this one a --name"
        )


def _tell(service: Service, steps: Sequence[Sequence[str]]) -> bool:
    """Call systemctl step by step; if it fails, say what is left to be typed."""
    for done, step in enumerate(steps):
        problem = _call([*service.systemctl, *step]).problem
        if problem:
            print(f"systemctl cannot be used here: {problem}", file=sys.stderr)
            print("What is left to do, where it can:", file=sys.stderr)
            for left in steps[done:]:
                print(f"  {' '.join([*service.systemctl, *left])}", file=sys.stderr)
            return False
    return True


def _linger() -> None:
    """Have a user's services run without a session, if we may; say how it is."""
    show = ["loginctl", "show-user", getpass.getuser(), "--property=Linger"]
    if _call(show).output.strip() == "Linger=yes":
        return
    if _call(["loginctl", "--no-ask-password", "enable-linger"]).problem:
        print(
            "When you log out it ends, and its jobs with it. To have them go on, type:"
        )
        print("  loginctl enable-linger")
    else:
        print("It goes on when you log out: 'loginctl enable-linger' was done for you.")


class _Called(NamedTuple):
    problem: str
    output: str = ""


def _call(command: Sequence[str]) -> _Called:
    """Run a command; ``problem`` is empty if it went well."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return _Called(str(exc))
    if done.returncode == 0:
        return _Called("", done.stdout)
    return _Called(done.stderr.strip() or f"{command[0]} exited {done.returncode}")
