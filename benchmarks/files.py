"""Copying trees: the cases, and how one turn of any contender goes."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .contender import Contender, WrongOutputError
from .trees import change_byte, change_ten, insert_byte, leave
from .work import Work


@dataclass(frozen=True)
class Case:
    """What is copied.

    Attributes:
        tree: The source's name.
        edit: What is done to the source once there is a copy, so that a second one
            is timed; None to time the first one.
        is_for_many: True if it goes to several workers at once.
    """

    tree: str
    edit: Callable[[Path], None] | None = None
    is_for_many: bool = False


CASES = {
    "files_small": Case("small"),
    "files_same": Case("small", leave),
    "files_ten": Case("small", change_ten),
    "files_large": Case("large"),
    "files_changed": Case("large", change_byte),
    "files_inserted": Case("large", insert_byte),
    "files_environment": Case("environment"),
    "files_many": Case("small", is_for_many=True),
}


def copy_in_turn(
    contender: Contender, case: Case, work: Work, *, trees: Path
) -> list[float]:
    """Copy a tree, check the copies and remove them: seconds, one sample.

    Raises:
        WrongOutputError: If a copy is not like the source.
    """
    source = trees / case.tree
    count = work.workers if case.is_for_many else 1
    targets = [contender.folder / f"copy-{number}" for number in range(count)]
    is_update = case.edit is not None
    contender.prepare(targets, is_update=is_update)
    try:
        if case.edit is not None:
            contender.copy(source, targets)
            case.edit(source)
        os.sync()  # nobody pays for what others have left to be written
        start = time.perf_counter()
        contender.copy(source, targets)
        elapsed = time.perf_counter() - start
        for target in targets:
            _compare(source, target)
    finally:
        for target in targets:
            shutil.rmtree(target, ignore_errors=True)
    return [elapsed]


def _compare(source: Path, target: Path) -> None:
    command = ["diff", "-r", "-q", "--no-dereference", str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        first = (done.stdout + done.stderr).partition("\n")[0]
        raise WrongOutputError(f"the copy differs: {first}")


def run_all(commands: list[list[str]]) -> None:
    """Run local commands at once.

    Raises:
        WrongOutputError: If one of them fails.
    """
    processes = [
        subprocess.Popen(command, stdin=subprocess.DEVNULL) for command in commands
    ]
    for process in processes:
        process.wait()
    failed = [process.returncode for process in processes if process.returncode]
    if failed:
        raise WrongOutputError(f"ended with {failed[0]}: {commands[0][0]}")
