"""Trees as data: plans, what they halt at, and pages that nobody has to trust."""

import random

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from mlepool.errors import SyncHaltedError
from mlepool.tree import (
    FEW,
    FILE,
    FOLDER,
    LINK,
    MAX_PAGE,
    MAX_PAGE_PATHS,
    MAX_PATH,
    Entry,
    PageReader,
    Plan,
    check_plan,
    decode_pages,
    encode_pages,
    make_plan,
    order_of,
    tree_digest,
)


def file(path: str, size: int = 1, mtime: int = 10, *, mode: int = 0o644) -> Entry:
    return Entry(path.encode(), FILE, mode, size, mtime)


def folder(path: str, mtime: int = 10, *, mode: int = 0o755, hidden: int = 0) -> Entry:
    return Entry(path.encode(), FOLDER, mode, hidden, mtime)


def link(path: str, target: str = "there") -> Entry:
    return Entry(path.encode(), LINK, 0, 0, 10, target.encode())


def plan(source, target, **options) -> Plan:
    return make_plan(tree(source), tree(target), **options)


def tree(entries) -> list[Entry]:
    return sorted(entries, key=lambda entry: entry.path.split(b"/"))


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


def test_the_mtime_of_a_link_does_not_matter():
    other = msgspec.structs.replace(link("l"), mtime_ns=99)
    assert plan([link("l")], [other]).is_empty


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


def without_times_of_links(entries: list[Entry]) -> list[Entry]:
    return [
        msgspec.structs.replace(entry, mtime_ns=0) if entry.kind == LINK else entry
        for entry in entries
    ]


@given(trees(), trees())
def test_a_plan_that_deletes_makes_the_target_the_source(source, target):
    found = make_plan(source, target, delete=True)
    done = carry_out(found, target)
    assert without_times_of_links(done) == without_times_of_links(source)
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


# -- names of trees


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


# -- pages


@given(trees())
def test_pages_are_read_back(entries):
    assert decode_pages(encode_pages(entries)) == entries


def test_names_are_any_bytes():
    entries = [Entry(b"a\n", FOLDER, 0o755, 0, -5), Entry(b"a\n/\xff\xfe", FILE, 0, 0)]
    assert decode_pages(encode_pages(entries)) == entries


def test_a_large_tree_is_several_pages_that_are_read_one_by_one():
    entries = [folder("some-folder")]
    entries += [file(f"some-folder/file-{number:06}") for number in range(20_000)]
    pages = list(encode_pages(entries))
    assert len(pages) > 1
    assert max(map(len, pages)) <= MAX_PAGE
    reader = PageReader()
    assert [one for page in pages for one in reader.read(page)] == entries


def deep(depth: int, files: int) -> list[Entry]:
    entries = [folder("/".join(["d" * 50] * count)) for count in range(1, depth + 1)]
    last = entries[-1].path.decode()
    return entries + [file(f"{last}/{number:06}") for number in range(files)]


def test_pages_bound_what_long_paths_unfold_to():
    entries = deep(600, 1000)
    pages = list(encode_pages(entries))
    assert decode_pages(pages) == entries
    for page in pages:
        sizes = [len(path) * len(rows) for path, rows in msgspec.msgpack.decode(page)]
        assert sum(sizes) <= MAX_PAGE_PATHS


def test_a_path_that_is_too_long_is_not_written():
    parts = "/".join(["d" * 255] * 256)
    fits = parts[: MAX_PATH - 1].rstrip("/")
    list(encode_pages([file(fits)]))
    with pytest.raises(ValueError, match="too long"):
        list(encode_pages([file(fits + "dd")]))


def test_an_empty_tree_is_one_page():
    (page,) = encode_pages([])
    assert decode_pages([page]) == []


def page_of(*groups) -> bytes:
    return msgspec.msgpack.encode(groups)


@pytest.mark.parametrize(
    ("groups", "wrong"),
    [
        ([(b"", [(b"", "f")])], "not a name"),
        ([(b"", [(b".", "f")])], "not a name"),
        ([(b"", [(b"..", "d")])], "not a name"),
        ([(b"", [(b"/etc", "f")])], "not a name"),
        ([(b"", [(b"a/b", "f")])], "not a name"),
        ([(b"", [(b"a\0b", "f")])], "not a name"),
        ([(b"..", [(b"a", "f")])], "not a folder that was listed"),
        ([(b"/", [(b"a", "f")])], "not a folder that was listed"),
        ([(b"", [(b"a", "f")]), (b"a", [(b"b", "f")])], "not a folder"),
        ([(b"", [(b"a", "l", 0, 0, 0, b"/")]), (b"a", [(b"b", "f")])], "not a folder"),
        ([(b"", [(b"b", "f"), (b"a", "f")])], "out of order"),
        ([(b"", [(b"a", "f"), (b"a", "d")])], "out of order"),
        (
            [(b"", [(b"a", "d"), (b"b", "d")]), (b"a", [(b"x", "f")])],
            "out of order",
        ),
        ([(b"", [(b"a", "s")])], "not a page"),
        ([(b"", [(b"a", "f", -1)])], "not a page"),
        ([(b"", [(b"a", "f", 0o10000)])], "not a page"),
        ([(b"", [(b"a", "f", 0, -1)])], "not a page"),
        ([(b"", [(b"a", "f", 0, 1 << 63)])], "not a page"),
        ([(b"", [(b"a", "f", 0, 0, 1 << 63)])], "not a page"),
        ([(b"", [(b"a", "f", 0, 0, 0, b"x")])], "does not fit its kind"),
        ([(b"", [(b"a", "l")])], "does not fit its kind"),
        ([(b"", [(b"a", "l", 0, 0, 0, b"x\0y")])], "does not fit its kind"),
        ([(b"", [(b"a", "l", 0o777, 0, 0, b"x")])], "does not fit its kind"),
        ([(b"", [("a", "f")])], "not a page"),
    ],
)
def test_a_page_that_lies_is_refused(groups, wrong):
    with pytest.raises(ValueError, match=wrong):
        decode_pages([page_of(*groups)])


def test_order_is_kept_from_page_to_page():
    first, second = page_of((b"", [(b"b", "d")])), page_of((b"", [(b"a", "f")]))
    with pytest.raises(ValueError, match="out of order"):
        decode_pages([first, second])
    assert len(decode_pages([first, page_of((b"b", [(b"a", "f")]))])) == 2


def test_pages_that_unfold_to_too_much_are_refused():
    name = b"d" * 60_000
    folders = page_of((b"", [(name, "d")]))
    rows = [(b"%06d" % number, "f") for number in range(300)]
    with pytest.raises(ValueError, match="bytes"):
        decode_pages([folders, page_of((name, rows))])
    with pytest.raises(ValueError, match="too long"):
        decode_pages([bytes(MAX_PAGE + 1)])
    with pytest.raises(ValueError, match="too long"):
        decode_pages([page_of((b"", [(b"d" * (MAX_PATH + 1), "d")]))])


@given(st.binary(max_size=200))
def test_any_bytes_are_a_tree_or_a_value_error(page):
    try_page(page)


@settings(max_examples=300)
@given(trees(), st.integers(0, 2**32))
def test_pages_with_changed_bytes_are_a_tree_or_a_value_error(entries, seed):
    page = bytearray(next(encode_pages(entries)))
    chance = random.Random(seed)
    for _ in range(chance.randrange(1, 4)):
        page[chance.randrange(len(page))] = chance.randrange(256)
    try_page(bytes(page))


def try_page(page: bytes) -> None:
    try:
        entries = decode_pages([page])
    except ValueError:
        return
    assert [order_of(one.path) for one in entries] == sorted(
        {order_of(one.path) for one in entries}
    )
    known = {b""} | {one.path for one in entries if one.kind == FOLDER}
    for entry in entries:
        folder_path, _, name = entry.path.rpartition(b"/")
        assert folder_path in known
        assert name not in {b"", b".", b".."}
        assert b"\0" not in entry.path
    assert decode_pages(encode_pages(entries)) == entries
