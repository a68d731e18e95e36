"""An OpenSSH server of our own on the loopback interface, and what it takes to log in.

It has its own keys and configuration, in the session's folder; the system's and the
user's SSH files are neither read nor written.
"""

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from .contender import NotOfferedError
from .processes import end, free_port, wait_for_port

# MaxSessions: the default of 10 on one connection is below what `at-once` needs.
# StrictModes off: temporary folders lie below one that everybody may write.
# SetEnv: bash reads ~/.bashrc for each command that sshd starts. What this account has
# in there may take longer than all the rest, and is no fault of SSH's.
SERVER = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/user_key.pub
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
UsePAM no
PermitUserRC no
SetEnv HOME={folder}
Subsystem sftp internal-sftp
MaxSessions 200
MaxStartups 200
LogLevel ERROR
"""
# Compiled into sshd; as root it does not start without.
PRIVILEGE_SEPARATION = Path("/run/sshd")
# sshd is often not on a user's PATH.
SERVER_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])


def tool(name: str) -> str:
    """Return the path of one of OpenSSH's programs.

    Raises:
        NotOfferedError: If it is not installed.
    """
    path = shutil.which(name, path=SERVER_PATH)
    if path is None:
        raise NotOfferedError(f"no {name} here")
    return path


class Sshd:
    """One server process.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        user: The account to log in as: whoever runs the benchmark.
        user_key: The path of the private key that it accepts.
        known_hosts: The path of a known_hosts file that holds its host key.
    """

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.user = pwd.getpwuid(os.getuid()).pw_name
        self.user_key = folder / "user_key"
        self.known_hosts = folder / "known_hosts"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._made_folder = False

    def start(self) -> None:
        """Make the keys, start the server, wait until it listens."""
        for name in ("host_key", "user_key"):
            self._make_key(name)
        host_key = (self._folder / "host_key.pub").read_text()
        self.known_hosts.write_text(f"* {host_key}")  # also behind a proxy's port
        config = self._folder / "sshd_config"
        config.write_text(SERVER.format(port=self.port, folder=self._folder))
        if os.getuid() == 0 and not PRIVILEGE_SEPARATION.exists():
            PRIVILEGE_SEPARATION.mkdir(mode=0o755)
            self._made_folder = True
        # -D: stay in the foreground, so that it is ours to end; -e: log to stderr.
        self._process = subprocess.Popen([tool("sshd"), "-D", "-e", "-f", str(config)])
        wait_for_port(self.port, self._process)

    def stop(self) -> None:
        """End the server. Twice is fine."""
        if self._process is not None:
            end(self._process)
            self._process = None
        if self._made_folder:
            PRIVILEGE_SEPARATION.rmdir()
            self._made_folder = False

    def _make_key(self, name: str) -> None:
        path = self._folder / name
        kind = ["-q", "-t", "ed25519", "-N", "", "-C", "benchmark"]
        subprocess.run([tool("ssh-keygen"), *kind, "-f", str(path)], check=True)
