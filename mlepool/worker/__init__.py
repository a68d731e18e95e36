"""Faces the network: links, commands, jobs. The processes are the supervisor's."""

from mlepool.worker.registry import Context, command

__all__ = ["Context", "command"]
