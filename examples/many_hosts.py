"""Run one command on many hosts at the same time, and see how each one fared."""

import os

import mlepool

HOSTS = os.environ.get("MLEPOOL_EXAMPLE_HOST", "localhost").split(",")
COMMAND = "uname -s; exit 0"


def main() -> None:
    with mlepool.ClientPool() as pool:
        for host in HOSTS:
            pool.add(host)
        done = pool.run(COMMAND)  # connects first; a host that is gone is a result, too
        for name, listener in done.items():
            print(f"{name}: {listener.status}, {listener.stdout.split()}")
        print(len(done.succeeded), "of", len(done), "are well")


if __name__ == "__main__":
    main()
