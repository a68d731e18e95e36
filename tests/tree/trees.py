"""Trees as data, for tests of what is done with them."""

import msgspec
from hypothesis import strategies as st

from mlepool.tree import FILE, FOLDER, LINK, Entry


def file(path: str, size: int = 1, mtime: int = 10, *, mode: int = 0o644) -> Entry:
    return Entry(path.encode(), FILE, mode, size, mtime)


def folder(path: str, mtime: int = 10, *, mode: int = 0o755, hidden: int = 0) -> Entry:
    return Entry(path.encode(), FOLDER, mode, hidden, mtime)


def link(path: str, target: str = "there") -> Entry:
    return Entry(path.encode(), LINK, 0, 0, 10, target.encode())


def tree(entries) -> list[Entry]:
    return sorted(entries, key=lambda entry: entry.path.split(b"/"))


NAMES = st.sampled_from(["a", "b", "a.b", "a-", "\u00e9"])


@st.composite
def trees(draw):
    """Make a tree whose folders have whatever name and depth."""
    found: dict[bytes, Entry] = {}
    for parts in draw(st.lists(st.lists(NAMES, min_size=1, max_size=4), max_size=12)):
        for depth in range(1, len(parts)):
            path = "/".join(parts[:depth])
            if found.setdefault(path.encode(), folder(path)).kind != FOLDER:
                break
        else:
            path = "/".join(parts)
            make = draw(st.sampled_from([file, folder, link]))
            found.setdefault(path.encode(), make(path))
    changed = draw(st.sets(st.sampled_from(sorted(found)))) if found else set()
    for path in changed:
        entry = msgspec.structs.replace(found[path], mtime_ns=draw(st.integers(1, 3)))
        found[path] = entry
    return tree(found.values())
