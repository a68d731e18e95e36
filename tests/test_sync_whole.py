"""Trees come whole: random ones, with random edits, over links cut at random."""

import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

import mlepool
from mlepool.testing.proxy import Cut, Direction, FaultProxy
from tests.needs import need_program
from tests.tools import steady

pytestmark = pytest.mark.real

ROUNDS = 4  # edits and syncs of one tree
CUTS = 6  # of the link, within one sync at most

# Bytes that a name may hold: a newline, what is no UTF-8, what a shell would take
# apart, what a pattern would.
ALPHABET = b"abcXYZ019._-~ \n\t*?[]{}!#$&'\"\\\xff\xc3\xa9"


class Tree:
    """A tree of files on disk that changes at random.

    Args:
        root: Where it is; made here.
        rng: What all of it depends on.
    """

    def __init__(self, root: Path, rng: random.Random) -> None:
        self.root = os.fsencode(root)
        self._rng = rng
        os.mkdir(self.root)
        for _ in range(rng.randrange(1, 60)):
            self.add()

    def edit(self) -> None:
        """Change it in some places."""
        acts = [self.add, self.grow, self.insert, self.touch, self.move, self.copy]
        acts += [self.remove, self.cut, self.chmod, self.replace]
        for _ in range(self._rng.randrange(1, 20)):
            self._rng.choice(acts)()

    def add(self) -> None:
        folder = self._any(self.folders(), self.root)
        path = os.path.join(folder, self._name())
        if os.path.lexists(path):
            return
        kind = self._rng.random()
        if kind < 0.2:
            os.mkdir(path, self._rng.choice((0o700, 0o755, 0o777)))
        elif kind < 0.35:
            os.symlink(self._rng.choice((b"nowhere", b"../..", b"/etc", b".")), path)
        else:
            self._write(path, self._content())

    def grow(self) -> None:
        if path := self._any(self.files()):
            with open(path, "ab") as file:
                file.write(self._rng.randbytes(self._rng.randrange(1, 5000)))

    def insert(self) -> None:
        if path := self._any(self.files()):
            data = Path(os.fsdecode(path)).read_bytes()
            place = self._rng.randrange(len(data) + 1)
            self._write(path, data[:place] + b"!" + data[place:])

    def touch(self) -> None:
        if path := self._any(self.files()):
            when = self._rng.randrange(10**18, 2 * 10**18)
            os.utime(path, ns=(when, when))

    def move(self) -> None:
        if path := self._any(self.files()):
            target = os.path.join(self._any(self.folders(), self.root), self._name())
            if not os.path.lexists(target):
                os.rename(path, target)

    def copy(self) -> None:
        if path := self._any(self.files()):
            target = os.path.join(self._any(self.folders(), self.root), self._name())
            if not os.path.lexists(target):
                shutil.copyfile(path, target)

    def remove(self) -> None:
        if path := self._any(self.everything()):
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)

    def cut(self) -> None:
        if path := self._any(self.files()):
            os.truncate(path, self._rng.randrange(os.path.getsize(path) + 1))

    def chmod(self) -> None:
        if path := self._any(self.files()):
            os.chmod(path, self._rng.choice((0o600, 0o644, 0o755, 0o400)))

    def replace(self) -> None:
        """Put something of another kind in a place."""
        if path := self._any(self.everything()):
            self._remove(path)
            if self._rng.random() < 0.5:
                os.mkdir(path)
            else:
                self._write(path, self._content())

    def folders(self) -> list[bytes]:
        return [path for path in self.everything() if self._is_folder(path)]

    def files(self) -> list[bytes]:
        paths = self.everything()
        return [
            path for path in paths if os.path.isfile(path) and not os.path.islink(path)
        ]

    def everything(self) -> list[bytes]:
        return sorted(self._walk(self.root))

    def _walk(self, folder: bytes) -> Iterator[bytes]:
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            yield path
            if self._is_folder(path):
                yield from self._walk(path)

    def _is_folder(self, path: bytes) -> bool:
        return os.path.isdir(path) and not os.path.islink(path)

    def _remove(self, path: bytes) -> None:
        if self._is_folder(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)

    def _any(self, paths: list[bytes], default: bytes = b"") -> bytes:
        return self._rng.choice([*paths, default]) if paths else default

    def _name(self) -> bytes:
        count = self._rng.choice((1, 2, 3, 8, 60))
        name = bytes(self._rng.choice(ALPHABET) for _ in range(count))
        return b"dot" if name in (b".", b"..") else name

    def _content(self) -> bytes:
        rng = self._rng
        size = rng.choice(
            (0, 1, 100, 5000, 64 * 1024, 64 * 1024 + 1, 300_000, 2_000_000)
        )
        kinds: tuple[Callable[[int], bytes], ...] = (rng.randbytes, bytes, _text)
        return rng.choice(kinds)(size)

    def _write(self, path: bytes, data: bytes) -> None:
        with open(path, "wb") as file:
            file.write(data)


def _text(size: int) -> bytes:
    return (b"the same words, again and again\n" * (size // 32 + 1))[:size]


def differences(one: Path, other: Path) -> str:
    """Say what diff and rsync find: content, names, kinds, modes and times.

    The roots themselves are not compared: a folder that is there keeps what it has.
    """
    rsync = need_program("rsync")
    diff: list[Any] = ["diff", "-r", "--no-dereference", one, other]
    dry = [rsync, "-a", "-n", "-i", "-c", "--delete", f"{one}/", f"{other}/"]
    found = ""
    for words in (diff, dry):
        done = subprocess.run(words, capture_output=True, check=False)
        text = (done.stdout + done.stderr).decode("utf-8", "backslashreplace")
        found += "".join(one for one in text.splitlines(True) if one[11:] != " ./\n")
    return found


def random_cuts(rng: random.Random) -> Iterator[Cut]:
    for _ in range(rng.randrange(CUTS)):
        direction: Direction = rng.choice(("to_client", "to_worker"))
        yield Cut(rng.randrange(1, 300_000), direction, reset=rng.random() < 0.5)


@settings(
    steady,
    max_examples=8 if steady.derandomize else steady.max_examples,
    phases=[Phase.explicit, Phase.generate],  # there is no simpler example than a seed
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 2**32 - 1))
def test_random_trees_are_the_same_after_a_sync(worker, tmp_path, seed):
    rng = random.Random(seed)
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    tree, there, back = Tree(folder / "here", rng), folder / "there", folder / "back"
    with FaultProxy(worker.port) as proxy, mlepool.ClientPool() as pool:
        conn = pool.add("localhost", proxy.port, raise_error=True)
        conn.connect()
        options: dict[str, Any] = {"delete": True, "force": True, "ignore_files": ()}
        for _ in range(ROUNDS):
            proxy.schedule(random_cuts(rng))
            conn.sync(folder / "here", there, **options)
            assert differences(folder / "here", there) == ""
            conn.sync(there, back, pull=True, **options)
            assert differences(folder / "here", back) == ""
            tree.edit()
    shutil.rmtree(folder)
