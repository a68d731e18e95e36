"""Trees for tests: made, listed, and synced by hand from one end to the other."""

import asyncio
import contextlib
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from mlepool.files.base import Offer, Piece, Scan, TargetOptions, TargetReport
from mlepool.files.chunks import chunk_bytes
from mlepool.files.scan import scan_tree
from mlepool.files.target import LocalTarget
from mlepool.tree import Entry, Plan, make_plan
from tests.needs import NOBODY, need_root

PIECE = 112 * 1024  # bytes
MTIME = 1_600_000_000_123_456_789  # nanoseconds since the epoch


def make_tree(root: Path, files: Mapping[str, bytes]) -> Path:
    """Write files, at one time in the past; a path that ends with / is a folder."""
    root.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, ns=(MTIME, MTIME))
    return root


def listing(root: Path, *, times: bool = True) -> dict[bytes, tuple[Any, ...]]:
    """Tell all of a tree: kinds, modes, times, contents; the root itself, too."""
    found = {}
    top = os.fsencode(root)
    paths = [top]
    for folder, folders, files in os.walk(top):
        paths += [os.path.join(folder, one) for one in (*folders, *files)]
    for path in paths:
        seen = os.lstat(path)
        facts: tuple[Any, ...] = (oct(seen.st_mode),)
        if times:
            facts += (seen.st_mtime_ns,)
        if stat.S_ISLNK(seen.st_mode):
            facts += (os.readlink(path),)
        elif stat.S_ISREG(seen.st_mode):
            with open(path, "rb") as file:
                facts += (file.read(),)
        found[os.path.relpath(path, top)] = facts
    return found


def scan(root: Path) -> Scan:
    fd = os.open(root, os.O_RDONLY)
    try:
        return scan_tree(fd)
    finally:
        os.close(fd)


def pieces_of(number: int, offset: int, data: bytes) -> list[Piece]:
    return [
        Piece(number, offset + at, data[at : at + PIECE])
        for at in range(0, len(data), PIECE)
    ]


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Act as an account that owns nothing, for a while."""
    need_root()
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


class Sender:
    """Does by hand what a driver does: from a folder to a target.

    Attributes:
        sent: Bytes that the target did not have.
        missing: What it lacked of each file, by path.
    """

    def __init__(self, source: Path, target: LocalTarget) -> None:
        self.source = source
        self.target = target
        self.sent = 0
        self.missing: dict[bytes, list[int]] = {}
        self.plan = Plan()

    async def begin(self, *, delete: bool = False, checksum: bool = False) -> None:
        found = await self.target.scan()
        self.plan = make_plan(
            scan(self.source).entries,
            found.entries,
            delete=delete,
            checksum=checksum,
        )
        plan = self.plan
        await self.target.reserve(plan.size, len(plan.files))
        await self.target.expect(0, plan.files)

    def content(self, entry: Entry) -> bytes:
        path = os.fsencode(self.source) + b"/" + entry.path
        return Path(os.fsdecode(path)).read_bytes()

    async def send(self, numbers: Collection[int] | None = None) -> None:
        """Send files, or some of them, in one go."""
        files = dict(enumerate(self.plan.files))
        if numbers is not None:
            files = {number: files[number] for number in numbers}
        data = {number: self.content(entry) for number, entry in files.items()}
        offers = [Offer(one, 0, chunk_bytes(data[one])) for one in files]
        missing = await self.target.offer(offers)
        pieces: list[Piece] = []
        for offer, indexes in zip(offers, missing, strict=True):
            self.missing[files[offer.number].path] = indexes
            at = 0
            for index, chunk in enumerate(offer.chunks):
                if index in indexes:
                    part = data[offer.number][at : at + chunk.length]
                    pieces += pieces_of(offer.number, at, part)
                    self.sent += chunk.length
                at += chunk.length
        await self.target.write(pieces)

    async def end(self) -> TargetReport:
        await self.tell()
        return await self.target.commit()

    async def tell(self) -> None:
        plan = self.plan
        await self.target.prepare(
            folders=plan.folders,
            links=plan.links,
            touched=plan.touched,
            deleted=plan.deleted,
        )


def sync(
    source: Path,
    destination: Path,
    state: Path,
    *,
    delete: bool = False,
    checksum: bool = False,
    **options: Any,
) -> tuple[Sender, TargetReport]:
    """Make a folder like another."""

    async def run() -> tuple[Sender, TargetReport]:
        target = LocalTarget(destination, TargetOptions(), state=state, **options)
        try:
            sender = Sender(source, target)
            await sender.begin(delete=delete, checksum=checksum)
            await sender.send()
            return sender, await sender.end()
        finally:
            await target.close()

    return asyncio.run(run())
