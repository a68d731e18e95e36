"""What was written just now, and is not noted yet."""

import os

from mlepool.files.chunks import chunk_bytes
from mlepool.files.proofs import RACY, file_clock
from mlepool.files.store import Store
from mlepool.files.untold import NewFile, Untold
from tests.files.test_store import name_of, wait_for_the_next_tick, write


def untold(*paths) -> Untold:
    for path in paths:
        wait_for_the_next_tick(path)
    files = {
        os.fsencode(path): NewFile(
            chunk_bytes(path.read_bytes()), path.stat().st_mtime_ns
        )
        for path in paths
    }
    return Untold(files, file_clock())


def test_what_is_not_noted_yet_is_found_but_has_to_be_hashed_again(tmp_path):
    store = Store(tmp_path / "store")
    one, two = write(tmp_path / "one", b"apple"), write(tmp_path / "two", b"bean")
    told = untold(one, two)
    store.tell(told)
    two.unlink()
    found = store.find([name_of(b"apple"), name_of(b"bean"), name_of(b"corn")])
    assert [(at.path, at.trust) for at in found.values()] == [(os.fsencode(one), RACY)]
    store.note_untold(told, os.lstat)
    assert store.find([name_of(b"apple")])[name_of(b"apple")].is_proven
    assert not told.find([name_of(b"corn")])
    store.close()


def test_what_was_written_consists_of_what_it_did_while_it_looks_so(tmp_path):
    store, path = Store(tmp_path / "store"), write(tmp_path / "file", b"apple")
    path_bytes, told = os.fsencode(path), untold(path)
    store.tell(told)
    assert store.known([(path_bytes, path.stat())]) == [chunk_bytes(b"apple")]
    assert store.known([(b"/other", path.stat())]) == [None]
    before = path.stat()
    path.write_bytes(b"grape")
    os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))
    assert store.known([(path_bytes, path.stat())]) == [None]
    os.utime(path, ns=(5, 5))
    assert store.known([(path_bytes, path.stat())]) == [None]
    store.close()


def test_an_old_version_is_kept_that_is_not_noted_yet(tmp_path):
    store, path = Store(tmp_path / "store"), write(tmp_path / "file", b"apple")
    store.tell(untold(path))
    folder = os.open(tmp_path, os.O_RDONLY)
    asked = os.fsencode(path), path.stat()
    assert store.keep(*asked, dir_fd=folder, name=b"file")
    os.close(folder)
    path.unlink()
    assert store.find([name_of(b"apple")])
    store.close()
