"""A door keeps its address while it is shut; most is tested through the proxy."""

import socket

import pytest

from mlepool.testing.door import Door, dial, resolve


def test_a_door_opens_again_at_its_port():
    door = Door(0)
    for _ in range(3):
        with dial(door.address):
            assert door.listener is not None
        door.shut()
        door.shut()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(door.address)
        door.open()
        door.open()
    assert str(door) == f"127.0.0.1:{door.address[1]}"
    door.close()
    with socket.create_server(door.address):
        pass  # given up


def test_a_socket_that_was_left_behind_is_replaced(tmp_path):
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    door = Door(path)
    assert str(door) == f"unix:{path}"
    with socket.socket(socket.AF_UNIX) as near:
        near.connect(str(path))
    door.close()
    door.close()
    assert not path.exists()


def test_names_are_resolved_once():
    assert resolve(80) == ("127.0.0.1", 80)
    assert resolve(("127.0.0.2", 80)) == ("127.0.0.2", 80)
    assert resolve(("::1", 80))[:2] == ("::1", 80)
    assert resolve("a/path") == "a/path"
