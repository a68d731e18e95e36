"""Roll something out in waves: first on one host, and no further if that fails."""

import os

import mlepool

HOSTS = os.environ.get("MLEPOOL_EXAMPLE_HOST", "localhost").split(",")


def main() -> None:
    with mlepool.ClientPool() as pool:
        for host in HOSTS:
            pool.add(host)
        live = pool.run("uname -s", batch=[1, "50%"], fail_fast=True, complete=False)
        for name, line in live:  # live, from all hosts
            print(f"{name}: {line}")
        for same in live.grouped():
            print(len(same.names), "hosts say", same.output.split())
        failed = pool.run("echo no room >&2; exit 28", batch=1)
        print(len(failed.failed), "failed,", len(failed.skipped), "skipped")
        print(failed[HOSTS[-1]].error)


if __name__ == "__main__":
    main()
