"""ClusterShell's clush, which runs OpenSSH's client for each host."""

import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

from .contender import Contender, NotOfferedError, expect, seconds
from .openssh import CLIENT
from .sshd import Sshd, tool
from .work import Work


class Clush(Contender):
    """A whole `clush` process, as it is used: it keeps no connections."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._server = Sshd(folder)
        self._config = folder / "ssh_config"

    def open(self) -> None:
        """Start the server, and name it as many hosts."""
        self._server.start()
        config = CLIENT.format(
            port=self._server.port,
            user=self._server.user,
            key=self._server.user_key,
            known_hosts=self._server.known_hosts,
            folder=self.folder,
        )
        config = config.replace("Host bench", "Host bench*")
        self._config.write_text(config.replace(f"{self.folder}/mux", "none"))

    def close(self) -> None:
        """End the server."""
        self._server.stop()

    def version(self) -> str:
        """Return ClusterShell's version."""
        return f"ClusterShell {importlib.metadata.version('ClusterShell')}"

    def hosts_connect(self, work: Work) -> list[float]:
        """Run `clush -w ... true`: seconds."""
        command = [_clush(), "-S", "-f", str(work.hosts), "-w"]
        command += [f"bench[1-{work.hosts}]", "-o", f"-F {self._config}", "true"]

        def run() -> None:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
            expect(done.returncode, 0)

        return [seconds(run)]


def _clush() -> str:
    tool("ssh")
    beside = Path(sys.executable).with_name("clush")
    path = str(beside) if beside.exists() else shutil.which("clush")
    if path is None:
        raise NotOfferedError("no clush here")
    return path
