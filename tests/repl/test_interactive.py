"""IPython as the prompt, typed at on a terminal: one session, a test for each part."""

import importlib.util
from collections.abc import Iterator

import pytest

from tests.needs import lacking
from tests.repl.prompts import Prompt, prompt

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def session(home, tmp_path_factory) -> Iterator[Prompt]:
    if importlib.util.find_spec("IPython") is None:
        lacking("ipython")
    with prompt(home, str(tmp_path_factory.mktemp("ipython"))) as at:
        assert at.wait_for(r"hosts: ([\w, ]+)\r\n")[1] == "gpu1, gpu_2"
        at.wait_for(r"In \[1\]: ")
        yield at
        at.type("exit\r")
        assert at.end() == 0


@pytest.fixture
def at(session: Prompt) -> Prompt:
    """A prompt that waits for a line."""
    session.type("\x15")
    return session


def test_a_host_is_a_name_and_a_listener_a_line(at):
    at.type("gpu1.run('echo from ' + 'there')\r")
    at.wait_for(r"Out\[\d+\]: <Listener run 'echo from there' on gpu1: SUCC.*In \[")


def test_tab_completes_hosts_jobs_and_paths(at):
    at.type("pool['gpu-\t")
    at.wait_for(r"pool\['gpu-2")
    at.type("\x15gpu1.attach('\t\t")
    at.wait_for(r"[0-9a-f]{16}")
    at.type("\x15gpu1.ls('/etc/hostn\t")
    at.wait_for("/etc/hostn.*ame")  # the menu is painted between them, perhaps
    at.type("').value.path\r")
    at.wait_for(r"Out\[\d+\]: '/etc/hostname'.*In \[")


def test_a_line_on_several_hosts_is_printed_as_it_comes(at):
    at.type("%on gpu1,gpu-2 echo at $((6*7)); exit 3\r")
    at.wait_for(r"gpu-2 \| at 42.*\[FAILED exit 3.*<GroupListener run.*In \[")


def test_an_error_is_as_short_as_it_can_be(at):
    at.type("gpu1.no_such_command()\r")
    said = at.wait_for(r"Traceback \(most.*?has no command 'no_such_command'")[0]
    assert "catalogue" not in said
    at.type("1 / 0\r")
    at.wait_for(r"ZeroDivisionError: division by zero.*In \[")


def test_ctrl_c_while_it_waits_says_what_goes_on_and_where_it_was(at):
    at.type("gpu1.run('echo beg' + 'un; sleep 60', echo_response=True)\r")
    at.wait_for("\nbegun\r\n")
    at.type("\x03")
    said = at.wait_for(r"job \w{16} goes on on gpu1.*\nKeyboardInterrupt.*In \[")[0]
    assert "Traceback (most" in said
    assert "portal" not in said


def test_host_mode_has_each_line_run_there(at):
    at.type(":on gpu1\r")
    at.wait_for("gpu1> ")
    at.type("cd /\r")
    at.wait_for("/\r\n.*gpu1> ")
    at.type("echo begun; sleep 60\r")
    at.wait_for("\nbegun\r\n")
    at.type("\x03")
    at.wait_for("goes on on gpu1: attach.*gpu1> ")
    at.type("exit\r")
    at.wait_for(r"In \[\d+\]: ")
    at.type("gpu1.cwd()\r")
    at.wait_for(r"Out\[\d+\]: /\r\n.*In \[")
