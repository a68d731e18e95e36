"""The trees that the rows of `files` copy, and what is changed in them."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from .work import MIB, Work

SMALL = 4096  # bytes of each small file
IN_A_FOLDER = 100  # small files in one folder
TEN = 10


def make_trees(folder: Path, work: Work) -> None:
    """Make the trees `small`, `large` and `environment` in a new folder."""
    for number in range(work.files):
        part = folder / "small" / f"{number // IN_A_FOLDER:03d}"
        part.mkdir(parents=True, exist_ok=True)
        # Random, so that nobody gains by compressing it, or by having it already.
        (part / f"{number:05d}").write_bytes(os.urandom(SMALL))
    (folder / "large").mkdir()
    with (folder / "large" / "file").open("wb") as file:
        for left in range(work.large, 0, -MIB):
            file.write(os.urandom(min(left, MIB)))
    _copy_environment(folder / "environment", work.environment)


def leave(_tree: Path) -> None:
    """Change nothing."""


def change_ten(tree: Path) -> None:
    """Give ten files, far from each other, new content of the same size."""
    paths = sorted(path for path in tree.rglob("*") if path.is_file())
    for path in paths[:: max(1, len(paths) // TEN)][:TEN]:
        path.write_bytes(os.urandom(SMALL))


def change_byte(tree: Path) -> None:
    """Change one byte of the large file, near its middle."""
    with (tree / "file").open("r+b") as file:
        place = _near_the_middle(tree)
        file.seek(place)
        old = file.read(1)[0]
        file.seek(place)
        # Any other value: one that was there before might be known to somebody.
        file.write(bytes([(old + 1 + os.urandom(1)[0] % 255) % 256]))


def insert_byte(tree: Path) -> None:
    """Insert one byte into the large file, near its middle."""
    place = _near_the_middle(tree)
    with (tree / "file").open("rb") as old, (tree / "new").open("wb") as new:
        for left in range(place, 0, -MIB):
            new.write(old.read(min(left, MIB)))
        new.write(os.urandom(1))
        shutil.copyfileobj(old, new, MIB)
    (tree / "new").rename(tree / "file")


def _near_the_middle(tree: Path) -> int:
    size = (tree / "file").stat().st_size
    return size // 2 + int.from_bytes(os.urandom(2), "big")


def _copy_environment(target: Path, size: int) -> None:
    """Copy the environment that this runs in, as much of it as `size` bytes."""
    left = size
    for path in _files_below(Path(sys.prefix)):
        copy = target / path.relative_to(sys.prefix)
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy, follow_symlinks=False)
            left -= copy.lstat().st_size
        except OSError:
            copy.unlink(missing_ok=True)  # it went away meanwhile, or is not ours
        if left <= 0:
            return


def _files_below(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            yield Path(parent, name)
