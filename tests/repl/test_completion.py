"""What Tab gives, at the end of a line."""

import time

import pytest

import mlepool
from mlepool.repl.completion import Completer


@pytest.fixture
def complete(pool):
    pool.groups["train"] = ["gpu1"]
    names = {"pool": pool, "gpu1": pool["gpu1"], "both": pool["gpu*"], "text": "x"}
    return Completer(names).complete


@pytest.mark.parametrize(
    ("line", "text", "choices"),
    [
        ('pool["', "", ["@train", "gpu-2", "gpu1"]),
        ("pool['gpu1,g", "g", ["gpu-2", "gpu1"]),
        ("x = [pool['gpu[1-2],!gpu1", "gpu1", ["gpu1"]),
        ("%on gp", "gp", ["gpu-2", "gpu1"]),
        ("%%on gpu-", "gpu-", ["gpu-2"]),
        (":on gpu1", "gpu1", ["gpu1"]),
        ("pool['@tr", "@tr", ["@train"]),
        ("both['gpu1", "gpu1", ["gpu1"]),
        ("gpu1.serv", "serv", ["server_methods"]),
        ("print(gpu1.call_n", "call_n", ["call_named"]),
        ("pool['gpu*'].call_n", "call_n", ["call_named"]),
        ("pool['gpu-2'].call_n", "call_n", ["call_named"]),
    ],
)
def test_names_are_known_here(complete, *, line, text, choices):
    assert complete(line) == (text, choices)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "text.up",
        "nothing.ru",
        "nothing['a",
        "a.gpu1.ru",
        "gpu1.run('ls ",
        "gpu1.attach(make('",
        "pool['nobody'].ru",
        "pool['gpu[1-'].ru",
        "pool['gpu*'].ls('",
        "pool.ru",
        "%one ",
        "%on gpu1 mak",
    ],
)
def test_the_rest_is_left_to_others(complete, line):
    assert complete(line) is None


def test_commands_are_those_of_the_worker(complete):
    assert complete("gpu1.ru") == ("ru", ["run"])
    assert "__class__" in complete("gpu1.__c").choices


def test_jobs_are_found_by_the_beginning_of_their_ids(complete, pool):
    job = pool["gpu1"].run("true")
    assert complete(f"gpu1.attach('{job.id[:5]}") == (job.id[:5], [job.id])
    assert complete(f"gpu1.stop(job_id='{job.id[:5]}") is None  # not by a number


def test_paths_are_those_of_the_worker(complete, files):
    deep = f"{files}/deep/"
    both = [f"{files}/data.csv", f"{files}/data.txt"]
    assert complete(f"gpu1.ls('{files}/da").choices == both
    assert complete(f"gpu1.ls('{files}/").choices == [*both, deep]
    assert complete(f'gpu1.get("{files}/.h').choices == [f"{files}/.hidden"]
    assert complete(f"gpu1.put('x', '{files}/d").choices == [*both, deep]
    assert complete(f"gpu1.run(['a'], cwd='{files}/").choices == [deep]
    assert complete(f"gpu1.cd('{files}/deep/").choices == [f"{deep}er/"]
    assert complete("gpu1.ls('~").choices == ["~/"]


def test_what_can_t_be_read_is_nothing(complete):
    assert complete("gpu1.ls('/no/such/folder/x").choices == []
    assert complete("gpu1.ls('/etc/hostname/x").choices == []
    assert complete("gpu1.ls('/etc/hostn").choices == ["/etc/hostname"]


def test_an_answer_is_used_again_for_a_while(complete, *, pool, files, tmp_path):
    assert len(complete(f"gpu1.ls('{files}/data").choices) == 2
    (tmp_path / "data.new").write_text("")
    pool["gpu1"].disconnect()
    assert len(complete(f"gpu1.ls('{files}/data").choices) == 2
    assert not pool["gpu1"].is_connected


def test_who_could_not_be_reached_is_asked_again_once_connected(pool, monkeypatch):
    conn = pool["gpu1"]
    complete = Completer({"gpu1": conn}).complete
    with monkeypatch.context() as patch:
        patch.setattr("mlepool.repl.asking.LIMIT", 0.0)
        assert complete("gpu1.ls('/et") == ("/et", [])
        assert complete("gpu1.attach('") == ("", [])
    assert complete("gpu1.get('/et") == ("/et", [])
    conn.connect()
    assert complete("gpu1.cd('/usr/sh") == ("/usr/sh", ["/usr/share/"])


def test_a_host_that_is_not_there_costs_little_once(pool):
    gone = pool.add("127.0.0.1", 1, name="gone")
    complete = Completer({"gone": gone}).complete
    began = time.process_time()
    for _ in range(50):
        assert complete("gone.ls('/") == ("/", [])
        assert complete("gone.attach('") == ("", [])
        assert complete("gone.conn") == ("conn", ["connect"])
    assert time.process_time() - began < 2.0
    assert isinstance(gone, mlepool.Connection)
