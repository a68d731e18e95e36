"""Throw bytes at the core, guided by what of it they reach; run by hand.

Needs atheris, which pytest does not: this file is not collected. From the project's
root, with libFuzzer's options::

    python -m venv /tmp/fuzz && /tmp/fuzz/bin/pip install atheris -e .
    /tmp/fuzz/bin/python -m tests.fuzz.fuzz_codec -max_total_time=60

It ends with an error, and writes the input to ``crash-*``, as soon as anything but
RemoteProtocolError comes out. To try such an input again, give its name instead of
the option. msgspec is C and not instrumented: the seeds take the fuzzer past it.
"""

import contextlib
import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

try:
    atheris: Any = importlib.import_module("atheris")
except ImportError:
    sys.exit("atheris is not installed: pip install atheris")

with atheris.instrument_imports(include=["mlepool"]):
    from mlepool.errors import RemoteProtocolError
    from mlepool.wire.codec import Data, decode, encode, encode_data
    from mlepool.wire.records import STDERR, STDOUT, RecordParser, pack_header
    from mlepool.wire.session import Role, Session

from tests.wire.cores import EACH_MESSAGE, client_session, session_in

STATES = ("greeting", "proving", "open", "closed")
MAX_INPUT = 4096  # bytes: longer ones only make each round slower


def try_frame(data: bytes) -> None:
    """Decode a frame; what is taken can be sent again and means the same."""
    message = decode(data)
    if isinstance(message, Data):
        again = encode_data(message.call, message.position, bytes(message.payload))
        assert again == data
    else:
        # As text: a float that is no number is not equal to itself.
        assert repr(decode(encode(message))) == repr(message)


def try_session(data: bytes) -> None:
    """Feed a session, in any state, with frames that are cut out of the input."""
    choice = data[0]
    session = session_in(tuple(Role)[choice % 2], STATES[choice // 2 % 4])
    rest = data[1:]
    while rest:
        size = int.from_bytes(rest[:2], "big") % 300
        feed(session, rest[2 : 2 + size])
        rest = rest[2 + size :]


def feed(session: Session, frame: bytes) -> None:
    """Do as Peer does: close upon what breaks the protocol."""
    try:
        session.receive(frame)
    except RemoteProtocolError as exc:
        session.close("protocol", str(exc))
    session.frames_to_send()


def try_records(data: bytes) -> None:
    """Take a journal apart, in pieces of one size."""
    parser = RecordParser(checked=bool(data[0] % 2))
    size = data[0] // 2 + 1
    for at in range(1, len(data), size):
        parser.feed(data[at : at + size])


TARGETS = (try_frame, try_session, try_records)


def try_one(data: bytes) -> None:
    """Let the first byte choose what is tried."""
    if len(data) >= 2:
        with contextlib.suppress(RemoteProtocolError):
            TARGETS[data[0] % len(TARGETS)](data[1:])


def write_seeds(folder: Path) -> None:
    """Write one input of each kind, for the fuzzer to begin with."""
    frames = [encode(message) for message in EACH_MESSAGE] + [encode_data(1, 2, b"x")]
    greeting = client_session().frames_to_send()[0]
    journal = b"".join(
        pack_header(stream, 3, offset, time=1.0) + b"abc"
        for stream, offset in ((STDOUT, 0), (STDERR, 0), (STDOUT, 3))
    )
    seeds = [b"\0" + frame for frame in frames]
    for state in range(8):
        for frame in (greeting, *frames):
            head = bytes([1, state]) + len(frame).to_bytes(2, "big")
            seeds.append(head + frame)
    seeds += [bytes([2, size]) + journal for size in (0, 1, 50, 255)]
    for number, seed in enumerate(seeds):
        (folder / f"seed-{number}").write_bytes(seed)


def main() -> None:
    """Fuzz until libFuzzer's options say it is enough."""
    with tempfile.TemporaryDirectory() as folder:
        write_seeds(Path(folder))
        given = [one for one in sys.argv[1:] if not one.startswith("-")]
        corpus = [] if given else [folder]
        atheris.Setup([*sys.argv, f"-max_len={MAX_INPUT}", *corpus], try_one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
