"""Settings that change while a worker runs: by its file, by clients."""

import json
import os
from typing import Any

import pytest
from msgspec import structs

from mlepool.config import ListenAddress, Retention, WorkerConfig
from mlepool.worker.live import NEEDS_RESTART, OVERRIDES_FILE, LiveConfig


@pytest.fixture
def config(tmp_path):
    listen = ListenAddress("127.0.0.1", 0)
    extra = {"rack": 7, "owner": "ada"}
    return WorkerConfig(
        tmp_path, listen, "me", tmp_path, labels={"zone": "a"}, extra=extra
    )


class Live:
    """Live settings, and what a hook was told."""

    def __init__(self, config: WorkerConfig) -> None:
        self.told: list[WorkerConfig] = []
        self.live = LiveConfig(config)
        self.live.on_change(self.told.append)


def test_what_can_change_changes_and_is_told(config):
    one = Live(config)
    new = structs.replace(config, max_concurrent=3, retention=Retention(jobs=1))
    one.live.reconfigure(new)
    assert one.live.config == new
    assert one.told == [new]
    one.live.reconfigure(new)
    assert one.told == [new]


def test_what_takes_a_restart_waits_and_is_named(config, caplog, tmp_path):
    one = Live(config)
    listen = ListenAddress("", 1)
    new = structs.replace(config, listen=listen, root=tmp_path / "x", sample_size=5)
    one.live.reconfigure(new)
    assert one.live.config == structs.replace(config, sample_size=5)
    assert "waiting for a restart: listen, root" in caplog.text
    fields = set(WorkerConfig.__struct_fields__)
    assert fields >= set(NEEDS_RESTART)


def test_no_secret_is_logged(config, caplog):
    caplog.set_level("INFO")
    Live(config).live.reconfigure(structs.replace(config, hub_token="s3cret", name="x"))
    assert "settings have changed: name" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_hook_that_fails_keeps_nothing_from_the_others(config, caplog):
    live = LiveConfig(config)
    told: list[WorkerConfig] = []

    def fail(config: WorkerConfig) -> None:
        raise RuntimeError("not now")

    live.on_change(fail)
    live.on_change(told.append)
    live.set_name("you")
    assert [one.name for one in told] == ["you"]
    assert "not now" in caplog.text


def test_what_clients_set_stands_above_the_file_and_is_kept(config):
    one = Live(config)
    one.live.set_name("you")
    one.live.set_labels({"zone": "b", "gpu": "a100"})
    one.live.set_properties({"rack": 8, "desk": [1]})
    again = LiveConfig(structs.replace(config, name="other", max_concurrent=1)).config
    assert (again.name, again.max_concurrent) == ("you", 1)
    assert again.labels == {"zone": "b", "gpu": "a100"}
    assert again.extra == {"rack": 8, "owner": "ada", "desk": [1]}
    assert (config.state_dir / OVERRIDES_FILE).stat().st_mode & 0o777 == 0o600


def test_none_takes_back_what_clients_have_set(config):
    one = Live(config)
    one.live.set_name("you")
    one.live.set_labels({"zone": "b", "gpu": "a100"})
    one.live.set_properties({"rack": 8, "desk": 1})
    one.live.set_name(None)
    one.live.set_labels({"zone": None, "gpu": None, "none": None})
    one.live.set_properties({"rack": None, "desk": None})
    assert one.live.config == config
    assert len(one.told) == 6


@pytest.mark.parametrize(
    ("method", "value"),
    [
        ("set_name", ""),
        ("set_labels", {"a": 1}),
        ("set_labels", {"api_key": "x"}),
        ("set_properties", {"password": "x"}),
        ("set_properties", {"cpu": 1}),
        ("set_properties", {"a": "x" * 70_000}),
    ],
)
def test_what_may_not_be_set_changes_nothing(config, method, value):
    one = Live(config)
    with pytest.raises(ValueError, match=r"."):
        getattr(one.live, method)(value)
    assert (one.live.config, one.told) == (config, [])
    assert not (config.state_dir / OVERRIDES_FILE).exists()


def test_what_is_set_counts_together_with_the_file(config):
    live = LiveConfig(structs.replace(config, extra={"a": "x" * 40_000}))
    with pytest.raises(ValueError, match="over the limit"):
        live.set_properties({"b": "x" * 40_000})
    live.set_properties({"a": "x" * 60_000})


def test_what_cannot_be_kept_is_not_set(config, tmp_path):
    gone = structs.replace(config, state_dir=tmp_path / "a" / "b")
    (tmp_path / "a").write_text("a file stands in the way")
    one = Live(gone)
    with pytest.raises(OSError, match=r"."):
        one.live.set_name("you")
    assert one.live.config.name == "me"


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b'{"name": 5}', b'{"nam": "x"}', b"\xff", os.devnull),
        *(b'{"name": ""}', b'{"labels": {"token": "x"}}', b'{"extra": {"cpu": 1}}'),
    ],
)
def test_a_damaged_file_is_left_aside(config, content, caplog):
    path = config.state_dir / OVERRIDES_FILE
    if content == os.devnull:
        path.mkdir()
    else:
        path.write_bytes(content)
    assert LiveConfig(config).config == config
    assert f"{path} is damaged" in caplog.text


def test_what_is_kept_is_plain_json(config):
    values: dict[str, Any] = {"a": {"b": [1, 2.5, None, "x"]}}
    Live(config).live.set_properties(values)
    kept = json.loads((config.state_dir / OVERRIDES_FILE).read_text())
    assert kept == {"name": None, "labels": {}, "extra": values}
