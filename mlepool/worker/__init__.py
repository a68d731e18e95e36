"""Faces the network: links, commands, jobs. The processes are the supervisor's.

Commands of your own, in a file that ``mlepool worker --commands FILE`` loads::

    from mlepool.worker import Context, capability, command

    @command
    def count(ctx: Context, to: int = 3):
        for number in range(to):
            ctx.progress(100 * number / to, log=f"at {number}")
            yield number

    @capability
    class Images:
        '''Pictures.'''

        @command
        async def resize(self, path: str, size: tuple[int, int]) -> str: ...

Clients call ``conn.count(to=5)`` and ``conn.images.resize("a.png", (64, 64))``.

A worker inside a program of your own::

    async with Worker(commands=[count, Images(), "more.py"], listen="127.0.0.1:0"):
        ...

    with serve_in_thread(commands=[count], listen="127.0.0.1:0") as worker:
        print(worker.port)
"""

from mlepool.worker.custom.capabilities import capability
from mlepool.worker.custom.task_context import Context
from mlepool.worker.daemon import Worker
from mlepool.worker.embedding import WorkerThread, serve_in_thread
from mlepool.worker.registry import command

__all__ = [
    "Context",
    "Worker",
    "WorkerThread",
    "capability",
    "command",
    "serve_in_thread",
]
