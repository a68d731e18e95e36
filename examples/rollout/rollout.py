"""Roll a release out to many hosts, in waves, and roll it back where it fails.

    python rollout.py RELEASE --hosts hosts.toml [--on SET] [--waves 1,25%]

RELEASE is a folder, named like its version, with two programs in it: `migrate`, which
may be called again, and `healthy`, whose exit status 0 says that it works. On each host
it becomes `releases/VERSION`, and `current` is a link to the release in use.

In each wave hosts are drained (a file `drained`, which a load balancer looks for), get
the release, migrate, are switched to it and asked for their health. Once more hosts
have failed than may fail, all that were switched go back to the release they had, and
the rest is not touched. A host that died is left drained: nobody knows how far it was.
"""

import argparse
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import mlepool

DRAIN = "touch drained && readlink current || true"
SWITCH = "ln -sfn 'releases/{}' next && mv -T next current"
BACK = "ln -sfn '{}' next && mv -T next current && ./current/healthy && rm -f drained"
FIRST_BACK = "rm -f current drained"  # there was none before


class Rollout:
    """One release on its way to all hosts."""

    def __init__(
        self, group: mlepool.Group, release: Path, *, may_fail: int, limit: float
    ) -> None:
        self.group = group
        self.release = release
        self.may_fail = may_fail
        self.limit = limit
        self.before: dict[str, str] = {}  # what each host had, where that is known
        self.done: list[str] = []
        self.failed: dict[str, str] = {}
        self.dead: set[str] = set()

    def run(self, sizes: list[str]) -> bool:
        """Do all waves; False if it was rolled back."""
        names = list(self.group.names)
        while names:
            size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
            count = self.count(size)
            wave, names = names[:count], names[count:]
            self.do_wave(wave)
            if len(self.failed) > self.may_fail:
                print(f"{hosts(self.failed)} failed; {len(names)} not touched")
                self.roll_back()
                return False
        return True

    def count(self, size: str) -> int:
        if size.endswith("%"):
            return max(1, len(self.group) * int(size[:-1]) // 100)
        return int(size)

    def do_wave(self, wave: list[str]) -> None:
        print("wave:", ", ".join(wave))
        version = self.release.name
        place = f"releases/{version}"
        wave = self.step("drain", wave, DRAIN)
        wave = self.sync(wave, place)
        wave = self.step("migrate", wave, "./migrate", cwd=place)
        wave = self.step("switch", wave, SWITCH.format(version))
        # A service needs some moments: three more attempts, with growing pauses.
        wave = self.step("health", wave, "./current/healthy", retries=3)
        self.done += self.step("undrain", wave, "rm -f drained")

    def step(
        self, what: str, names: list[str], command: str, **options: Any
    ) -> list[str]:
        """Run a command on some hosts; give those where it went well."""
        if not names:
            return []
        done = self.group.group(*names).run(command, timeout=self.limit, **options)
        if what == "drain":
            self.before |= {name: done[name].stdout.strip() for name in done.succeeded}
        return self.settle(what, done)

    def sync(self, names: list[str], place: str) -> list[str]:
        if not names:
            return []
        hosts = self.group.group(*names)
        hosts.run(["mkdir", "-p", "releases"], timeout=self.limit)
        done = hosts.sync(self.release, place, delete=True, timeout=self.limit)
        return self.settle("sync", done)

    def settle(self, what: str, done: mlepool.GroupListener) -> list[str]:
        """Note and tell where a step failed; give those where it did not."""
        for name in (*done.failed, *done.lost):
            last = done[name].output.strip().splitlines()[-1:]
            self.failed[name] = f"{what}: {' '.join(last) or done[name].error}"
            print(f"  {name}: failed at {self.failed[name]}")
        self.dead |= set(done.lost)
        return list(done.succeeded)

    def roll_back(self) -> None:
        """Have all hosts use again what they had before."""
        alive = [name for name in self.before if name not in self.dead]
        for before in sorted({self.before[name] for name in alive}):
            names = [name for name in alive if self.before[name] == before]
            print("back to", f"{before or 'nothing'}:", ", ".join(names))
            self.step("back", names, BACK.format(before) if before else FIRST_BACK)
        self.done.clear()


def hosts(names: Collection[str]) -> str:
    return f"{len(names)} host{'' if len(names) == 1 else 's'}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("release", type=Path)
    parser.add_argument("--hosts", type=Path, required=True, help="an inventory")
    parser.add_argument("--on", default="*", help="which of them, as in gpu[1-8]")
    parser.add_argument("--waves", default="1,25%", help="sizes; the last goes on")
    parser.add_argument("--may-fail", type=int, default=0, help="how many hosts may")
    parser.add_argument("--limit", type=float, default=60, help="seconds for a step")
    given = parser.parse_args()
    with mlepool.ClientPool() as pool:
        pool.load(given.hosts)
        rollout = Rollout(
            pool.group(given.on),
            given.release,
            may_fail=given.may_fail,
            limit=given.limit,
        )
        is_well = rollout.run(given.waves.split(","))
    print(f"{hosts(rollout.done)} now at {given.release.name}")
    for name, why in rollout.failed.items():
        drained = ", left drained" if name in rollout.dead else ""
        print(f"look at {name}: {why}{drained}")
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
