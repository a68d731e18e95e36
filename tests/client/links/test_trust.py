"""Join URLs, and where they are kept: real files in folders of the tests' own."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from mlepool.client.links.trust import (
    KnownWorker,
    Target,
    TrustStore,
    local_socket,
    local_workers,
    plain_sockets,
)
from mlepool.config import write_private
from mlepool.errors import ConfigError

KEY = "Ab3_" * 10 + "xyz"
TOKEN = "a-secret-that-nobody-may-see_0123456789abcd"
JOIN_URL = f"mle://gpu1:9955?key={KEY}&token={TOKEN}"


def other_key(number: int) -> str:
    return f"{number:043d}"


@pytest.fixture
def store(tmp_path):
    return TrustStore(tmp_path)


# -- what is read


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpu1", Target("gpu1", 9922)),
        ("gpu1:99", Target("gpu1", 99)),
        ("10.0.0.7:65535", Target("10.0.0.7", 65535)),
        ("[::1]", Target("::1", 9922)),
        ("[::1]:99", Target("::1", 99)),
        ("::1", Target("::1", 9922)),
        ("wss://gpu1:99/", Target("gpu1", 99, "wss")),
        ("ws://gpu1", Target("gpu1", 9922, "ws")),
        ("unix:", Target("", 0, "unix")),
        ("unix:/var/x", Target("/var/x", 0, "unix")),
        (JOIN_URL, Target("gpu1", 9955, "wss", KEY, TOKEN)),
        (
            f"mle://[::1]?token={TOKEN}&key={KEY}",
            Target("::1", 9922, "wss", KEY, TOKEN),
        ),
        (f"{JOIN_URL}&scheme=ws", Target("gpu1", 9955, "ws", KEY, TOKEN)),
    ],
)
def test_a_host_an_address_or_a_url_is_read(text, expected):
    assert Target.parse(text) == expected


def test_the_name_is_the_host_and_the_port_only_where_it_is_unusual():
    assert Target.parse("gpu1").name == "gpu1"
    assert Target.parse("gpu1:99").name == "gpu1:99"
    assert Target.parse("gpu1", 99).name == "gpu1:99"
    assert Target.parse("unix:").name == "local"
    assert Target.parse("unix:/x").name == "unix:/x"


def test_the_url_has_brackets_round_an_ipv6_address():
    assert Target.parse("::1", 99).url == "wss://[::1]:99"
    assert Target.parse("ws://gpu1:99").url == "ws://gpu1:99"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "gpu1:",
        "gpu1:0",
        "gpu1:65536",
        "gpu1:99999999999999999999",
        "gpu1:port",
        "gpu1:\N{ARABIC-INDIC DIGIT THREE}",
        "two words",
        "user@gpu1",
        "[::1",
        "http://gpu1",
        "ssh://gpu1",
        "wss://gpu1/path",
        "gpu1\n",
    ],
)
def test_what_is_no_host_is_a_config_error(text):
    with pytest.raises(ConfigError):
        Target.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        f"mle://gpu1?token={TOKEN}",
        f"mle://gpu1?key=&token={TOKEN}",
        f"mle://gpu1?key={KEY[:-1]}&token={TOKEN}",
        f"mle://gpu1?key={KEY}x&token={TOKEN}",
        f"mle://gpu1?key={KEY[:-1]}!&token={TOKEN}",
        f"mle://gpu1?key={KEY[:-1]}%C3%BC&token={TOKEN}",
        f"mle://gpu1?key={KEY}",
        f"mle://gpu1?key={KEY}&token=",
        f"mle://gpu1:0?key={KEY}&token={TOKEN}",
        f"mle://gpu1:70000?key={KEY}&token={TOKEN}",
        f"mle://gpu1:x?key={KEY}&token={TOKEN}",
        f"mle://?key={KEY}&token={TOKEN}",
        f"mle://gpu1/key={KEY}&token={TOKEN}",
        f"mle://gpu1&key={KEY}?token={TOKEN}",
        f"mle://{TOKEN}@gpu1?key={KEY}&token={TOKEN}",
        f"mle://gpu1?key={KEY}&token={TOKEN}&scheme=http",
        f"mle:gpu1?key={KEY}&token={TOKEN}",
        f"gpu1:9922?key={KEY}&token={TOKEN}",
        f"wss://gpu1:9922?key={KEY}&token={TOKEN}",
        f"MLE://gpu1:9922?key={KEY}&token={TOKEN}",
    ],
)
def test_a_broken_join_url_is_refused_without_telling_its_token(text):
    with pytest.raises(ConfigError) as caught:
        Target.parse(text)
    shown = f"{caught.value!r} {caught.value} {caught.value.__cause__!r}"
    assert TOKEN not in shown
    assert len(str(caught.value)) > 20


@given(st.text(max_size=60) | st.text("[]:?%@/.0123456789abmle=&", max_size=30))
def test_any_text_is_a_target_or_a_config_error(text):
    for one in (text, f"mle://{text}", f"wss://{text}"):
        try:
            target = Target.parse(one)
        except ConfigError:
            continue
        assert 0 <= target.port < 65536


# -- what is kept


def test_what_was_trusted_is_found_by_its_key_and_by_its_place(store):
    store.add(Target.parse(JOIN_URL))
    assert store.load() == {KEY: KnownWorker(TOKEN, "gpu1", 9955)}
    assert store.token_for(KEY) == TOKEN
    assert store.key_at(Target.parse("gpu1:9955")) == KEY
    assert store.key_at(Target.parse("gpu1")) == ""
    assert store.token_for(other_key(1)) == ""


def test_to_trust_again_takes_the_new_token_and_place(store):
    store.add(Target.parse(JOIN_URL))
    store.add(Target("gpu2", 9922, "ws", KEY, TOKEN[::-1]))
    assert store.load() == {KEY: KnownWorker(TOKEN[::-1], "gpu2", 9922, "ws")}


def test_nothing_is_kept_of_what_is_no_join_url(store, tmp_path):
    for target in (Target("gpu1", 9922), Target("gpu1", 9922, "wss", KEY)):
        with pytest.raises(ConfigError, match="only a join URL"):
            store.add(target)
    assert list(tmp_path.iterdir()) == []


def test_what_is_kept_is_for_this_account_only(store, tmp_path):
    store.add(Target.parse(JOIN_URL))
    (folder,) = tmp_path.iterdir()
    (file,) = folder.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe", b'{"token": 1}', b"\0" * 100]
)
def test_a_damaged_file_is_named_and_the_others_are_still_good(
    store, tmp_path, content
):
    for number in (1, 2):
        store.add(Target("gpu1", 9922, "wss", other_key(number), TOKEN))
    (damaged,) = tmp_path.rglob(other_key(1))
    damaged.write_bytes(content)
    with pytest.raises(ConfigError, match=f"{other_key(1)} is damaged"):
        store.token_for(other_key(1))
    with pytest.raises(ConfigError, match="is damaged"):
        store.load()
    assert store.token_for(other_key(2)) == TOKEN
    store.add(Target("gpu1", 9922, "wss", other_key(1), TOKEN))
    assert len(store.load()) == 2


def test_a_file_that_was_never_made_by_us_is_passed_over(store, tmp_path):
    store.add(Target.parse(JOIN_URL))
    (folder,) = tmp_path.iterdir()
    (folder / ".backup~").write_bytes(b"x")
    assert list(store.load()) == [KEY]


def test_a_key_from_outside_names_no_other_file(store, tmp_path):
    write_private(tmp_path / "elsewhere", b'{"token": "x"}')
    assert store.token_for("../elsewhere") == ""
    assert store.token_for("/etc/passwd") == ""
    assert store.token_for("a\0b") == ""


def test_many_threads_trust_at_once_and_nothing_is_lost(store):
    barrier = threading.Barrier(16)

    def trust(number: int) -> None:
        barrier.wait()
        store.add(Target(f"gpu{number}", 9922, "wss", other_key(number), TOKEN))

    threads = [threading.Thread(target=trust, args=[number]) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.host for one in store.load().values()] == [
        f"gpu{number}" for number in range(16)
    ]


# -- the command line


def trust(home, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mlepool", "trust", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "MLEPOOL_HOME": str(home)},
    )


def test_trust_keeps_a_url_and_does_not_show_its_token(tmp_path):
    done = trust(tmp_path, JOIN_URL)
    assert (done.returncode, done.stderr) == (0, "")
    assert "gpu1:9955" in done.stdout
    assert KEY[:12] in done.stdout
    assert TOKEN not in done.stdout
    assert TrustStore(tmp_path).token_for(KEY) == TOKEN


def test_trust_reads_a_url_from_stdin_for_a_dash(tmp_path):
    done = trust(tmp_path, "-", stdin=f"{JOIN_URL}\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert TrustStore(tmp_path).token_for(KEY) == TOKEN


@pytest.mark.parametrize("stdin", ["", "\n", f"mle://gpu1?token={TOKEN}\n"])
def test_trust_says_in_one_line_what_is_wrong_with_stdin(tmp_path, stdin):
    done = trust(tmp_path, "-", stdin=stdin)
    assert done.returncode == 1
    assert done.stderr.startswith("mlepool: ")
    assert done.stderr.count("\n") == 1
    assert TOKEN not in done.stderr
    assert not (tmp_path / "known").exists()


def test_two_commands_trust_two_urls_at_once(tmp_path):
    env = {**os.environ, "MLEPOOL_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "mlepool", "trust", "-"]
    pipe = subprocess.PIPE
    running = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env)
        for _ in range(2)
    ]
    for number, process in enumerate(running):
        assert process.stdin is not None
        key = other_key(number)
        process.stdin.write(f"mle://gpu{number}?key={key}&token={TOKEN}\n")
        process.stdin.flush()
    for process in running:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert set(TrustStore(tmp_path).load()) == {other_key(0), other_key(1)}


# -- workers of this account


def test_local_workers_are_found_by_their_registrations(tmp_path, monkeypatch):
    monkeypatch.setenv("MLEPOOL_HOME", str(tmp_path))
    assert list(local_workers()) == []
    state = tmp_path / "state"
    write_private(tmp_path / "workers" / KEY, f"{state}\n9955\n".encode())
    write_private(tmp_path / "workers" / other_key(1), b"being written")
    (found,) = local_workers()
    assert (found.key, found.state_dir, found.port) == (KEY, state, 9955)
    assert found.token() == ""
    assert TrustStore().token_for(KEY) == ""
    write_private(state / "token", f"{TOKEN}\n".encode())
    assert TrustStore().token_for(KEY) == TOKEN


def test_the_local_socket_is_that_of_the_only_worker(tmp_path, monkeypatch):
    monkeypatch.setenv("MLEPOOL_HOME", str(tmp_path))
    monkeypatch.setenv("MLEPOOL_STATE_DIR", str(tmp_path / "default"))
    with pytest.raises(ConfigError, match="none runs"):
        local_socket("")
    for number in (1, 2):
        registration = tmp_path / "workers" / other_key(number)
        write_private(registration, f"{tmp_path}/state-{number}\n99\n".encode())
        if number == 1:
            assert local_socket("") == tmp_path / "state-1/worker.sock"
    with pytest.raises(ConfigError, match=r"state-1, unix:.*state-2"):
        local_socket("")
    write_private(tmp_path / "default/worker.sock", b"")
    assert local_socket("") == tmp_path / "default/worker.sock"
    assert local_socket(str(tmp_path)) == tmp_path / "worker.sock"
    assert local_socket(str(tmp_path / "x.sock")) == tmp_path / "x.sock"


def register(home, key: str, text: str) -> None:
    write_private(home / "workers" / key, text.encode())


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An account with a worker that speaks TLS at 99, and one without at 80."""
    monkeypatch.setenv("MLEPOOL_HOME", str(tmp_path))
    register(tmp_path, KEY, "/safe\n99\nwss\n")
    register(tmp_path, other_key(0), "/plain\n80\nws\n")
    return tmp_path


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_a_worker_here_without_tls_is_reached_by_its_socket(host, home):
    assert plain_sockets(Target.parse(host, 80)) == [Path("/plain/worker.sock")]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    "target",
    [
        Target.parse("localhost:99"),
        Target.parse("localhost:81"),
        Target.parse("gpu1:80"),
        Target.parse("wss://localhost:80"),
        Target.parse("ws://localhost:80"),
        Target.parse("unix:/plain"),
        Target("localhost", 80, token=TOKEN),
        Target("localhost", 80, key=KEY),
    ],
)
def test_what_is_said_otherwise_or_means_another_worker_goes_there(target):
    assert plain_sockets(target) == []


def test_where_a_worker_here_speaks_tls_nobody_is_reached_otherwise(home):
    # On another address: two can't listen on one.
    register(home, other_key(1), "/other\n80\nwss\n")
    assert plain_sockets(Target.parse("localhost:80")) == []


@pytest.mark.parametrize("text", ["/old\n80\n", "/old\n80", "/old\n80\nodd\nws"])
def test_a_worker_that_says_nothing_of_it_speaks_tls(text, home):
    # As those before this said nothing.
    register(home, other_key(0), text)
    assert plain_sockets(Target.parse("localhost:80")) == []
