"""Watches the files of custom commands: what changes is read anew."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from mlepool.worker.extensions import Extensions
from mlepool.worker.loading import Source

__all__ = ["watch"]

logger = logging.getLogger("mlepool.worker")

STEP = 50  # ms without a change, after which those that came are told
DEBOUNCE = 400  # ms after the first change, at which they are told in any case


async def watch(extensions: Extensions) -> None:
    """Load each source again that changes, until cancelled.

    Folders are watched and not files, since editors put a new file in the old one's
    place. Who has saved half of a file has saved a broken one: the commands stay as
    they were until the rest is there.
    """
    try:
        from watchfiles import awatch
    except ImportError:
        logger.error("--reload needs watchfiles: pip install watchfiles")
        return
    owners = _owners(extensions.sources)
    folders = {path.parent for path in owners if path.parent.is_dir()}
    if not folders:
        return
    changes = awatch(*folders, recursive=False, step=STEP, debounce=DEBOUNCE)
    async for found in changes:
        paths = {Path(path) for _, path in found}
        hit = [source for path in paths for source in owners.get(path, ())]
        if hit:
            await _reload(extensions, [one for one in extensions.sources if one in hit])


async def _reload(extensions: Extensions, sources: list[Source]) -> None:
    labels = ", ".join(source.label for source in sources)
    logger.info("reading again: %s", labels)
    errors = await extensions.load(sources)
    if not errors:
        logger.info("offered as they are now: %s", labels)


def _owners(sources: Iterable[Source]) -> dict[Path, list[Source]]:
    owners: dict[Path, list[Source]] = {}
    for source in sources:
        for path in source.files():
            owners.setdefault(path.resolve(), []).append(source)
    return owners
