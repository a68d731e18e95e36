"""Making, removing, copying and moving, as one client with one open folder."""

import errno
import os
import stat

import pytest

from mlepool.worker.commands import changes
from tests.needs import small_disk


@pytest.fixture
def secret(tmp_path):
    folder = tmp_path / "secret"
    folder.mkdir()
    (folder / "file").write_text("keep")
    return folder


def names(folder) -> list[str]:
    return sorted(os.listdir(folder))


def test_folders_are_made(ctx):
    made = changes.mkdir(ctx, "a", 0o2771)
    assert (made.kind, made.mode, made.path) == ("folder", 0o2771, str(ctx.cwd / "a"))
    with pytest.raises(FileExistsError):
        changes.mkdir(ctx, "a")
    for mode in (-1, 0o10000):
        with pytest.raises(ValueError, match="mode"):
            changes.mkdir(ctx, "b", mode)
    with pytest.raises(FileNotFoundError):
        changes.mkdir(ctx, "x/y")
    assert changes.mkdirs(ctx, "x/y/z").path == str(ctx.cwd / "x/y/z")
    assert changes.mkdirs(ctx, "x/y", exist_ok=True).is_folder
    with pytest.raises(FileExistsError):
        changes.mkdirs(ctx, "x/y/z")
    (ctx.cwd / "file").touch()
    for path, error in (("file", FileExistsError), ("file/x", NotADirectoryError)):
        with pytest.raises(error):
            changes.mkdirs(ctx, path, exist_ok=True)


def test_things_are_removed(ctx, secret):
    (ctx.cwd / "a/b").mkdir(parents=True)
    (ctx.cwd / "a/link").symlink_to(secret)
    (ctx.cwd / "file").touch()
    assert changes.rm(ctx, "file") == str(ctx.cwd / "file")
    with pytest.raises(OSError, match="recursive=True") as caught:
        changes.rm(ctx, "a")
    assert caught.value.errno == errno.ENOTEMPTY
    changes.rm(ctx, "a/b")
    changes.rm(ctx, "a", recursive=True)
    assert names(ctx.cwd) == []
    assert names(secret) == ["file"]
    with pytest.raises(FileNotFoundError):
        changes.rm(ctx, "a")


@pytest.mark.parametrize("path", [".", "..", "../secret", "link/file", "own", "/"])
def test_what_is_not_open_is_not_removed(ctx, secret, path):
    (ctx.cwd / "own").mkdir()
    (ctx.cwd / "link").symlink_to(secret)
    with pytest.raises(PermissionError):
        changes.rm(ctx, path, recursive=True)
    assert names(ctx.cwd) == ["link", "own"]
    assert names(secret) == ["file"]


def test_touch_makes_a_file_or_sets_its_time(ctx):
    assert changes.touch(ctx, "new").size == 0
    (ctx.cwd / "old").write_text("stays")
    os.utime(ctx.cwd / "old", (1, 1))
    assert changes.touch(ctx, "old").modified > 1e9
    assert (ctx.cwd / "old").read_text() == "stays"
    assert changes.touch(ctx, ".").is_folder


def test_a_file_is_copied_with_mode_and_time(ctx):
    (ctx.cwd / "a").write_text("text")
    os.chmod(ctx.cwd / "a", 0o750)
    os.utime(ctx.cwd / "a", (1, 1))
    (ctx.cwd / "to").mkdir()
    copied = changes.copy(ctx, "a", "to/")
    assert (copied.path, copied.mode) == (str(ctx.cwd / "to/a"), 0o750)
    assert copied.modified == 1
    (ctx.cwd / "b").write_text("older")
    assert changes.copy(ctx, "a", "b").name == "b"
    assert (ctx.cwd / "b").read_text() == "text"
    assert names(ctx.cwd) == ["a", "b", "to"]


def test_a_folder_is_copied_whole(ctx, secret):
    (ctx.cwd / "a/b/c").mkdir(parents=True)
    (ctx.cwd / "a/b/file").write_text("text")
    (ctx.cwd / "a/link").symlink_to(secret)
    os.chmod(ctx.cwd / "a/b", 0o555)
    with pytest.raises(IsADirectoryError, match="recursive=True"):
        changes.copy(ctx, "a", "z")
    assert changes.copy(ctx, "a", "z", recursive=True).is_folder
    assert (ctx.cwd / "z/b/file").read_text() == "text"
    assert stat.S_IMODE((ctx.cwd / "z/b").stat().st_mode) == 0o555
    assert os.readlink(ctx.cwd / "z/link") == str(secret)
    assert names(ctx.cwd / "z/b") == ["c", "file"]
    assert changes.copy(ctx, "a", "z", recursive=True).path == str(ctx.cwd / "z/a")
    with pytest.raises(FileExistsError):
        changes.copy(ctx, "a", "z", recursive=True)


@pytest.mark.parametrize("verb", [changes.copy, changes.move])
def test_neither_way_leads_out(ctx, secret, verb):
    (ctx.cwd / "a").write_text("mine")
    (ctx.cwd / "door").symlink_to(secret)
    (ctx.cwd / "hatch").symlink_to(secret / "file")
    (ctx.cwd / "own").mkdir()
    for target in ("../x", "door/x", "door/", "hatch", f"{secret}/file", "own/x"):
        with pytest.raises(PermissionError):
            verb(ctx, "a", target)
    with pytest.raises(PermissionError):
        verb(ctx, "../secret/file", "b")
    assert names(secret) == ["file"]
    assert (secret / "file").read_text() == "keep"
    assert (ctx.cwd / "a").read_text() == "mine"


def test_what_holds_the_worker_s_own_folder_is_neither_copied_nor_moved(tmp_path, ctx):
    (ctx.cwd / "own").mkdir()
    above = type(ctx)(jail=type(ctx.jail)(tmp_path, own=[ctx.cwd / "own"]))
    for verb, options in ((changes.copy, {"recursive": True}), (changes.move, {})):
        with pytest.raises(PermissionError, match="own folder is in it"):
            verb(above, "open", "elsewhere", **options)
    with pytest.raises(PermissionError, match="own folder is in it"):
        changes.rm(above, "open", recursive=True)


def test_things_are_moved_and_renamed(ctx):
    (ctx.cwd / "a").write_text("a")
    (ctx.cwd / "to").mkdir()
    assert changes.move(ctx, "a", "b").path == str(ctx.cwd / "b")
    assert changes.move(ctx, "b", "to").path == str(ctx.cwd / "to/b")
    assert changes.move(ctx, "to", "there").is_folder
    assert (ctx.cwd / "there/b").read_text() == "a"
    (ctx.cwd / "c").symlink_to("there/b")
    assert changes.move(ctx, "c", "d").kind == "link"
    with pytest.raises(ValueError, match="itself"):
        changes.move(ctx, "there", "there/in")
    with pytest.raises(ValueError, match="both"):
        changes.move(ctx, "d", "there/b/../../d")
    assert changes.move(ctx, "there/b", "d").kind == "file"  # in place of the link
    with pytest.raises(FileNotFoundError) as caught:
        changes.move(ctx, "none", "x")
    assert caught.value.filename == str(ctx.cwd / "none")


def test_a_move_between_file_systems_and_a_copy_to_a_full_one(ctx):
    (ctx.cwd / "a/b").mkdir(parents=True)
    (ctx.cwd / "a/b/file").write_text("text")
    (ctx.cwd / "big").write_bytes(b"x" * (1 << 20))
    with small_disk(ctx.cwd / "disk", "256k"):
        assert changes.move(ctx, "a", "disk").path == str(ctx.cwd / "disk/a")
        assert (ctx.cwd / "disk/a/b/file").read_text() == "text"
        with pytest.raises(OSError, match="No space"):
            changes.copy(ctx, "big", "disk/")
        assert names(ctx.cwd / "disk") == ["a"]
    assert names(ctx.cwd) == ["big", "disk"]
