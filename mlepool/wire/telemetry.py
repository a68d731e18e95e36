"""What a worker measures: samples of its host and of its jobs, as typed values.

Fields have the names that psutil gives them. What grows for ever (bytes, seconds,
counts) is told as it stands, and where that is of use also as a rate.
"""

import datetime
from collections.abc import Iterable
from typing import Any

import msgspec

__all__ = [
    "FOLLOW",
    "KINDS",
    "CpuSample",
    "DiskSample",
    "GpuSample",
    "IoSample",
    "JobSample",
    "MemorySample",
    "NetworkSample",
    "Sample",
    "SwapSample",
    "merge",
]

# What can be measured by itself, each at an interval of its own. A sample's fields
# ``load``, ``swap`` and ``io`` come with cpu, memory and disks.
KINDS = ("cpu", "memory", "disks", "network", "gpus", "jobs")

# What a connection asks on each new link by itself, to be told of samples.
FOLLOW = "_metrics_follow"


class CpuSample(msgspec.Struct, frozen=True, array_like=True):
    """What one core did since the measurement before, in percent of that time.

    All but ``guest`` add up to 100: the time of virtual machines is in ``user``, too.
    """

    user: float = 0.0
    nice: float = 0.0
    system: float = 0.0
    idle: float = 0.0
    iowait: float = 0.0
    irq: float = 0.0
    softirq: float = 0.0
    steal: float = 0.0
    guest: float = 0.0


class MemorySample(msgspec.Struct, frozen=True, array_like=True):
    """The host's memory, in bytes; ``percent`` of it is not available."""

    total: int
    available: int
    used: int
    free: int
    percent: float


class SwapSample(msgspec.Struct, frozen=True, array_like=True):
    """The host's swap space, in bytes; ``sin`` and ``sout`` since it was booted."""

    total: int
    used: int
    free: int
    percent: float
    sin: int = 0
    sout: int = 0


class DiskSample(msgspec.Struct, frozen=True, array_like=True):
    """How full a file system is, in bytes; ``percent`` as ``df`` has it."""

    mountpoint: str
    device: str
    fstype: str
    total: int
    used: int
    free: int
    percent: float


class IoSample(msgspec.Struct, frozen=True, array_like=True):
    """What a disk has read and written since the host was booted.

    Attributes:
        name: The device's.
        read_count: How often; ``write_count`` likewise.
        read_bytes: How much; ``write_bytes`` likewise.
        read_rate: Bytes a second since the measurement before; ``write_rate`` likewise.
    """

    name: str
    read_count: int
    write_count: int
    read_bytes: int
    write_bytes: int
    read_rate: float = 0.0
    write_rate: float = 0.0


class NetworkSample(msgspec.Struct, frozen=True, array_like=True):
    """What a network interface has sent and received since the host was booted.

    Attributes:
        name: The interface's.
        sent_rate: Bytes a second since the measurement before; ``recv_rate`` likewise.
    """

    name: str
    bytes_sent: int
    bytes_recv: int
    packets_sent: int
    packets_recv: int
    errin: int
    errout: int
    dropin: int
    dropout: int
    sent_rate: float = 0.0
    recv_rate: float = 0.0


class GpuSample(msgspec.Struct, frozen=True, array_like=True):
    """A GPU.

    Attributes:
        index: Its number, as in ``nvidia-smi``.
        memory_total: Bytes; ``memory_used`` likewise.
        utilization: Percent of the time that it computes; None where not known.
        temperature: Degrees Celsius.
        power: Watts.
    """

    index: int
    uuid: str
    name: str
    memory_total: int
    memory_used: int
    utilization: float | None = None
    temperature: float | None = None
    power: float | None = None


class JobSample(msgspec.Struct, frozen=True, array_like=True):
    """What a job's whole tree of processes uses.

    Attributes:
        id: The job's.
        cpu_percent: Since the measurement before; 100 is one core.
        cpu_time: Seconds of CPU since its start.
        rss: Bytes of memory; what processes share is counted for each.
        read_bytes: Bytes read from disks since its start; ``write_bytes`` likewise.
        processes: How many it has now.
    """

    id: str
    cpu_percent: float = 0.0
    cpu_time: float = 0.0
    rss: int = 0
    read_bytes: int = 0
    write_bytes: int = 0
    processes: int = 0


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """What was measured at one time; None is what was not measured then.

    Attributes:
        id: Of one that is kept: each has a greater id than those before; else 0.
        time: Seconds since the epoch.
        cpu: By core.
        load: The load averages of the last 1, 5 and 15 minutes.
        memory: The host's memory; ``swap`` its swap space.
        disks: The file systems of disks; ``io`` the disks themselves.
        network: The interfaces.
        gpus: The GPUs; none where there is no driver.
        jobs: The jobs that run as processes.
        dropped: How many samples before this one had to be let go, that nobody got.
    """

    id: int = 0
    time: float = 0.0
    cpu: tuple[CpuSample, ...] | None = None
    load: tuple[float, float, float] | None = None
    memory: MemorySample | None = None
    swap: SwapSample | None = None
    disks: tuple[DiskSample, ...] | None = None
    io: tuple[IoSample, ...] | None = None
    network: tuple[NetworkSample, ...] | None = None
    gpus: tuple[GpuSample, ...] | None = None
    jobs: tuple[JobSample, ...] | None = None
    dropped: int = 0

    @property
    def cpu_percent(self) -> float | None:
        """How busy all cores are together, 0 to 100; None if that is not known."""
        if not self.cpu:
            return None
        idle = sum(one.idle + one.iowait for one in self.cpu) / len(self.cpu)
        return round(max(0.0, 100.0 - idle), 2)

    def __repr__(self) -> str:
        when = datetime.datetime.fromtimestamp(self.time)
        said = [] if self.cpu_percent is None else [f"cpu {self.cpu_percent:.0f} %"]
        said += [f"memory {self.memory.percent:.0f} %"] if self.memory else []
        for noun, found in (("GPU", self.gpus), ("job", self.jobs)):
            if found:
                said.append(f"{len(found)} {noun}{'s' * (len(found) > 1)}")
        return f"<Sample {self.id} at {when:%H:%M:%S}: {', '.join(said) or 'nothing'}>"

    __str__ = __repr__

    def job(self, job_id: str) -> JobSample | None:
        """Give what one job uses; None if that was not measured."""
        return next((one for one in self.jobs or () if one.id == job_id), None)


# What a sample holds besides its id and time.
_MEASURED = tuple(
    name for name in Sample.__struct_fields__ if name not in {"id", "time", "dropped"}
)


def merge(samples: Iterable[Sample]) -> Sample:
    """Make one sample of several: of each thing the latest, with the latest time.

    Args:
        samples: In the order of their times.
    """
    known: dict[str, Any] = {}
    latest = 0.0
    for sample in samples:
        latest = max(latest, sample.time)
        for name in _MEASURED:
            value = getattr(sample, name)
            if value is not None:
                known[name] = value
    return Sample(time=latest, **known)
