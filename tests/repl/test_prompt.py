"""What a prompt begins with, and what its end leaves."""

import mlepool
from mlepool.repl.prompt import banner, end, names_for


def test_every_host_has_a_name_beside_what_is_always_there(pool):
    names = names_for(pool)
    assert set(names) == {"mlepool", "pool", "gpu1", "gpu_2"}
    assert names["gpu_2"] is pool["gpu-2"]
    pool.add("127.0.0.1", 1, name="pool")
    assert names_for(pool)["pool"] is pool
    assert names_for(pool)["host_pool"] is pool["pool"]


def test_the_first_lines_say_who_is_there_and_what_to_type(pool):
    said = banner(names_for(pool)).splitlines()
    assert said[0].startswith(f"mlepool {mlepool.__version__}, Python 3.")
    assert said[1] == "pool, and its hosts: gpu1, gpu_2"
    assert said[2].startswith('gpu1.run("make -j8") runs there; :on gpu1 has')
    for number in range(20):
        pool.add("127.0.0.1", 1, name=f"more{number}")
    assert banner(names_for(pool)).splitlines()[1].endswith("more5 and 14 more")
    with mlepool.ClientPool() as empty:
        assert "no host is known" in banner(names_for(empty))


def test_jobs_that_go_on_are_named_and_stay(pool, caplog):
    live = pool["gpu1"].run("sleep 60", complete=False)
    end(pool)
    assert f"job {live.id} goes on on gpu1" in caplog.text
    pool["gpu1"].close()
    pool.add("unused", name="gpu1")  # a closed one may be replaced
    assert pool["gpu-2"].stop(live.id).value.status == "STOPPED"
