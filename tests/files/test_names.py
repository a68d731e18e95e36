"""Names of trees, remembered by what their scans list."""

import msgspec
import pytest

from mlepool.files.names import MOST, TreeNames, is_settled, key_of
from mlepool.files.proofs import COARSE_TICK
from mlepool.tree import FILE, FOLDER, Entry

ENTRIES = [
    Entry(b"a", FOLDER, 0o755, 0, 1),
    Entry(b"a/b", FILE, 0o644, 5, 1000),
    Entry(b"c", FILE, 0o644, 5, 2000),
]


@pytest.fixture
def names(tmp_path):
    names = TreeNames(tmp_path / "names.db")
    yield names
    names.close()


def test_a_name_is_remembered(names):
    assert names.get(b"key") == ""
    names.put(b"key", "first")
    names.put(b"key", "second")
    assert (names.get(b"key"), names.get(b"other")) == ("second", "")


def test_names_given_first_go_first(names):
    for number in range(MOST + 1):
        names.put(b"%d" % number, "name")
    assert (names.get(b"0"), names.get(b"1")) == ("", "name")


@pytest.mark.parametrize(
    "change",
    [{"path": b"d"}, {"kind": FOLDER}, {"mode": 0}, {"size": 6}, {"mtime_ns": 2001}],
)
def test_all_that_is_listed_is_in_the_key(change):
    key = key_of(b"/root", ENTRIES)
    others = [*ENTRIES[:2], msgspec.structs.replace(ENTRIES[2], **change)]
    assert key == key_of(b"/root", list(ENTRIES))
    assert key not in (key_of(b"/root", others), key_of(b"/other", ENTRIES))


def test_files_that_were_changed_just_now_may_change_once_more():
    assert is_settled(ENTRIES, 2001 + COARSE_TICK)
    assert not is_settled(ENTRIES, 2000 + COARSE_TICK)
    assert is_settled(ENTRIES[:1], 0)
