"""The store of samples: in order, once, within its size, whatever is torn."""

import random
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from mlepool.worker.telemetry.samples import MARKS_FILE, SampleStore
from tests.needs import small_disk

NOW = 1_700_000_000.0
SIZE = 64 * 1024
ALL = 10**9


def opened(folder: Path, size: int = SIZE, now: float = NOW) -> SampleStore:
    store = SampleStore(folder, size=size)
    store.open(now)
    return store


def fill(store: SampleStore, count: int, size: int = 100) -> list[int]:
    """Append samples that hold their own ids; give those that were kept."""
    kept = []
    for _ in range(count):
        number = store.next_id()
        if store.append(number, b"%d" % number * (size // 13)):
            kept.append(number)
    return kept


def ids(store: SampleStore, after: int = 0, limit: int = ALL) -> list[int]:
    found = store.read(after, limit=limit)
    assert all(one.data.startswith(b"%d" % one.id) for one in found)
    return [one.id for one in found]


def test_samples_come_back_in_order_also_after_a_restart(tmp_path):
    store = opened(tmp_path)
    first = fill(store, 10)
    store.close()
    again = opened(tmp_path)
    second = fill(again, 10)
    assert ids(again) == first + second
    assert all(one < other for one, other in pairwise(first + second))
    assert ids(again, after=first[4]) == first[5:] + second
    assert opened(tmp_path).newest == again.newest == second[-1]


def test_a_read_stops_at_its_limit_but_gives_one(tmp_path):
    store = opened(tmp_path)
    kept = fill(store, 10, size=130)
    assert ids(store, limit=300) == kept[:2]
    assert ids(store, after=kept[1], limit=1) == [kept[2]]


def test_what_is_acknowledged_is_gone_also_after_a_restart(tmp_path):
    store = opened(tmp_path)
    kept = fill(store, 300)
    assert len(list(tmp_path.glob("*.samples"))) > 3
    store.acknowledge(kept[249])
    store.acknowledge(kept[10])
    assert ids(store) == kept[250:]
    assert len(list(tmp_path.glob("*.samples"))) <= 3
    again = opened(tmp_path)
    assert ids(again) == kept[250:]
    again.acknowledge(kept[-1])
    assert ids(opened(tmp_path)) == []


def test_the_oldest_go_first_and_are_counted(tmp_path):
    store = opened(tmp_path)
    kept = fill(store, 1000)
    store.acknowledge(kept[9])
    used = sum(path.stat().st_size for path in tmp_path.glob("*.samples"))
    assert SIZE * 0.8 < used <= SIZE
    left = ids(store)
    assert left == kept[-len(left) :]
    assert store.dropped == 1000 - len(left)
    again = opened(tmp_path)
    assert again.dropped == store.dropped
    again.acknowledge(left[0], told=again.dropped)
    assert (again.dropped, opened(tmp_path).dropped) == (0, 0)


def test_those_that_were_acknowledged_are_not_counted_as_dropped(tmp_path):
    store = opened(tmp_path)
    kept = fill(store, 100)
    store.acknowledge(kept[-1])
    fill(store, 300)
    assert store.dropped == 0


def test_a_torn_end_costs_no_more_than_the_last_sample(tmp_path):
    store = opened(tmp_path)
    kept = fill(store, 3)
    (path,) = tmp_path.glob("*.samples")
    whole = path.read_bytes()
    size = len(whole) // 3
    for end in range(2 * size, len(whole)):
        path.write_bytes(whole[:end])
        again = opened(tmp_path)
        assert ids(again) == kept[:2]
    new = fill(again, 1)
    assert ids(opened(tmp_path)) == kept[:2] + new
    assert new[0] > kept[2]


def test_damage_is_passed_over_and_raises_nothing(tmp_path):
    chance = random.Random(5)
    store = opened(tmp_path)
    kept = set(fill(store, 200))
    paths = sorted(tmp_path.iterdir())
    for _ in range(100):
        path = chance.choice(paths)
        data = bytearray(path.read_bytes())
        if data:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            path.write_bytes(data)
        found = [one.id for one in opened(tmp_path).read(0, limit=ALL)]
        assert set(found) <= kept


def test_ids_go_on_where_the_folder_was_emptied_and_the_clock_set_back(tmp_path):
    store = opened(tmp_path / "a")
    last = fill(store, 5)[-1]
    for path in (tmp_path / "a").iterdir():
        path.unlink()
    assert fill(opened(tmp_path / "a", now=NOW + 1), 1)[0] > last
    late = fill(opened(tmp_path / "a", now=NOW - 1000), 1)[0]
    assert late > last
    assert fill(opened(tmp_path / "a", now=0), 1)[0] > late


def test_a_folder_that_is_removed_meanwhile_is_made_again(tmp_path):
    store = opened(tmp_path / "a")
    fill(store, 1)
    for path in (tmp_path / "a").iterdir():
        path.unlink()
    (tmp_path / "a").rmdir()
    assert ids(store) == []
    kept = fill(store, 2)
    assert ids(store)[-2:] == kept


def test_what_is_not_to_be_kept_is_not(tmp_path):
    store = opened(tmp_path, size=0)
    assert fill(store, 3) == []
    assert ids(store) == []
    assert (store.newest, store.dropped) == (0, 0)
    store.miss()
    assert opened(tmp_path).dropped == 1


def test_marks_that_are_damaged_are_none(tmp_path):
    store = opened(tmp_path)
    kept = fill(store, 3)
    store.acknowledge(kept[1])
    (tmp_path / MARKS_FILE).write_bytes(b"odd")
    again = opened(tmp_path)
    assert (again.acknowledged, ids(again)) == (0, kept)
    again.acknowledge(kept[1])  # who has them says so
    assert ids(again) == kept[2:]


@pytest.mark.real
def test_a_full_disk_costs_samples_and_no_more(tmp_path, caplog):
    with small_disk(tmp_path / "disk", "4m") as disk:
        store = opened(disk / "samples", size=ALL)
        kept = fill(store, 20, size=700_000)
        assert 0 < len(kept) < 20
        assert ids(store) == kept
        warned = [one for one in caplog.records if one.levelname == "WARNING"]
        assert len(warned) == 1  # though there were several
        assert "a sample can't be kept" in warned[0].getMessage()
        store.acknowledge(kept[-1])
        more = fill(store, 1, size=1000)
        assert ids(store) == more
        store.close()


WRITER = """
import sys
from pathlib import Path
from mlepool.worker.telemetry.samples import SampleStore
store = SampleStore(Path(sys.argv[1]), size=10**6)
store.open(1.7e9)
while True:
    number = store.next_id()
    store.append(number, b"%d" % number * 20)
    print(number, flush=True)
"""


@pytest.mark.real
def test_who_is_killed_has_lost_nothing(tmp_path):
    said: list[int] = []
    for count in (1, 300):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            said += [int(writer.stdout.readline()) for _ in range(count)]
            writer.send_signal(signal.SIGKILL)
            said += [int(line) for line in writer.stdout if line.endswith(b"\n")]
    found = ids(opened(tmp_path, size=10**6))
    assert set(said) <= set(found)
    assert found == sorted(set(found))
