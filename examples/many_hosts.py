"""Run one command on many hosts at the same time, and see how each one fared."""

import os

import mlepool

HOSTS = os.environ.get("MLEPOOL_EXAMPLE_HOST", "localhost").split(",")
COMMAND = "uname -s; exit 0"


def main() -> None:
    with mlepool.ClientPool() as pool:
        for host in HOSTS:
            pool.add(host)
        pool.connect()  # all of them side by side
        # complete=False returns at once, so that no host waits for another.
        running = [conn.run(COMMAND, complete=False) for conn in pool]
        for listener in running:
            listener.wait()
            print(f"{listener.host}: {listener.status}, {listener.stdout.split()}")
        print(sum(listener.ok for listener in running), "of", len(pool), "are well")


if __name__ == "__main__":
    main()
