"""Names of trees."""

import pytest

from mlepool.tree import tree_digest
from tests.tree.trees import file, folder, link


def test_a_digest_depends_on_paths_kinds_content_and_the_right_to_execute():
    entries = [folder("a"), file("a/b"), link("l")]
    digests = {b"a/b": b"1" * 32}
    name = tree_digest(entries, digests)
    assert len(bytes.fromhex(name)) == 32
    others = [
        ([folder("b"), *entries[1:]], digests),
        ([entries[0], file("a/b", mode=0o744), link("l")], digests),
        ([*entries[:2], link("l", "elsewhere")], digests),
        ([*entries, folder("z")], digests),
        (entries, {b"a/b": b"2" * 32}),
    ]
    names = {tree_digest(*other) for other in others}
    assert len(names | {name}) == len(others) + 1


def test_a_digest_does_not_depend_on_times_and_umasks():
    digests = {b"a/b": b"1" * 32}
    one = [folder("a"), file("a/b")]
    other = [folder("a", 77, mode=0o700, hidden=3), file("a/b", mtime=5, mode=0o600)]
    assert tree_digest(one, digests) == tree_digest(other, digests)


def test_a_digest_is_the_same_for_ever():
    entries = [folder("a"), file("a/b", mode=0o755), link("l"), file("z")]
    digests = {b"a/b": b"1" * 32, b"z": b"2" * 32}
    expected = "0ae48881b928b4703465904011465b5bd8ed0eb2a0d2647ec4703ca9b5ac69e6"
    assert tree_digest(entries, digests) == expected


def test_a_file_without_a_digest_is_an_error():
    with pytest.raises(KeyError):
        tree_digest([file("a")], {})
