"""Why a process died, where only the kernel knows: out of memory."""

import os
import signal
from collections import deque
from pathlib import Path

__all__ = ["Deaths"]

KERNEL_LOG = "/dev/kmsg"  # only with privileges, on most systems
COUNTERS = Path("/proc/vmstat")
KILLED_STATUS = 128 + signal.SIGKILL  # what a shell ends with if its child was killed
MAX_LINE = 8192  # bytes; a longer line of the kernel's log is not read
MAX_NOTED = 100  # lines of the kernel's log: two for each kill


class Deaths:
    """Reads what the kernel says of those that it killed.

    Where its log may not be read, its counter of such kills must do.
    """

    def __init__(self) -> None:
        self._count = _kills()
        self._noted: deque[str] = deque(maxlen=MAX_NOTED)
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
        self._read()
        named = [line for line in self._noted if _names(line, pid, group)]
        for line in named:
            self._noted.remove(line)  # the next process with this number is another
        before, self._count = self._count, _kills()
        if named:
            return "out of memory"
        is_told = self._log >= 0 and exit_code == -signal.SIGKILL
        return "" if is_told or before == self._count else "perhaps out of memory"

    def _read(self) -> None:
        while self._log >= 0:
            try:
                line = os.read(self._log, MAX_LINE).decode("utf-8", "replace")
            except BrokenPipeError:
                continue  # the log was faster than we: go on with what is there
            except OSError:
                break
            if "Killed process " in line or "task_memcg=" in line:
                self._noted.append(line)


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
