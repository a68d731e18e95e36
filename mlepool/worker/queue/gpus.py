"""GPUs: what a driver says of them."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from mlepool.errors import WorkerError

__all__ = ["Device", "GpuDriver", "NvmlDriver", "chosen"]

# Bytes in use on a GPU that does nothing: the driver's own, a desktop's. In a container
# nobody else's processes are seen, but their memory is.
MAX_IDLE_MEMORY = 1024**3


class Device(msgspec.Struct, frozen=True, order=True):
    """A GPU, as it was looked at.

    Attributes:
        index: Its number, by PCI bus: as nvidia-smi counts, and CUDA with
            ``CUDA_DEVICE_ORDER=PCI_BUS_ID``.
        uuid: Names it for ever.
        name: What it is, for people.
        memory_total: Bytes.
        memory_used: Bytes.
        processes: Pids that compute on it, as far as the driver shows them.
        utilization: Percent of the time that it computes; None where not known.
        temperature: Degrees Celsius.
        power: Watts.
    """

    index: int
    uuid: str
    name: str = ""
    memory_total: int = 0
    memory_used: int = 0
    processes: tuple[int, ...] = ()
    utilization: float | None = None
    temperature: float | None = None
    power: float | None = None

    @property
    def is_idle(self) -> bool:
        """True if nobody uses it."""
        return not self.processes and self.memory_used <= MAX_IDLE_MEMORY


class GpuDriver(Protocol):
    """What tells of a host's GPUs."""

    def devices(self) -> list[Device]:
        """Look at all GPUs now, in the order of their index; it may take a while.

        Raises:
            WorkerError: If there is no driver, or it does not answer.
        """


class NvmlDriver:
    """NVIDIA's, by the nvidia-ml-py package (``pip install 'mlepool[gpu]'``).

    Args:
        visible: What ``CUDA_VISIBLE_DEVICES`` is for the worker itself: it gives no
            other GPUs away. None for all.
    """

    def __init__(self, visible: str | None = None) -> None:
        self._visible = visible
        self._library: Any = None

    def devices(self) -> list[Device]:
        """Look at all GPUs now.

        Raises:
            WorkerError: If there is no driver, or it does not answer.
        """
        nvml = self._open()
        try:
            handles = [
                nvml.nvmlDeviceGetHandleByIndex(number)
                for number in range(nvml.nvmlDeviceGetCount())
            ]
            # By PCI bus, since that is how CUDA can be made to count, too.
            handles.sort(key=lambda one: _text(nvml.nvmlDeviceGetPciInfo(one).busId))
            found = [self._look_at(*pair) for pair in enumerate(handles)]
        except nvml.NVMLError as exc:
            raise WorkerError(f"the GPUs' driver does not answer: {exc}") from exc
        return found if self._visible is None else chosen(found, self._visible)

    def _look_at(self, index: int, handle: Any) -> Device:
        nvml = self._library
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        running = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        return Device(
            index,
            _text(nvml.nvmlDeviceGetUUID(handle)),
            _text(nvml.nvmlDeviceGetName(handle)),
            int(memory.total),
            int(memory.used),
            tuple(sorted(one.pid for one in running)),
            *self._read(handle),
        )

    def _read(self, handle: Any) -> tuple[float | None, ...]:
        """Give utilization, temperature and power; None for what it has no meter of."""
        nvml = self._library
        meters = (
            lambda: float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu),
            lambda: float(nvml.nvmlDeviceGetTemperature(handle, 0)),
            lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
        )
        found: list[float | None] = []
        for read in meters:
            try:
                found.append(read())
            except nvml.NVMLError:
                found.append(None)
        return tuple(found)

    def _open(self) -> Any:
        if self._library is None:
            try:
                import pynvml
            except ImportError:
                raise WorkerError(
                    "nvidia-ml-py is not installed: pip install 'mlepool[gpu]'"
                ) from None
            try:
                pynvml.nvmlInit()
            except pynvml.NVMLError as exc:
                raise WorkerError(f"no NVIDIA driver: {exc}") from exc
            self._library = pynvml
        return self._library


def chosen(devices: list[Device], visible: str) -> list[Device]:
    """Give the devices that CUDA_VISIBLE_DEVICES names, up to the first it can't.

    Args:
        devices: All.
        visible: Numbers, or how UUIDs begin, with commas between.
    """
    named = []
    for word in visible.split(","):
        name = word.strip()
        found = [
            one
            for one in devices
            if name and (name == str(one.index) or one.uuid.startswith(name))
        ]
        if len(found) != 1:
            break
        named += found
    return sorted(set(named))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
