"""Handles stay in their process, and say so."""

import copy
import pickle

import pytest

import mlepool


@pytest.mark.parametrize("leave", [pickle.dumps, copy.copy, copy.deepcopy])
def test_no_handle_leaves_its_process(conn, leave):
    group = mlepool.ClientPool().select("gpu=a100")
    live = conn.run("echo hi")
    done = mlepool.ClientPool().run("echo hi")
    for handle in (conn, conn._async, live, live._async, mlepool.pool, group, done):
        with pytest.raises(TypeError, match="belongs to its process"):
            leave(handle)
    assert live.output == "hi\n"
