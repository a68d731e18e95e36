"""Which job has which GPUs, until it is proven that it uses them no more."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from mlepool.config import write_private
from mlepool.supervisor.processes import relatives, stamp_of
from mlepool.worker.queue.gpus import Device, GpuDriver

__all__ = ["Leases", "Look", "environment", "look"]

logger = logging.getLogger("mlepool.worker")

MAX_NAMED = 5  # processes that a reason names


class Look(NamedTuple):
    """What was seen at one moment.

    Attributes:
        devices: All GPUs.
        living: Pids of jobs that have ended and should have none, by the job's id.
        problem: Why nothing was seen; else empty.
    """

    devices: tuple[Device, ...] = ()
    living: dict[str, tuple[int, ...]] = {}
    problem: str = ""


def look(driver: GpuDriver, ended: Collection[str], folder: Path) -> Look:
    """Look at the GPUs, and for processes of jobs that have ended; blocking.

    Args:
        driver: Tells of GPUs.
        ended: The ids of these jobs.
        folder: The state folder of their worker.
    """
    try:
        devices = tuple(driver.devices())
    except Exception as exc:
        # The top of a look: whatever a driver raises, nothing was seen.
        return Look(problem=str(exc) or type(exc).__name__)
    return Look(devices, {one: _living(one, folder) for one in ended})


def _living(job_id: str, folder: Path) -> tuple[int, ...]:
    return tuple(one.pid for one in relatives(stamp_of(job_id, folder), 0))


class Leases:
    """Which job has which GPUs, in a file: a restart of the worker changes nothing.

    A job that has ended gives its GPUs back once it is proven that it uses them no
    more: no process of its tree is left, and the driver shows none, nor memory in use.

    Args:
        path: The file.

    Attributes:
        seen: The latest look; its devices are of the last one that was no failure.
        kept: Why GPUs of jobs that have ended are not given back yet, by job.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held = _read(path)
        self._ended: set[str] = set()
        self.seen = Look()
        self.kept: dict[str, str] = {}

    @property
    def total(self) -> int:
        """How many GPUs there are."""
        return len(self.seen.devices)

    @property
    def ended(self) -> frozenset[str]:
        """The jobs that have ended and have not given back their GPUs yet."""
        return frozenset(self._ended)

    def holders(self) -> list[str]:
        """Give the jobs that have GPUs."""
        return list(self._held)

    def free(self) -> list[Device]:
        """Give the GPUs that nobody had, by the latest look, and nobody has now."""
        if self.seen.problem:
            return []
        taken = {uuid for uuids in self._held.values() for uuid in uuids}
        return [
            one for one in self.seen.devices if one.is_idle and one.uuid not in taken
        ]

    def indices(self, job_id: str) -> tuple[int, ...]:
        """Give the numbers of a job's GPUs."""
        uuids = self._held.get(job_id, ())
        return tuple(one.index for one in self.seen.devices if one.uuid in uuids)

    def lease(self, job_id: str, count: int) -> list[Device]:
        """Give GPUs to a job: there must be so many free ones.

        Raises:
            OSError: If it can't be written down; it has none then.
        """
        devices = self.free()[:count]
        assert len(devices) == count
        held = {**self._held, job_id: tuple(one.uuid for one in devices)}
        self._write(held)
        return devices

    def end(self, job_id: str) -> bool:
        """Note that a job has ended; False if it has no GPUs."""
        if job_id in self._held:
            self._ended.add(job_id)
        return job_id in self._held

    def drop(self, job_ids: Iterable[str]) -> None:
        """Take GPUs back from jobs that were never begun."""
        left = {one: held for one, held in self._held.items() if one not in job_ids}
        if left != self._held:
            self._write(left)

    def note(self, seen: Look) -> None:
        """Take a look; GPUs are given back where it proves that they may be."""
        self._ended &= self._held.keys()
        if seen.problem:
            self.seen = self.seen._replace(problem=seen.problem)
            return
        self.seen = seen
        for job_id in self._ended & seen.living.keys():
            reason = self._why_kept(job_id)
            if reason and reason != self.kept.get(job_id):
                logger.warning("GPUs of job %s are kept: %s", job_id, reason)
            self.kept[job_id] = reason
        proven = {one for one, reason in self.kept.items() if not reason}
        self.kept = {one: why for one, why in self.kept.items() if why}
        self._ended -= proven
        try:
            self.drop(proven)
        except OSError as exc:
            # Nobody gets them before it is written down: it is tried again.
            logger.error("GPUs can't be given back: %s", exc)
            self._ended |= proven

    def _why_kept(self, job_id: str) -> str:
        """Say what speaks against giving a job's GPUs back; empty for nothing."""
        living = self.seen.living[job_id]
        if living:
            return f"it has ended, but left {_pids(living)}"
        uuids = self._held[job_id]
        for one in self.seen.devices:
            if one.uuid in uuids and not one.is_idle:
                if one.processes:
                    return f"GPU {one.index} is still used by {_pids(one.processes)}"
                return f"{one.memory_used} bytes of GPU {one.index} are still in use"
        return ""

    def _write(self, held: dict[str, tuple[str, ...]]) -> None:
        write_private(self._path, json.dumps(held).encode())
        self._held = held


def environment(devices: Collection[Device]) -> dict[bytes, bytes]:
    """Give the variables that show a process these GPUs and no others."""
    indices = ",".join(str(one.index) for one in devices)
    uuids = ",".join(one.uuid for one in devices)
    return {
        b"CUDA_DEVICE_ORDER": b"PCI_BUS_ID",
        b"CUDA_VISIBLE_DEVICES": indices.encode(),
        b"NVIDIA_VISIBLE_DEVICES": uuids.encode(),
    }


def _read(path: Path) -> dict[str, tuple[str, ...]]:
    try:
        found = json.loads(path.read_bytes())
        return {str(one): tuple(map(str, uuids)) for one, uuids in found.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError) as exc:
        logger.error("which job has which GPUs can't be read in %s: %s", path, exc)
        return {}


def _pids(pids: Collection[int]) -> str:
    named = ", ".join(str(one) for one in sorted(pids)[:MAX_NAMED])
    more = ", ..." if len(pids) > MAX_NAMED else ""
    return f"pid {named}{more}"
