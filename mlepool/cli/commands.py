"""Which subcommands there are: to show them, and to load the one that is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["COMMANDS", "Subcommand"]


class Subcommand(NamedTuple):
    """A subcommand: where its function is, and the first line of that one's docs.

    The line stands here so that help can show it without loading the subcommand. One
    that has actions has a function for each.
    """

    module: str
    function: str
    summary: str
    options_first: bool = False
    actions: Mapping[str, str] = {}


COMMANDS = {
    "worker": Subcommand(
        "worker", "serve", "Serve this machine: run what trusted clients ask for."
    ),
    "trust": Subcommand(
        "trust", "trust", "Trust a worker: keep its key and token for this account."
    ),
    "token": Subcommand(
        *("token", "", "Make, list, revoke and rotate the tokens of a worker here."),
        actions={
            "create": "create",
            "list": "show",
            "revoke": "revoke",
            "rotate": "rotate",
        },
    ),
    "audit": Subcommand(
        "audit", "audit", "Print a worker's audit log: who did what, and when."
    ),
    "hosts": Subcommand("hosts", "hosts", "Show the hosts that this account knows."),
    # Options end at the first word of the command, as with ssh: the rest is its own.
    "run": Subcommand(
        "run", "run", "Run a command on one host or many, live.", options_first=True
    ),
    "sync": Subcommand(
        "sync", "sync", "Make a folder on hosts like one here, or one here like theirs."
    ),
    "put": Subcommand("put", "put", "Put files and folders on hosts."),
    "get": Subcommand("put", "get", "Get files and folders from hosts."),
    "jobs": Subcommand("jobs", "jobs", "List the jobs of workers."),
    "logs": Subcommand("logs", "logs", "Print what a job has printed."),
    "attach": Subcommand("attach", "attach", "Follow a job from its first byte on."),
    "stop": Subcommand(
        "stop", "stop", "Stop jobs: all their processes, and say what became of them."
    ),
    "top": Subcommand(
        "top", "top", "Show what hosts are doing: CPU, memory, GPUs, jobs."
    ),
    "shell": Subcommand(
        "shell",
        "shell",
        "Open a Python prompt with a pool of all known hosts, each by its name.",
    ),
    "completion": Subcommand(
        "completion", "completion", "Print what makes a shell complete mlepool's words."
    ),
    "demo": Subcommand(
        "demo", "demo", "Train language models on three local workers, live."
    ),
}
