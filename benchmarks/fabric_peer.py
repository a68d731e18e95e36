"""Fabric, as a client of an OpenSSH server like the one for `openssh`."""

import importlib
import importlib.metadata
from pathlib import Path
from typing import Any

from .contender import Contender, expect, seconds, times
from .sshd import Sshd
from .work import Work


class Fabric(Contender):
    """A ThreadingGroup: a thread and a connection for each host."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._server = Sshd(folder)
        self._group: Any = None

    def open(self) -> None:
        """Start the server."""
        importlib.import_module("fabric")
        self._server.start()

    def close(self) -> None:
        """Disconnect, then end the server."""
        if self._group is not None:
            self._group.close()
            self._group = None
        self._server.stop()

    def version(self) -> str:
        """Return Fabric's version."""
        return f"fabric {importlib.metadata.version('fabric')}"

    def hosts_open(self, work: Work) -> list[float]:
        """Run `true` with a group that has run it before: seconds."""
        if self._group is None:
            self._group = self._dial(work.hosts)
            _run_true(self._group)
        return times(lambda: _run_true(self._group), work.waves)

    def hosts_connect(self, work: Work) -> list[float]:
        """Run `true` with a new group: seconds."""

        def connect_and_run() -> None:
            with self._dial(work.hosts) as group:
                _run_true(group)

        return [seconds(connect_and_run)]

    def _dial(self, count: int) -> Any:
        fabric: Any = importlib.import_module("fabric")
        config = fabric.Config(lazy=True, overrides={"load_ssh_configs": False})
        keys = {
            "key_filename": str(self._server.user_key),
            "allow_agent": False,
            "look_for_keys": False,
        }
        return fabric.ThreadingGroup.from_connections(
            fabric.Connection(
                "127.0.0.1",
                user=self._server.user,
                port=self._server.port,
                connect_kwargs=dict(keys),
                config=config,
            )
            for _ in range(count)
        )


def _run_true(group: Any) -> None:
    # Connections to one place are equal, so its results, by connection, are one.
    for result in group.run("true", hide=True, in_stream=False).values():
        expect(result.exited, 0)
