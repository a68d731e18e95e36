"""What a host is doing, as a row."""

from mlepool.cli.gauges import HEADERS, Gauge, summary
from mlepool.wire.telemetry import (
    CpuSample,
    DiskSample,
    GpuSample,
    JobSample,
    MemorySample,
    Sample,
)

GIB = 1024**3
SAMPLE = Sample(
    time=7.0,
    cpu=(CpuSample(idle=40.0), CpuSample(idle=60.0)),
    load=(1.25, 1.0, 0.5),
    memory=MemorySample(8 * GIB, 4 * GIB, 3 * GIB, 2 * GIB, 50.0),
    disks=(
        DiskSample("/", "a", "ext4", 10, 1, 9, 9.0),
        DiskSample("/data", "b", "ext4", 10, 4, 6, 38.0),
    ),
    gpus=(
        GpuSample(0, "u0", "A100", 100, 90, 80.0),
        GpuSample(1, "u1", "A100", 100, 10, 20.0),
    ),
    jobs=(JobSample("a"), JobSample("b")),
)
STATE = {"id": "x", "run_status": "running", "slots": {"waiting": 3}}
WELL = Gauge("gpu1", STATE, SAMPLE, rtt=0.0021)


def test_a_host_that_is_well_is_a_row():
    row = ("gpu1", "running", "2+3", "50 %", "1.2/2", "50 % of 8.0 GiB")
    assert WELL.row() == (*row, "2: 50 %, memory 50 %", "38 %", "2.1 ms", "")
    assert len(row) + 4 == len(HEADERS)
    facts = WELL.in_json()
    assert (facts["cpu_percent"], facts["running"], facts["waiting"]) == (50.0, 2, 3)
    assert facts["gpus"][1]["memory_used"] == 10


def test_of_a_host_that_is_not_there_nothing_old_is_shown():
    lost, down = WELL._replace(problem="cut"), Gauge("gpu2", problem="refused")
    assert lost.row() == ("gpu1", "LOST", *[""] * 7, "cut")
    assert down.row() == ("gpu2", "DOWN", *[""] * 7, "refused")
    assert lost.in_json()["cpu_percent"] is None
    assert Gauge("gpu3").row()[:2] == ("gpu3", "...")
    assert summary([WELL, lost, down]) == (
        "3 hosts, 2 not reached; 2 jobs run, 3 in line, cpu 50 %"
    )


def test_what_was_not_measured_is_left_out():
    bare = Gauge("gpu1", STATE, Sample())
    assert bare.row() == ("gpu1", "running", "0+3", *[""] * 7)
    assert summary([bare]) == "1 host; 0 jobs run, 3 in line"
