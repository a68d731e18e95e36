"""A worker's settings: what is in a file, who stands above whom, what is wrong."""

import contextlib
import json
import socket
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings as settings_of_hypothesis

from mlepool.config import Limits, ListenAddress, Retention, WorkerConfig
from mlepool.errors import ConfigError
from mlepool.settings.keys import KEYS
from mlepool.settings.reading import Flags, Found, Source
from tests.tools import steady

GIB = 1024**3

# Each key: as text, as a file has it, what becomes of it, and where.
TABLE: dict[str, tuple[str, str, Any]] = {
    "state_dir": ("/s", '"/s"', Path("/s")),
    "listen": ("1.2.3.4:5", '"1.2.3.4:5"', ListenAddress("1.2.3.4", 5)),
    "name": ("gpu1", '"gpu1"', "gpu1"),
    "root": ("/exp", '"/exp"', Path("/exp")),
    "roots": ("/a:/b", '["/a", "/b"]', (Path("/a"), Path("/b"))),
    "labels": ("gpu=a100", '{gpu = "a100"}', {"gpu": "a100"}),
    "state": ('{"rack": [1]}', "{rack = [1]}", {"rack": [1]}),
    "commands": ("mod:x.py", '["mod", "x.py"]', ("mod", "{}/x.py")),
    "max_concurrent": ("4", "4", 4),
    "job_quota": ("2.5 GiB", '"2.5 GiB"', int(2.5 * GIB)),
    "keep_free": ("20 %", '"20 %"', 0.2),
    "durability": ("power", '"power"', "power"),
    "retain_days": ("0.5", "0.5", 12 * 3600.0),
    "retain_size": ("1T", '"1T"', 1024 * GIB),
    "retain_jobs": ("7", "7", 7),
    "sample_interval": ("2", "2", 2.0),
    "sample_size": ("1 MiB", '"1 MiB"', 1024**2),
    "prometheus": ("yes", "true", True),
    "audit_size": ("0", "0", 0),
    "reload": ("on", "true", True),
    "hub": ("wss://hub", '"wss://hub"', "wss://hub"),
    "hub_token": ("s3cret", '"s3cret"', "s3cret"),
}


class Settings:
    """Reads settings whose file is in a folder of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.toml = folder / "config.toml"
        self.json = folder / "config.json"

    def read(
        self, flags: Flags | None = None, *, file: Path | None = None, **env: str
    ) -> Found:
        env = {"MLEPOOL_STATE_DIR": str(self.folder)} | env
        return Source(flags or {}, env, file=file).read()

    def of(self, content: str | bytes, *, name: str = "config.toml") -> WorkerConfig:
        data = content.encode() if isinstance(content, str) else content
        (self.folder / name).write_bytes(data)
        return self.read().config

    def value(self, key: str, found: Found) -> Any:
        value: Any = found.config
        for part in KEYS[key].place.split("."):
            value = getattr(value, part)
        return value


@pytest.fixture
def settings(tmp_path):
    return Settings(tmp_path)


def test_without_anything_all_is_as_by_default(settings):
    found = settings.read()
    name, here = socket.gethostname(), Path.cwd()
    listen = ListenAddress("", 9922)
    assert found.config == WorkerConfig(settings.folder, listen, name, here)
    assert (found.origins, found.notes) == ({"state_dir": "MLEPOOL_STATE_DIR"}, [])


def test_the_table_of_keys_is_that_of_all_settings():
    assert set(TABLE) == set(KEYS)
    fields = {key.place.partition(".")[0] for key in KEYS.values()}
    assert fields == set(WorkerConfig.__struct_fields__)
    nested = {key.place for key in KEYS.values() if "." in key.place}
    assert nested == {
        *(f"limits.{name}" for name in Limits.__struct_fields__),
        *(f"retention.{name}" for name in Retention.__struct_fields__),
    }


@pytest.mark.parametrize("key", TABLE)
def test_every_setting_can_be_set_in_every_way(key, settings, monkeypatch):
    monkeypatch.chdir(settings.folder)
    text, in_file, value = TABLE[key]
    if key == "commands":
        value = (value[0], value[1].format(settings.folder))
    variable = f"MLEPOOL_{key.upper()}"
    by_env = settings.read(**{variable: text})
    assert settings.value(key, by_env) == value
    assert by_env.origins[key] == variable
    other = settings.folder / "other.toml"
    other.write_text(f"# first\n{key} = {in_file}\n")
    by_file = Source({}, {}, file=other).read()
    assert settings.value(key, by_file) == value
    assert by_file.origins == {key: f"{other}:2"}
    if key == "hub_token":
        with pytest.raises(ConfigError, match="it is a secret"):
            settings.read({key: text})
    else:
        assert settings.value(key, settings.read({key: text})) == value


def test_flags_are_above_the_environment_and_that_above_the_file(settings):
    settings.toml.write_text('name = "file"\nretain_jobs = 1\nmax_concurrent = 1\n')
    env = {"MLEPOOL_NAME": "env", "MLEPOOL_MAX_CONCURRENT": "none"}
    found = settings.read({"name": "flag"}, **env)
    config = found.config
    assert (config.name, config.max_concurrent) == ("flag", None)
    assert config.retention.jobs == 1
    assert found.origins == {
        "state_dir": "MLEPOOL_STATE_DIR",
        "name": "--name",
        "max_concurrent": "MLEPOOL_MAX_CONCURRENT",
        "retain_jobs": f"{settings.toml}:2",
    }


def test_tables_are_put_together(settings):
    settings.toml.write_text('[labels]\nzone = "a"\ngpu = "none"\n')
    found = settings.read({"labels": ["rack=7", "zone=b"]}, MLEPOOL_LABELS="gpu=a100")
    assert found.config.labels == {"zone": "b", "gpu": "a100", "rack": "7"}
    where = f"{settings.toml}:1, MLEPOOL_LABELS, --label, --label"
    assert found.origins["labels"] == where


def test_an_empty_variable_is_none(settings):
    assert settings.read(MLEPOOL_NAME="").config.name == socket.gethostname()


def test_the_file_is_where_it_is_said_to_be(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.json").write_text('{"name": "json", "max_concurrent": null}')
    by_env = settings.read(MLEPOOL_CONFIG="mine.json")
    assert by_env.config.name == "json"
    assert settings.read(file=Path("mine.json")) == by_env
    assert by_env.origins["name"] == f"{tmp_path}/mine.json:1"


def test_a_file_may_be_toml_or_json_but_not_both(settings):
    assert settings.of('{"name": "json"}', name="config.json").name == "json"
    with pytest.raises(ConfigError, match=r"config.toml and config.json: remove one"):
        settings.of("")


def test_a_state_folders_own_file_does_not_move_it(settings, tmp_path):
    with pytest.raises(ConfigError, match="name it with --config"):
        settings.of('state_dir = "other"')
    found = Source({}, {}, file=settings.toml).read()
    assert found.config.state_dir == tmp_path / "other"


@pytest.mark.parametrize("text", ['["data"]', '"/data"', "[1]", '[""]', '["a\\u0000"]'])
def test_roots_are_a_list_of_absolute_folders(settings, text):
    with pytest.raises(ConfigError, match="roots"):
        settings.of(f"roots = {text}")
    assert settings.of('roots = ["~/x"]').roots == (Path("~/x").expanduser(),)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1048576", 1024**2),
        ('"1048576"', 1024**2),
        ('"10 GiB"', 10 * GIB),
        ('"10gb"', 10 * GIB),
        ('" 10 G "', 10 * GIB),
        ('"1.5 MiB"', 3 * 1024**2 // 2),
        ('"2048 KiB"', 2 * 1024**2),
    ],
)
def test_sizes_are_bytes_or_have_a_unit(settings, text, size):
    assert settings.of(f"job_quota = {text}").limits.job_quota == size


@pytest.mark.parametrize(
    ("text", "part"), [("0.25", 0.25), ("0", 0.0), ('"25 %"', 0.25), ('"0.5%"', 0.005)]
)
def test_a_part_is_a_fraction_or_in_percent(settings, text, part):
    assert settings.of(f"keep_free = {text}").limits.keep_free == part


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        ("\njob_quta = 5", 2, "there is no key 'job_quta'; did you mean 'job_quota'?"),
        ("xyz = 5", 1, "there is no key 'xyz'; did you mean "),
        ("name = 'a'\n[limits]\njob_quota = 5", 2, "there is no key 'limits'"),
        ("job_quota = 1.5", 1, "job_quota = 1.5: expected int | str, got float"),
        ("job_quota = true", 1, "job_quota = True: expected int | str, got bool"),
        ('job_quota = "10 pounds"', 1, "job_quota = '10 pounds': give bytes, or e.g."),
        ("job_quota = -5", 1, "job_quota = -5: give bytes"),
        ("job_quota = 1048575", 1, "job_quota = 1048575: it must be 1048576 bytes"),
        ("keep_free = 1", 1, "keep_free = 1: give a part, e.g. 0.1 or '10 %'"),
        ("keep_free = nan", 1, "keep_free = nan: give a part"),
        ("keep_free = -0.1", 1, "keep_free = -0.1: give a part"),
        ('durability = "steel"', 1, "durability = 'steel': it is 'process' or"),
        ("retain_days = -1", 1, "retain_days = -1: expected float >= 0"),
        ("retain_days = nan", 1, "retain_days = nan: "),
        ('retain_days = "7"', 1, "retain_days = '7': expected float, got str"),
        ("retain_jobs = -1", 1, "retain_jobs = -1: expected int >= 0"),
        ("max_concurrent = 0", 1, "max_concurrent = 0: expected int >= 1"),
        ('max_concurrent = "4"', 1, "max_concurrent = '4': expected int, got str"),
        ('prometheus = "no"', 1, "prometheus = 'no': expected bool, got str"),
        ("listen = 'x:y'", 1, "listen = 'x:y': cannot listen on 'x:y': give HOST:PORT"),
        ("name = ''", 1, "name = '': '': a name has 1 to 200 characters"),
        ("[labels]\na = 'b'\nc = 1", 3, "labels.c: expected str, got int"),
        ("[state]\nos = 1", 2, "state.os: the worker itself says that"),
        (
            "[state]\na = 1\n\napi_key = 'hi'",
            4,
            "state.api_key: it looks like a secret",
        ),
        ("hub_token = 5", 1, "hub_token = ...: expected str, got int"),
        ("name = 'a'\nname = 'b'", 2, "Cannot overwrite a value"),
        ("\njob_quota 5", 2, "Expected '=' after a key"),
        (b"job_quota = '\xff'", 0, "utf-8"),
        ("x = " + "[" * 5000, 0, "nested too deep"),
        ("#" * (1024 * 1024 + 1), 0, "larger than"),
    ],
)
def test_what_is_wrong_is_named_with_its_file_and_line(
    settings, content, *, line, says
):
    with pytest.raises(ConfigError) as caught:
        settings.of(content)
    place = f"{settings.toml}:{line}: " if line else f"{settings.toml}: "
    text = str(caught.value)
    assert text.startswith(place), text
    assert says in text
    assert "'hi'" not in text


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        ('{\n "nam": "a"}', 2, "there is no key 'nam'; did you mean 'name'?"),
        ('{"labels":\n {"a": "{\\"", "token":\n "x"}}', 2, "labels.token: it looks"),
        ('{"name": "a",\n"name": "b"}', 0, "the key 'name' is there twice"),
        ('{"name": NaN}', 0, "NaN is no JSON"),
        ('{"name": "a"\n]', 2, "Expecting"),
        ("[]", 0, "it should be an object"),
        ("[" * 100_000, 0, "nested too deep"),
    ],
)
def test_what_is_wrong_in_json_is_named_too(settings, content, *, line, says):
    with pytest.raises(ConfigError) as caught:
        settings.of(content, name="config.json")
    place = f"{settings.json}:{line}: " if line else f"{settings.json}: "
    assert str(caught.value).startswith(place)
    assert says in str(caught.value)


def test_what_is_wrong_elsewhere_is_named_too(settings):
    with pytest.raises(ConfigError, match="^MLEPOOL_RETAIN_DAYS: retain_days = 'x': "):
        settings.read(MLEPOOL_RETAIN_DAYS="x")
    with pytest.raises(ConfigError, match="^--set retain_days: retain_days = 'x': "):
        settings.read({"retain_days": "x"})
    with pytest.raises(ConfigError, match="^--set nam: there is no key 'nam'"):
        settings.read({"nam": "x"})
    with pytest.raises(ConfigError, match="^MLEPOOL_LABELS: labels = 'a': give KEY="):
        settings.read(MLEPOOL_LABELS="a")
    a_jobs = {"MLEPOOL_JOB": "x", "MLEPOOL_JOB_STATE_DIR": "/x"}
    found = settings.read(MLEPOOL_JOB_QUTA="5", MLEPOOL_WHATEVER="5", **a_jobs)
    assert found.notes == [
        "MLEPOOL_JOB_QUTA is no setting; did you mean MLEPOOL_JOB_QUOTA?"
    ]


def test_a_file_that_cannot_be_read_is_named(settings, tmp_path):
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(
            ConfigError, match=f"^{path}: (No such file|Is a directory)"
        ):
            settings.read(file=path)


def test_the_stamp_is_another_one_once_the_file_is(settings):
    source = Source({}, {"MLEPOOL_STATE_DIR": str(settings.folder)})
    source.read()
    first = source.stamp()
    settings.toml.write_text("")
    second = source.stamp()
    assert first != second == source.stamp()
    settings.toml.write_text("# more")
    assert source.stamp() != second


keys = st.sampled_from([*KEYS, "machineId", "port", "host", "limits", "x"])
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


few = settings_of_hypothesis(steady, max_examples=40)


@few
@given(st.dictionaries(keys | st.text(max_size=9), values, max_size=4))
def test_whatever_is_in_a_json_file_gives_settings_or_one_kind_of_error(
    tmp_path_factory, content
):
    path = tmp_path_factory.getbasetemp() / "fuzz.json"
    path.write_text(json.dumps(content))
    only_config_errors(path)


@few
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_random_bytes_give_settings_or_one_kind_of_error(tmp_path_factory, content):
    for name in ("fuzz.json", "fuzz.toml"):
        path = tmp_path_factory.getbasetemp() / name
        path.write_bytes(content)
        only_config_errors(path)


@few
@given(
    keys,
    st.sampled_from(["1", "nan", "inf", "'x'", "[1]", "{a={b=1}}", "1979-05-27", "{}"])
    | st.text(max_size=20),
)
def test_odd_values_of_keys_give_settings_or_one_kind_of_error(
    tmp_path_factory, key, text
):
    path = tmp_path_factory.getbasetemp() / "fuzz.toml"
    path.write_text(f"# a\n{key} = {text}", "utf-8", "replace")
    only_config_errors(path)
    variable = f"MLEPOOL_{key.upper()}"
    with contextlib.suppress(ConfigError):
        Source({}, {variable: text}, file=path.with_name("none.toml")).read()


def only_config_errors(path: Path) -> None:
    problem = str(path)
    try:
        Source({}, {}, file=path).read()
    except ConfigError as exc:
        problem = str(exc)
    assert problem.startswith(str(path))
