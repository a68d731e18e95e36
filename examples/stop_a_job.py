"""Stop a job: every process that it has started, with proof that all are dead."""

import os

import mlepool

HOST = os.environ.get("MLEPOOL_EXAMPLE_HOST", "localhost")
COMMAND = "sleep 61 & setsid sleep 62 & echo started; wait"


def main() -> None:
    with mlepool.add(HOST) as conn:
        live = conn.run(COMMAND, complete=False)
        live.expect("started")
        report = live.stop(signal="SIGTERM", grace=2.0)
        for one in report.signalled:
            print(f"{one.signal} to pid {one.pid}: {one.command}")
        print(f"{live.wait().status}; survivors: {len(report.survivors)}")


if __name__ == "__main__":
    main()
