"""Flags of mlepool worker as settings, and what --check-config prints."""

from pathlib import Path

import pytest

from mlepool.cli.flags import options_of, print_settings, settings_of
from mlepool.errors import ConfigError
from mlepool.settings.keys import KEYS
from mlepool.settings.reading import Source

GIVEN = {
    "listen": ":1",
    "name": None,
    "label": ["zone=a", "gpu=a100"],
    "set": ["retain_days=3", "labels.rack=7", "state.owner=ada=b", "retain_days=4"],
}


def test_flags_become_settings(tmp_path):
    settings = settings_of(GIVEN)
    assert settings == {
        "listen": ":1",
        "labels": ["zone=a", "gpu=a100", "rack=7"],
        "retain_days": ["3", "4"],
        "state": ["owner=ada=b"],
    }
    config = Source(settings, {"MLEPOOL_STATE_DIR": str(tmp_path)}).read().config
    assert config.labels == {"zone": "a", "gpu": "a100", "rack": "7"}
    assert config.extra == {"owner": "ada=b"}
    assert config.retention.seconds == 4 * 24 * 3600.0


def test_a_setting_without_a_value_is_an_error():
    with pytest.raises(ConfigError, match="--set 'retain_days': give KEY=VALUE"):
        settings_of({"set": ["retain_days"]})


def test_flags_are_repeated_for_a_unit(tmp_path):
    assert options_of(GIVEN, tmp_path / "c.toml") == [
        "--listen=:1",
        "--label=zone=a",
        "--label=gpu=a100",
        *(f"--set={one}" for one in GIVEN["set"] or ()),
        f"--config={tmp_path}/c.toml",
    ]
    assert options_of({"listen": None, "label": None}, None) == []


def test_all_settings_are_printed_with_their_origins_and_no_secret(tmp_path, capsys):
    file = tmp_path / "config.toml"
    file.write_text("job_quota = '1 GiB'\nhub_token = 's3cret'\nroots = ['/a', '/b']\n")
    env = {"MLEPOOL_STATE_DIR": str(tmp_path), "MLEPOOL_SAMPLE_INTERVAL": "0"}
    print_settings(Source(settings_of(GIVEN), env).read())
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split(None, 1)[1] for line in lines}
    assert list(rows) == list(KEYS)
    assert rows["job_quota"].split() == ["1073741824", f"{file}:1"]
    assert rows["hub_token"].split() == ["'...'", f"{file}:2"]
    assert rows["roots"].split() == ["/a:/b", f"{file}:3"]
    assert rows["sample_interval"].split() == ["0.0", "MLEPOOL_SAMPLE_INTERVAL"]
    assert rows["listen"].split() == [":1", "--listen"]
    assert rows["state_dir"].split() == [str(tmp_path), "MLEPOOL_STATE_DIR"]
    assert rows["retain_days"].split()[0] == "4.0"
    assert rows["root"].split() == [str(Path.cwd()), "default"]
    assert rows["max_concurrent"].split() == ["-", "default"]
    assert rows["state"].startswith("{'owner': 'ada=b'}")
