"""Plans, and what they halt at."""

import msgspec
import pytest
from hypothesis import given

from mlepool.errors import SyncHaltedError
from mlepool.tree import FOLDER, Entry, Plan, check_plan, make_plan
from mlepool.tree.plan import FEW
from tests.tree.trees import file, folder, link, tree, trees


def plan(source, target, **options) -> Plan:
    return make_plan(tree(source), tree(target), **options)


def paths(entries) -> list[str]:
    return [entry.path.decode() for entry in entries]


# -- plans


def test_all_of_a_source_comes_to_an_empty_target():
    source = [folder("a"), file("a/b", 5), link("l"), file("z", 7)]
    found = plan(source, [])
    assert found == Plan(
        folders=[source[0]],
        files=[source[1], source[3]],
        links=[source[2]],
        size=12,
        source_count=4,
    )


def test_nothing_is_done_to_what_is_the_same():
    source = [folder("a"), file("a/b"), link("l")]
    found = plan(source, source, delete=True)
    assert found.is_empty
    assert found.unchanged == 2


@pytest.mark.parametrize("other", [file("a", 2), file("a", mtime=11)])
def test_another_size_or_mtime_offers_a_file(other):
    found = plan([file("a")], [other])
    assert paths(found.files) == ["a"]
    assert (found.unchanged, found.touched) == (0, [])


def test_another_mode_alone_sends_nothing():
    found = plan([file("a", mode=0o755)], [file("a")])
    assert paths(found.touched) == ["a"]
    assert (found.files, found.size) == ([], 0)


def test_a_checksum_offers_every_file():
    found = plan([file("a"), file("b", mode=0o755)], [file("a"), file("b")])
    assert found.files == []
    found = plan([file("a"), link("l")], [file("a"), link("l")], checksum=True)
    assert paths(found.files) == ["a"]
    assert found.unchanged == 1


def test_a_link_that_says_something_else_is_made_anew():
    found = plan([link("l", "new"), link("m")], [link("l", "old"), link("m")])
    assert paths(found.links) == ["l"]
    assert found.deleted == []


def test_a_link_of_another_mtime_is_made_anew_and_its_folder_gets_its_own_back():
    old = [folder("a"), msgspec.structs.replace(link("a/l"), mtime_ns=99)]
    found = plan([folder("a"), link("a/l")], old)
    assert found.links == [link("a/l")]
    assert (paths(found.folders), found.unchanged) == (["a"], 0)


def test_a_folder_gets_its_mode_and_mtime():
    for other in (folder("a", 11), folder("a", mode=0o700)):
        found = plan([folder("a")], [other])
        assert found.folders == [folder("a")]


def test_a_folder_in_which_something_changes_gets_its_mtime_again():
    same = [folder("a"), folder("a/b"), folder("a/c"), folder("d")]
    found = plan([*same, file("a/b/f")], [*same, file("a/b/f", 2)])
    assert paths(found.folders) == ["a/b"]
    found = plan(same, [*same, file("a/c/f"), file("d/f")], delete=True)
    assert paths(found.folders) == ["a/c", "d"]


def test_folders_come_before_what_is_in_them():
    source = tree([folder("a"), folder("a/b"), folder("a.b"), folder("a/b/c")])
    assert paths(source) == ["a", "a/b", "a/b/c", "a.b"]
    assert plan(source, [folder("a"), folder("a/b")]).folders == source[1:]


# -- deletions


EXTRA = [folder("x"), file("x/a"), folder("x/y"), file("x/y/b"), file("z")]


def test_what_the_source_lacks_stays():
    found = plan([file("k")], [*EXTRA, file("k")])
    assert found.is_empty
    assert found.gone == 0


def test_what_the_source_lacks_is_deleted_when_asked_for_at_its_top():
    found = plan([file("k")], [*EXTRA, file("k")], delete=True)
    assert found.deleted == [b"x", b"z"]
    assert found.gone == 5


def test_a_name_that_begins_alike_is_not_in_a_folder():
    target = [folder("x"), file("x/a"), file("x.b"), file("xa"), folder("x-y")]
    found = plan([file("k")], target, delete=True)
    assert sorted(found.deleted) == [b"x", b"x-y", b"x.b", b"xa"]


def test_a_folder_with_things_that_are_not_listed_is_not_deleted():
    target = [
        folder("x"),
        folder("x/gone"),
        file("x/gone/f"),
        folder("x/y", hidden=1),
        file("x/y/b"),
    ]
    found = plan([file("k")], target, delete=True)
    assert found.deleted == [b"x/gone", b"x/y/b"]
    assert found.gone == 3


def test_nothing_is_deleted_where_the_source_could_not_be_read():
    target = [folder("a"), folder("a/b"), file("a/b/c"), file("a/x"), file("s")]
    source = [folder("a"), folder("a/b", hidden=1)]
    found = plan(source, target, delete=True, unread=[b"a/b", b"s"])
    assert found.deleted == [b"a/x"]


def test_nothing_is_deleted_where_not_even_the_root_could_be_read():
    target = [folder("a"), file("a/b"), file("c")]
    assert plan([file("c")], target, delete=True, unread=[b""]).is_empty


# -- one thing where another is


@pytest.mark.parametrize("new", [file("a"), link("a")])
@pytest.mark.parametrize("old", [file("a"), link("a"), folder("a")])
def test_a_thing_of_another_kind_goes_first(new, old):
    if new.kind != old.kind:
        found = plan([new], [old])
        assert found.deleted == [b"a"]
        assert [*found.files, *found.links] == [new]
        assert (found.gone, found.refused) == (0, [])


def test_a_folder_comes_where_a_file_is():
    found = plan([folder("a"), file("a/b")], [file("a"), file("a.b")])
    assert found.deleted == [b"a"]
    assert (paths(found.folders), paths(found.files)) == (["a"], ["a/b"])


def test_a_folder_that_is_not_empty_gives_way_only_to_a_deleting_sync():
    source, target = [file("a")], [folder("a"), file("a/b"), link("a/c"), file("d")]
    found = plan(source, target)
    assert found.is_empty
    assert found.refused[0][0] == b"a"
    assert "2 entries" in found.refused[0][1]
    found = plan(source, target, delete=True)
    assert found.deleted == [b"a", b"d"]
    assert (paths(found.files), found.gone) == (["a"], 3)


def test_a_folder_with_things_that_are_not_listed_never_gives_way():
    target = [folder("a"), folder("a/b", hidden=2), file("a/b/c")]
    found = plan([link("a")], target, delete=True)
    assert found.is_empty
    assert "not synced" in found.refused[0][1]


# -- halts


def test_an_empty_source_halts_but_not_before_an_empty_target():
    with pytest.raises(SyncHaltedError, match=r"empty.* 1 entries.*force=True"):
        check_plan(plan([], [file("a")]))
    check_plan(plan([], []))
    check_plan(plan([], [file("a")], delete=True), force=True)


def many(count: int) -> list[Entry]:
    return [file(f"f{number:03}") for number in range(count)]


def test_more_than_half_deleted_halts_and_half_does_not():
    target = many(20)
    check_plan(plan(target[10:], target, delete=True))
    with pytest.raises(SyncHaltedError, match=r"11 of the target's 20 .*force=True"):
        check_plan(plan(target[11:], target, delete=True))
    check_plan(plan(target[11:], target, delete=True), force=True)


def test_a_handful_may_be_deleted_of_a_small_tree():
    target = many(FEW + 2)
    check_plan(plan(target[-2:], target, delete=True))
    with pytest.raises(SyncHaltedError, match="6 of the target's 7"):
        check_plan(plan(target[-1:], target, delete=True))


# -- plans do what they say, for any two trees


def carry_out(found: Plan, target: list[Entry]) -> list[Entry]:
    """Do what a plan says, upon a tree that is data, too."""
    entries = {entry.path: entry for entry in target}
    for gone in found.deleted:
        assert gone in entries, "deleted twice, or never there"
        for path in list(entries):
            if path == gone or path.startswith(gone + b"/"):
                del entries[path]
    for new in [*found.folders, *found.files, *found.links, *found.touched]:
        parent = new.path.rpartition(b"/")[0]
        assert not parent or entries[parent].kind == FOLDER
        old = entries.get(new.path)
        assert old is None or old.kind == new.kind
        entries[new.path] = new
    return tree(entries.values())


@given(trees())
def test_a_tree_that_is_the_same_is_planned_as_any(entries):
    found = make_plan(entries, [*entries], delete=True, unread={b"x"})
    assert found == make_plan(entries, tuple(entries), delete=True, unread={b"x"})
    assert found.is_empty


@given(trees(), trees())
def test_a_plan_that_deletes_makes_the_target_the_source(source, target):
    found = make_plan(source, target, delete=True)
    done = carry_out(found, target)
    assert done == source
    before, after = {one.path for one in target}, {one.path for one in source}
    assert found.gone == len(before - after)
    assert make_plan(source, done, delete=True).is_empty


@given(trees(), trees())
def test_a_plan_that_does_not_delete_loses_nothing_but_what_is_replaced(source, target):
    found = make_plan(source, target)
    done = {entry.path: entry for entry in carry_out(found, target)}
    refused = {path for path, _ in found.refused}
    assert found.gone == 0
    for entry in source:
        assert (done[entry.path].kind == entry.kind) == (entry.path not in refused)
    assert {entry.path for entry in target} <= set(done)
