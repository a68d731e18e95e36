"""What notebooks show of listeners, connections and pools: of real jobs."""

import pytest

import mlepool
from mlepool.worker import Context, command, serve_in_thread

EVIL = "<script>alert(1)</script>"


@command
def climb(ctx: Context, to: int):
    """Say how far it is, and wait to be told to end."""
    for step in range(1, to + 1):
        ctx.progress(step=step, total=to, message=EVIL)
        yield {"at": step, "is": EVIL}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    settings = {"state_dir": folder, "listen": "127.0.0.1:0", "labels": {"x": EVIL}}
    with serve_in_thread([climb], **settings) as running:
        yield running


@pytest.fixture
def pool(place):
    with mlepool.ClientPool() as pool:
        pool.add("127.0.0.1", place.port, name="gpu1", labels={"zone": "<b>"})
        yield pool


@pytest.fixture
def conn(pool):
    pool.connect()
    return pool["gpu1"]


def test_a_command_s_status_and_last_lines(conn):
    html = conn.run(f"seq 30; echo '{EVIL}' >&2; exit 3")._repr_html_()
    assert 'class="s bad">FAILED<' in html
    assert "exit 3" in html
    assert (
        '<span class="err">&lt;script&gt;alert(1)&lt;/script&gt;</span></pre>' in html
    )
    assert "\n12\n13\n" in html
    assert ">... 11 lines before<" in html
    assert "<script" not in html


def test_of_very_much_it_is_said_that_there_is_more(conn):
    html = conn.run("yes yes | head -c 2000000")._repr_html_()
    assert ">... more before<" in html
    assert html.count("\nyes") == 20


def test_what_runs_is_told_from_what_has_ended(conn):
    live = conn.run("echo begun; read a", stdin=True, complete=False)
    assert live.next() == "begun"
    assert (live._is_live(), ">RUNNING<" in live._repr_html_()) == (True, True)
    live.close_input()
    live.wait()
    assert (live._is_live(), ">RUNNING<" in live._repr_html_()) == (False, False)


def test_a_command_that_says_how_far_it_is_has_a_bar(conn):
    html = conn.climb(to=4)._repr_html_()
    assert '<progress max="100" value="100"' in html
    assert "4 of 4 &lt;script&gt;" in html
    assert "&#x27;at&#x27;: 4" in html
    assert "<script" not in html


def test_what_failed_without_output_says_why(conn):
    html = conn.run(["no-such-program"])._repr_html_()
    assert "RemoteFileNotFoundError" in html
    assert "No such file or directory" in html


def test_a_value_is_shown_as_what_it_is(conn, tmp_path):
    (tmp_path / "<b>").write_text("")
    assert "&lt;b&gt;</td>" in conn.ls(tmp_path)._repr_html_()
    assert "<table>" in conn.jobs()._repr_html_()
    assert ">SUCCEEDED<" in conn.cwd()._repr_html_()


def test_a_host_is_shown_with_its_facts_and_labels(pool):
    assert ">new<" in pool["gpu1"]._repr_html_()
    pool.connect()
    for shown in (pool["gpu1"], pool, pool["gpu*"]):
        html = shown._repr_html_()
        assert 'class="s good">connected<' in html
        assert "x=&lt;script&gt;alert(1)&lt;/script&gt;, zone=&lt;b&gt;" in html
        assert "<script" not in html
    assert "<div>1 host <" in pool._repr_html_()


def test_many_hosts_are_a_row_each_and_those_that_fail_come_first(pool, place):
    for number in range(2, 61):
        pool.add("127.0.0.1", 1, name=f"gone{number}")
    live = pool.run(f"echo '{EVIL}'", connect_timeout=5)
    html = live._repr_html_()
    assert "60 hosts" in html
    assert "1 succeeded" in html
    assert "59 lost" in html
    assert html.count(">LOST<") == 50
    assert "... and 10 more" in html
    assert "gone2</code>" in html
    assert "... and 10 more" in pool._repr_html_()
    html = pool.group("gpu1").run(f"echo '{EVIL}'")._repr_html_()
    assert "<code>&lt;script&gt;alert(1)&lt;/script&gt;</code>" in html


def test_a_sweep_shows_how_far_it_is_and_what_failed(pool, tmp_path):
    sweep = pool.map("test {n} = 1", n=[1, 2], plan=tmp_path / "plan")
    sweep.wait(30)
    html = sweep._repr_html_()
    assert "1 SUCCEEDED, 1 FAILED" in html
    assert "n=2" in html
    assert "n=1" not in html
    assert not sweep._is_live()
