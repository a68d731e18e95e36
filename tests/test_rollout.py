"""The example of a whole rollout: in waves, rolled back, with a host that dies."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlepool.testing.kill import kill_supervisor, kill_worker
from tests.conftest import RunningWorker, wait_until

pytestmark = pytest.mark.real

SCRIPT = Path(__file__).parents[1] / "examples/rollout/rollout.py"


class Site:
    """Four hosts in an inventory, and releases for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hosts = [RunningWorker(folder / f"app{number}") for number in range(1, 5)]
        lines = [
            f'app{number} = "unix:{host.state_dir}"'
            for number, host in enumerate(self.hosts, 1)
        ]
        (folder / "hosts.toml").write_text("[hosts]\n" + "\n".join(lines) + "\n")

    def release(self, version: str, *, migrate: str = "", healthy: str = "") -> Path:
        folder = self.folder / version
        folder.mkdir()
        for name, text in (("migrate", migrate), ("healthy", healthy)):
            (folder / name).write_text(f"#!/bin/sh\n{text}\n")
            (folder / name).chmod(0o755)
        return folder

    def start(self, release: Path, *options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-W", "error", str(SCRIPT), str(release)]
            + ["--hosts", str(self.folder / "hosts.toml"), *options],
            env={**os.environ, "HOME": str(self.folder)},
            stdout=subprocess.PIPE,
            text=True,
        )

    def roll_out(self, release: Path, *options: str) -> tuple[int, list[str]]:
        with self.start(release, *options) as running:
            text, _ = running.communicate(timeout=60)
        return running.returncode, text.splitlines()

    def current(self) -> list[str]:
        """What each host uses, and a mark for those that are drained."""
        return [
            os.readlink(host.state_dir.parent / "current").removeprefix("releases/")
            + " drained" * (host.state_dir.parent / "drained").exists()
            for host in self.hosts
        ]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("site"))
    yield site
    for host in site.hosts:
        host.end()


def test_a_rollout_in_waves_is_rolled_back_and_outlives_a_host(site):
    status, lines = site.roll_out(site.release("v1"), "--waves", "1,50%")
    assert (status, lines[-1]) == (0, "4 hosts now at v1")
    waves = [line for line in lines if line.startswith("wave")]
    assert waves == ["wave: app1", "wave: app2, app3", "wave: app4"]
    assert site.current() == ["v1"] * 4

    bad = "case $(pwd -P) in */app3*) echo no database; exit 1; esac"
    sick = site.release("v2", healthy=bad)
    status, lines = site.roll_out(sick, "--waves", "1,50%")
    assert status == 1
    assert "  app3: failed at health: no database" in lines
    assert "1 host failed; 1 not touched" in lines
    assert lines[-2:] == ["0 hosts now at v2", "look at app3: health: no database"]
    assert site.current() == ["v1"] * 4

    slow = f"case $(pwd -P) in */app4*) touch {site.folder}/there; "
    slow += f"while [ ! -e {site.folder}/go ]; do sleep 0.02; done; esac"
    release = site.release("v3", migrate=slow)
    dying = site.hosts[3]
    options = ("--waves", "1,3", "--may-fail", "1", "--limit", "5")
    with site.start(release, *options) as running:
        wait_until((site.folder / "there").exists, limit=30)
        kill_worker(dying.state_dir)
        kill_supervisor(dying.state_dir)
        (site.folder / "go").touch()  # its migration has nobody to tell
        text, _ = running.communicate(timeout=60)
    lines = text.splitlines()
    assert (running.returncode, lines[-2]) == (0, "3 hosts now at v3")
    assert lines[-1].startswith("look at app4: migrate: ")
    assert lines[-1].endswith(", left drained")
    assert site.current() == ["v3", "v3", "v3", "v1 drained"]
