"""Sync a folder to a worker, run something in it, and get back what came of it."""

import os
import tempfile
from pathlib import Path

import mlepool

HOST = os.environ.get("MLEPOOL_EXAMPLE_HOST", "localhost")


def main() -> None:
    with tempfile.TemporaryDirectory() as name, mlepool.add(HOST) as conn:
        source, there = Path(name, "src"), Path(name, "exp")  # there: on the worker
        source.mkdir()
        (source / "job.py").write_text("print(6 * 7, file=open('out.txt', 'w'))\n")
        for line in conn.sync(source, there, raise_error=True):
            print(line)
        conn.run("python3 job.py", cwd=str(there), raise_error=True)
        print(conn.get(there / "out.txt", raise_error=True).value.decode().strip())
        again = conn.sync(source, there, raise_error=True)
        print(again.value.sent, "sent,", again.value.skipped, "unchanged")


if __name__ == "__main__":
    main()
