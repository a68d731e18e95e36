"""Why a process died, where only the kernel knows: out of memory."""

import os
import signal
from pathlib import Path

__all__ = ["Deaths"]

KERNEL_LOG = "/dev/kmsg"  # only with privileges, on most systems
COUNTERS = Path("/proc/vmstat")
KILLED_STATUS = 128 + signal.SIGKILL  # what a shell ends with if its child was killed
MAX_LINE = 8192  # bytes; a longer line of the kernel's log is not read


class Deaths:
    """Reads what the kernel says of those that it killed.

    Where its log may not be read, its counter of such kills must do.
    """

    def __init__(self) -> None:
        self._count = _kills()
        try:
            self._log = os.open(KERNEL_LOG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self._log, 0, os.SEEK_END)
        except OSError:
            self._log = -1

    def cause(self, exit_code: int, pid: int, group: str) -> str:
        """Say why a process died; empty if the kernel has nothing to say.

        Args:
            exit_code: As ``subprocess`` has it: negative for a signal.
            pid: The process.
            group: Its control group's path; empty for none.
        """
        if exit_code not in (-signal.SIGKILL, KILLED_STATUS):
            return ""
        before, self._count = self._count, _kills()
        if before == self._count:
            return ""
        lines = self._read()
        if any(_names(line, pid, group) for line in lines):
            return "out of memory"
        return "" if self._log >= 0 and lines else "killed, perhaps out of memory"

    def _read(self) -> list[str]:
        lines: list[str] = []
        while self._log >= 0:
            try:
                lines.append(os.read(self._log, MAX_LINE).decode("utf-8", "replace"))
            except BrokenPipeError:
                continue  # the log was faster than we: go on with what is there
            except OSError:
                break
        return lines


def _names(line: str, pid: int, group: str) -> bool:
    if f"Killed process {pid} " in line:
        return True
    return bool(group) and f"task_memcg={group}," in line


def _kills() -> int:
    """Give how many processes the kernel has killed for lack of memory."""
    try:
        lines = COUNTERS.read_text().splitlines()
    except OSError:
        return 0
    return next((int(one.split()[1]) for one in lines if "oom_kill " in one), 0)
