"""hosts.toml: what it says of each host, and what is wrong in it."""

import re
import string
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from mlepool.client.inventory.model import Host
from mlepool.client.inventory.reading import default_path, read
from mlepool.errors import ConfigError

PAGE = Path(__file__).parents[3] / "docs/howto/inventory.md"
WHOLE = """
[defaults]
connect_timeout = 5
labels = { site = "lab", gpu = "none" }

[hosts]
lab-pc = "192.168.1.20:9000"
"gpu[01-16]" = { address = "10.0.0.{:d}", labels = { gpu = "a100" } }
"gpu[03-04]".labels = { broken = "yes" }
"r[1-2]n[1-2]" = "rack{}-node{}.lab"
"[::1]:9922" = "[::1]"

[hosts.big]
address = "ws://big.example.org"
token_file = "big.token"
port = 9100

[groups]
train = ["@cloud", "gpu[01-08],!gpu03", "lab-pc"]
idle = "gpu*,&@train"
none = []

[groups.cloud]
members = ["r1n1", "big"]
port = 9000
proxy = "socks5://gate:1080"
labels = { site = "b", zone = "b" }
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str):
        (tmp_path / "hosts.toml").write_text(text)
        return tmp_path / "hosts.toml"

    return write


@pytest.fixture
def whole(write):
    return read(write(WHOLE))


def test_all_hosts_are_there_in_their_order(whole):
    names = ["lab-pc", *(f"gpu{number:02d}" for number in range(1, 17))]
    names += ["r1n1", "r1n2", "r2n1", "r2n2", "[::1]:9922", "big"]
    assert list(whole.hosts) == names


def test_addresses_come_of_names_and_ranges(whole):
    urls = {name: host.place.url for name, host in whole.hosts.items()}
    assert urls["lab-pc"] == "wss://192.168.1.20:9000"
    assert (urls["gpu01"], urls["gpu16"]) == (
        "wss://10.0.0.1:9922",
        "wss://10.0.0.16:9922",
    )
    assert urls["r2n1"] == "wss://rack2-node1.lab:9922"
    assert urls["[::1]:9922"] == "wss://[::1]:9922"


def test_what_is_nearer_to_the_host_counts(whole):
    assert whole.hosts["lab-pc"].labels == {"site": "lab", "gpu": "none"}
    assert whole.hosts["gpu03"].labels == {
        "site": "lab",
        "gpu": "a100",
        "broken": "yes",
    }
    assert whole.hosts["r1n1"].labels == {"site": "b", "gpu": "none", "zone": "b"}
    assert (whole.hosts["r1n1"].port, whole.hosts["big"].port) == (9000, 9100)
    assert whole.hosts["big"].options()["proxy"] == "socks5://gate:1080"
    assert whole.hosts["big"].options()["connect_timeout"] == 5


def test_groups_are_written_out(whole):
    assert whole.groups["cloud"] == ("r1n1", "big")
    assert len(whole.groups["train"]) == 1 + 7 + 2
    assert whole.groups["train"][:2] == ("lab-pc", "gpu01")
    assert whole.groups["idle"] == tuple(
        f"gpu{number:02d}" for number in (1, 2, 4, 5, 6, 7, 8)
    )
    assert whole.groups["none"] == ()
    assert whole.hosts["r1n1"].groups == ("train", "cloud")


def test_a_token_is_read_from_its_file_when_it_is_needed(whole, tmp_path, caplog):
    with pytest.raises(ConfigError, match=r"of big: .*big\.token: No such file"):
        whole.hosts["big"].target()
    (tmp_path / "big.token").write_text("s3cret\n")
    assert whole.hosts["big"].target().token == "s3cret"
    assert "big.token has a token in it, and others may read it" in caplog.text
    (tmp_path / "big.token").chmod(0o600)
    caplog.clear()
    assert whole.hosts["big"].target().token == "s3cret"
    assert not caplog.text
    assert whole.hosts["gpu01"].target().token == ""
    assert "s3cret" not in repr(whole)


def test_the_page_has_an_inventory_that_can_be_read(write):
    found = read(
        write(re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)[0])
    )
    assert len(found.hosts) == 2 + 16 + 32 + 1
    assert found.hosts["node01"].address == "10.0.0.1"
    assert found.hosts["r4n8"].address == "rack4-8.lab"
    assert found.hosts["r4n8"].labels == {"site": "lab", "gpu": "a100"}
    assert found.hosts["node04"].labels == {"site": "lab", "broken": "yes"}
    assert found.hosts["far"].place.url == "wss://far.example.org:9000"
    assert found.hosts["far"].groups == ("cloud",)
    assert len(found.groups["night"]) == 31 + 1 + 16


@pytest.mark.parametrize("data", [b"", b"a b\x00", b"\xff", b"x" * 5000])
def test_what_is_no_token_is_not_shown(tmp_path, data):
    (tmp_path / "token").write_bytes(data)
    host = Host(name="h", address="h", token_file=tmp_path / "token")
    with pytest.raises(ConfigError, match="token: that is no token$"):
        host.target()


def test_the_default_need_not_be_there(monkeypatch, tmp_path):
    monkeypatch.setenv("MLEPOOL_HOME", str(tmp_path))
    assert read().hosts == {}
    default_path().write_text("hosts.gpu1 = {}")
    assert read().hosts["gpu1"].place.url == "wss://gpu1:9922"
    assert read().path == tmp_path / "hosts.toml"
    with pytest.raises(ConfigError, match="No such file"):
        read(tmp_path / "other.toml")


def test_by_default_it_is_where_people_look(monkeypatch, tmp_path):
    monkeypatch.delenv("MLEPOOL_HOME")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_path() == tmp_path / "mlepool" / "hosts.toml"


@pytest.mark.parametrize(
    ("text", "line", "cause"),
    [
        ("\n[host]", 2, "there is no key 'host'; did you mean 'hosts'?"),
        ("hosts = 3", 1, "expected table, got int"),
        ("[hosts]\n\na = 3", 3, "expected table, got int"),
        ("[hosts]\na.adress = 'x'", 2, "no key 'adress'; did you mean 'address'?"),
        ("[hosts]\na.port = 0", 2, "port: expected int >= 1"),
        ("[hosts]\na.port = '9'", 2, "port: expected int, got str"),
        ("[hosts]\na.labels = {x=3}", 2, "labels.x: a label is text, not int"),
        ("[hosts]\na.labels = {api_token='s3'}", 2, "labels.api_token: it looks"),
        ("[hosts]\na.token = 's3'", 2, "no key 'token'; this file holds no secrets"),
        ("[hosts]\na = 'mle://a?token=s3'", 2, "address: give 'mlepool trust'"),
        ("[hosts]\na = 's3@x@y/z'", 2, "a: 'y/z' is not a host"),
        ("[hosts]\na.address = ''", 2, "address: it is empty"),
        ("[hosts]\na.connect_timeout = 0", 2, "expected float > 0"),
        ("[hosts]\n'a[1-'={}", 2, "a[1-: the other bracket of '['"),
        ("[hosts]\n'a]'={}", 2, "a]: the other bracket of ']'"),
        ("[hosts]\n'a[x]'={}", 2, "'x' is no range"),
        ("[hosts]\n'a[1-999999]'={}", 2, "more than 100,000 names"),
        ("[hosts]\n'a b'={}", 2, "a name has none of"),
        ("[hosts]\n'a,b'={}", 2, "a name has none of"),
        ("[hosts]\n''={}", 2, "a name has 1 to 200"),
        ("[hosts]\n'a[1-2]'='x{}{}'", 2, "a[1-2]: its address has more {}"),
        ("[hosts]\na='x{port}'", 2, "a: there is {port} in its address"),
        ("[defaults]\naddress='{}'\n[hosts]\na={}", 3, "a: its address has more {}"),
        ("[groups]\na = 'b'", 2, "a: there is no 'b' (there is none)"),
        ("[groups]\na = '@b'\n[hosts]", 2, "there is no group 'b' (there are a)"),
        ("[groups]\na = ['x[']", 2, "the ']' to this is missing"),
        ("[groups]\na = 3", 2, "expected array, got int"),
        ("[groups]\na = [3]", 2, "expected str, got int"),
        ("[groups]\n'a*' = []", 2, "a name has none of"),
        ("[groups]\n'a[1-2]' = []", 2, "a name has none of"),
        ("[groups.a]\nmember = []", 2, "no key 'member'; did you mean 'members'?"),
        ("[groups]\na='@b'\nb='@c'\nc='@a'", 2, "has itself in it: a -> b -> c -> a"),
        ("[hosts]\na={}\na={}", 3, "Cannot overwrite"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(write, text, *, line, cause):
    with pytest.raises(ConfigError) as caught:
        read(write(text))
    assert f"hosts.toml:{line}: " in str(caught.value)
    assert cause in str(caught.value)
    assert "s3" not in str(caught.value)


def test_groups_are_not_nested_for_ever(write):
    text = "\n".join(f"g{number}='@g{number + 1}'" for number in range(500))
    with pytest.raises(ConfigError, match="nested too deep"):
        read(write(f"[groups]\n{text}\ng500=[]"))


KEYS = st.sampled_from(
    ["hosts", "groups", "defaults", "a", "b[1-3]", "@a", "members", "port", "labels"]
)
LEAVES = st.one_of(
    st.integers(0, 70000),
    st.booleans(),
    st.sampled_from(["a", "@a", "b[1-2]", "b*", "{}", "{name}", "b{:d}", "", "\x1b"]),
    st.text(alphabet="ab12[]-,!&^@*?/:{} " + string.punctuation, max_size=12),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, TREES, max_size=4))
def test_any_tables_are_read_or_refused(tmp_path_factory, tables):
    path = tmp_path_factory.mktemp("any") / "hosts.toml"
    text = "\n".join(f"{quoted(key)} = {as_toml(one)}" for key, one in tables.items())
    assert tomllib.loads(text) == tables
    path.write_text(text)
    try:
        found = read(path)
    except ConfigError:
        return
    assert all(host.place for host in found.hosts.values())
    assert {one for names in found.groups.values() for one in names} <= set(found.hosts)


def as_toml(value) -> str:
    if isinstance(value, dict):
        pairs = (f"{quoted(key)} = {as_toml(one)}" for key, one in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(as_toml, value))}]"
    if isinstance(value, str):
        return quoted(value)
    return str(value).lower()


def quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\x1b", "\\u001b")
    return f'"{escaped}"'
