"""What a worker finds out about its host: once, at its start."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["at_once", "gather", "gpus"]

logger = logging.getLogger("mlepool.worker")

CPU_INFO = Path("/proc/cpuinfo")


def at_once() -> dict[str, Any]:
    """Give the facts that cost nothing."""
    return {
        "os": platform.system().lower(),
        "arch": platform.machine(),
        "kernel": platform.release(),
        "hostname": socket.gethostname(),
        "python": platform.python_version(),
        "interpreter": sys.executable,
    }


def gather() -> dict[str, Any]:
    """Find out the rest; blocking, for a thread: it loads libraries.

    Returns:
        ``distribution``, ``boot_time`` (seconds since the epoch), ``cpu`` (``model``,
        ``cores``, ``threads``, ``mhz``), ``memory`` (``total``, bytes) and ``gpu``, a
        list; without what can't be found out.
    """
    facts: dict[str, Any] = {}
    for find in (_distribution, _machine, _gpus):
        try:
            facts |= find()
        except Exception as exc:
            # Drivers and odd kernels: a worker that knows less is better than none.
            logger.warning("cannot find out all about this host: %s", exc)
    return facts


def gpus(driver: Any) -> list[dict[str, Any]]:
    """List the GPUs of a driver: what NVML offers, already begun.

    Returns:
        For each: ``index``, ``name``, ``uuid``, ``memory`` (bytes) and ``driver``.
    """
    version = _text(driver.nvmlSystemGetDriverVersion())
    found = []
    for index in range(driver.nvmlDeviceGetCount()):
        handle = driver.nvmlDeviceGetHandleByIndex(index)
        one = {
            "index": index,
            "name": _text(driver.nvmlDeviceGetName(handle)),
            "uuid": _text(driver.nvmlDeviceGetUUID(handle)),
            "memory": int(driver.nvmlDeviceGetMemoryInfo(handle).total),
            "driver": version,
        }
        found.append(one)
    return found


def _distribution() -> dict[str, Any]:
    with contextlib.suppress(OSError):
        return {"distribution": platform.freedesktop_os_release()["PRETTY_NAME"]}
    return {}


def _machine() -> dict[str, Any]:
    import psutil

    threads = os.cpu_count() or 1
    cpu: dict[str, Any] = {
        "model": next(_models(), "") or platform.processor() or platform.machine(),
        "cores": psutil.cpu_count(logical=False) or threads,
        "threads": threads,
    }
    frequency = psutil.cpu_freq()  # None where the kernel does not say, as in some VMs
    if frequency is not None and (mhz := frequency.max or frequency.current):
        cpu["mhz"] = round(mhz)
    return {
        "cpu": cpu,
        "memory": {"total": psutil.virtual_memory().total},
        "boot_time": psutil.boot_time(),
    }


def _models() -> Iterator[str]:
    """Give the processors' names, as Linux has them; arm64 has none."""
    with contextlib.suppress(OSError):
        for line in CPU_INFO.read_text("utf-8", "replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip().lower() in ("model name", "hardware", "cpu model"):
                yield value.strip()


def _gpus() -> dict[str, Any]:
    try:
        import pynvml
    except ImportError:
        return {"gpu": []}
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # the library is there, and no driver, or no GPU
        return {"gpu": []}
    try:
        return {"gpu": gpus(pynvml)}
    finally:
        pynvml.nvmlShutdown()


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
