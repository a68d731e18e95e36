"""What other tools have buttons and services for, done by calls of ours."""

import shutil
import subprocess
from pathlib import Path

import pytest

import mlepool
from mlepool.client.links.trust import Target, TrustStore
from mlepool.testing.proxy import FaultProxy
from tests.needs import need_program

pytestmark = pytest.mark.real

IDENTITY = ("key.pem", "certificate.pem", "token")


@pytest.fixture
def repository(tmp_path) -> Path:
    """A repository with one commit."""
    git = [need_program("git"), "-c", "user.name=a", "-c", "user.email=a@b"]
    folder: Path = tmp_path / "origin"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "train.py").write_text("print('trained')\n")
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "begin"]):
        subprocess.run([*git, *words], cwd=folder, check=True)
    return folder


def test_a_project_is_a_folder_and_git_is_a_program(conn, repository, tmp_path):
    projects = tmp_path / "projects"
    conn.mkdirs(projects, raise_error=True)
    conn.cd(projects)
    conn.run(["git", "clone", "-q", str(repository), "one"], raise_error=True)
    assert conn.run("git -C one log --format=%s").stdout == "begin\n"
    assert conn.run("python3 src/train.py", cwd="one").stdout == "trained\n"
    conn.copy("one", "two", recursive=True, raise_error=True)
    conn.move("one", "first", raise_error=True)
    assert conn.ls().value.names == ["first", "two"]
    conn.run(["tar", "-czf", "two.tar.gz", "two"], raise_error=True)
    conn.rm("two", recursive=True, raise_error=True)
    conn.run(["tar", "-xzf", "two.tar.gz"], raise_error=True)
    assert conn.glob("two/src/*.py").value.names == ["two/src/train.py"]
    failed = conn.run(["git", "clone", "-q", str(tmp_path / "none"), "three"])
    assert (failed.exit_code, "does not exist" in failed.stderr) == (128, True)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch) -> None:
    """Be an account that knows no worker."""
    monkeypatch.setenv("MLEPOOL_HOME", str(tmp_path / "elsewhere"))


@pytest.mark.usefixtures("elsewhere")
def test_a_machine_that_is_made_from_an_image_is_known_before(start_worker, tmp_path):
    first = start_worker("first")
    url = first.read_join_url()
    first.end()
    image = tmp_path / "machine" / "state"
    image.mkdir(mode=0o700, parents=True)
    for name in IDENTITY:
        shutil.copy(first.state_dir / name, image)
    TrustStore().add(Target.parse(url))
    machine = start_worker("machine")
    # Another address than in the URL, by a port that its side has forwarded.
    with FaultProxy(machine.port) as tunnel, mlepool.ClientPool() as pool:
        conn = pool.add("127.0.0.1", tunnel.port)
        conn.connect()
        assert conn.run("echo up").stdout == "up\n"
        assert tunnel.connections == 1
