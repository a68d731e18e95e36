"""See what a host and a job on it use, and the data points that the job prints."""

import os

import mlepool

HOST = os.environ.get("MLEPOOL_EXAMPLE_HOST", "localhost")
TRAIN = 'for step in 1 2 3; do sleep 0.4; echo "#loss $step 0.$((9 - step))"; done'


def main() -> None:
    with mlepool.add(HOST) as conn:
        now = conn.metrics()
        print(f"{len(now.cpu or ())} cores, {now.cpu_percent} % of them in use")
        conn.set_metrics(jobs=0.1)
        job = conn.run(TRAIN, complete=False)
        for line in job:
            used = job.metrics  # None before the first one has come
            print(line, f"({used.rss >> 10} KiB)" if used else "")
        print(job.points["loss"])
        conn.set_metrics(jobs=10)


if __name__ == "__main__":
    main()
