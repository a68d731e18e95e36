"""Watches the files of custom commands: what changes is read anew."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from mlepool.worker.custom.extensions import Extensions
from mlepool.worker.custom.loading import Source

__all__ = ["Seen", "look_at", "watch"]

logger = logging.getLogger("mlepool.worker")

STEP = 50  # ms without a change, after which those that came are told
DEBOUNCE = 400  # ms after the first change, at which they are told in any case
LOOK_EVERY = 2.0  # seconds between two looks at what tells of no change: a network's

# Of each file what tells one version from another; None if it is not there.
Seen = dict[Path, tuple[int, int, int] | None]


def look_at(sources: Iterable[Source]) -> Seen:
    """Note how the files of sources are."""
    return {path: _look(path) for source in sources for path in source.files()}


async def watch(extensions: Extensions, seen: Seen) -> None:
    """Load each source again that changes, until cancelled.

    Who has saved half of a file has saved a broken one: the commands stay as they were
    until the rest is there.

    Args:
        extensions: The commands.
        seen: How their files were before they were loaded.
    """
    async for _ in _occasions({path.parent for path in look_at(extensions.sources)}):
        looks = [(source, look_at([source])) for source in extensions.sources]
        # A file may belong to several sources: each is judged before any is noted.
        changed = [
            source
            for source, now in looks
            if any(seen.get(path, version) != version for path, version in now.items())
        ]
        for _, now in looks:
            seen.update(now)
        if changed:
            labels = ", ".join(source.label for source in changed)
            logger.info("reading again: %s", labels)
            await extensions.load(changed)


async def _occasions(folders: Iterable[Path]) -> AsyncIterator[None]:
    """Give a turn at once, after each change in folders, and now and then.

    Folders are watched and not files, since editors put a new file in an old one's
    place.
    """
    yield
    try:
        from watchfiles import awatch

        changes = awatch(
            *(folder for folder in folders if folder.is_dir()),
            recursive=False,
            step=STEP,
            debounce=DEBOUNCE,
            rust_timeout=int(LOOK_EVERY * 1000),
            yield_on_timeout=True,
        )
        async for _ in changes:
            yield
    except (ImportError, OSError, RuntimeError) as exc:
        logger.warning("changes of commands are seen a little later: %s", exc)
    while True:
        await asyncio.sleep(LOOK_EVERY)
        yield


def _look(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
