"""Reads a worker's configuration again when its file has changed, or when asked to."""

from __future__ import annotations

import asyncio
import logging

from mlepool.errors import ConfigError
from mlepool.settings.reading import Source
from mlepool.worker.live import LiveConfig
from mlepool.worker.state import StateBoard

__all__ = ["LOOK_EVERY", "Rereader"]

logger = logging.getLogger("mlepool.worker")

LOOK_EVERY = 2.0  # seconds between two looks at the file


class Rereader:
    """Keeps a worker to its configuration file.

    A file that is wrong changes nothing: the log and the state's ``config_error`` say
    what is wrong with it, until it is right.

    Args:
        source: Where the settings come from; it has been read once.
        live: Is told of other ones.
        board: Where an error is said.
    """

    def __init__(self, source: Source, live: LiveConfig, board: StateBoard) -> None:
        self._source = source
        self._live = live
        self._board = board
        self._stamp = source.stamp()
        self._looking: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to look."""
        self._looking = asyncio.get_running_loop().create_task(self._keep_looking())

    def close(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()

    def reread(self) -> None:
        """Read all again, now."""
        self._stamp = self._source.stamp()  # before: a write while we read is seen
        try:
            found = self._source.read()
        except ConfigError as exc:
            logger.error("the settings stay as they were: %s", exc)
            text = str(exc).encode("utf-8", "replace").decode()  # paths may be odd
            self._board.update(config_error=text)
            return
        for note in found.notes:
            logger.warning("%s", note)
        self._board.update(config_error=None)
        self._live.reconfigure(found.config)

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if self._source.stamp() == self._stamp:
                continue
            try:
                self.reread()
            except Exception:
                # The top of a task: the next change may be read again.
                logger.exception("the settings can't be read again")
