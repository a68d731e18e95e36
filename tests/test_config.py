"""A worker's configuration file: what is in it, and what is wrong with it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlepool.config import Limits, Retention, Settings, read_settings
from mlepool.errors import ConfigError

GIB = 1024**3


@pytest.fixture
def read(tmp_path):
    """Read a file of this content."""
    path = tmp_path / "config.toml"

    def read(content: str | bytes) -> Settings:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_settings(path)

    read.path = path  # type: ignore[attr-defined]
    return read


def test_an_empty_file_gives_the_defaults(read):
    assert read("") == Settings(Limits(), Retention(), ())


def test_all_keys_are_read(read):
    limits, retention, roots = read(
        'job_quota = "2.5 GiB"\nkeep_free = "20 %"\ndurability = "power"\n'
        'retain_days = 30\nretain_size = "1T"\nretain_jobs = 7\n'
        'roots = ["/data", "~/exp"]\n'
    )
    assert limits == Limits(int(2.5 * GIB), 0.2, "power")
    assert retention == Retention(30 * 24 * 3600.0, 1024 * GIB, 7)
    assert roots == (Path("/data"), Path("~/exp").expanduser())


@pytest.mark.parametrize("text", ['["data"]', '"/data"', "[1]", '[""]'])
def test_roots_are_a_list_of_absolute_folders(read, text):
    with pytest.raises(ConfigError, match="roots"):
        read(f"roots = {text}")


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
def test_sizes_are_bytes_or_have_a_unit(read, text, size):
    assert read(f"job_quota = {text}")[0].job_quota == size


@pytest.mark.parametrize(
    ("text", "part"), [("0.25", 0.25), ("0", 0.0), ('"25 %"', 0.25), ('"0.5%"', 0.005)]
)
def test_a_part_is_a_fraction_or_in_percent(read, text, part):
    assert read(f"keep_free = {text}")[0].keep_free == part


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("job_quta = 5", "there is no key 'job_quta'; did you mean 'job_quota'?"),
        ("xyz = 5", "there is no key 'xyz'; did you mean "),
        ("[limits]\njob_quota = 5", "there is no key 'limits'"),
        ("job_quota = 1.5", "job_quota = 1.5: expected int | str, got float"),
        ("job_quota = true", "job_quota = True: expected int | str, got bool"),
        ('job_quota = "10 pounds"', "job_quota = '10 pounds': give bytes, or e.g."),
        ("job_quota = -5", "job_quota = -5: give bytes"),
        ("job_quota = 1048575", "job_quota = 1048575: it must be 1048576 bytes"),
        ("keep_free = 1", "keep_free = 1.0: give a part, e.g. 0.1 or '10 %'"),
        ("keep_free = nan", "keep_free = nan: give a part"),
        ("keep_free = -0.1", "keep_free = -0.1: give a part"),
        ('keep_free = "much"', "keep_free = 'much': give a part"),
        ('durability = "steel"', "durability = 'steel': it is 'process' or 'power'"),
        ("retain_days = -1", "retain_days = -1: expected float >= 0"),
        ('retain_days = "7"', "retain_days = '7': expected float, got str"),
        ("retain_jobs = -1", "retain_jobs = -1: expected int >= 0"),
        ("job_quota 5", "line 1"),
        (b"job_quota = '\xff'", "utf-8"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(read, line, said):
    with pytest.raises(ConfigError) as caught:
        read(line)
    text = str(caught.value)
    assert text.startswith(f"{read.path}: ")
    assert said in text


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(
            ConfigError, match=f"^{path}: (No such file|Is a directory)"
        ):
            read_settings(path)


def test_a_worker_does_not_start_with_a_wrong_file(tmp_path):
    (tmp_path / "config.toml").write_text("job_quta = 5\n")
    command = [sys.executable, "-m", "mlepool", "worker", "--state-dir", str(tmp_path)]
    done = subprocess.run(
        [*command, "--listen", "127.0.0.1:0"],
        capture_output=True,
        text=True,
        timeout=30,
        env=os.environ,
    )
    assert done.returncode == 1
    said = (
        f"{tmp_path}/config.toml: there is no key 'job_quta'; did you mean 'job_quota'?"
    )
    assert f"mlepool worker: {said}\n" in done.stderr
