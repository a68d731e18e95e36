"""mlepool run on many hosts: waves, what is gathered, objects for machines."""

import json
import signal
from collections.abc import Iterator

import pytest

from mlepool.client.links.trust import Target
from tests.cli.shell import interrupt, running
from tests.tools import refusing_port

pytestmark = pytest.mark.real

FIRST = "case $PWD in */other) false;; esac"  # it holds on the first host only


@pytest.fixture
def nobody() -> Iterator[str]:
    """A host at which nobody listens."""
    with refusing_port() as port:
        yield f"localhost:{port}"


@pytest.fixture
def three(host, other, nobody) -> tuple[str, str, str]:
    """Two workers, and who is not there."""
    return host, other, nobody


def events(text: str, kind: str) -> dict[str, dict[str, object]]:
    found = [json.loads(line) for line in text.splitlines()]
    return {one["host"]: one for one in found if one["event"] == kind}


def test_a_failure_in_the_first_wave_keeps_the_others_from_beginning(three, here):
    host, other, nobody = three
    done = here(
        *("run", "-w", f"{nobody},{host},{other}", "--batch", "1", "--fail-fast"),
        *("--", "echo begun"),
    )
    assert (done.status, done.out) == (255, "")
    told, skipped = done.err.splitlines()
    assert f"cannot connect to {nobody}" in told
    why = "not begun, since 1 of 3 hosts had failed"
    names = {f"{host},{other}", skipped.removeprefix("mlepool: ").split(": ")[0]}
    assert skipped.endswith(f": {why}")
    assert len(names) == 1 or "[" in names.pop() or "[" in names.pop()


def test_as_many_may_fail_as_was_said_and_the_worst_status_counts(three, here):
    host, other, nobody = three
    done = here(
        *("run", "-w", f"{nobody},{host}", "-w", other, "-p", "1"),
        *("--max-failures", "1", "--", f"{FIRST} && echo fine || exit 3"),
    )
    assert done.status == 255
    assert done.out.split() == [host, "|", "fine"]
    assert f"mlepool: {other}: exit status 3" in done.err.splitlines()


def test_a_host_that_fails_is_tried_again(host, here, tmp_path):
    tries = tmp_path / "tries"
    command = f"echo x >> {tries}; test $(wc -l < {tries}) = 2"
    done = here("run", "-H", host, "--retries", "1", "--", command)
    assert (done.status, tries.read_text()) == (0, "x\n" * 2)


def test_identical_output_is_gathered(host, other, here):
    done = here("run", "-b", "-H", f"{host},{other}", "--", "echo same")
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines()[-1] == "same"
    assert "(2)" in done.out.splitlines()[1]
    done = here(
        *("run", "--diff", "-H", f"{host},{other}", "--"),
        f"echo same; {FIRST} && echo one || echo two",
    )
    assert {"-one", "+two"} <= set(done.out.splitlines())


def test_what_was_gathered_is_printed_at_ctrl_c(host, tmp_path):
    go = tmp_path / "go"
    command = f"echo on; echo begun >&2; until [ -e {go} ]; do sleep 0.02; done"
    with running("run", "-b", "-H", host, "--", command) as process:
        assert process.stderr is not None
        process.stderr.readline()
        done = interrupt(process)
    go.touch()
    assert done.status == 128 + signal.SIGINT
    assert done.out.splitlines()[-1] == "on"


def test_machines_get_an_object_for_each_event(three, here):
    host, other, nobody = three
    command = f"echo out; {FIRST} || {{ echo err >&2; kill -9 $$; }}"
    done = here("run", "--json", "-H", f"{host},{other},{nobody}", "--", command)
    assert (done.status, done.err) == (255, "")
    ended = events(done.out, "ended")
    assert ended[host]["status"] == "SUCCEEDED"
    assert ended[host]["exit_code"] == ended[host]["exit_status"] == 0
    assert ended[other]["exit_code"] == -9
    assert ended[other]["exit_status"] == 137
    assert len(str(ended[other]["id"])) == 16
    assert ended[nobody]["status"] == "LOST"
    assert (ended[nobody]["id"], ended[nobody]["exit_status"]) == (None, 255)
    assert "refused" in str(ended[nobody]["error"])
    line = events(done.out, "line")[other]
    assert (line["stream"], line["text"]) == ("stderr", "err")
    assert "refused" in str(events(done.out, "note")[nobody]["text"])


def test_labels_of_workers_and_their_facts_choose(start_worker, nobody, here):
    one = start_worker("one", MLEPOOL_LABELS="zone=a,gpu=a100")
    two = start_worker("two", MLEPOOL_LABELS="zone=b")
    hosts = f"localhost:{one.port},localhost:{two.port},{nobody}"
    done = here("run", "-H", hosts, "-l", "zone in (a,c),cpu.cores>0", "echo fits")
    assert (done.status, done.out) == (0, "fits\n")
    assert done.err.endswith("; its labels are not known\n")
    done = here("jobs", "-H", hosts, "-l", "zone=z")
    assert (done.status, done.out) == (1, "")
    assert done.err.splitlines()[-1] == "mlepool: no host of 3 fits 'zone=z'"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["-i", "-p", "1"], "not with waves or --retries"),
        (["--json", "-b"], "goes with neither -b nor --diff"),
        (["-p", "0"], "max_parallel must be 1 or more"),
        (["--batch", "1,x"], "batch is a number or a part"),
        (["--max-failures", "200%"], "max_failures is a number or a part"),
        (["--retries", "-1"], "retries must be 0 or more"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, complaint, here):
    done = here("run", "-H", "a", *arguments, "--", "true")
    assert (done.status, done.out) == (2, "")
    assert complaint in done.err


def test_hosts_may_come_from_the_environment(host, here, monkeypatch):
    monkeypatch.setenv("MLEPOOL_HOSTS", host)
    assert here("run", "echo fine") == (0, "fine\n", "")
    assert here("jobs", "--json").status == 0


def test_names_groups_and_labels_of_the_inventory_are_hosts(join_url, elsewhere, here):
    here("trust", join_url)
    address = Target.parse(join_url).name
    (elsewhere / "hosts.toml").write_text(
        f'[hosts.lab]\naddress = "{address}"\nlabels = {{ zone = "z" }}\n'
        '[hosts.gone]\naddress = "localhost:1"\n[groups.all]\nmembers = "lab,gone"\n'
    )
    done = here("run", "-w", "@all", "--", "echo fine")
    assert (done.status, done.out) == (255, "lab  | fine\n")
    assert "gone | mlepool: cannot connect to localhost:1: " in done.err
    done = here("jobs", "-l", "zone=z", "--all", "--json")
    assert {one["host"] for one in json.loads(done.out)} == {"lab"}
    assert "gone: cannot connect to localhost:1" in done.err
    assert here("run", "-w", "@all,!gone", "--", "exit 3").status == 3
