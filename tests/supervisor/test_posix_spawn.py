"""Real processes, started while other threads go on."""

import os
import signal
import sys

import pytest

from mlepool.supervisor.posix_spawn import posix_spawn

DEFAULTS = (int(signal.SIGPIPE), int(signal.SIGXFSZ))


def output(*argv: bytes, **environment: str) -> tuple[bytes, int]:
    """Run a program; give what it writes, and its exit code."""
    variables = {one.encode(): two.encode() for one, two in environment.items()}
    reading, writing = os.pipe()
    pid = posix_spawn(
        argv[0], argv, variables, duplicates=[(writing, 1)], defaults=DEFAULTS
    )
    os.close(writing)
    with open(reading, "rb") as file:
        text = file.read()
    return text, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_process_gets_what_it_is_given_and_nothing_else():
    code = b"import os, sys; print(sys.argv[1:], dict(os.environb)); sys.exit(3)"
    start = (os.fsencode(sys.executable), b"-S", b"-E", b"-c", code)
    text, status = output(*start, b"$A 'x'", b"", b"\xff", LC_ALL="C.UTF-8", A="=b=")
    shown = ["$A 'x'", "", "\udcff"]
    assert text.decode() == f"{shown} {{b'LC_ALL': b'C.UTF-8', b'A': b'=b='}}\n"
    assert status == 3


def test_a_program_is_found_on_our_path(monkeypatch, tmp_path):
    (tmp_path / "tool").write_text("#!/bin/sh\necho found\n")
    (tmp_path / "tool").chmod(0o755)
    monkeypatch.setenv("PATH", f"/nowhere:{tmp_path}")
    assert output(b"tool", PATH="/bin") == (b"found\n", 0)


def test_it_leads_a_session_and_ignores_no_signal_of_python_s():
    text, _ = output(b"/bin/cat", b"/proc/self/stat", b"/proc/self/status")
    pid, _, _, _, group, session = text.decode().split()[:6]
    assert pid == group == session
    ignored = int(text.decode().partition("SigIgn:")[2].split()[0], 16)
    assert not any(ignored >> number - 1 & 1 for number in DEFAULTS)


def test_it_has_those_signals_blocked_that_are_named():
    def blocked(*mask: int) -> int:
        reading, writing = os.pipe()
        argv = (b"grep", b"SigBlk", b"/proc/self/status")
        pid = posix_spawn(
            b"/bin/grep",
            argv,
            {},
            duplicates=[(writing, 1)],
            defaults=DEFAULTS,
            mask=mask,
        )
        os.close(writing)
        with open(reading, "rb") as file:
            text = file.read()
        os.waitpid(pid, 0)
        return int(text.split()[1], 16)

    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1,))
    try:
        assert blocked() == 0
        assert blocked(signal.SIGUSR2) == 1 << signal.SIGUSR2 - 1
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGUSR1,))


@pytest.mark.parametrize(
    ("path", "error"), [(b"/no/such", FileNotFoundError), (b"/etc", PermissionError)]
)
def test_what_is_no_program_is_an_error_with_its_name(path, error):
    with pytest.raises(error) as caught:
        posix_spawn(path, (path,), {}, duplicates=(), defaults=DEFAULTS)
    assert caught.value.filename == path


@pytest.mark.parametrize(
    ("argv", "environment"),
    [((b"true", b"a\0b"), {}), ((b"true",), {b"A": b"a\0b"})],
)
def test_a_nul_is_a_value_error(argv, environment):
    with pytest.raises(ValueError, match="null"):
        posix_spawn(b"/bin/true", argv, environment, duplicates=(), defaults=DEFAULTS)
