"""Run a command for every combination of parameters, on whichever host is free."""

import os

import mlepool

HOSTS = os.environ.get("MLEPOOL_EXAMPLE_HOST", "localhost").split(",")


def main() -> None:
    with mlepool.ClientPool() as pool:
        for host in HOSTS:
            pool.add(host)
        sweep = pool.map(
            "echo '#loss 1' $(({width} * {depth})); test {depth} -lt 3",
            width=[10, 20],
            depth=[1, 2, 3],
            slots=2,
        )
        sweep.wait()
        print(sweep)
        for row in sweep.rows():
            print(row["width"], row["depth"], row["status"], row["loss"])
        with pool.resume(sweep.plan, failed=True) as again:
            print("repeated:", [run.number for run in again if run.attempts == 2])


if __name__ == "__main__":
    main()
