"""What becomes of jobs, and of new ones, when no supervisor can be started."""

import pytest

import mlepool
from mlepool.testing.kill import kill_supervisor
from mlepool.worker.supervision import LOG_FILE


@pytest.mark.real
def test_a_supervisor_that_could_not_start_is_tried_again(own_worker):
    pool = mlepool.ClientPool()
    with pool, pool.add(f"unix:{own_worker.state_dir}") as conn:
        live = conn.run("read x", stdin=True, complete=False)
        log = own_worker.state_dir / LOG_FILE
        log.unlink()
        log.mkdir()  # where its log should be
        kill_supervisor(own_worker.state_dir)
        assert live.wait().status.value == "LOST"
        assert "its supervisor was killed" in live.reason
        stopped = conn.stop(live.id)
        assert "there is no supervisor" in str(stopped.error)
        log.rmdir()
        assert conn.run("echo well").output == "well\n"
    assert own_worker.log.count("cannot start a supervisor") >= 1
