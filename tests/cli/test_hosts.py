"""mlepool hosts: a table of who is known, who answers; imports of inventories."""

import json
import re

import pytest

from mlepool.client.links.trust import Target, TrustStore
from mlepool.config import account_dir
from tests.cli.shell import mlepool

INVENTORY = """
[defaults]
proxy = "socks5://me:s3cret@127.0.0.1:1"
labels = { site = "lab" }

[hosts]
"gpu[1-2]" = "10.0.0.{}"
gone = { address = "localhost:1", token_file = "token", labels = { broken = "yes" } }

[groups]
train = "gpu*"
all = ["@train", "gone"]
"""


@pytest.fixture
def listed(elsewhere):
    """An account that has an inventory."""
    elsewhere.mkdir()
    (elsewhere / "hosts.toml").write_text(INVENTORY)
    (elsewhere / "token").write_text("s3cret")
    return elsewhere / "hosts.toml"


@pytest.mark.usefixtures("elsewhere")
def test_without_any_worker_it_says_how_to_get_one(here):
    assert here("hosts") == (0, "no worker is known; see 'mlepool trust'\n", "")


@pytest.mark.real
def test_the_table_says_who_is_up_and_who_is_down_and_why(
    join_url, elsewhere, other_worker
):
    key, gone = re.findall(r"key=([\w-]{43})", join_url)[0], "B" * 43
    for url in (join_url, f"mle://localhost:1?key={gone}&token=t"):
        TrustStore(elsewhere).add(Target.parse(url))
    done = mlepool("hosts")
    assert (done.status, done.err) == (0, "")
    head, _, *rows = done.out.splitlines()
    columns = ["host", "address", "groups", "labels", "key", "known", "state"]
    assert head.split() == columns
    up, down = sorted(rows, key=lambda row: "down" in row)
    place = f"127.0.0.1:{other_worker.port}"
    assert up.split()[:5] == [place, place, key[:12], "trusted", "up"]
    assert down.split()[:5] == [*["localhost:1"] * 2, gone[:12], "trusted", "down"]
    assert "refused" in down


@pytest.mark.real
def test_no_check_connects_to_nobody(worker, here):
    before = worker.log
    done = here("hosts", "--no-check")
    assert f"localhost:{worker.port}" in done.out
    assert "not checked" in done.out
    assert worker.log == before


@pytest.mark.usefixtures("listed")
def test_the_inventory_is_shown_without_its_secrets(here):
    done = here("hosts", "--no-check")
    rows = [line.split() for line in done.out.splitlines()[2:]]
    assert [row[:6] for row in rows] == [
        ["gpu1", "10.0.0.1:9922", "train,all", "site=lab", "listed", "not"],
        ["gpu2", "10.0.0.2:9922", "train,all", "site=lab", "listed", "not"],
        ["gone", "localhost:1", "all", "site=lab,broken=yes", "listed", "not"],
    ]
    as_json = here("hosts", "--no-check", "--json").out
    assert json.loads(as_json)[0] == {
        "host": "gpu1",
        "address": "10.0.0.1:9922",
        "groups": ["train", "all"],
        "labels": {"site": "lab"},
        "key": None,
        "known": "listed",
        **dict.fromkeys(("up", "cause", "name", "version")),
    }
    assert "s3cret" not in done.out + as_json


@pytest.mark.usefixtures("listed")
@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["-H", "gpu[1-2],!gpu1"], ["gpu2"]),
        (["-H", "@train"], ["gpu1", "gpu2"]),
        (["-l", "site=lab,broken"], ["gone"]),
        (["-H", "@all", "-l", "!broken"], ["gpu1", "gpu2"]),
        (["-l", "site=other"], []),
    ],
)
def test_some_of_them_are_shown(here, options, names):
    done = here("hosts", "--no-check", "--json", *options)
    assert [one["host"] for one in json.loads(done.out)] == names


def test_a_token_that_cannot_be_read_is_said(listed, here):
    (listed.parent / "token").unlink()
    done = here("hosts", "--no-check")
    assert done.out.count("listed") == 3
    assert re.search(r"the token of gone: .*No such file", done.err)


def test_what_is_trusted_where_a_listed_host_is_is_one_row(listed, here):
    key = "C" * 43
    TrustStore().add(Target.parse(f"mle://10.0.0.1:9922?key={key}&token=s3cret"))
    rows = here("hosts", "--no-check").out.splitlines()[2:]
    assert rows[0].split()[:2] == ["gpu1", "10.0.0.1:9922"]
    assert rows[0].split()[4:6] == [key[:12], "trusted"]
    assert len(rows) == 3


@pytest.mark.real
@pytest.mark.parametrize("place", ["127.0.0.1:{port}", "localhost:{port}", "unix:{at}"])
def test_a_listed_worker_on_this_machine_is_one_row(worker, here, place):
    # Its account has it among the local ones, too.
    account = account_dir()
    address = place.format(port=worker.port, at=worker.state_dir)
    (account / "hosts.toml").write_text(f"[hosts]\nmine = {{ address = '{address}' }}")
    try:
        found = json.loads(here("hosts", "--no-check", "--json").out)
    finally:
        (account / "hosts.toml").unlink()
    names = [one["host"] for one in found]
    assert "mine" in names
    assert f"localhost:{worker.port}" not in names


@pytest.mark.real
def test_a_local_worker_without_tls_is_reached_by_the_name_it_has_here(
    start_worker, here
):
    name = f"localhost:{start_worker('plain', listen='ws://127.0.0.1:0').port}"
    rows = here("hosts").out.splitlines()
    assert [" up " in row for row in rows if row.startswith(f"{name} ")] == [True]
    assert mlepool("run", "-H", name, "--", "echo in") == (0, "in\n", "")


@pytest.mark.real
@pytest.mark.usefixtures("listed")
def test_a_listed_host_that_answers_has_its_workers_labels(worker, listed, here):
    listed.write_text(
        f"[hosts]\nmine = {{ address = 'unix:{worker.state_dir}', labels.zone = 'z' }}"
    )
    found = json.loads(here("hosts", "--json", "-l", "zone=z,os=linux").out)
    assert [(one["host"], one["up"], one["cause"]) for one in found] == [
        ("mine", True, None)
    ]
    assert found[0]["labels"] == {"zone": "z"}
    assert json.loads(here("hosts", "--json", "-l", "os!=linux").out) == []


def test_an_import_is_printed_or_written_once(tmp_path, here):
    source, made = tmp_path / "inventory.ini", tmp_path / "new" / "hosts.toml"
    source.write_text("[web]\nweb[1:3] rack=7 api_token=s3cret\n")
    printed = here("hosts", "--import", str(source))
    assert '"web[1-3]" = { labels = { rack = "7" } }' in printed.out
    done = here("hosts", "--import", str(source), "-o", str(made))
    assert (done.status, done.out) == (0, f"wrote {made}\n")
    assert made.read_text() == printed.out
    assert "left out 'api_token' of web[1:3]" in done.err
    made.write_text("mine")
    refused = here("hosts", "--import", str(source), "-o", str(made))
    assert (refused.status, made.read_text()) == (1, "mine")
    assert "--force" in refused.err
    forced = here("hosts", "--import", str(source), "-o", str(made), "--force")
    assert (forced.status, made.read_text()) == (0, printed.out)
    assert "s3cret" not in printed.out + done.err


def test_what_is_for_an_import_is_refused_without(here):
    assert here("hosts", "-o", "x").status == 2
