"""The ends of a worker's trees: where its roots are, and what they may be."""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from mlepool.config import account_dir, default_state_dir
from mlepool.files.base import Source, SourceOptions, Target, TargetOptions
from mlepool.files.descent import locate_root
from mlepool.worker.access.grants import FULL, Grant, common_roots
from mlepool.worker.jail import Jail, check_roots

__all__ = ["FILES_FOLDER", "LocalEnds"]

FILES_FOLDER = "files"  # in the state folder: what is kept for syncs


class LocalEnds:
    """Makes the ends of trees on this host: :class:`~mlepool.worker.tree_session.Ends`.

    Args:
        state: The worker's state folder.
        root: What relative paths count from.
        roots: Folders that all trees must be in, or be; none: anywhere.
    """

    def __init__(self, state: Path, *, root: Path, roots: Sequence[Path] = ()) -> None:
        self._state = state / FILES_FOLDER
        self._root = os.fsencode(root)
        self._roots = tuple(roots)
        self._allowed: tuple[Path, ...] = ()
        self._store: Any = None
        self._lender: LocalEnds | None = None
        self._grant = FULL

    def allow(self, roots: Sequence[Path]) -> None:
        """Have other folders that all trees must be in, from now on."""
        self._roots = tuple(roots)

    def confined(self, cwd: Path, grant: Grant) -> LocalEnds:
        """Give the ends of one client's trees, for one tree.

        Args:
            cwd: What relative paths count from.
            grant: What the client may do.
        """
        ends = LocalEnds(self._state.parent, root=cwd, roots=self._roots)
        ends._grant, ends._lender = grant, self
        return ends

    def jail(self, cwd: Path, grant: Grant) -> Jail:
        """Give the paths that a client's file commands may use."""
        limits = self._roots, grant.roots
        return Jail(cwd, limits=limits, own=self._closed_to(grant))

    async def resolve(self, root: bytes) -> bytes:
        """Give a root's real path; a file system that hangs holds up nobody else.

        Raises:
            ValueError: If it can't be a path.
            PermissionError: If it is not inside the allowed folders, or in one that
                is closed to the client; of both, the ends are told, too.
        """
        if not root or b"\0" in root:
            raise ValueError(f"not a path: {root[:200]!r}")
        return await asyncio.to_thread(self._resolve, root)

    def _resolve(self, root: bytes) -> bytes:
        path = os.path.join(self._root, os.path.expanduser(root))
        real = os.path.realpath(path)
        self._allowed = common_roots(self._roots, self._grant.roots)
        check_roots(real, self._allowed, path)
        return locate_root(real, closed=self._closed_to(self._grant))

    def source(self, root: bytes, options: SourceOptions) -> Source:
        """Make the end that is read."""
        kind = _load("source").LocalSource
        end = kind(
            root,
            options,
            store=self._open_store(),
            own=self._own_folders(),
            allowed=self._allowed,
            closed=self._closed_to(self._grant),
        )
        return cast(Source, end)

    def target(
        self, root: bytes, options: TargetOptions, waiting: Callable[[str], None]
    ) -> Target:
        """Make the end that is written."""
        end = _load("target").LocalTarget(
            root,
            options,
            state=self._state,
            store=self._open_store(),
            allowed=self._allowed,
            own=self._own_folders(),
            closed=self._closed_to(self._grant),
            waiting=waiting,
        )
        return cast(Target, end)

    def _own_folders(self) -> list[Path]:
        """Give the folders that hold keys and tokens: no tree has them in it."""
        return [self._state.parent, account_dir(), default_state_dir()]

    def _closed_to(self, grant: Grant) -> list[Path]:
        """Give those of them that a client may not reach: an admin may."""
        return [] if grant.has("admin") else self._own_folders()

    def close(self) -> None:
        """Let go of the store."""
        if self._store is not None:
            self._store.close()

    def _open_store(self) -> Any:
        if self._lender is not None:
            return self._lender._open_store()
        if self._store is None:
            self._store = _load("store").Store(self._state)
        return self._store


def _load(name: str) -> Any:
    """Load a module when a sync needs it: it takes libraries that start slowly."""
    return importlib.import_module(f"mlepool.files.{name}")
