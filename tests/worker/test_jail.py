"""Where file commands may go: `..`, siblings, links, races, the worker's folders."""

import os
from pathlib import Path

import pytest

from mlepool.worker.jail import Jail, as_path


@pytest.fixture
def tree(tmp_path):
    """An open folder, beside it others that are not."""
    for name in ("open/sub", "open-evil", "secret"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_text(name)
    return tmp_path


@pytest.fixture
def jail(tree):
    return Jail(tree / "open", limits=[[tree / "open"]], own=[tree / "open/own"])


def read(jail: Jail, path, **options) -> bytes:
    with jail.at(path, **options) as place:
        fd = place.open(os.O_RDONLY)
        try:
            return os.read(fd, 100)
        finally:
            os.close(fd)


def test_what_is_inside_is_open(jail, tree):
    (tree / "open/link").symlink_to("sub/file")
    (tree / "open/there").symlink_to(tree / "open/sub")
    for path in ("sub/file", "./sub/../sub/file", "link", b"there/file"):
        assert read(jail, path) == b"open/sub"
    assert read(jail, str(tree / "open/sub/file")) == b"open/sub"


@pytest.mark.parametrize(
    "path",
    [
        "../secret/file",
        "sub/../../secret/file",
        "../open-evil/file",
        "out/file",
        "away",
        "sub/up/secret/file",
        "/etc/hostname",
        "~/x",
        "missing/../../secret/file",
        ".",
    ],
)
def test_no_way_leads_out(jail, tree, path):
    (tree / "open/out").symlink_to(tree / "secret")
    (tree / "open/away").symlink_to("../secret/file")
    (tree / "open/sub/up").symlink_to("../..")
    if path == ".":  # the folder itself is open, but not to be taken away
        jail.resolve(path)
        with pytest.raises(PermissionError), jail.at(path, goes=True):
            pass
        return
    with pytest.raises(PermissionError, match="not inside the folders") as caught:
        jail.resolve(path)
    assert caught.value.filename.startswith("/")


def test_a_folder_that_is_swapped_for_a_link_leads_nowhere(jail, tree):
    real = jail.resolve("sub/file")
    os.rename(tree / "open/sub", tree / "open/moved")
    (tree / "open/sub").symlink_to(tree / "secret")
    with pytest.raises(NotADirectoryError), jail.placed(real):
        pass


def test_a_file_that_is_swapped_for_a_link_is_not_opened(jail, tree):
    with jail.placed(jail.resolve("sub/file")) as place:
        os.unlink(tree / "open/sub/file")
        (tree / "open/sub/file").symlink_to(tree / "secret/file")
        with pytest.raises(OSError, match="symbolic links"):
            place.open(os.O_RDONLY)


def test_of_two_limits_both_count(tree):
    jail = Jail(
        tree, limits=[[tree / "open"], [tree / "open/sub", tree / "secret"], ()]
    )
    assert read(jail, "open/sub/file") == b"open/sub"
    for path in ("open/x", "secret/file"):
        with pytest.raises(PermissionError):
            jail.resolve(path)


def test_a_root_that_is_a_link_is_what_it_leads_to(tree):
    (tree / "door").symlink_to("open")
    jail = Jail(tree, limits=[[tree / "door"]])
    assert read(jail, "open/sub/file") == read(jail, "door/sub/file")


def test_the_worker_s_own_folder_is_closed_and_stays(jail, tree):
    (tree / "open/own").mkdir()
    (tree / "open/own/key").write_text("secret")
    (tree / "open/way").symlink_to("own")
    for path in ("own", "own/key", "way/key", "sub/../own/new"):
        with pytest.raises(PermissionError, match="worker's own folder"):
            jail.resolve(path)
    with pytest.raises(PermissionError, match="own folder is in it"):
        jail.check_whole(jail.resolve("."))
    assert read(Jail(tree / "open"), "own/key") == b"secret"  # an admin's


@pytest.mark.parametrize(
    "path",
    [
        *("/proc/self/mem", "/proc/self/environ", "/proc/thread-self/mem"),
        *("/proc/self/root/proc/1/mem", "/proc/self/fd/0", "/proc/kcore"),
        "/proc/1",
    ],
)
def test_keys_are_not_read_from_memory(tree, path):
    os.symlink("/proc/self", tree / "link")
    jail = Jail(tree, own=[tree / "secret"])
    for one in (path, path.replace("/proc/self", str(tree / "link"))):
        real = os.path.realpath(one)
        if real.startswith("/proc"):
            with pytest.raises(PermissionError, match="worker's own folder"):
                jail.resolve(one)
    jail.resolve("/proc/cpuinfo")
    Jail(tree).resolve("/proc/self/environ")  # an admin's


def test_a_link_itself_is_meant_where_it_is_asked_for(jail, tree):
    (tree / "open/away").symlink_to(tree / "secret")
    assert jail.resolve("away", follow=False) == os.fsencode(tree / "open/away")
    with jail.at("away", follow=False, goes=True) as place:
        os.unlink(place.name, dir_fd=place.fd)
    assert (tree / "secret/file").exists()


@pytest.mark.parametrize("path", ["", "a\0b", b"", b"\0", "x" * (64 * 1024 + 1)])
def test_what_can_not_be_a_path_is_refused(path):
    with pytest.raises(ValueError, match="not a path"):
        as_path(path)


def test_links_that_go_round_lead_nowhere(jail, tree):
    (tree / "open/a").symlink_to("b")
    (tree / "open/b").symlink_to("a")
    with pytest.raises(NotADirectoryError), jail.at("a/x"):
        pass


def test_what_is_no_path_is_refused():
    with pytest.raises(TypeError, match="not int"):
        as_path(3)


def test_an_error_within_names_the_whole_path(jail, tree):
    with pytest.raises(FileNotFoundError) as caught, jail.at("sub/none") as place:
        place.stat()
    assert caught.value.filename == str(tree / "open/sub/none")


def test_the_root_of_all_is_a_place_too():
    with Jail(Path("/")).at("/") as place:
        assert place.stat().st_ino == os.stat("/").st_ino
