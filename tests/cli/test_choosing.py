"""Which hosts are meant by names, ranges, groups and labels."""

import re

import pytest
import typer

from mlepool.cli.choosing import Choice
from mlepool.client.links.trust import Target, TrustStore
from mlepool.errors import ConfigError

HOSTS = """
[hosts."gpu[1-4]"]
port = 9000
labels = { gpu = "a100" }

[hosts.lab]
address = "10.0.0.7"
connect_timeout = 2.5

[groups.train]
members = "gpu[1-2]"
"""


@pytest.fixture
def listed(elsewhere):
    elsewhere.mkdir()
    (elsewhere / "hosts.toml").write_text(HOSTS)
    return elsewhere


def names(*texts: str) -> list[str]:
    return list(Choice(texts).places())


@pytest.mark.usefixtures("elsewhere")
def test_hosts_are_named_so_that_they_are_found_again_and_no_token_is_shown():
    url = f"mle://gpu3?key={'A' * 43}&token=secret"
    texts = ("gpu1,gpu2:9000", "gpu1", "ws://gpu1:80", "unix:/state", url)
    found = Choice(texts).places()
    assert list(found) == ["gpu1", "gpu2:9000", "ws://gpu1:80", "unix:/state", "gpu3"]
    assert all(Target.parse(name).url == found[name].target.url for name in found)


@pytest.mark.usefixtures("elsewhere")
def test_ranges_need_no_inventory():
    assert names("gpu[1-3],!gpu2") == ["gpu1", "gpu3"]
    assert names("n[08-10]:9000", "n09:9000,x") == [
        *("n08:9000", "n09:9000", "n10:9000", "x"),
    ]


@pytest.mark.usefixtures("listed")
def test_the_inventory_says_what_names_groups_and_patterns_are():
    found = Choice(("lab,@train",)).places()
    assert list(found) == ["lab", "gpu1", "gpu2"]
    assert found["gpu1"].target == Target("gpu1", 9000)
    assert found["gpu1"].options["labels"] == {"gpu": "a100"}
    assert found["lab"].target == Target("10.0.0.7", 9922)
    assert found["lab"].options["connect_timeout"] == 2.5
    assert names("gpu*,!@train") == ["gpu3", "gpu4"]
    assert names("!gpu*") == ["lab"]
    assert names("gpu[3-5]") == ["gpu3", "gpu4", "gpu5"]  # the last one by its name


def test_who_is_trusted_is_known_once(listed):
    for host, key in (("10.0.0.7", "B"), ("far", "C")):
        TrustStore(listed).add(Target.parse(f"mle://{host}?key={key * 43}&token=t"))
    assert list(Choice(selector="gpu").places()) == [
        *("gpu1", "gpu2", "gpu3", "gpu4", "lab", "far")
    ]
    assert names("*a*") == ["lab", "far"]


@pytest.mark.usefixtures("listed")
@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("@trian", "there is no group 'trian' (near: train)"),
        ("cpu*x", "no name is like 'cpu*x'"),
        ("gpu[1-", "the ']' to this is missing"),
        ("gpu[3-1]", "it ends before it begins"),
    ],
)
def test_what_means_nobody_is_said_with_what_is_near(text, complaint):
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        names(text)


@pytest.mark.usefixtures("listed")
def test_who_is_left_out_is_there_or_known():
    assert names("x[1-3],!x2") == ["x1", "x3"]
    assert names("@train,!gpu3,!lab") == ["gpu1", "gpu2"]
    assert names("@train,!@train,x") == ["x"]
    complaint = "there is no 'gpu33' to leave out (near: gpu3, gpu4, gpu2)"
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        names("gpu[1-4],!gpu33")


@pytest.mark.parametrize("text", ["", " "])
def test_an_empty_selector_is_no_selector_for_all(text, here, listed):
    done = here("hosts", "--no-check", "-H", "@train", "-l", text)
    assert (done.status, done.out) == (2, "")
    assert "Invalid value for '-l' / '--selector': no label is named" in done.err


@pytest.mark.usefixtures("elsewhere")
def test_nobody_is_an_error():
    with pytest.raises(typer.BadParameter, match="no host is named"):
        names(",")
    with pytest.raises(ConfigError, match="no host is known; see 'mlepool trust'"):
        Choice(selector="gpu").places()
    with pytest.raises(ConfigError, match="a key is missing here"):
        Choice(selector="=").reader()
