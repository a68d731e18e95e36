"""Ask for more than a worker runs at once: jobs wait in line, and say where.

The worker has one slot: ``max_concurrent = 1`` in its config.toml.
"""

import os

import mlepool

HOST = os.environ.get("MLEPOOL_EXAMPLE_HOST", "localhost")


def main() -> None:
    with mlepool.add(HOST) as conn:
        running = conn.run("read line", stdin=True, complete=False)
        waiting = [conn.run(f"echo job {n}", complete=False) for n in (1, 2)]
        urgent = conn.run("echo urgent", priority=1, complete=False)
        print(f"first in line: {urgent.command}, place {urgent.place}")
        refused = conn.run("echo now or never", queue=False)
        print(f"refused: {refused.error}")
        print(f"{waiting[1].stop().status} before it began")
        running.send_input("go on\n")
        for job in (urgent, waiting[0]):
            print(f"{job.wait().status}: {job.stdout.strip()}")


if __name__ == "__main__":
    main()
