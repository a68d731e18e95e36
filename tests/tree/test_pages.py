"""Pages of trees: they come as they went, and nobody has to trust them."""

import random

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from mlepool.tree import (
    FILE,
    FOLDER,
    MAX_PATH,
    Entry,
    PageReader,
    decode_pages,
    encode_pages,
    order_of,
)
from mlepool.tree.pages import MAX_PAGE, MAX_PAGE_PATHS
from tests.tree.trees import file, folder, trees


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
    assert decode_pages([page_of((b"", []))]) == []


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
