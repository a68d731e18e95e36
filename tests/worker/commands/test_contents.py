"""Reading and writing files, as one client with one open folder."""

import os
import stat
import threading
from typing import Any

import pytest

from mlepool.wire.answers import MAX_CONTENT
from mlepool.worker.commands.contents import rdfile, read, wrfile, write
from tests.needs import small_disk


@pytest.fixture
def lines(ctx):
    path = ctx.cwd / "lines"
    path.write_text("".join(f"line {number}\n" for number in range(20_000)))
    return path


def test_a_file_is_read_whole_or_in_parts(ctx):
    (ctx.cwd / "f").write_bytes(b"0123456789")
    assert read(ctx, "f").data == rdfile(ctx, "f").data == b"0123456789"
    assert read(ctx, "f", offset=3, size=4).data == b"3456"
    assert read(ctx, "f", offset=20).data == b""
    assert read(ctx, "f", size=0).data == b""
    part = read(ctx, "f", offset=8)
    assert (part.data, part.offset, part.end) == (b"89", 8, 10)


def test_a_large_file_comes_in_parts(ctx):
    (ctx.cwd / "f").write_bytes(b"x" * (2 * MAX_CONTENT))
    part = read(ctx, "f")
    assert (len(part.data), part.end) == (MAX_CONTENT, 2 * MAX_CONTENT)


@pytest.mark.parametrize("count", [0, 1, 3, 19_999, 20_000, 100_000])
def test_the_last_lines_are_read(ctx, lines, count):
    wanted = b"".join(
        lines.read_bytes().splitlines(keepends=True)[20_000 - min(count, 20_000) :]
    )
    assert read(ctx, "lines", tail=count).data == wanted[:MAX_CONTENT]


def test_a_last_line_without_a_newline_is_one(ctx):
    (ctx.cwd / "f").write_text("a\nb\nc")
    assert read(ctx, "f", tail=2).data == b"b\nc"
    (ctx.cwd / "f").write_text("\n\n")
    assert read(ctx, "f", tail=1).data == b"\n"
    assert read(ctx, "f", tail=1, offset=2).data == b""


def test_files_that_do_not_know_their_size_are_read(ctx):
    ctx.jail = type(ctx.jail)(ctx.cwd)
    part = read(ctx, "/proc/self/status")
    assert part.data.startswith(b"Name:")
    assert part.end == len(part.data)


@pytest.mark.parametrize(
    "options",
    [{"offset": -1}, {"size": -1}, {"tail": -1}, {"tail": 1 << 40}],
)
def test_parts_that_can_not_be_are_refused(ctx, lines, options):
    with pytest.raises(ValueError, match="read"):
        read(ctx, "lines", **options)


def test_what_is_no_file_is_neither_read_nor_written(ctx):
    os.mkfifo(ctx.cwd / "pipe")
    (ctx.cwd / "folder").mkdir()
    for call in (read, rdfile, lambda ctx, path: write(ctx, path, "x")):
        with pytest.raises(IsADirectoryError):
            call(ctx, "folder")
        with pytest.raises(OSError, match="not a file"):
            call(ctx, "pipe")
    with pytest.raises(LookupError):
        read(ctx, "folder", encoding="none-such")


def test_a_file_is_replaced_and_keeps_its_mode(ctx):
    assert write(ctx, "new", "text\N{SNOWMAN}").size == 7
    (ctx.cwd / "old").write_text("much longer than that")
    os.chmod(ctx.cwd / "old", 0o4750)
    before = os.stat(ctx.cwd / "old")
    assert wrfile(ctx, "old", b"short").size == 5
    after = os.stat(ctx.cwd / "old")
    assert stat.S_IMODE(after.st_mode) == 0o750  # no right to run it as its owner
    assert after.st_ino != before.st_ino
    assert sorted(os.listdir(ctx.cwd)) == ["new", "old"]


def test_a_full_disk_leaves_the_old_file(ctx):
    with small_disk(ctx.cwd / "disk", "256k"):
        write(ctx, "disk/f", "old" * 40_000)
        with pytest.raises(OSError, match="No space"):
            write(ctx, "disk/f", "new" * 60_000)
        assert read(ctx, "disk/f", size=3).data == b"old"
        assert os.listdir(ctx.cwd / "disk") == ["f"]


def test_a_part_is_written_and_the_rest_stays(ctx):
    wrfile(ctx, "f", b"0123456789")
    wrfile(ctx, "f", b"ab", append=True)
    write(ctx, "f", b"--", offset=3)
    assert (ctx.cwd / "f").read_bytes() == b"012--56789ab"
    write(ctx, "other", "x", append=True)
    assert (ctx.cwd / "other").read_text() == "x"
    with pytest.raises(ValueError, match="offset"):
        write(ctx, "f", "x", append=True, offset=1)
    with pytest.raises(ValueError, match="offset"):
        write(ctx, "f", "x", offset=-1)
    with pytest.raises(TypeError, match="not int"):
        write(ctx, "f", 3)
    with pytest.raises(UnicodeEncodeError):
        write(ctx, "f", "\N{SNOWMAN}", encoding="ascii")


def test_folders_on_the_way_are_made_where_asked_for(ctx):
    with pytest.raises(FileNotFoundError):
        write(ctx, "a/b/f", "x")
    assert write(ctx, "a/b/f", "x", parents=True).path == str(ctx.cwd / "a/b/f")


def test_nothing_is_read_or_written_outside(ctx, tmp_path):
    (tmp_path / "secret").write_text("keep")
    (ctx.cwd / "link").symlink_to(tmp_path / "secret")
    (ctx.cwd / "new").symlink_to(tmp_path / "made")
    (ctx.cwd / "own").mkdir()
    (ctx.cwd / "own/key").write_text("secret")
    for path in ("../secret", "link", "new", "own/key", f"{tmp_path}/secret"):
        for call in (read, lambda ctx, path: write(ctx, path, "x", parents=True)):
            with pytest.raises(PermissionError):
                call(ctx, path)
    assert (tmp_path / "secret").read_text() == "keep"
    assert not (tmp_path / "made").exists()
    assert (ctx.cwd / "own/key").read_text() == "secret"


def test_a_folder_that_is_swapped_all_the_time_leads_nowhere(ctx, tmp_path):
    secret, sub, aside = tmp_path / "secret", ctx.cwd / "sub", ctx.cwd / "aside"
    for folder in (secret, sub):
        folder.mkdir()
        (folder / "f").write_text(folder.name)
    is_over = threading.Event()

    def swap() -> None:
        while not is_over.is_set():
            sub.rename(aside)
            sub.symlink_to(secret)
            sub.unlink()
            aside.rename(sub)

    swapper = threading.Thread(target=swap)
    swapper.start()
    outcomes: set[Any] = set()
    try:
        left = iter(range(100_000))
        while next(left) < 300 or len(outcomes) < 2:
            try:
                outcomes.add(read(ctx, "sub/f").data)
                write(ctx, "sub/f", "sub")
                write(ctx, "sub/new", "x", append=True)
            except OSError as exc:
                outcomes.add(type(exc))
    finally:
        is_over.set()
        swapper.join()
    allowed = {b"sub", PermissionError, FileNotFoundError, NotADirectoryError}
    assert outcomes <= allowed
    assert len(outcomes) > 1
    assert [(one.name, one.read_text()) for one in secret.iterdir()] == [
        ("f", "secret")
    ]


def test_a_link_to_a_file_stays_one(ctx):
    (ctx.cwd / "file").write_text("old")
    (ctx.cwd / "link").symlink_to("file")
    write(ctx, "link", "new")
    assert (ctx.cwd / "link").is_symlink()
    assert (ctx.cwd / "file").read_text() == "new"
