"""parallel-ssh, as a client of an OpenSSH server like the one for `openssh`."""

import importlib
import importlib.metadata
from pathlib import Path
from typing import Any

from .contender import Contender, expect, seconds, times
from .sshd import Sshd
from .work import Work


class ParallelSsh(Contender):
    """Its native client, with as many connections at once as there are hosts."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._server = Sshd(folder)
        self._client: Any = None

    def open(self) -> None:
        """Start the server."""
        importlib.import_module("pssh.clients")
        self._server.start()

    def close(self) -> None:
        """Disconnect, then end the server."""
        self._client = None
        self._server.stop()

    def version(self) -> str:
        """Return parallel-ssh's version."""
        return f"parallel-ssh {importlib.metadata.version('parallel-ssh')}"

    def hosts_open(self, work: Work) -> list[float]:
        """Run `true` with a client that has run it before: seconds."""
        if self._client is None:
            self._client = self._dial(work.hosts)
            _run_true(self._client)
        return times(lambda: _run_true(self._client), work.waves)

    def hosts_connect(self, work: Work) -> list[float]:
        """Run `true` with a new client: seconds."""
        return [seconds(lambda: _run_true(self._dial(work.hosts)))]

    def _dial(self, count: int) -> Any:
        return importlib.import_module("pssh.clients").ParallelSSHClient(
            ["127.0.0.1"] * count,
            user=self._server.user,
            port=self._server.port,
            pkey=str(self._server.user_key),
            pool_size=count,
            allow_agent=False,
        )


def _run_true(client: Any) -> None:
    hosts = client.run_command("true")
    client.join(hosts)
    for host in hosts:
        expect(host.exit_code, 0)
