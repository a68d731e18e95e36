"""Samples as values: what is in them, and one made of several."""

import re

import msgspec

from mlepool.wire.telemetry import (
    KINDS,
    CpuSample,
    JobSample,
    MemorySample,
    Sample,
    merge,
)


def test_a_sample_goes_over_the_wire_and_back():
    sample = Sample(3, 1.5, (CpuSample(user=50.0, idle=50.0),), (1.0, 2.0, 3.0))
    packed = msgspec.msgpack.encode(sample)
    assert msgspec.msgpack.decode(packed, type=Sample) == sample


def test_how_busy_all_cores_are_leaves_out_waiting_for_disks():
    cores = (CpuSample(user=60, idle=40), CpuSample(system=20, iowait=30, idle=50))
    assert Sample(cpu=cores).cpu_percent == 40
    assert Sample().cpu_percent is None


def test_a_job_is_found_by_its_id():
    sample = Sample(jobs=(JobSample("a", rss=1), JobSample("b", rss=2)))
    assert sample.job("b") == JobSample("b", rss=2)
    assert sample.job("c") is None
    assert Sample().job("a") is None


def test_the_latest_of_each_kind_is_one_sample():
    old = Sample(1, 10.0, load=(1.0, 1.0, 1.0), gpus=())
    new = Sample(2, 20.0, load=(2.0, 2.0, 2.0), jobs=(JobSample("a"),))
    whole = merge([old, new])
    assert whole == Sample(0, 20.0, load=new.load, gpus=(), jobs=new.jobs)
    assert merge([]) == Sample()


def test_every_kind_is_a_field():
    assert set(KINDS) <= set(Sample.__struct_fields__)


def test_a_sample_reads_as_a_line():
    cores = (CpuSample(user=60, idle=40),)
    memory = MemorySample(total=8, available=2, used=6, free=2, percent=75.0)
    sample = Sample(3, 0.0, cores, memory=memory, jobs=(JobSample("a"),))
    shown = re.sub(r"\d\d:\d\d:\d\d", "TIME", repr(sample))
    assert shown == "<Sample 3 at TIME: cpu 60 %, memory 75 %, 1 job>"
    assert repr(Sample()).endswith(": nothing>")
