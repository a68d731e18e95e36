"""Inventories of ssh's and Ansible's, as a hosts.toml that can be read."""

import sys

import pytest
from hypothesis import example, given, strategies as st

from mlepool.client.inventory.foreign.importing import convert
from mlepool.client.inventory.reading import read
from mlepool.errors import ConfigError

SSH = """
# what people have
ForwardAgent yes
Include conf.d/* missing/*
Host gpu1 gpu2 "lab pc"
    HostName %h.example.org
    Port 2222
hostname ignored.example.org
Host bastion !x *.lab
    hostname=10.0.0.9
Host far.lab plain
    ProxyJump bastion
Host *.lab
    HostName late.example.org
    ProxyJump none
Host plain
    ProxyCommand none
Match host foo
    HostName match.example.org
Host *
    User me
"""

INI = """
mail.example.com ansible_host=10.1.1.1 ansible_password=s3cret
; a comment
[web]
web[01:03].example.com:22 http_port=80 db_password=s3cret note="two words" x='{{ s3 }}'
[db]
db-[a:e:2] ansible_host=10.0.0.1 # comment
[prod:children]
web
db
gone
[prod:vars]
zone = b
api_token = s3cret
[all:vars]
site="lab"
ansible_user=root
[bad name]
db-a
"""

YAML = """
all:
  vars: {site: lab, ansible_become_pass: s3cret}
  hosts: {mail.example.com: {ansible_host: 10.1.1.1}}
  children:
    prod:
      vars: {rack: 7, key: !vault "s3cret", nested: {a: s3cret}, date: 2026-01-01}
      children:
        web: &web {hosts: {"web[1:3]": {http: true}}}
    again: {children: {web: *web}}
ungrouped: {hosts: {db1: }}
"""


@pytest.fixture
def imported(tmp_path):
    """Writes a file, imports it and reads what that gave."""

    def imported(name: str, text: str):
        (tmp_path / name).write_text(text)
        made, notes = convert(tmp_path / name)
        (tmp_path / "hosts.toml").write_text(made)
        assert "s3" not in made
        assert "s3" not in "".join(notes)
        return read(tmp_path / "hosts.toml"), notes

    return imported


def addresses(inventory) -> dict[str, str]:
    return {name: one.address for name, one in inventory.hosts.items()}


def test_ssh_names_hosts_and_where_they_are(imported, tmp_path):
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "a").write_text("Host inc1 inc2\nHost inc3\nHostName ::1\n")
    found, notes = imported("config", SSH)
    assert addresses(found) == {
        "inc1": "inc1",
        "inc2": "inc2",
        "inc3": "::1",
        "gpu1": "gpu1.example.org",
        "gpu2": "gpu2.example.org",
        "bastion": "10.0.0.9",
        "far.lab": "10.0.0.9",
        "plain": "plain",
    }
    assert [one.split(":")[0].split(";")[0] for one in notes] == [
        "left out 'lab pc'",
        "ssh reaches far.lab through another host",
        "ssh reaches plain through another host",
    ]


def test_an_ssh_configuration_that_includes_itself_ends(tmp_path):
    (tmp_path / "config").write_text("Host a\nInclude config\n")
    with pytest.raises(ConfigError, match="too many files"):
        convert(tmp_path / "config")


def test_a_missing_quotation_mark_is_said_with_its_line(tmp_path):
    (tmp_path / "config").write_text('Host a\n\nHost "b\n')
    with pytest.raises(ConfigError, match=r"config:3: no closing quotation"):
        convert(tmp_path / "config")


def test_ansible_ini_gives_hosts_groups_and_labels(imported):
    found, notes = imported("inventory.ini", INI)
    assert addresses(found) == {
        "mail.example.com": "10.1.1.1",
        **{f"web0{one}.example.com": f"web0{one}.example.com" for one in (1, 2, 3)},
        **{f"db-{one}": "10.0.0.1" for one in "ace"},
    }
    assert found.groups["prod"] == tuple(found.hosts)[1:]
    assert found.groups["gone"] == ()
    assert found.hosts["web01.example.com"].labels == {
        "site": "lab",
        "zone": "b",
        "http_port": "80",
        "note": "two words",
    }
    assert found.hosts["mail.example.com"].labels == {"site": "lab"}
    assert [one.partition(":")[0] for one in notes] == [
        "left out 'db_password' of web[01",
        "left out 'x' of web[01",
        "left out 'api_token' of prod",
        "left out the group 'bad name'",
    ]


def test_ansible_yaml_gives_the_same(imported):
    found, notes = imported("inventory.yml", YAML)
    assert list(found.hosts) == ["mail.example.com", "web1", "web2", "web3", "db1"]
    assert found.groups["prod"] == found.groups["again"] == ("web1", "web2", "web3")
    assert found.hosts["web1"].labels == {"site": "lab", "rack": "7", "http": "true"}
    assert found.hosts["mail.example.com"].address == "10.1.1.1"
    assert len(notes) == 3


@pytest.mark.parametrize(
    ("name", "text", "cause"),
    [
        ("i.ini", "\n[web", "i.ini:2: '[web' is no section"),
        ("i.ini", "[web:who]", "i.ini:1: '[web:who]' is no section"),
        ("i.ini", "[a:vars]\nx", "i.ini:2: 'x' is no variable"),
        ("i.ini", "a b", "i.ini:1: 'a': what follows a host"),
        ("i.ini", "a x='", "i.ini:1: a quotation mark is missing"),
        ("i.ini", "a[5:1]", "i.ini:1: [5:1] ends before it begins"),
        ("i.ini", "a[1:b]", "i.ini:1: [1:b] is no range"),
        ("i.ini", "a[1:9:0]", "i.ini:1: [1:9:0] is no range"),
        ("i.ini", "a[1:999999999]", "i.ini:1: these are more than 100,000"),
        ("i.ini", "[a:children]\nb\n[b:children]\na", "a group has itself in it"),
        ("i.ini", "#!/bin/sh\n", "it is a program"),
        ("i.yml", "- a", "i.yml: it should be a table of groups"),
        ("i.yml", "a: 3", "i.yml: group a: it should be a table"),
        ("i.yml", "a: {hosts: [b]}", "i.yml: hosts of a: it should be a table"),
        ("i.yml", "a: {hosts: {'b[1:a]': }}", "i.yml: b[1:a]: [1:a] is no range"),
        ("i.yml", "a: {\nb", "i.yml:2: expected"),
        ("i.yml", "a: &a {children: {b: *a}}", ""),
        ("i.yml", f"a: {{vars: {{b: 0x{'9' * 5000}}}, hosts: {{c: }}}}", ""),
        (
            "i.yml",
            "a: {hosts: {b: {ansible_host: [1]}}}",
            "its ansible_host is no text",
        ),
        ("i.yml", "a: !!python/name:os.system x", "i.yml:1: could not determine"),
        ("none", None, "none: No such file"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path, name, text, *, cause):
    if text is not None:
        (tmp_path / name).write_text(text)
    if not cause:
        assert "[groups]" in convert(tmp_path / name)[0]
        return
    with pytest.raises(ConfigError) as caught:
        convert(tmp_path / name)
    assert cause in str(caught.value)


def test_without_pyyaml_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    (tmp_path / "i.yaml").write_text("all:\n")
    with pytest.raises(ConfigError, match=r"pip install 'mlepool\[ansible\]'"):
        convert(tmp_path / "i.yaml")


LINES = st.lists(
    st.one_of(
        st.text(alphabet="ab[]:12=#\"' {}!&*-.\\%\x00\x7fé", max_size=16),
        st.sampled_from(
            ["Host ", "Host a ", "Include ", "HostName %h", "[a]", "[a:vars]"]
            + ["[b:children]", "a:", " hosts:", "  b:", " children:", "{a: {hosts: "]
        ),
    ),
    max_size=8,
)


@example(["[b:children]", "]"], "i.ini")
@given(LINES, st.sampled_from(["i.ini", "i.yml", "config"]))
def test_any_file_is_imported_or_refused(tmp_path_factory, lines, name):
    folder = tmp_path_factory.mktemp("any")
    (folder / name).write_text("\n".join(lines))
    try:
        text, _ = convert(folder / name)
    except ConfigError:
        return
    (folder / "hosts.toml").write_text(text)
    read(folder / "hosts.toml")
