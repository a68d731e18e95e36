"""What is said of many hosts at once."""

from mlepool.cli.crowds import FEW, goes_on, stopped
from mlepool.wire.values import Signalled, StopReport, Survivor


def jobs(count: int) -> dict[str, str]:
    return {f"gpu{number}": f"job{number}" for number in range(1, count + 1)}


def test_few_jobs_that_go_on_are_named_and_many_in_one_line():
    few = goes_on(jobs(FEW))
    assert few[0].endswith("come back with: mlepool attach job1 -H gpu1")
    assert len(few) == FEW
    [line] = goes_on(jobs(1000))
    assert line.startswith("1000 jobs go on on gpu[1-1000]; come back with: ")
    assert "mlepool logs -f -w 'gpu[1-1000]', " in line
    assert line.endswith("mlepool jobs -w 'gpu[1-1000]' lists them")


def test_many_that_are_dead_are_one_line_and_what_is_left_has_its_own():
    sent = (Signalled("SIGINT", 7, "sleep 60"),)
    reports = {
        name: StopReport(job_id, "STOPPED", signalled=sent)
        for name, job_id in jobs(1000).items()
    }
    assert len(stopped(dict(list(reports.items())[:FEW]))) == FEW
    assert stopped(reports) == ["gpu[1-1000]: all dead"]
    left = (Survivor(8, "sleep 60", "it is in the kernel"),)
    reports["gpu7"] = StopReport("job7", "STOPPED", sent, left)
    reports["gpu8"] = StopReport("job8", "SUCCEEDED")
    reports["gpu9"] = StopReport("job9", "STOPPED", was_waiting=True)
    assert stopped(reports) == [
        "gpu[1-6,10-1000]: all dead",
        "gpu8: had ended before",
        "gpu9: waited in line, and will not begin",
        "job job7 on gpu7: 1 left after 0.00 s: SIGINT to 7 (sleep 60)",
        "  left: 8 (sleep 60): it is in the kernel",
    ]
