"""ML-experimenter's config.json does what its text says, as far as there is that."""

import json

import pytest

from mlepool.errors import ConfigError
from mlepool.settings.reading import Source


@pytest.fixture
def read(tmp_path):
    path = tmp_path / "config.json"

    def read(**values):
        path.write_text(json.dumps(values, indent=1))
        path.chmod(0o600)
        return Source({}, {"MLEPOOL_STATE_DIR": str(tmp_path)}).read()

    return read


def test_its_keys_become_ours_and_others_are_properties(read, tmp_path):
    found = read(
        host="https://hub:1234",
        machineId="nc-1",
        accessToken="s3cret",
        cloudImage="ami-1",
        max_concurrent=2,
    )
    config = found.config
    assert (config.hub, config.name, config.hub_token) == (
        *("https://hub:1234", "nc-1"),
        "s3cret",
    )
    assert (config.extra, config.max_concurrent) == ({"cloudImage": "ami-1"}, 2)
    assert config.listen.port == 9922
    assert found.origins["name"] == f"{tmp_path}/config.json:3"
    assert found.notes == [
        "workers do not dial out yet: the hub 'https://hub:1234' is only noted"
    ]
    assert "s3cret" not in repr(found)


def test_it_listens_on_its_port(read):
    config = read(machineId=4711, port=8080).config
    assert (config.name, config.listen.port, config.hub) == ("4711", 8080, "")


def test_a_secret_that_others_may_read_is_worth_a_word(read, tmp_path):
    read(accessToken="x")
    (tmp_path / "config.json").chmod(0o644)
    found = Source({}, {"MLEPOOL_STATE_DIR": str(tmp_path)}).read()
    assert found.notes == [
        f"{tmp_path}/config.json has a secret in it, and others may read it"
    ]


def test_a_secret_among_its_free_keys_is_refused_with_its_line(read, tmp_path):
    with pytest.raises(ConfigError) as caught:
        read(machineId="a", dbPassword="hunter2")
    said = f"{tmp_path}/config.json:3: state.dbPassword: it looks like a secret"
    assert str(caught.value).startswith(said)
    assert "hunter2" not in str(caught.value)


def test_without_its_signs_unknown_keys_are_errors(read):
    with pytest.raises(ConfigError, match="there is no key 'port'"):
        read(port=8080)
