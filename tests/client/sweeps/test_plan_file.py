"""Plans on real disks: cut off, damaged, full, and wanted by two."""

import contextlib
import stat

import pytest

from mlepool.client.sweeps.plan import RunState
from mlepool.client.sweeps.plan_file import PlanFile, plan_path
from mlepool.client.sweeps.records import Ended, Given, Head
from mlepool.errors import SweepPlanError
from tests.needs import small_disk

HEAD = Head("abc", "echo {x}", axes={"x": list(range(9))}, run={"env": {"KEY": "s"}})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "plan"


def test_what_was_written_is_read_again(path):
    with PlanFile.make(path, HEAD) as file:
        file.note(Given(0, 0, "a", 1.0))
        file.note(Ended(0, "FAILED", 3, 1.0, 0.5, points={"loss": 0.1}))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with PlanFile.open(path) as again:
        run = again.plan.run(0)
        assert again.plan.head == HEAD
        assert run.end is not None
        assert (run.state, run.end.exit_code) == (RunState.FAILED, 3)
        assert run.end.points == {"loss": 0.1}


def test_wherever_a_file_was_cut_off_it_is_read_up_to_there(path):
    with PlanFile.make(path, HEAD) as file:
        for number in range(3):
            file.note(Given(number, 0, "a", 1.0))
    whole = path.read_bytes()
    head = whole.index(b"\n") + 1
    for size in range(head, len(whole) + 1):
        path.write_bytes(whole[:size])
        with PlanFile.open(path) as file:
            lines = whole[head:size].count(b"\n")
            assert (file.plan.given, file.plan.next()) == (lines, lines)
            file.note(Given(lines, 0, "b", 2.0))
        with PlanFile.open(path) as file:
            assert file.plan.run(lines).host == "b"


def test_a_damaged_line_is_named(path):
    with PlanFile.make(path, HEAD) as file:
        file.note(Given(0, 0, "a", 1.0))
    path.write_bytes(path.read_bytes().replace(b"given", b"taken"))
    with pytest.raises(SweepPlanError, match="line 2 is damaged"):
        PlanFile.open(path)
    for junk in (b"", b"junk\n", b"{}\n", b"\xff\n", b'{"type":"mlepool-sweep"}\n'):
        path.write_bytes(junk)
        with pytest.raises(SweepPlanError, match="no plan of a sweep"):
            PlanFile.open(path)


def test_a_plan_of_a_later_release_is_refused(path):
    PlanFile.make(path, HEAD).close()
    path.write_bytes(path.read_bytes().replace(b'"abc"', b'"abc","version":9', 1))
    with pytest.raises(SweepPlanError, match="version 9"):
        PlanFile.open(path)


def test_a_plan_is_not_made_over_another_file(path):
    PlanFile.make(path, HEAD).close()
    with pytest.raises(SweepPlanError, match="resume"):
        PlanFile.make(path, HEAD)
    with pytest.raises(SweepPlanError, match="No such file"):
        PlanFile.open(path.with_name("other"))


def test_a_folder_that_is_not_there_is_not_made_but_for_the_accounts_own(tmp_path):
    with pytest.raises(SweepPlanError, match=f"there is no folder {tmp_path}/reslts"):
        PlanFile.make(tmp_path / "reslts" / "plan", HEAD)
    assert not (tmp_path / "reslts").exists()
    with PlanFile.make(plan_path(None, "id"), HEAD) as file:
        assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700


def test_there_is_one_driver_at_a_time(path):
    # The lock is of the open file, not of the process: so this is another's, too.
    with (
        PlanFile.make(path, HEAD),
        pytest.raises(SweepPlanError, match="drives it"),
    ):
        PlanFile.open(path)
    PlanFile.open(path).close()


@pytest.mark.real
def test_where_the_disk_is_full_nothing_is_half_written(tmp_path):
    with small_disk(tmp_path / "disk", "64k") as disk:
        path, filler = disk / "plan", disk / "filler"
        with PlanFile.make(path, HEAD) as file:
            with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as other:
                for _ in range(100):
                    other.write(bytes(4096))
            for number in range(9):
                reason = "x" * 1000
                file.note(Given(number, 0, reason, 1.0))
            for _ in range(2):
                with pytest.raises(OSError, match="No space left"):
                    file.write()
            assert path.read_bytes().count(b"\n") == 1
            filler.unlink()
            file.write()  # nothing of it was forgotten
        with PlanFile.open(path) as again:
            assert again.plan.given == 9


def test_a_plan_is_in_the_accounts_folder_unless_said_otherwise(account, tmp_path):
    assert plan_path(None, "abc") == account / "sweeps" / "abc.sweep"
    assert plan_path(tmp_path / "x", "abc") == tmp_path / "x"
