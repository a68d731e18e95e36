"""Trees that somebody swaps for links while they are written: nothing gets out."""

import asyncio
import contextlib
import itertools
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mlepool.files.base import TargetOptions
from mlepool.files.store import Store
from mlepool.files.target import LocalTarget
from tests.files.trees import Sender, listing, make_tree, sync

STEPS = ("scanned", "sent", "prepared")
SWAPPED = ("sub", "sub/deep", "sub/a", "sub/mode", "sub/gone", "sub/link", ".", "..")


def make_all(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Make a source, a target in a folder of its own, and what is not to change."""
    files = {"sub/a": b"new content", "sub/deep/b": b"new content", "sub/mode": b"m"}
    source = make_tree(
        tmp_path / "src", {**files, "sub/deep/er/c": b"new", "top": b"n"}
    )
    os.symlink("new", source / "sub/link")
    os.chmod(source / "sub/mode", 0o600)
    os.chmod(source / "sub/deep", 0o750)
    same = {name: b"old" for name in files}
    there = {**same, "sub/mode": b"m", "sub/gone": b"old", "sub/deep/gone/x": b"old"}
    target = make_tree(tmp_path / "home/dst", there)
    os.symlink("old", target / "sub/link")
    outside = make_tree(tmp_path / "outside", {**there, "dst/sub/a": b"secret"})
    make_tree(outside, {"a": b"secret", "b": b"s", "gone": b"s", "mode": b"m"})
    make_tree(outside, {"deep/b": b"secret", "deep/gone/x": b"", "er/c": b"secret"})
    os.symlink("old", outside / "link")
    return source, target, outside


def swap(path: Path, outside: Path) -> None:
    """Put a link in something's place."""
    path = Path(os.path.realpath(path.parent)) / path.name
    if path.name in (".", ".."):
        path = Path(os.path.normpath(path))
    os.rename(path, f"{path}.aside")
    os.symlink(outside, path)


async def write(source: Path, target: LocalTarget) -> AsyncIterator[str]:
    """Write a tree, and stop after each step."""
    sender = Sender(source, target)
    await sender.begin(delete=True)
    yield "scanned"
    await sender.send()
    yield "sent"
    await sender.tell()
    yield "prepared"
    await target.commit()


@pytest.mark.parametrize(("step", "path"), list(itertools.product(STEPS, SWAPPED)))
def test_what_became_a_link_is_not_followed(tmp_path, step, path):
    source, root, outside = make_all(tmp_path)
    before = listing(outside)

    async def run() -> None:
        target = LocalTarget(root, TargetOptions(), state=tmp_path / "state")
        try:
            with contextlib.suppress(OSError):  # the root is another
                async for done in write(source, target):
                    if done == step:
                        swap(root / path, outside / Path(path).name)
        finally:
            await target.close()

    asyncio.run(run())
    assert listing(outside) == before


class SwappingStore(Store):
    """Swaps a folder at the moment when a file in it is about to be replaced."""

    def __init__(self, folder: Path, path: Path, outside: Path) -> None:
        super().__init__(folder)
        self._swapped = path
        self._outside = outside

    def keep(
        self, path: bytes, stat: os.stat_result, *, dir_fd: int, name: bytes
    ) -> bool:
        if not self._swapped.is_symlink():
            swap(self._swapped, self._outside)
        return super().keep(path, stat, dir_fd=dir_fd, name=name)


@pytest.mark.parametrize("path", ["sub", "sub/deep", "sub/a", ".", ".."])
def test_a_folder_that_becomes_a_link_in_the_midst_is_not_followed(tmp_path, path):
    source, root, outside = make_all(tmp_path)
    before = listing(outside)
    swapped = Path(os.path.normpath(root / path))
    store = SwappingStore(tmp_path / "store", swapped, outside)

    async def run() -> None:
        target = LocalTarget(root, TargetOptions(), state=tmp_path / "st", store=store)
        try:
            async for _ in write(source, target):
                pass
        finally:
            await target.close()

    asyncio.run(run())
    store.close()
    assert swapped.is_symlink()
    assert listing(outside) == before


def test_a_thread_that_swaps_all_the_time_gets_nothing_out(tmp_path):
    source, root, outside = make_all(tmp_path)
    before = listing(outside)
    over = threading.Event()
    swaps = itertools.count()

    def attack() -> None:
        while not over.is_set():
            for name in ("sub", "sub/deep", "sub/a"):
                with contextlib.suppress(OSError):
                    os.rename(root / name, root / "aside")
                    os.symlink(outside, root / name)
                    next(swaps)
                with contextlib.suppress(OSError):
                    os.unlink(root / name)
                with contextlib.suppress(OSError):
                    os.rename(root / "aside", root / name)

    attacker = threading.Thread(target=attack)
    attacker.start()
    try:
        for number in range(40):
            make_tree(source, {"sub/a": os.urandom(9), "sub/deep/b": os.urandom(9)})
            with contextlib.suppress(OSError):
                sync(source, root, tmp_path / "state", delete=bool(number % 2))
    finally:
        over.set()
        attacker.join()
    assert next(swaps) > 100
    assert listing(outside) == before
