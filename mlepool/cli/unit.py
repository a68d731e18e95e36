"""The text of a worker's systemd unit, and whose unit a file is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["is_ours", "mark", "quote", "unit_name", "unit_text"]

MARK = "# Written by 'mlepool worker --install'; "
PREFIX = "mlepool"
MAX_NAME = 200  # characters; systemd takes 255 with its suffix

# Jobs and their supervisor are in the unit's cgroup, so each line about processes says
# that systemd is to mind the worker alone.
TEMPLATE = """\
{mark}
# 'mlepool worker --uninstall' removes it. To change it: systemctl edit.
[Unit]
Description=mlepool worker
Documentation=man:systemd.service(5)
{after}# Start it again however often it fails: a taken port may be free later.
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart={command}
WorkingDirectory=~
{environment}Restart=always
RestartSec=2
# The worker only: its supervisor and its jobs live on, and the next worker finds them.
KillMode=process
TimeoutStopSec=10
# A job that runs out of memory is one job's end, and not the worker's.
OOMPolicy=continue
# The limits of a single program are not those of a machine's jobs.
TasksMax=infinity
# The supervisor may put jobs into cgroups of their own below the unit's.
Delegate=yes

[Install]
WantedBy={target}
"""


def mark(state_dir: Path) -> str:
    """Give the first line of a state folder's unit."""
    return f"{MARK}state folder {json.dumps(str(state_dir))}"


def is_ours(text: str) -> bool:
    """Tell if a unit's text is one that we wrote, for whichever folder."""
    return text.startswith(MARK)


def unit_name(name: str) -> str:
    """Name a unit; ``name`` may hold anything, and be empty for the default worker."""
    slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")[:MAX_NAME]
    return f"{PREFIX}-{slug}.service" if slug else f"{PREFIX}.service"


def unit_text(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    state_dir: Path,
    is_system: bool,
) -> str:
    """Write a unit.

    Args:
        command: What to start: an absolute path, and its arguments.
        environment: Variables to set for it.
        state_dir: The worker's state folder, for the mark.
        is_system: True for the system's manager, False for a user's.
    """
    program, *arguments = command
    after = "Wants=network-online.target\nAfter=network-online.target\n"
    settings = [quote(f"{name}={value}") for name, value in environment.items()]
    # A dollar means a variable only in the arguments.
    words = [quote(program), *(quote(one).replace("$", "$$") for one in arguments)]
    return TEMPLATE.format(
        mark=mark(state_dir),
        after=after if is_system else "",
        command=" ".join(words),
        environment="".join(f"Environment={one}\n" for one in settings),
        target="multi-user.target" if is_system else "default.target",
    )


def quote(word: str) -> str:
    """Quote a word as systemd.syntax(7) says, percent signs included."""
    return '"' + "".join(map(_escaped, word)) + '"'


def _escaped(char: str) -> str:
    if char in '\\"':
        return "\\" + char
    if char == "%":
        return "%%"
    if char.isprintable():
        return char
    # Control characters, and bytes of a path that are no UTF-8.
    raw = char.encode("utf-8", "surrogateescape")
    return "".join(f"\\x{byte:02x}" for byte in raw)
