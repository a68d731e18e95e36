"""Give a worker a command of your own, and call it: both in one program."""

import tempfile
from collections.abc import Iterator

import mlepool
from mlepool.worker import Context, command, serve_in_thread


@command
def squares(ctx: Context, to: int = 3) -> Iterator[int]:
    """Give the squares of the first numbers."""
    for number in range(1, to + 1):
        ctx.progress(100 * number / to, log=f"at {number}")
        yield number * number


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = {"listen": "127.0.0.1:0", "state_dir": folder}
        worker = serve_in_thread([squares], **settings)
        with worker, mlepool.add(worker.join_url()) as conn:
            live = conn.squares(to=2, complete=False)
            for message in live:  # values, and lines of the log between them
                print(repr(message))
            print(live.status, f"{live.progress.percent:.0f} %")


if __name__ == "__main__":
    main()
