"""Outlines: what is the same has the same groups, and what differs is found."""

import functools

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from mlepool.tree import (
    Entry,
    Group,
    PageReader,
    encode_pages,
    make_outline,
    pack_outline,
    unpack_outline,
)
from mlepool.tree.outline import MAX_COUNT, MAX_SAID
from mlepool.tree.pages import MAX_PAGE
from tests.tree.trees import file, folder, tree, trees


@functools.cache
def large_tree() -> list[Entry]:
    entries = [folder(f"{number:02}") for number in range(20)]
    names = [f"{number % 20:02}/{number:06}" for number in range(4000)]
    return tree([*entries, *(file(one) for one in names)])


def groups_of(entries: list[Entry]) -> list[list[Entry]]:
    rest = iter(entries)
    return [[next(rest) for _ in range(one.size)] for one in make_outline(entries)]


@given(trees())
def test_an_outline_is_read_back_and_counts_all(entries):
    outline = make_outline(entries)
    assert unpack_outline(pack_outline(outline)) == outline
    assert sum(one.size for one in outline) == len(entries)


def test_an_empty_tree_has_no_groups():
    assert make_outline([]) == []


@pytest.mark.parametrize("packed", [b"x", bytes(21), bytes(20)])
def test_what_is_no_outline_is_refused(packed):
    with pytest.raises(ValueError, match=r"outline|empty"):
        unpack_outline(packed)


@pytest.mark.parametrize(
    "change",
    [{"mtime_ns": 11}, {"size": 2}, {"mode": 0o600}, {"path": b"07/002007+"}],
    ids=str,
)
def test_a_change_changes_the_groups_around_it_and_no_others(change):
    entries = large_tree()
    place = next(at for at, one in enumerate(entries) if one.path == b"07/002007")
    changed = [*entries]
    changed[place] = msgspec.structs.replace(entries[place], **change)
    old, new = make_outline(entries), make_outline(tree(changed))
    assert 1 <= len(set(new) - set(old)) <= 2
    assert len(new) > 30


@given(trees(), trees())
def test_groups_that_are_known_need_not_be_read(entries, others):
    reader, found = PageReader(), []
    known = set(make_outline(others))
    for group, some in zip(make_outline(entries), groups_of(entries), strict=True):
        if group in known:
            reader.pass_over(some)
            found += some
        else:
            (page,) = encode_pages(some)
            found += reader.read(page)
    assert found == entries


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_a_page_behind_a_known_group_is_checked_as_behind_a_page(data):
    entries = large_tree()
    groups = groups_of(entries)
    first = data.draw(st.integers(0, len(groups) - 1))
    second = data.draw(st.integers(0, len(groups) - 1))
    reader = PageReader()
    for group in groups[: first + 1]:
        reader.pass_over(group)
    (page,) = encode_pages(groups[second])
    if second <= first:
        with pytest.raises(ValueError, match="out of order|not a folder"):
            reader.read(page)
        return
    folders = {one.path for group in groups[: first + 1] for one in group}
    if groups[second][0].path.rpartition(b"/")[0] in {b"", *folders}:
        assert reader.read(page) == groups[second]
    else:
        with pytest.raises(ValueError, match="not a folder"):
            reader.read(page)


@pytest.mark.parametrize("where", [b"b/c", b"a"])
def test_a_known_group_can_not_be_just_anywhere(where):
    reader = PageReader()
    (page,) = encode_pages([file("a"), folder("c")])
    reader.read(page)
    with pytest.raises(ValueError, match="out of order|not a folder"):
        reader.pass_over([Entry(where, "f")])


def test_the_largest_group_of_an_outline_fits_a_page(monkeypatch):
    monkeypatch.setattr("mlepool.tree.outline.AVERAGE", 1 << 40)  # no end of a group
    fits = [file(f"{number:06}") for number in range(MAX_COUNT)]
    assert make_outline(fits) == [Group(make_outline(fits)[0].digest, MAX_COUNT)]
    assert make_outline([*fits, file("x")]) == []
    long = "x" * (MAX_SAID // 3 - 100)
    folders = [folder(long), folder(f"{long}/a"), folder(f"{long}/a/b")]
    assert len(make_outline(folders)) == 1
    (page,) = encode_pages(folders)
    assert len(page) <= MAX_PAGE
    assert make_outline([*folders, folder(f"{long}/a/b/c")]) == []
