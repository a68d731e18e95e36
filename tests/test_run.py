"""The main job, against a real worker."""

import pytest

import mlepool

pytestmark = pytest.mark.real


def test_exit_code_and_streams_of_a_shell_command(conn):
    listener = conn.run("echo hi; echo err >&2; exit 3")
    assert listener.exit_code == 3
    assert listener.status == "FAILED"
    assert not listener.ok
    assert (listener.stdout, listener.stderr) == ("hi\n", "err\n")
    assert [(line.stream, line) for line in listener] == [
        ("stdout", "hi"),
        ("stderr", "err"),
    ]


def test_a_missing_program_raises_its_own_type(conn):
    with pytest.raises(FileNotFoundError) as caught:
        conn.run(["no-such-program"], raise_error=True)
    assert isinstance(caught.value, mlepool.RemoteError)
    assert (caught.value.errno, caught.value.filename) == (2, "no-such-program")
