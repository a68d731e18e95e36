"""Follow a command as it runs, and do something else whenever it is silent."""

import os

import mlepool

HOST = os.environ.get("MLEPOOL_EXAMPLE_HOST", "localhost")
COMMAND = "echo loading; sleep 1.5; echo 'half of it is odd' >&2; echo done"


def main() -> None:
    with mlepool.add(HOST) as conn:
        live = conn.run(COMMAND, complete=False, max_interval=0.4)
        while True:
            try:
                line = live.next()
            except mlepool.ListenerTimeoutError as exc:
                print(f"silent for {exc.seconds} s; the job goes on, and so do we")
                continue
            if line is None:  # the end, and nothing but the end
                break
            print(f"{line.stream}: {line}")
        print("exit code", live.exit_code)


if __name__ == "__main__":
    main()
