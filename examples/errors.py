"""What goes wrong on the other machine, raised here as the type that it is."""

import os

import mlepool

HOST = os.environ.get("MLEPOOL_EXAMPLE_HOST", "localhost")


def main() -> None:
    with mlepool.add(HOST, raise_error=True) as conn:
        try:
            conn.run(["no-such-program"])
        except FileNotFoundError as exc:
            print("not found:", exc.filename)
        try:
            conn.run("echo 'the disk is full' >&2; exit 3")
        except mlepool.CommandError as exc:  # a subprocess.CalledProcessError too
            print("exit status", exc.returncode, "and stderr:", exc.stderr.strip())
        try:
            conn.run("echo started; sleep 60", timeout=0.5)
        except mlepool.CommandTimeoutError as exc:
            print("too slow; stopped:", exc.stopped, "- output:", exc.output.strip())


if __name__ == "__main__":
    main()
