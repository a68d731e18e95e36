"""Names of trees, remembered by what their scans list."""

import msgspec
import pytest
from blake3 import blake3

from mlepool.files.names import MOST, MOST_PARTS, TOGETHER, Naming, TreeNames
from mlepool.files.proofs import COARSE_TICK
from mlepool.tree import FILE, FOLDER, Entry, make_groups, tree_digest
from tests.tree.trees import file

ENTRIES = [
    Entry(b"a", FOLDER, 0o755, 0, 1),
    Entry(b"a/b", FILE, 0o644, 5, 1000),
    Entry(b"c", FILE, 0o644, 5, 2000),
]
LATER = COARSE_TICK + 1_000_000  # when all of these are settled
MANY = [file(f"{number:05}") for number in range(3 * 64 * TOGETHER)]


@pytest.fixture
def names(tmp_path):
    names = TreeNames(tmp_path / "names.db")
    yield names
    names.close()


def digests_of(entries: list[Entry], seed: bytes = b"") -> dict[bytes, bytes]:
    files = [one for one in entries if one.kind == FILE]
    return {one.path: blake3(one.path + seed).digest() for one in files}


class Tree:
    """A tree whose names are asked for; counts the files that were looked up."""

    def __init__(self, names: TreeNames | None, *, clock: int = LATER) -> None:
        self.names = names
        self.clock = clock
        self.known: dict[bytes, bytes] = {}
        self.looked_up = 0

    def name(self, entries, digests=None, *, real=b"/root"):
        def look_up(some):
            self.looked_up += len(some)
            return [self.known.get(one.path) for one in some]

        naming = Naming(self.names, real, clock=self.clock, look_up=look_up)
        digests = {} if digests is None else digests
        return naming.run(entries, make_groups(entries), digests)


def replaced(entries: list[Entry], place: int, **change) -> list[Entry]:
    new = msgspec.structs.replace(entries[place], **change)
    return [*entries[:place], new, *entries[place + 1 :]]


def test_a_name_is_remembered(names):
    assert names.get(b"key") == ""
    names.put(b"key", "first")
    names.put(b"key", "second")
    assert (names.get(b"key"), names.get(b"other")) == ("second", "")


def test_names_given_first_go_first(names):
    for number in range(MOST + 1):
        names.put(b"%d" % number, "name")
    assert (names.get(b"0"), names.get(b"1")) == ("", "name")


def test_parts_given_first_go_first(names):
    parts = {b"%d" % number: b"" for number in range(MOST_PARTS + 1)}
    names.put_parts(parts)
    assert names.parts([b"0", b"1", b"2"]) == {b"1": b"", b"2": b""}


@pytest.mark.parametrize("entries", [[], ENTRIES, MANY], ids=len)
def test_a_tree_has_the_name_of_its_content_however_it_is_known(names, entries):
    digests = digests_of(entries)
    name = tree_digest(entries, digests)
    tree = Tree(names)
    tree.known = digests
    for _ in range(2):
        assert tree.name(entries) == (name, [])
    assert tree.looked_up == len(digests)  # the first time
    assert Tree(None).name(entries, dict(digests)) == (name, [])


def test_what_is_not_known_is_told(names):
    tree = Tree(names)
    tree.known = digests_of(ENTRIES[:2])
    digests: dict[bytes, bytes] = {}
    assert tree.name(ENTRIES, digests) == ("", [ENTRIES[2]])
    assert digests == tree.known
    assert Tree(None).name(ENTRIES) == ("", ENTRIES[1:])


def test_only_files_around_what_has_changed_are_looked_up(names):
    digests = digests_of(MANY)
    Tree(names).name(MANY, dict(digests))
    changed = replaced(MANY, 777, mtime_ns=5)
    tree = Tree(names)
    tree.known = digests
    expected = tree_digest(changed, digests)
    assert tree.name(changed, {MANY[777].path: digests[MANY[777].path]})[0] == expected
    assert 0 < tree.looked_up < 1500


@pytest.mark.parametrize(
    "change",
    [{"path": b"d"}, {"kind": FOLDER}, {"mode": 0}, {"size": 6}, {"mtime_ns": 2001}],
)
def test_all_that_is_listed_is_in_the_key(names, change):
    digests = digests_of(ENTRIES)
    Tree(names).name(ENTRIES, digests)
    assert Tree(names).name(ENTRIES)[1] == []
    assert Tree(names).name(ENTRIES, real=b"/other")[1] != []
    assert Tree(names).name(replaced(ENTRIES, 2, **change))[1] != []


def test_what_was_read_just_now_counts_more_than_what_is_remembered(names):
    Tree(names).name(ENTRIES, digests_of(ENTRIES))
    new = digests_of(ENTRIES, b"!")
    expected = tree_digest(ENTRIES, new)
    assert Tree(names).name(ENTRIES, new) == (expected, [])
    assert Tree(names).name(ENTRIES) == (expected, [])


def test_files_that_were_changed_just_now_may_change_once_more(names):
    digests = digests_of(ENTRIES)
    soon = Tree(names, clock=2000 + COARSE_TICK)
    assert soon.name(ENTRIES, dict(digests))[0]
    assert soon.name(ENTRIES) == ("", ENTRIES[1:])
    later = Tree(names, clock=2001 + COARSE_TICK)
    assert later.name(ENTRIES, dict(digests))[0]
    assert later.name(ENTRIES)[0]
