"""A session at Python's prompt, checked with doctest.

>>> import mlepool
>>> conn = mlepool.add(HOST, name="gpu1")
>>> conn.connect()
>>> conn
<Connection gpu1: connected>
>>> live = conn.run("echo one; echo two >&2; exit 3", complete=False)
>>> [(line.stream, line) for line in live]
[('stdout', 'one'), ('stderr', 'two')]
>>> live.exit_code
3
>>> conn.run(["no-such-program"]).error
RemoteFileNotFoundError(2, 'No such file or directory')
>>> conn.close()
"""

import doctest
import os

HOST = os.environ.get("MLEPOOL_EXAMPLE_HOST", "localhost")


def main() -> None:
    print(doctest.testmod())


if __name__ == "__main__":
    main()
