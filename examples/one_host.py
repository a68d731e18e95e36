"""Run one command on one host and look at how it went."""

import os

import mlepool

HOST = os.environ.get("MLEPOOL_EXAMPLE_HOST", "localhost")


def main() -> None:
    with mlepool.add(HOST) as conn:
        result = conn.run("echo hello from $(uname -s); echo oops >&2; exit 3")
        print("exit code", result.exit_code)
        print("stdout:", result.stdout.strip())
        print("stderr:", result.stderr.strip())


if __name__ == "__main__":
    main()
