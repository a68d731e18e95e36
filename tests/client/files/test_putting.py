"""put, get and transfer: real files to a real worker, and from it."""

import asyncio
import errno
import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import mlepool
from mlepool.testing.proxy import FaultProxy
from tests.conftest import wait_until
from tests.needs import small_disk

pytestmark = pytest.mark.real


@pytest.fixture
def here(tmp_path):
    """A folder with files, on the client's side."""
    folder = tmp_path / "here"
    (folder / "tree" / "deep").mkdir(parents=True)
    (folder / "tree" / "empty").mkdir()
    (folder / "tree" / ".gitignore").write_text("*.log\n")
    (folder / "tree" / "kept.log").write_text("kept")
    (folder / "tree" / "deep" / "inner").write_bytes(os.urandom(100_000))
    (folder / "tree" / "link").symlink_to("deep/inner")
    (folder / "a.txt").write_text("a")
    (folder / "b.txt").write_text("b" * 1000)
    return folder


@pytest.fixture
def there(tmp_path):
    """A folder on the worker's side."""
    folder = tmp_path / "there"
    folder.mkdir()
    return folder


def names_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def same(one, other):
    done = subprocess.run(["diff", "-r", "--no-dereference", str(one), str(other)])
    return done.returncode == 0


# -- where things come to be


def test_a_file_keeps_its_content_mode_and_time(conn, here, there):
    source = here / "a.txt"
    source.write_bytes(os.urandom(1_000_000))
    source.chmod(0o751)
    os.utime(source, ns=(1, 1_234_567_890_123_456_789))
    done = conn.put(source, there / "b.bin")
    assert (done.error, list(done)) == (None, ["+ b.bin"])
    assert (done.value.sent, done.value.skipped) == (1, 0)
    assert done.progress.bytes == done.progress.bytes_total == 1_000_000
    copy = there / "b.bin"
    assert copy.read_bytes() == source.read_bytes()
    assert copy.stat().st_mode & 0o7777 == 0o751
    assert copy.stat().st_mtime_ns == 1_234_567_890_123_456_789
    back = conn.get(copy, here / "back")
    assert back.ok
    assert (here / "back").read_bytes() == source.read_bytes()
    assert (here / "back").stat().st_mode & 0o7777 == 0o751
    assert (here / "back").stat().st_mtime_ns == 1_234_567_890_123_456_789
    again = conn.put(source, there / "b.bin")
    assert (again.value.sent, again.value.skipped, list(again)) == (0, 1, [])


@pytest.mark.parametrize("verb", ["put", "get"])
@pytest.mark.parametrize(
    ("destination", "came"),
    [
        ("new.txt", "new.txt"),
        ("exists", "exists/a.txt"),
        ("exists/", "exists/a.txt"),
        ("new/", "new/a.txt"),
        ("new/deep/name", "new/deep/name"),
        ("link", "exists/a.txt"),
        ("exists/.", "exists/a.txt"),
    ],
)
def test_where_a_file_comes_to_be(verb, destination, came, *, conn, here, there):
    (there / "exists").mkdir()
    (there / "exists" / "other").write_text("other")
    (there / "link").symlink_to("exists")
    source, to = here / "a.txt", os.path.join(there, destination)
    getattr(conn, verb)(source, to, raise_error=True)
    assert (there / came).read_text() == "a"
    assert (there / "exists" / "other").read_text() == "other"
    expected = {"exists", "exists/other", "link", came}
    expected |= {str(one) for one in Path(came).parents if str(one) != "."}
    assert set(names_in(there)) == expected


@pytest.mark.parametrize("verb", ["put", "get"])
def test_a_folder_comes_whole_and_what_else_is_there_stays(verb, conn, here, *, there):
    (there / "tree").mkdir()
    (there / "tree" / "other").write_text("other")
    (there / "beside").write_text("beside")
    move = getattr(conn, verb)
    move(here / "tree", there, raise_error=True)
    (there / "tree" / "other").unlink()
    assert same(here / "tree", there / "tree")
    move(str(here / "tree") + "/", there / "another", raise_error=True)
    assert same(here / "tree", there / "another")
    assert (there / "beside").read_text() == "beside"
    assert not (here / "beside").exists()


@pytest.mark.parametrize("verb", ["put", "get"])
def test_several_come_into_a_folder_together(verb, conn, here, *, there):
    sources = [here / "a.txt", here / "tree", here / "tree" / "deep" / "inner"]
    done = getattr(conn, verb)(sources, there / "new", raise_error=True)
    assert "+ a.txt" in list(done)
    assert (there / "new" / "a.txt").read_text() == "a"
    assert same(here / "tree", there / "new" / "tree")
    inner = here / "tree" / "deep" / "inner"
    assert (there / "new" / "inner").read_bytes() == inner.read_bytes()


@pytest.mark.parametrize("verb", ["put", "get"])
def test_a_link_stands_for_what_it_points_to(verb, conn, here, *, there):
    (here / "first").symlink_to("second")
    (here / "second").symlink_to("tree/deep/inner")
    (here / "folder").symlink_to("tree")
    move = getattr(conn, verb)
    move([here / "first", here / "second", here / "folder"], there, raise_error=True)
    assert not (there / "first").is_symlink()
    inner = (here / "tree" / "deep" / "inner").read_bytes()
    assert (there / "first").read_bytes() == (there / "second").read_bytes() == inner
    assert same(here / "tree", there / "folder")


def test_of_a_folder_without_a_name_the_contents_come(
    conn, here, there, *, monkeypatch
):
    monkeypatch.chdir(here / "tree")
    conn.put(".", there / "new", raise_error=True)
    assert same(here / "tree", there / "new")
    conn.get(here / "tree" / "deep" / "..", there / "got", raise_error=True)
    assert same(here / "tree", there / "got")


def test_relative_paths_count_from_the_worker_and_from_us(
    worker, conn, here, *, there, monkeypatch
):
    folder = f"relative-{os.getpid()}"
    home = worker.state_dir.parent  # it was started there
    monkeypatch.chdir(here)
    conn.put("a.txt", f"{folder}/x.txt", raise_error=True)
    assert (home / folder / "x.txt").read_text() == "a"
    conn.get(f"{folder}/x.txt", "y.txt", raise_error=True)
    assert (here / "y.txt").read_text() == "a"


def test_transfer_makes_folders_and_empty_files(conn, here, there):
    (here / "empty").write_bytes(b"")
    conn.transfer(str(here / "empty"), str(there / "new" / "deep" / "empty"))
    assert (there / "new" / "deep" / "empty").read_bytes() == b""
    conn.transfer(here / "tree", there / "tree", raise_error=True)
    assert same(here / "tree", there / "tree")
    with pytest.raises(TypeError, match="src is a path, not bytes"):
        conn.transfer(b"content", there / "x")


@pytest.mark.parametrize(
    "name", ["*", "[ab]", "!a", "#a", " a ", "a\nb", "\udcff", "-a"]
)
def test_odd_names_come_alone(name, conn, here, *, there):
    (here / name).write_text("odd")
    (there / "a").write_text("old")
    conn.put(here / name, there, raise_error=True)
    assert sorted(os.listdir(there)) == sorted(["a", name])
    conn.get(there / name, here / "back", raise_error=True)
    assert (here / "back").read_text() == "odd"
    conn.put(b"new", there / f"{name}2", raise_error=True)  # looked for by its name
    assert (there / f"{name}2").read_text() == "new"


def test_a_plan_changes_nothing(conn, here, there):
    done = conn.put([here / "a.txt", here / "b.txt"], there, dry_run=True)
    assert (done.error, list(done)) == (None, ["+ a.txt", "+ b.txt"])
    assert names_in(there) == []
    assert conn.get(here / "a.txt", dry_run=True).value.sent == 1


# -- bytes and open files


def test_bytes_go_there_and_come_back(conn, there):
    data = os.urandom(300_000)
    conn.put(data, there / "data", raise_error=True)
    assert (there / "data").read_bytes() == data
    assert conn.get(there / "data", raise_error=True).value == data
    conn.put(b"", there / "data", raise_error=True)
    assert conn.get(there / "data", raise_error=True).value == b""


def test_what_is_open_is_read_from_where_it_is(conn, here, there):
    with open(here / "b.txt", "rb") as file:
        file.seek(400)
        conn.put(file, there / "rest", raise_error=True)
    assert (there / "rest").read_bytes() == b"b" * 600
    into = io.BytesIO()
    done = conn.get(there / "rest", into, raise_error=True)
    assert (into.getvalue(), done.value.sent) == (b"b" * 600, 1)
    assert list(done) == ["+ rest"]


def test_a_pipe_is_read_to_its_end(conn, there):
    read, write = os.pipe()

    def feed():
        with open(write, "wb") as file:
            for _ in range(100):
                file.write(b"x" * 10_000)

    thread = threading.Thread(target=feed)
    thread.start()
    with open(read, "rb") as file:
        conn.put(file, there / "piped", raise_error=True)
    thread.join()
    assert (there / "piped").stat().st_size == 1_000_000


def test_nothing_of_it_stays_in_the_accounts_folder(account, conn, there):
    conn.put(b"data", there / "data", raise_error=True)
    conn.get(there / "data", raise_error=True)
    assert list((account / "files").glob("scratch-*")) == []


# -- what fails


def test_errors_are_of_their_own_types_and_name_the_file(conn, here, there):
    missing = here / "none" / "x"
    for call in (
        lambda **keywords: conn.put(missing, there, **keywords),
        lambda **keywords: conn.get(missing, there, **keywords),
        lambda **keywords: conn.get(missing, **keywords),
    ):
        done = call()
        assert (done.status, done.ok) == ("FAILED", False)
        assert isinstance(done.error, FileNotFoundError)
        assert str(done.error.filename) in str(missing)
        with pytest.raises(FileNotFoundError):
            call(raise_error=True)
    assert names_in(there) == []


def test_a_missing_one_of_several_keeps_the_others_where_they_are(conn, here, there):
    done = conn.put([here / "a.txt", here / "none"], there / "new")
    assert isinstance(done.error, FileNotFoundError)
    assert done.error.filename == str(here / "none")
    done = conn.get([here / "a.txt", here / "none"], there / "new")
    assert isinstance(done.error, FileNotFoundError)
    assert done.error.filename == str(here / "none")
    assert names_in(there) == []


@pytest.mark.parametrize(
    "call",
    [
        lambda conn, here, there: conn.put(b"data", there),
        lambda conn, here, there: conn.put(io.BytesIO(b"data"), f"{there}/"),
        lambda conn, here, there: conn.get(here / "tree"),
        lambda conn, here, there: conn.get([here / "a.txt", here / "b.txt"]),
        lambda conn, here, there: conn.get(here / "tree", io.BytesIO()),
    ],
)
def test_a_folder_is_not_content(call, conn, here, *, there):
    assert isinstance(call(conn, here, there).error, IsADirectoryError)
    assert names_in(there) == []


def test_a_file_does_not_take_the_place_of_what_is_in_a_folder(conn, here, there):
    (there / "a.txt").mkdir()
    (there / "a.txt" / "inner").write_text("inner")
    done = conn.put(here / "a.txt", f"{there}/")
    assert isinstance(done.error, mlepool.SyncIncompleteError)
    assert [one.path for one in done.value.problems] == ["a.txt"]
    assert (there / "a.txt" / "inner").read_text() == "inner"


@pytest.mark.parametrize("verb", ["put", "get"])
def test_a_full_disk_is_told_before_the_first_byte(verb, conn, here, *, there):
    (here / "large").write_bytes(os.urandom(8 << 20))
    with small_disk(there / "disk", "2m") as disk:
        folder = disk / "folder"
        folder.mkdir()
        (folder / "large").write_text("old")
        done = getattr(conn, verb)(here / "large", folder)
        assert isinstance(done.error, OSError)
        assert done.error.errno == errno.ENOSPC
        assert names_in(folder) == ["large"]
        assert (folder / "large").read_text() == "old"


def test_what_only_looks_like_a_file_is_refused(conn, there):
    for call, path, cause in (
        (lambda: conn.get("/proc/version"), "version", "it has more or less in it"),
        (lambda: conn.put("/dev/null", there), "null", "a character device is not"),
    ):
        done = call()
        assert isinstance(done.error, mlepool.SyncIncompleteError)
        ((found, text),) = [(one.path, one.text) for one in done.value.problems]
        assert found == path
        assert text.startswith(cause)
    assert names_in(there) == []


@pytest.mark.parametrize("verb", ["put", "get"])
def test_what_is_below_a_file_is_an_error(verb, conn, here, *, there):
    (there / "file").write_text("file")
    done = getattr(conn, verb)(here / "a.txt", there / "file" / "name")
    assert isinstance(done.error, NotADirectoryError)
    assert (there / "file").read_text() == "file"


@pytest.mark.parametrize("verb", ["put", "get"])
def test_a_link_in_the_place_of_a_file_is_replaced(verb, conn, here, *, there):
    (there / "kept").write_text("kept")
    (there / "name").symlink_to("kept")
    getattr(conn, verb)(here / "a.txt", there / "name", raise_error=True)
    assert not (there / "name").is_symlink()
    assert (there / "name").read_text() == "a"
    assert (there / "kept").read_text() == "kept"


def test_two_sources_of_one_name_are_refused(conn, here, there):
    done = conn.put([here / "tree", here / "other" / "tree"], there)
    assert isinstance(done.error, ValueError)
    assert "two sources are called 'tree'" in str(done.error)
    assert names_in(there) == []


@pytest.mark.parametrize("odd", [None, 5, [], [b"bytes"], io.StringIO("text"), {}])
def test_what_is_no_source_is_a_type_error_at_once(odd, conn, there):
    with pytest.raises(TypeError):
        conn.put(odd, there / "x")
    with pytest.raises(TypeError):
        conn.get(odd, there / "x")


@pytest.mark.parametrize("odd", ["", "a\0b"])
def test_what_can_be_no_path_is_a_value_error_at_once(odd, conn, here, *, there):
    for call in (
        lambda: conn.put(here / "a.txt", odd),
        lambda: conn.put(odd, there),
        lambda: conn.get(odd, there),
        lambda: conn.get(here / "a.txt", odd),
    ):
        with pytest.raises(ValueError, match="not a path"):
            call()


def test_unknown_keywords_are_refused(conn, here, there):
    for name in ("put", "get", "transfer"):
        with pytest.raises(TypeError, match=rf"{name}\(\) has no keyword 'mode'"):
            getattr(conn, name)(here / "a.txt", there, mode=1)


# -- half-way


def test_a_stop_leaves_the_old_file(worker, here, there):
    (here / "large").write_bytes(os.urandom(32 << 20))
    (there / "large").write_text("old")
    with FaultProxy(worker.port) as proxy, mlepool.ClientPool() as pool:
        conn = pool.add(proxy.address.replace("127.0.0.1", "localhost"))
        conn.connect()
        proxy.trickle(4 << 20)
        live = conn.put(here / "large", there, complete=False)
        wait_until(lambda: proxy.forwarded() > 1 << 20)
        assert live.progress.bytes_total == 32 << 20
        live.stop()
        proxy.resume()
    assert live.status == "STOPPED"
    assert (there / "large").read_text() == "old"
    assert names_in(there) == ["large"]


@pytest.mark.parametrize("verb", ["put", "get"])
def test_a_cut_link_is_got_over(verb, worker, here, *, there):
    data = os.urandom(8 << 20)
    (here / "large").write_bytes(data)
    with FaultProxy(worker.port) as proxy, mlepool.ClientPool() as pool:
        conn = pool.add(proxy.address.replace("127.0.0.1", "localhost"))
        conn.connect()
        for after in (1_000_000, 3_000_000):
            proxy.reset(after_bytes=after)
            getattr(conn, verb)(here / "large", there / f"{after}", raise_error=True)
    assert (there / "1000000").read_bytes() == data
    assert (there / "3000000").read_bytes() == data


CLIENT = """
import sys, mlepool
with mlepool.add(sys.argv[1]) as conn:
    conn.put(sys.argv[2], sys.argv[3], raise_error=True)
"""


def test_a_killed_client_leaves_the_old_file(worker, here, there):
    (here / "large").write_bytes(os.urandom(32 << 20))
    (there / "large").write_text("old")
    with FaultProxy(worker.port) as proxy:
        proxy.trickle(4 << 20)
        address = proxy.address.replace("127.0.0.1", "localhost")
        arguments = [address, str(here / "large"), str(there)]
        with subprocess.Popen([sys.executable, "-c", CLIENT, *arguments]) as client:
            wait_until(lambda: proxy.forwarded() > 2 << 20)
            client.send_signal(signal.SIGKILL)
    assert (there / "large").read_text() == "old"
    assert names_in(there) == ["large"]


def test_the_async_face_has_the_same_verbs(worker, here, there):
    async def work():
        pool = mlepool.AsyncClientPool()
        async with pool, pool.add("localhost", worker.port) as conn:
            await conn.put(here / "a.txt", there, raise_error=True)
            done = await conn.get(there / "a.txt", raise_error=True)
            await conn.transfer(here / "b.txt", there / "c", raise_error=True)
            return done.value

    assert asyncio.run(work()) == b"a"
    assert (there / "c").read_text() == "b" * 1000


def test_they_are_listed_with_the_commands(conn):
    assert {"put", "get", "transfer"} <= set(conn.server_methods())
    assert {"put", "get", "transfer"} <= set(dir(conn))
    assert "Put files and folders on the worker." in str(conn.commands)
