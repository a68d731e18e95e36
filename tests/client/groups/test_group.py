"""Groups of real connections: who is meant, what is called, what comes of it."""

import contextlib
import itertools
import logging
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator

import pytest

import mlepool
from mlepool.client.groups import ward, waves
from mlepool.client.listening import timing
from mlepool.client.listening.output import EvictedError
from mlepool.testing.kill import kill_worker
from mlepool.testing.proxy import FaultProxy
from tests.conftest import wait_until

pytestmark = pytest.mark.real

COUNT = 'for n in 1 2 3; do echo "$n"; done'


@pytest.fixture(scope="module")
def pool(worker) -> Iterator[mlepool.ClientPool]:
    """A pool with eight ways to one worker, as if these were eight hosts."""
    with mlepool.ClientPool() as pool:
        for number in range(1, 9):
            labels = {"zone": "a" if number < 4 else "b", "gpu": "a100"}
            pool.add("localhost", worker.port, name=f"gpu{number}", labels=labels)
        pool.groups["train"] = ["gpu1", "gpu2", "gpu9"]
        pool.connect()
        yield pool


@pytest.fixture
def some(pool: mlepool.ClientPool) -> mlepool.Group:
    group: mlepool.Group = pool["gpu[1-3]"]
    return group


@contextlib.contextmanager
def strangers(worker, *names: str) -> Iterator[mlepool.ClientPool]:
    """A pool of one host that is there, and some that are not."""
    with mlepool.ClientPool() as pool:
        pool.add("localhost", worker.port, name="here")
        for number, name in enumerate(names):
            pool.add("localhost", number + 1, name=name)
        yield pool


# -- who is meant


def test_a_set_of_names_is_a_group_in_the_pools_order(pool):
    assert pool["gpu[7,2-3],!gpu3"].names == ["gpu2", "gpu7"]
    assert pool["@train"].names == ["gpu1", "gpu2"]
    assert pool["gpu*"].names == pool.names
    assert pool["gpu1"] is list(pool)[0]
    assert pool["gpu[1-3]"]["gpu2"] is pool["gpu2"]
    assert pool["gpu[1-3]"]["gpu[2-3]"].names == ["gpu2", "gpu3"]
    assert pool.group("gpu5", "gpu[1-2]").names == ["gpu1", "gpu2", "gpu5"]
    assert "gpu2" in pool["gpu[1-3]"]
    assert "gpu4" not in pool["gpu[1-3]"]
    assert pool["gpu2"] in pool["gpu[1-3]"]
    assert repr(pool["gpu[1-3]"]) == "<Group gpu[1-3] (3)>"


def test_an_unknown_name_is_a_key_error_that_says_what_is_near(pool, some):
    for wrong in ("gpu9", "gpu[1-9]", "@trian", "cpu*"):
        with pytest.raises(KeyError, match="near|there"):
            pool[wrong]
    with pytest.raises(KeyError, match="gpu4"):
        some["gpu4"]
    with pytest.raises(TypeError, match="is a str"):
        pool[1]


def test_labels_and_facts_select(pool):
    assert pool.select("zone=a").names == ["gpu1", "gpu2", "gpu3"]
    assert pool.select("zone in (b),gpu").names[0] == "gpu4"
    assert len(pool.select("os=linux,cpu.cores>0,!broken")) == 8
    assert pool["gpu[3-5]"].select("zone!=a").names == ["gpu4", "gpu5"]
    assert len(pool.select("zone=c")) == 0


# -- what is called


def test_all_hosts_run_it_and_the_handle_tells_of_each(some):
    done = some.run(["sh", "-c", "echo $0; exit 3", "x"])
    assert done.names == some.names == done.failed
    assert [one.exit_code for one in done.values()] == [3, 3, 3]
    assert done["gpu2"] is done["gpu2"]
    assert (len(done), "gpu1" in done, "gpu4" in done) == (3, True, False)
    assert done.get("gpu4") is None
    assert (done.done, done.ok) == (True, False)
    assert repr(done) == (
        "<GroupListener run \"sh -c 'echo $0; exit 3' x\" on 3 hosts: 3 failed>"
    )


def test_messages_come_with_their_hosts_and_each_reader_gets_all(some):
    live = some.run(COUNT, complete=False)
    assert set(live.keys()) == set(some.names)
    first = list(live)
    again = list(iter(live.next, None))
    for found in (first, again):
        assert sorted(found) == sorted(
            (name, line) for name in some.names for line in ("1", "2", "3")
        )
        for name in some.names:
            assert [line for host, line in found if host == name] == ["1", "2", "3"]
    assert live.next() is None
    assert live.ok
    assert first[0][1].stream == "stdout"


def test_every_command_is_a_method_with_its_signature(some, tmp_path):
    (tmp_path / "file").write_text("x")
    done = some.ls(str(tmp_path))
    assert [one.value[0].name for one in done.values()] == ["file"] * 3
    assert some.call_named("ls", str(tmp_path)).ok
    assert "max_parallel" in str(some.ls.__signature__)
    assert "GroupListener" in some.ls.__doc__
    assert {"ls", "run", "sync", "names"} <= set(dir(some))
    with pytest.raises(AttributeError, match="no command 'lss'; did you mean 'ls'"):
        some.lss()


def test_a_call_that_fits_no_command_is_refused_at_once(worker, some):
    with pytest.raises(TypeError, match="'cwdd'"):
        some.run("true", cwdd="x")
    with pytest.raises(TypeError, match="input for several hosts"):
        some.run("cat", input=iter(["x"]))
    with pytest.raises(ValueError, match="max_parallel"):
        some.run("true", max_parallel=0)
    with pytest.raises(TypeError, match="retry_lost must be a bool"):
        some.ls(retry_lost=1)
    with pytest.raises(ValueError, match="connect_timeout must be a number"):
        some.put(b"", "there", connect_timeout=-1)
    with strangers(worker) as pool:  # nothing is known of it before it is connected
        with pytest.raises(TypeError, match="'cwdd'"):
            pool.run("true", cwdd="x")
        pool["here"].disconnect()
    with strangers(worker) as pool:
        with pytest.raises(AttributeError, match="no command 'resize_images'"):
            pool.resize_images()
        with pytest.raises(AttributeError, match="no command 'lss'; did you"):
            pool.lss()


def test_input_and_bytes_go_to_all(some, tmp_path):
    done = some.run("cat", input="well")
    assert [one.stdout for one in done.values()] == ["well"] * 3
    with open(__file__, "rb") as file:
        some.put(file, str(tmp_path / "copy"), raise_error=True)
    with open(__file__) as text, pytest.raises(TypeError, match="in binary mode"):
        some.put(text, str(tmp_path / "text"))
    assert (tmp_path / "copy").read_bytes().startswith(b'"""Groups of real')


def test_what_is_echoed_has_its_host_in_front(some, capsys):
    some.run("echo out; echo err >&2", echo_response=True)
    shown = capsys.readouterr()
    assert sorted(shown.out.splitlines()) == [f"gpu{n}: out" for n in (1, 2, 3)]
    assert sorted(shown.err.splitlines()) == [f"gpu{n}: err" for n in (1, 2, 3)]


def test_waves_and_limits_hold_on_real_hosts(pool, tmp_path):
    script = f"echo $PPID >> {tmp_path}/ran; exit 1"
    done = pool.run(script, batch=[1, 3], max_failures=1)
    assert len((tmp_path / "ran").read_text().splitlines()) == 4
    assert (len(done.failed), len(done.skipped)) == (4, 4)
    skipped = done["gpu8"]
    assert (skipped.status, str(skipped.error)) == (
        "FAILED",
        "skipped on gpu8: 2 of 8 hosts had failed",
    )
    assert isinstance(skipped.error, mlepool.SkippedError)


def test_a_failure_is_repeated_as_a_new_job_where_that_is_asked_for(
    pool, tmp_path, monkeypatch
):
    monkeypatch.setattr(waves, "FIRST_PAUSE", 0.01)
    script = f"echo x >> {tmp_path}/ran; echo try; test $(wc -l < {tmp_path}/ran) = 2"
    group = pool.group("gpu1")
    live = group.run(script, retries=3, complete=False)
    assert list(live) == [("gpu1", "try"), ("gpu1", "try")]
    assert live.wait().ok
    first, second = live.attempts["gpu1"]
    assert (first.status, second.status) == ("FAILED", "SUCCEEDED")
    assert first.id != second.id
    assert live["gpu1"] is second


# -- what comes of it


def test_a_host_that_is_not_there_is_a_result(worker):
    with strangers(worker, "gone1", "gone2") as pool:
        done = pool.run("echo hi")
        assert (done.succeeded, done.lost) == (["here"], ["gone1", "gone2"])
        assert isinstance(done["gone1"].error, mlepool.ConnectError)
        assert list(done) == [("here", "hi")]
        with pytest.raises(ExceptionGroup, match="2 of 3 hosts") as caught:
            done.check()
        assert [one.__notes__ for one in caught.value.exceptions] == [
            ["on gone1"],
            ["on gone2"],
        ]
        with pytest.raises(ExceptionGroup):
            pool.run("true", raise_error=True)
        assert "refused" in str(done.table())


def test_a_host_that_is_being_reconnected_is_waited_for_only_so_long(worker):
    with FaultProxy(worker.port) as proxy, strangers(worker) as pool:
        pool.add("localhost", proxy.port, name="frail").connect()
        proxy.refuse()
        proxy.reset()
        wait_until(lambda: not pool["frail"].is_connected)
        done = pool.run("true", connect_timeout=0.2)
        assert (done.succeeded, done.lost) == (["here"], ["frail"])
        assert isinstance(done["frail"].error, mlepool.ConnectTimeoutError)
        proxy.accept()
        assert pool.run("true").ok


def test_a_host_without_a_link_is_waited_for_as_long_as_the_call_may_take(
    worker, monkeypatch
):
    monkeypatch.setattr(timing, "TIMEOUT_SLACK", 0.0)
    with FaultProxy(worker.port) as proxy, strangers(worker) as pool:
        frail = pool.add("localhost", proxy.port, name="frail")
        frail.connect()
        proxy.refuse()
        proxy.reset()
        wait_until(lambda: not frail.is_connected)
        done = pool.run("true", timeout=2)
        assert (done.succeeded, done.lost) == (["here"], ["frail"])
        error = done["frail"].error
        assert isinstance(error, mlepool.ConnectTimeoutError)
        assert "no link within 2 s" in str(error)
        assert "refused" in str(done.table())


def test_a_host_that_is_back_in_time_is_used_once_and_waits_for_no_other(
    worker, tmp_path, monkeypatch
):
    monkeypatch.setattr(ward, "MAX_DIALS", 0)  # as if others were being dialled
    with FaultProxy(worker.port) as proxy, strangers(worker) as pool:
        frail = pool.add("localhost", proxy.port, name="frail")
        pool.connect()
        proxy.refuse()
        proxy.reset()
        wait_until(lambda: not frail.is_connected)
        script = f"echo run >> {tmp_path}/$MLEPOOL_JOB"
        live = pool.run(script, timeout=20, complete=False)
        live["here"].wait(20)
        assert live.running == ["frail"]
        proxy.accept()
        assert live.wait(20).ok
        runs = {one.name: one.read_text() for one in tmp_path.iterdir()}
        assert runs == {one.id: "run\n" for one in live.values()}


def test_a_host_that_dies_in_the_middle_is_lost_and_keeps_no_other(worker, own_worker):
    with strangers(worker) as pool:
        mortal = pool.add("localhost", own_worker.port, reconnect_timeout=0.1)
        live = pool.run("echo on; cat", stdin=True, complete=False)
        wait_until(lambda: [one.stdout for one in live.values()] == ["on\n"] * 2)
        live["here"].close_input()
        kill_worker(own_worker.state_dir)
        own_worker.process.wait()
        live.wait(20)
        assert (live.succeeded, live.lost) == (["here"], [mortal.name])
        assert isinstance(live[mortal.name].error, mlepool.ConnectionLostError)
        assert sorted(live) == sorted([("here", "on"), (mortal.name, "on")])


def test_hosts_are_grouped_by_what_they_say(pool):
    done = pool.run("echo a; echo b")
    (same,) = done.grouped()
    assert same == ("gpu[1-8]", pool.names, "a\nb\n")
    assert done.diff() == ""


def test_what_is_together_is_shown_under_its_hosts(pool, tmp_path):
    (tmp_path / "first").mkdir()
    done = pool.run(f"rmdir {tmp_path}/first 2>/dev/null && echo '<1>' || echo 2")
    (most, one), rule = done.grouped(), "-" * 15
    assert str(done.grouped()).splitlines() == [
        *(rule, f"{most.hosts} (7)", rule, "2"),
        *(rule, one.hosts, rule, "<1>"),
    ]
    html = done.grouped()._repr_html_()
    assert f"<div>{one.hosts}</div><div><pre>&lt;1&gt;</pre></div></div>" in html


def test_hosts_where_the_same_is_wrong_are_together(worker, some):
    nothing = "No such file or directory: '/nonexistent'"
    for done in (some.ls("/nonexistent"), some.run(["/nonexistent"])):
        (same,) = done.grouped()
        assert same.names == some.names
        assert same.output.startswith("FileNotFoundError: ")
        assert "/nonexistent" in done.table()[0][4]
    assert some.ls("/nonexistent").table()[0][4] == nothing
    with strangers(worker, "gone1", "gone2") as pool:
        done = pool.run("echo hi", batch=3, max_failures=1)
        assert [(one.hosts, one.output.split(":")[0]) for one in done.grouped()] == [
            ("gone[1-2]", "ConnectError"),
            ("here", "hi\n"),
        ]
        assert done.diff() == ""


def test_differences_are_shown_against_what_most_say(pool, tmp_path):
    (tmp_path / "first").mkdir()
    script = f"echo one; rmdir {tmp_path}/first 2>/dev/null && echo two; true"
    done = pool.run(script, max_parallel=1)
    assert [one.hosts for one in done.grouped()] == ["gpu[2-8]", "gpu1"]
    assert done.diff().splitlines() == [
        "--- gpu[2-8]",
        "+++ gpu1",
        "@@ -1 +1,2 @@",
        " one",
        "+two",
    ]


def test_a_table_has_a_row_for_each_host_from_the_start(worker):
    with strangers(worker, "gone") as pool:
        live = pool.run("echo a; echo last; cat", stdin=True, complete=False)
        assert [row[0] for row in live.table()] == ["here", "gone"]
        wait_until(lambda: [row[4] for row in live.table()][0] == "last")
        row = live.table()[0]
        assert (row[1], row[2]) == ("RUNNING", "")
        live["here"].close_input()
        live.wait(20)
        assert live.table()[0][1:3] == ("SUCCEEDED", 0)
        assert live.table()[1][1] == "LOST"


def test_who_wants_to_know_is_told_of_changes(some):
    live = some.run("read x", stdin=True, complete=False)
    seen = []
    live.on("change", lambda one: seen.append([row[1] for row in one.table()]))
    for listener in live.values():
        listener.close_input()
    live.wait(20)
    wait_until(lambda: seen[-1:] == [["FAILED"] * 3])
    with pytest.raises(ValueError, match="no event 'chang'"):
        live.on("chang", print)


def test_a_callback_can_break_neither_call_nor_sweep(some, caplog, tmp_path):
    live = some.run("read x", stdin=True, complete=False)
    live.on("change", sys.exit)
    for listener in live.values():
        listener.close_input()
    live.wait(20)
    sweep = some.map("echo {n}", n=[1, 2], plan=tmp_path / "plan")
    sweep.on("change", sys.exit)
    sweep.wait(20)
    assert sweep.ok
    assert "a callback for 'change' failed" in caplog.text
    assert "a callback of a sweep failed" in caplog.text


def test_a_stop_reaches_all_and_nothing_begins_after_it(pool):
    live = pool.run("sleep 1000", max_parallel=3, complete=False)
    wait_until(lambda: sum(one.status == "RUNNING" for one in live.values()) == 3)
    reports = live.stop()
    assert [(one.status, one.survivors) for one in reports.values()] == [
        ("STOPPED", ())
    ] * 3
    live.wait(20)
    assert (len(live.failed), len(live.skipped)) == (3, 5)


def test_a_host_can_be_stopped_before_it_begins(pool):
    live = pool["gpu[1-2]"].run("read x", stdin=True, max_parallel=1, complete=False)
    assert live["gpu2"].status == "PENDING"
    assert live["gpu2"].stop().was_waiting
    live["gpu1"].close_input()
    live.wait(20)
    assert live["gpu2"].status == "STOPPED"
    assert live["gpu2"].duration == 0.0


def test_one_that_waits_can_be_listened_to_before_it_begins(pool):
    live = pool["gpu[1-2]"].run(
        "read x; echo $x", stdin=True, max_parallel=1, max_interval=0.2, complete=False
    )
    later = live["gpu2"]
    got: list[str] = []
    thread = threading.Thread(target=lambda: got.extend(later))
    thread.start()
    live["gpu1"].close_input()
    wait_until(lambda: later.status == "RUNNING")
    later.send_input("now\n")
    thread.join(20)
    assert got == ["now"]


def waits_for_the_loop(thread: int) -> bool:
    """Tell if a thread is within a blocking call."""
    stack = traceback.extract_stack(sys._current_frames()[thread])
    return any(one.filename.endswith("client/portal.py") for one in stack)


def test_ctrl_c_leaves_the_jobs_running_and_names_them(some, caplog):
    live = some.run("sleep 1000", complete=False, max_parallel=2)
    wait_until(lambda: sum(one.status == "RUNNING" for one in live.values()) == 2)
    main = threading.get_ident()

    def press() -> None:
        wait_until(lambda: waits_for_the_loop(main))
        signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=press).start()
    with (
        caplog.at_level(logging.WARNING, "mlepool.client"),
        pytest.raises(KeyboardInterrupt),
    ):
        live.wait()
    ids = {name: live[name].id for name in live.running}
    assert len(ids) == 2
    said = caplog.records[-1].getMessage()
    assert all(f"{name} {job_id}" in said for name, job_id in ids.items())
    for name, job_id in ids.items():
        assert some[name].job(job_id).value.status == "RUNNING"
    live.stop()
    assert live.wait(20).skipped == ["gpu3"]


def test_timeouts_of_all_hosts_run_at_once(some):
    began = time.monotonic()
    done = some.run("sleep 1000", timeout=0.2)
    assert [one.status for one in done.values()] == ["TIMED_OUT"] * 3
    assert time.monotonic() - began < 20
    with pytest.raises(ExceptionGroup) as caught:
        done.check()
    errors = [getattr(one, "listener", None) for one in caught.value.exceptions]
    assert errors == done.values()


def test_what_is_left_at_its_deadline_ends_the_call_and_goes_on(some):
    done = some.run("sleep 1000", timeout=0.3, on_timeout="detach")
    assert done.done
    assert [one.status for one in done.values()] == ["RUNNING"] * 3
    assert done.running == some.names
    with pytest.raises(ExceptionGroup) as caught:
        done.check()
    assert {getattr(one, "stopped", None) for one in caught.value.exceptions} == {False}
    assert list(done) == []
    for listener in done.values():
        listener.stop()


def test_a_host_that_nobody_listens_to_any_more_keeps_no_other(some):
    live = some.run("echo on; cat", stdin=True, complete=False)
    wait_until(lambda: live["gpu2"].stdout == "on\n")
    live["gpu2"].close()
    live["gpu1"].close_input()
    live["gpu3"].close_input()
    live.wait(20)
    assert (live.succeeded, live.running) == (["gpu1", "gpu3"], ["gpu2"])
    assert len(list(live)) >= 2
    with pytest.raises(ExceptionGroup, match="1 of 3"):
        live.check()
    some["gpu2"].stop(live["gpu2"].id)


def test_silence_of_all_is_an_error_and_the_call_goes_on(some):
    live = some.run("read x; echo $x", stdin=True, max_interval=0.1, complete=False)
    with pytest.raises(mlepool.ListenerTimeoutError, match="3 hosts"):
        live.next()
    for listener in live.values():
        listener.send_input("on\n")
    found = live.next()
    assert found is not None
    assert found[1] == "on"
    assert live.wait(20).ok


def test_what_has_left_memory_is_read_again(some):
    live = some.run("seq 100000", memory=0)  # of which half a megabyte stays
    with pytest.raises(EvictedError):
        _ = live["gpu1"]._async.stdout
    sums = dict.fromkeys(some.names, 0)
    for name, line in live:
        sums[name] += int(line)
    assert set(sums.values()) == {100000 * 100001 // 2}
    assert [one.hosts for one in live.grouped()] == ["gpu[1-3]"]


def test_who_prints_much_keeps_no_other_waiting(some):
    # More than there is in a turn: 16 records, of 112 KiB at most.
    live = some.run("head -c 3000000 /dev/zero | tr '\\0' x | fold -w 1000")
    assert live.ok
    turns = [name for name, _ in itertools.groupby(live, key=lambda one: one[0])]
    assert sorted(turns[:3]) == some.names  # each has had a turn before one had two
    assert len(turns) > 3


def test_of_what_has_ended_no_wait_is_too_short(some):
    done = some.run("true")
    for _ in range(20):
        assert done.wait(0) is done.check(timeout=0)


def test_a_call_of_a_closed_pool_says_that_it_is_closed(worker):
    with mlepool.ClientPool() as pool:
        pool.add("localhost", worker.port)
    with pytest.raises(mlepool.ConnectionClosedError, match="each host of the pool is"):
        pool.run("true")
    with mlepool.ClientPool() as empty:
        assert len(empty.run("true")) == 0


def test_a_closed_pool_begins_nothing_more(worker):
    pool = mlepool.ClientPool()
    for name in ("a", "b"):
        pool.add("localhost", worker.port, name=name)
    live = pool.run("sleep 1000", max_parallel=1, complete=False)
    wait_until(lambda: live["a"].status == "RUNNING")
    pool.close()
    live.wait(20)
    assert (live["a"].status, live.skipped) == ("STOPPED", ["b"])
