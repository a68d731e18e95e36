"""mlepool put and get: files there and back, by the names that users expect."""

import json
import os

import pytest

pytestmark = pytest.mark.real


def test_a_file_goes_there_and_comes_back(here, host, tmp_path):
    path = tmp_path / "data.bin"
    path.write_bytes(os.urandom(300_000))
    path.chmod(0o640)
    os.utime(path, ns=(1, 1_000_000_007))
    there, back = tmp_path / "there" / "copy.bin", tmp_path / "back.bin"
    done = here("put", "-H", host, str(path), str(there))
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("1 file sent, 0 unchanged, 0 deleted; ")
    done = here("get", "-H", host, str(there), str(back))
    assert (done.status, done.err) == (0, "")
    for one in (there, back):
        assert one.read_bytes() == path.read_bytes()
        assert one.stat().st_mode == path.stat().st_mode
        assert one.stat().st_mtime_ns == 1_000_000_007


def test_several_go_into_a_folder(here, host, tmp_path):
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c.txt").write_text("c")
    sources = [str(tmp_path / name) for name in ("a.txt", "b")]
    done = here("put", "-H", host, "-v", *sources, str(tmp_path / "there"))
    assert (done.status, done.err) == (0, "")
    assert "+ a.txt" in done.out.splitlines()
    assert (tmp_path / "there" / "a.txt").read_text() == "a"
    assert (tmp_path / "there" / "b" / "c.txt").read_text() == "c"


def test_what_comes_from_several_hosts_gets_folders_of_their_names(
    here, host, other, *, tmp_path
):
    (tmp_path / "log.txt").write_text("log")
    target = tmp_path / "logs"
    hosts = f"{host},{other}"
    done = here("get", "-H", hosts, str(tmp_path / "log.txt"), str(target))
    assert (done.status, done.err) == (0, "")
    for name in (host, other):
        assert (target / name / "log.txt").read_text() == "log"


def test_without_a_host_it_is_the_workers_of_this_machine(
    here, host, other, *, tmp_path
):
    (tmp_path / "log.txt").write_text("log")
    target = tmp_path / "logs"
    done = here("get", str(tmp_path / "log.txt"), str(target))
    assert (done.status, done.err) == (0, "")
    assert {host, other} <= {path.name for path in target.iterdir()}
    assert (target / host / "log.txt").read_text() == "log"


def test_a_plan_puts_nothing(here, host, tmp_path):
    (tmp_path / "a.txt").write_text("a")
    there = tmp_path / "there.txt"
    done = here("put", "-n", "-H", host, str(tmp_path / "a.txt"), str(there))
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines()[0] == "+ there.txt"
    assert not there.exists()


@pytest.mark.parametrize("verb", ["put", "get"])
def test_a_file_that_is_not_there_is_one_line(verb, here, host, *, tmp_path):
    path = tmp_path / "none.txt"
    done = here(verb, "-H", host, str(path), str(tmp_path / "target"))
    assert (done.status, done.out) == (1, "")
    assert "none.txt" in done.err
    assert done.err.startswith("mlepool: No such file or directory: ")
    assert len(done.err.splitlines()) == 1


def test_machines_get_an_object_for_each_host(here, host, tmp_path):
    (tmp_path / "a").write_text("content")
    hosts = ("-H", f"{host},localhost:1")
    done = here("put", "-v", "--json", *hosts, str(tmp_path / "a"), str(tmp_path / "b"))
    assert done.status == 255
    change, summary = map(json.loads, done.out.splitlines())
    assert (change["event"], change["host"]) == ("change", host)
    assert (summary["event"], summary["host"]) == ("done", host)
    assert (summary["sent"], summary["bytes_total"], summary["problems"]) == (1, 7, [])
    missing = ("get", "--json", "-H", host, str(tmp_path / "none"), str(tmp_path))
    done = here(*missing)
    (note,) = map(json.loads, done.out.splitlines())
    assert (done.status, note["event"], done.err) == (1, "note", "")
    assert "none" in note["text"]
