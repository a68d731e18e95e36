"""OpenSSH's own client, every command multiplexed over one open connection."""

import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

from .contender import Contender, delay, expect, rate, seconds, settled, timed, times
from .cuts import Trial, fault_proxy
from .files import run_all
from .local import count_bytes, count_lines
from .processes import ServerError, end
from .sshd import Sshd, tool
from .work import Work

CLIENT = """\
Host bench
    HostName 127.0.0.1
    Port {port}
    User {user}
    IdentityFile {key}
    IdentitiesOnly yes
    UserKnownHostsFile {known_hosts}
    StrictHostKeyChecking yes
    BatchMode yes
    ControlPath {folder}/mux
    LogLevel ERROR
"""
CONNECT_LIMIT = 10.0  # seconds
ALONE = ("-o", "ControlPath=none")  # a connection of its own


class OpenSsh(Contender):
    """`ssh` over a ControlMaster: a client process for each command, and rsync's."""

    # Each command starts an ssh client, so it needs less work for the same time.
    shares: ClassVar[Mapping[str, float]] = {"at_once": 0.25}

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._server = Sshd(folder)
        self._config = folder / "ssh_config"
        self._master: subprocess.Popen[bytes] | None = None

    def open(self) -> None:
        """Start the server and the master connection."""
        self._server.start()
        config = CLIENT.format(
            port=self._server.port,
            user=self._server.user,
            key=self._server.user_key,
            known_hosts=self._server.known_hosts,
            folder=self.folder,
        )
        self._config.write_text(config)
        command = self._ssh("-M", "-N", "bench")
        self._master = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self._wait_for_master(self._master)

    def close(self) -> None:
        """End the master, then the server."""
        if self._master is not None:
            end(self._master)
            self._master = None
        self._server.stop()

    def version(self) -> str:
        """Return what `ssh -V` says, up to its first comma."""
        told = subprocess.run(self._ssh("-V"), capture_output=True, text=True)
        return told.stderr.split(",")[0].strip()

    def run(self, work: Work) -> list[float]:
        """Run `true`: seconds each."""
        return timed(self._run_true, work.spawns)

    def at_once(self, work: Work) -> list[float]:
        """Run `true` from many threads: commands a second."""

        def run_all() -> int:
            with ThreadPoolExecutor(work.lanes) as threads:
                runs = [threads.submit(self._run_true) for _ in range(work.commands)]
            return sum(1 for run in runs if run.result() is None)

        return rate(run_all, work.commands)

    def hosts_open(self, work: Work) -> list[float]:
        """Run a client for each host, all over the open connection: seconds."""
        return times(lambda: self._run_many(work.hosts), work.waves)

    def hosts_connect(self, work: Work) -> list[float]:
        """Run a client for each host, with a connection of its own: seconds."""
        return [seconds(lambda: self._run_many(work.hosts, *ALONE))]

    def whole_process(self, work: Work) -> list[float]:
        """Run `ssh bench true` with a new connection: seconds each."""
        return timed(lambda: self._run_true(*ALONE), work.tools)

    def read_bytes(self, work: Work, path: Path) -> list[float]:
        """Read the client's pipe: bytes a second."""
        command = self._remote(work.cat(path))
        return rate(lambda: count_bytes(command), work.size)

    def read_lines(self, work: Work) -> list[float]:
        """Iterate the client's pipe as text: lines a second."""
        command = self._remote(work.seq())
        return rate(lambda: count_lines(command), work.lines)

    def latency(self, work: Work) -> list[float]:
        """Iterate the client's pipe as text: seconds."""
        command = self._remote(work.stamper())
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdout=pipe, text=True) as process:
            assert process.stdout is not None
            delays = [delay(line) for line in process.stdout]
        return settled(delays, work)

    def reconnect(self, work: Work) -> list[float]:
        """Iterate the pipe of a client with a connection of its own."""
        with fault_proxy(self._server.port) as proxy:
            trial = Trial(self.folder, work, proxy.reset)
            command = self._remote(trial.argv, "-o", f"Port={proxy.port}", *ALONE)
            pipe = subprocess.PIPE
            with subprocess.Popen(
                command, stdout=pipe, stderr=pipe, text=True
            ) as process:
                assert process.stdout is not None
                assert process.stderr is not None
                for line in process.stdout:
                    trial.take(line)
                said = process.stderr.read().strip()
        return trial.outcome(f"ssh ends with status {process.returncode}: {said!r}")

    def prepare(self, targets: Sequence[Path], *, is_update: bool) -> None:
        """See if there is an rsync."""
        tool("rsync")

    def copy(self, source: Path, targets: Sequence[Path]) -> None:
        """Run `rsync -a` over the open connection."""
        shell = shlex.join(self._ssh())
        command = [tool("rsync"), "-a", "-e", shell, f"{source}/"]
        run_all([[*command, f"bench:{target}/"] for target in targets])

    def _ssh(self, *arguments: str) -> list[str]:
        return [tool("ssh"), "-F", str(self._config), *arguments]

    def _remote(self, argv: list[str], *options: str) -> list[str]:
        # -n: the client must not wait for our standard input.
        return self._ssh(*options, "-n", "bench", shlex.join(argv))

    def _run_true(self, *options: str) -> None:
        # Captured, as what the others hand back includes the output.
        done = subprocess.run(self._remote(["true"], *options), capture_output=True)
        expect(done.returncode, 0)

    def _run_many(self, count: int, *options: str) -> None:
        with ThreadPoolExecutor(count) as threads:
            runs = [threads.submit(self._run_true, *options) for _ in range(count)]
        for run in runs:
            run.result()

    def _wait_for_master(self, master: subprocess.Popen[bytes]) -> None:
        check = self._ssh("-O", "check", "bench")
        deadline = time.monotonic() + CONNECT_LIMIT
        while subprocess.run(check, capture_output=True).returncode != 0:
            if master.poll() is not None or time.monotonic() > deadline:
                raise ServerError("the master did not connect")
            time.sleep(0.02)
