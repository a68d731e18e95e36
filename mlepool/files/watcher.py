"""Watches the folders of a tree: tells that something in them changes."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from typing import Any

__all__ = ["POLL", "Watcher"]

STEP = 50  # ms without a change, after which those that came are told
DEBOUNCE = 200  # ms after the first change, at which they are told in any case
TICK = 250  # ms that one wait takes at most
POLL = 1.0  # seconds between two looks at what can't be watched
# Changes told at once after which others may have been dropped: the system holds 16,384
# events for who does not read them, by default, and a new file is three or four.
MANY = 1000
MAX_WATCHED = 4095  # bytes of a path that the system takes as a whole

_MODIFIED = 2  # what watchfiles calls a change that makes nothing come or go


class Watcher:
    """Tells that something may have changed in a tree; blocking, for one thread.

    Each folder is watched by itself: no link is followed, and ignored folders cost
    nothing. So folders have to be told anew whenever they change.

    Args:
        root: Where the tree is.

    Attributes:
        trouble: Why it can't be watched, for people: it has to be looked at again and
            again. Empty if it can.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._notify: Any = None
        self._folders: frozenset[bytes] = frozenset()
        self._paths: frozenset[str] = frozenset()
        self._identity: tuple[int, int] | None = None
        self._looked = time.monotonic()
        self.trouble = ""

    def watch(self, folders: Collection[bytes]) -> bool:
        """Watch the root and these folders from now on.

        Args:
            folders: Their paths in the tree.

        Returns:
            True if they were watched already: what was seen of them since is all that
            has changed. Else they are to be looked at again.
        """
        wanted = frozenset(folders)
        if self._is_watching and wanted == self._folders:
            return True
        self.close()
        self._identity = self._identify()
        self._folders = wanted
        paths, self.trouble = self._watchable(wanted)
        self._paths = frozenset(paths)
        try:
            self._notify = _make_notify(paths)
        except (FileNotFoundError, NotADirectoryError):
            self.trouble = ""  # one went meanwhile: the next look tells which
        except (OSError, RuntimeError) as exc:
            self.trouble = _in_words(exc)
        return False

    def wait(self) -> bool:
        """Wait a moment, or until something may have changed; True if it may."""
        if self._notify is None:
            time.sleep(TICK / 1000)
            found = None
        else:
            found = self._notify.watch(DEBOUNCE, STEP, TICK, None)
        if isinstance(found, set):
            self._note(found)
            return True
        identity = self._identify()
        if not self._is_watching:
            return identity is not None
        if identity != self._identity:
            self.close()
            return True
        if self.trouble and time.monotonic() - self._looked >= POLL:
            self._looked = time.monotonic()
            return True
        return False

    def close(self) -> None:
        """Watch nothing any more. Twice is fine."""
        self.trouble = ""
        if self._notify is not None:
            self._notify.close()
            self._notify = None

    @property
    def _is_watching(self) -> bool:
        return self._notify is not None or bool(self.trouble)

    def _note(self, found: set[tuple[int, str]]) -> None:
        """Have folders that came or went watched anew: they may be others by now.

        Where changes may have been dropped, nobody knows which came or went.
        """
        came = (path for kind, path in found if kind != _MODIFIED)
        if len(found) >= MANY or not self._paths.isdisjoint(came):
            self.close()

    def _identify(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._root)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _watchable(self, folders: Collection[bytes]) -> tuple[list[str], str]:
        """Give the paths that can be watched, and why others can't."""
        root = os.path.realpath(self._root)
        paths, trouble = [root], ""
        for folder in folders:
            path = os.path.join(root, os.fsdecode(folder))
            if not _is_text(path):
                trouble = "the name of a folder is not UTF-8"
            elif len(os.fsencode(path)) > MAX_WATCHED:
                trouble = "the path of a folder is too long"
            else:
                paths.append(path)
        return paths, trouble


def _make_notify(paths: list[str]) -> Any:
    # Not at the top: it takes longer to load than many a sync.
    from watchfiles._rust_notify import RustNotify

    return RustNotify(paths, False, False, 0, False, False)


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _in_words(exc: Exception) -> str:
    text = str(exc)
    if "limit" in text or "Too many open files" in text:
        return "inotify's limit is reached; fs.inotify.max_user_watches raises it"
    return text.partition(" about [")[0]
