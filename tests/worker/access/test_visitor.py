"""Who is at the other end of a link: what is refused to them, and what is noted."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from mlepool.errors import PermissionDeniedError
from mlepool.files.base import TargetReport
from mlepool.wire.messages import CommandSpec, Request
from mlepool.wire.values import JobFiles
from mlepool.worker.access.audit import AuditLog, read_audit
from mlepool.worker.access.identity import Identity, new_secret
from mlepool.worker.access.tokens import Token, TokenStore
from mlepool.worker.access.visitor import Visitor
from mlepool.worker.job import Job
from mlepool.worker.jobs import JobTable
from mlepool.worker.registry import Process

RUN = CommandSpec("run", spawns=True)
PYTHON = Process((b"python", b"x.py"), "python x.py")


class KnownJobs:
    """Jobs by id: all that a visitor asks of them."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}

    def add(self, job_id: str, owner: str) -> Job:
        job = Job(job_id, "true", folder=Path("/nowhere"))
        job.owner = owner
        self._jobs[job_id] = job
        return job

    def find(self, job_id: str) -> Job:
        return self._jobs[job_id]


class Place:
    """A worker's folder, and who comes there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 1e6
        Identity(folder)
        self.tokens = TokenStore(folder, clock=lambda: self.now)
        self.jobs = KnownJobs()
        self.audit = AuditLog(folder, size=1 << 20)

    def visitor(self, *roles: str, **settings: Any) -> Visitor:
        token = Token("ci", new_secret(), roles, **settings)
        self.tokens.create(token)
        return self._make(self.tokens.find(token.id))

    def local(self) -> Visitor:
        return self._make(None)

    def lines(self) -> list[dict[str, Any]]:
        """Give the audit log, without what is the same in all lines."""
        same = ("time", "address", "token_id")
        found = [one for one in read_audit(self.folder) if one is not None]
        return [{k: v for k, v in one.items() if k not in same} for one in found]

    def _make(self, token: Token | None) -> Visitor:
        jobs = cast(JobTable, self.jobs)
        return Visitor(
            *(self.tokens, jobs, self.audit), address="10.0.0.7:1", token=token
        )


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    yield place
    place.audit.close()


def request(command: str = "run", **arguments: Any) -> Request:
    return Request(1, "job1", command, arguments)


def refused(call: Callable[..., object], *arguments: Any) -> str:
    with pytest.raises(PermissionDeniedError) as caught:
        call(*arguments)
    return str(caught.value)


# -- roles


def test_who_lacks_a_role_is_told_which_and_it_is_noted(place):
    visitor = place.visitor("view", "sync")
    text = refused(visitor.check, RUN, request())
    assert text == "needs the role 'run'; this token ('ci') has: sync, view"
    assert place.lines() == [
        {
            "event": "refused",
            "token": "ci",
            "right": "the role 'run'",
            "command": "run",
            "job": "job1",
        }
    ]


def test_files_that_are_not_open_are_noted_in_words(place):
    visitor = place.visitor("sync")
    visitor.note_failure(request(), PermissionError(13, "not inside", "/etc"))
    visitor.note_failure(request(), PermissionError("no such luck"))
    visitor.note_failure(request(), FileNotFoundError(2, "not there", "/etc"))
    rights = [one["right"] for one in place.lines()]
    assert rights == ["not inside: '/etc'", "no such luck"]


def test_who_has_the_role_may(place):
    place.visitor("run").check(RUN, request())
    assert place.lines() == []


def test_this_account_on_this_machine_may_do_all(place):
    local = place.local()
    for role in ("view", "run", "sync", "admin"):
        local.check(CommandSpec("x", role=role), request("x"))
    local.check_process(request(), PYTHON)
    local.check_reader(place.jobs.add("job2", "somebody"))
    assert local.problem() is None


def test_a_job_is_read_by_who_may_view_or_has_started_it(place):
    own, other = place.jobs.add("own", "ci"), place.jobs.add("other", "first")
    visitor = place.visitor("run")
    visitor.check_reader(own)
    assert "the role 'view'" in refused(visitor.check_reader, other)
    place.tokens.revoke("ci")
    place.visitor("view").check_reader(other)


# -- patterns


@pytest.mark.parametrize(
    ("argv", "fits"),
    [
        ((b"python", b"x.py"), True),
        ((b"python",), False),
        ((b"sh", b"-c", b"python x"), False),
        ((b"/bin/sh", b"-c", b"python x.py"), True),
        ((b"/bin/sh", b"-c", b"python x.py; sh"), False),
    ],
)
def test_a_token_may_be_for_some_commands_only(place, argv, fits):
    visitor = place.visitor("run", commands=("python *",))
    process = Process(argv, "python x.py")
    if fits:
        visitor.check_process(request(), process)
    else:
        text = refused(visitor.check_process, request(), process)
        assert text.startswith("needs a command that fits 'python *', ")
        (line,) = place.lines()
        assert (line["event"], line["argv"][0]) == ("refused", argv[0].decode())


def test_who_may_run_some_commands_may_not_make_other_ones_of_them(place):
    visitor = place.visitor("run", commands=("python *",))
    visitor.check_process(request(), Process(PYTHON.argv, "", env={"LANG": "C"}))
    evil = Process(PYTHON.argv, "", env={"PATH": "/tmp", "LANG": "C"})
    assert "to set PATH" in refused(visitor.check_process, request(), evil)


def test_other_commands_must_fit_a_pattern_by_their_name(place):
    visitor = place.visitor("run", commands=("python *", "images.*"))
    visitor.check(CommandSpec("images.resize", streams=True), request("images.resize"))
    deploy = CommandSpec("deploy", streams=True)
    assert "fits 'deploy'" in refused(visitor.check, deploy, request("deploy"))
    visitor.check_process(request("images.show"), Process((b"feh",), "feh"))
    visitor.check_process(request("own"), PYTHON)
    assert refused(visitor.check_process, request("run"), Process((b"feh",), "feh"))


def test_who_may_run_some_commands_types_into_own_jobs_only(place):
    place.jobs.add("own", "ci")
    place.jobs.add("other", "first")
    visitor = place.visitor("run", commands=("python *",))
    for name in ("send_input", "stop", "resize"):
        spec = CommandSpec(name)
        visitor.check(spec, request(name, job_id="own"))
        text = refused(visitor.check, spec, request(name, job_id="other"))
        assert "to have started that job itself" in text


# -- folders


def test_a_token_may_be_for_some_folders_only(place, tmp_path):
    data = tmp_path / "data"
    (data / "run").mkdir(parents=True)
    (data / "out").symlink_to("/")
    (tmp_path / "data-b").mkdir()
    visitor = place.visitor("run", roots=(str(data),))
    assert visitor.start_folder(Path("/srv")) == data

    def settled(cwd: str | None, base: Path = data) -> str | None:
        process = Process((b"true",), "true", cwd=cwd)
        done: Process = asyncio.run(visitor.settle(request(), process, base))
        return done.cwd

    assert settled(None) == str(data)
    assert settled("run") == settled(f"{data}/run/../run") == str(data / "run")
    for cwd in ("..", "../data-b", "out", "out/tmp", "/", "~", str(tmp_path)):
        assert "a folder of its own to run in" in refused(settled, cwd)
    assert refused(settled, None, tmp_path)
    assert {one["event"] for one in place.lines()} == {"refused"}


def test_where_folders_are_not_limited_nothing_is_asked_of_the_disk(place):
    visitor = place.visitor("run")
    assert asyncio.run(visitor.settle(request(), PYTHON, Path("/srv"))) is PYTHON
    assert visitor.start_folder(Path("/srv")) == Path("/srv")


# -- tokens that change


def test_who_has_a_good_token_may_stay(place):
    assert place.visitor("view").problem() is None


def test_who_has_a_bad_token_has_to_leave_and_is_told_why(place):
    visitor = place.visitor("view", expires=place.now + 5)
    place.now += 5
    code, reason = visitor.problem() or ("", "")
    assert code == "refused"
    assert reason.startswith("this token ('ci') has expired on ")
    place.tokens.revoke("ci")
    _, reason = visitor.problem() or ("", "")
    assert reason.startswith("this token ('ci') was revoked on ")


def test_who_has_other_rights_now_has_to_come_again(place):
    visitor = place.visitor("view", "run")
    path = place.folder / "tokens.json"
    path.write_text(path.read_text().replace('"run"', '"sync"'))
    expected = ("closed", "the rights of this token ('ci') have changed")
    assert visitor.problem() == expected


def test_a_file_that_was_written_anew_with_the_same_rights_changes_nothing(place):
    visitor = place.visitor("view")
    other = Token("other", new_secret(), ("view",))
    place.tokens.create(other)
    assert visitor.problem() is None


def test_nobody_stays_whose_token_is_gone(place):
    visitor = place.visitor("view")
    (place.folder / "tokens.json").unlink()
    expected = ("refused", "this token ('ci') is not known any more")
    assert visitor.problem() == expected


# -- what is noted


def test_a_process_is_noted_without_the_values_of_its_environment(place):
    digest = "0" * 64
    process = Process(
        *((b"python", b"x"), "python x", "exp"),
        env={"KEY": "hush", "A": "hush"},
        files=JobFiles(digest),
    )
    place.visitor("run").note_process(request(), process, Path("/srv"))
    assert place.lines() == [
        {
            "event": "accepted",
            "token": "ci",
            "command": "run",
            "job": "job1",
            "argv": ["python", "x"],
            "env": ["A", "KEY"],
            "cwd": "/srv/exp",
            "tree": digest,
        }
    ]


def test_a_folder_that_is_no_text_is_noted_as_well_as_can_be(place):
    place.visitor("run").note_process(request(), PYTHON, Path("/srv/\udcff"))
    assert place.lines()[0]["cwd"] == "/srv/\\xff"


def test_what_changes_nothing_is_not_noted(place):
    visitor = place.visitor("admin")
    visitor.note(CommandSpec("jobs", role="view"), request("jobs"))
    visitor.note(RUN, request())  # its process is
    visitor.note(CommandSpec("resize"), request("resize"))
    visitor.note(CommandSpec("_tree_write", role="sync"), request("_tree_write"))
    assert place.lines() == []


def test_input_is_noted_once_for_a_job_and_never_what_it_was(place):
    visitor = place.visitor("run")
    for job_id in ("a", "a", "b", "a"):
        call = request("send_input", job_id=job_id, data=b"hush")
        visitor.note(CommandSpec("send_input"), call)
    found = [(one["command"], one["job_id"]) for one in place.lines()]
    assert found == [("send_input", "a"), ("send_input", "b")]


def test_syncs_are_noted_by_their_folder_and_by_what_they_did(place):
    visitor = place.visitor("sync")
    spec = CommandSpec("_tree_open_target", role="sync")
    call = request("_tree_open_target", session="5" * 16, root=b"/data", options={})
    visitor.note(spec, call)
    visitor.note_value(call, TargetReport(3, 100, 1))
    visitor.note_value(call, "something else")
    assert place.lines() == [
        {
            "event": "accepted",
            "token": "ci",
            "command": "sync",
            "step": "open_target",
            "session": "5" * 16,
            "root": "/data",
        },
        {
            "event": "synced",
            "token": "ci",
            "session": "5" * 16,
            "written": 3,
            "deleted": 1,
            "problems": 0,
        },
    ]


def test_of_a_users_own_command_only_the_names_of_arguments_are_noted(place):
    spec = CommandSpec("deploy", streams=True)
    place.visitor("run").note(spec, request("deploy", path="/x", key="hush"))
    (line,) = place.lines()
    assert line["arguments"] == ["key", "path"]
    assert line["job"] == "job1"
    assert "hush" not in str(line)


def test_every_line_says_who_it_was(place):
    visitor = place.visitor("run")
    visitor.note_process(request(), PYTHON, Path("/"))
    (line,) = [one for one in read_audit(place.folder) if one is not None]
    assert visitor.token is not None
    assert line["address"] == "10.0.0.7:1"
    assert line["token_id"] == visitor.token.id
    assert visitor.token.secret not in str(line)
