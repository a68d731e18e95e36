"""What is to be done to make a tree like another, and what looks like a mistake."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec

from mlepool.errors import SyncHaltedError
from mlepool.tree.entries import FILE, FOLDER, LINK, Entry, order_of

__all__ = ["FEW", "Plan", "check_plan", "make_plan"]

FEW = 5  # entries that may go without being more than a mistake would take


class Plan(msgspec.Struct):
    """What is to be done to make a tree like another.

    What is deleted goes first: other entries may come in its place.

    Attributes:
        folders: To be made, or to get their mode and mtime: also those in which
            something changes, which alters their mtime.
        files: To be offered.
        links: To be made, or to say something else, or to get their mtime.
        touched: Files of the same size and mtime, with another mode.
        deleted: Paths of what goes, with all that is in it; none is in another.
        refused: Paths that stay as they are, each with the reason.
        unchanged: Files and links that are the same already.
        size: Bytes to send, if nothing of the files' content is there.
        gone: Entries that go, and have no successor at their path.
        source_count: Entries of the source.
        target_count: Entries of the target.
    """

    folders: list[Entry] = []
    files: list[Entry] = []
    links: list[Entry] = []
    touched: list[Entry] = []
    deleted: list[bytes] = []
    refused: list[tuple[bytes, str]] = []
    unchanged: int = 0
    size: int = 0
    gone: int = 0
    source_count: int = 0
    target_count: int = 0

    @property
    def is_empty(self) -> bool:
        """True if there is nothing to do."""
        whole = (self.folders, self.files, self.links, self.touched, self.deleted)
        return not any(whole)


def make_plan(
    source: Sequence[Entry],
    target: Sequence[Entry],
    *,
    delete: bool = False,
    checksum: bool = False,
    unread: Collection[bytes] = (),
) -> Plan:
    """Plan how to make the target like the source.

    A file or a link takes the place of a folder only if that is empty, or with
    ``delete``; never if something in it is not listed.

    Args:
        source: What there is to be, in order.
        target: What there is, in order.
        delete: What is not in the source is deleted.
        checksum: Every file is offered, also with the same size and mtime.
        unread: Paths of the source that are there but could not be read: what the
            target has there is not deleted. An empty one, the root: nothing is.
    """
    if not checksum and source == target:
        unchanged = sum(one.kind != FOLDER for one in source)
        count = len(source)
        return Plan(unchanged=unchanged, source_count=count, target_count=count)
    return _Planner(target, delete=delete, checksum=checksum, unread=unread).run(source)


class _Planner:
    """One walk along source and target."""

    def __init__(
        self,
        target: Sequence[Entry],
        *,
        delete: bool,
        checksum: bool,
        unread: Collection[bytes],
    ) -> None:
        self._target = target
        self._delete = delete and b"" not in unread
        self._checksum = checksum
        self._unread = frozenset(unread)
        self._kept = _folders_to_keep(target)
        self._same: dict[bytes, Entry] = {}  # folders that nothing has changed so far
        self._plan = Plan()

    def run(self, source: Sequence[Entry]) -> Plan:
        plan, target, at = self._plan, self._target, 0
        plan.source_count, plan.target_count = len(source), len(target)
        for new in source:
            if at < len(target) and target[at] is new:  # of a group that is the same
                if new.kind == FOLDER or self._checksum:
                    at = self._meet(new, at)
                else:
                    plan.unchanged += 1
                    at += 1
                continue
            at = self._lose_until(at, new.path)
            if at < len(target) and target[at].path == new.path:
                at = self._meet(new, at)
            else:
                self._add(new)
        while at < len(target):
            at = self._lose(at)
        plan.folders.sort(key=lambda entry: order_of(entry.path))
        return plan

    def _lose_until(self, at: int, path: bytes) -> int:
        """Pass what the source lacks, up to a path of the source's."""
        target = self._target
        if at < len(target) and target[at].path != path:
            order = order_of(path)
            while at < len(target) and order_of(target[at].path) < order:
                at = self._lose(at)
        return at

    def _lose(self, at: int) -> int:
        """Decide upon an entry that the source lacks; give where the next one is."""
        old = self._target[at]
        if old.path in self._unread:
            return self._after(at)
        if not self._delete or old.path in self._kept:
            return at + 1
        after = self._after(at)
        self._remove(old)
        self._plan.gone += after - at
        return after

    def _meet(self, new: Entry, at: int) -> int:
        """Compare what is at one path on both sides."""
        old = self._target[at]
        if old.kind != new.kind:
            return self._replace(new, at)
        if old.kind == FOLDER:
            self._compare_folders(new, old)
            return self._after(at) if new.path in self._unread else at + 1
        if old.kind == LINK:
            same = (old.target, old.mtime_ns) == (new.target, new.mtime_ns)
        else:
            same = (old.size, old.mtime_ns) == (new.size, new.mtime_ns)
            same = same and not self._checksum
        if not same:
            self._add(new)
        elif old.mode != new.mode:
            self._plan.touched.append(new)
        else:
            self._plan.unchanged += 1
        return at + 1

    def _compare_folders(self, new: Entry, old: Entry) -> None:
        if (old.mode, old.mtime_ns) == (new.mode, new.mtime_ns):
            self._same[new.path] = new
        else:
            self._plan.folders.append(new)

    def _replace(self, new: Entry, at: int) -> int:
        old, after = self._target[at], self._after(at)
        reason = ""
        if old.path in self._kept:
            reason = "a folder is in its place, with things in it that are not synced"
        elif after - at > 1 and not self._delete:
            reason = (
                f"a folder with {after - at - 1} entries is in its place; "
                "delete=True would replace it"
            )
        if reason:
            self._plan.refused.append((new.path, reason))
        else:
            self._remove(old)
            self._plan.gone += after - at - 1
            self._add(new)
        return after

    def _remove(self, old: Entry) -> None:
        self._plan.deleted.append(old.path)
        self._change_parent(old.path)

    def _add(self, new: Entry) -> None:
        plan = self._plan
        if new.kind == FILE:
            plan.files.append(new)
            plan.size += new.size
        elif new.kind == FOLDER:
            plan.folders.append(new)
        else:
            plan.links.append(new)
        self._change_parent(new.path)

    def _change_parent(self, path: bytes) -> None:
        """Have the folder's mtime set again, after what is done in it."""
        folder = self._same.pop(path.rpartition(b"/")[0], None)
        if folder is not None:
            self._plan.folders.append(folder)

    def _after(self, at: int) -> int:
        """Give the place behind an entry and all that is in it."""
        target = self._target
        prefix = target[at].path + b"/"
        after = at + 1
        if target[at].kind == FOLDER:
            while after < len(target) and target[after].path.startswith(prefix):
                after += 1
        return after


def _folders_to_keep(entries: Iterable[Entry]) -> set[bytes]:
    """Find the folders in which, however deep, something is not listed."""
    kept: set[bytes] = set()
    for entry in entries:
        if entry.size and entry.kind == FOLDER:
            path = entry.path
            while path and path not in kept:
                kept.add(path)
                path = path.rpartition(b"/")[0]
    return kept


def check_plan(plan: Plan, *, force: bool = False) -> None:
    """Halt what looks like a mistake: a source that is not mounted, a wrong path.

    Args:
        plan: What would be done.
        force: Accept it.

    Raises:
        SyncHaltedError: If the source is empty and the target is not, or if more than
            half of the target, and more than a handful, would be deleted.
    """
    if force:
        return
    total = plan.target_count
    if total and not plan.source_count:
        raise SyncHaltedError(f"the source is empty, the target has {total} entries")
    if plan.gone > FEW and plan.gone * 2 > total:
        raise SyncHaltedError(
            f"{plan.gone} of the target's {total} entries would be deleted"
        )
