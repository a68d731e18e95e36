"""What pages of the docs show, block by block, and how it is run here."""

import ast
import asyncio
import contextlib
import inspect
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = [
    "DOCS",
    "blocks",
    "environment",
    "replaced",
    "run",
    "running",
    "shell",
    "write_programs",
]

DOCS = Path(__file__).parents[1] / "docs"
LIMIT = 60.0  # seconds for one command on a busy machine

# Programs that pages call and that are not here, or must not do here what they do.
PROGRAMS = {
    "docker": 'while [ "$1" != image ]; do shift; done; shift; exec "$@"',
    "git": "echo pulled",
    "loginctl": "echo Linger=yes",
    "make": "echo cc -c main.c; echo main.c:3: error >&2; sleep 0.3; exit 2",
    "nvidia-smi": "echo A100",
    "pip": "echo pip $*",
    "python": f'exec {sys.executable} "$@"',
    "ssh": 'shift; exec "$@"',
    "systemctl": "echo systemctl $* >> ~/log",
}


def blocks(page: str, language: str = "python") -> list[str]:
    """Give a page's blocks of one language, such as ``"sh"``.

    Args:
        page: Its place in docs/, such as ``"howto/files.md"``.
        language: What stands behind the block's quotes; it may be empty.
    """
    text = (DOCS / page).read_text()
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [block for kind, block in found if kind == language]


def run(code: str, names: dict[str, Any], instead: Mapping[str, str]) -> None:
    """Run Python as it stands, but for what ``instead`` puts in its place.

    Args:
        code: A block; it may ``await``.
        names: What it finds and leaves.
        instead: What is not here, and what stands for it.
    """
    text = replaced(code, instead)
    made = compile(text, "guide", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(made, names)
    if inspect.isawaitable(result):
        asyncio.run(_all_of(result))


async def _all_of(result: Any) -> None:
    await result


def shell(
    code: str, *, cwd: Path, instead: Mapping[str, str], status: int = 0
) -> list[str]:
    """Run lines of a shell with the real ``mlepool``; give what they print.

    Programs in ``cwd/bin`` stand for those that are not here.

    Args:
        code: A block of commands, without prompts.
        cwd: The folder that they run in.
        instead: What is not here, and what stands for it.
        status: With what the last of them must end.
    """
    done = subprocess.run(
        ["bash", "-c", replaced(code, instead)],
        cwd=cwd,
        env=environment(cwd),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == status, f"{code}\n{done.stdout}{done.stderr}"
    return (done.stdout + done.stderr).splitlines()


@contextlib.contextmanager
def running(
    code: str, *, cwd: Path, instead: Mapping[str, str]
) -> Iterator[subprocess.Popen[str]]:
    """Run one line of a shell that would not end; it is ended as by Ctrl-C."""
    with subprocess.Popen(
        ["bash", "-c", f"exec {replaced(code, instead)}"],
        cwd=cwd,
        env=environment(cwd),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=LIMIT)


def environment(cwd: Path) -> dict[str, str]:
    """Give the environment of commands in a folder."""
    folders = [str(cwd / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
    return {**os.environ, "PATH": ":".join(folders), "PYTHONUNBUFFERED": "1"}


def replaced(code: str, instead: Mapping[str, str]) -> str:
    """Put what is here in the place of what a page shows."""
    for shown, here in instead.items():
        code = code.replace(shown, here)
    return code


def write_programs(folder: Path) -> None:
    """Put programs that pages call into a folder, for its PATH."""
    folder.mkdir()
    for name, text in PROGRAMS.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
