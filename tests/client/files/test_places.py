"""Folders here for what comes from several hosts."""

from pathlib import Path

import pytest

from mlepool.client.files.places import folder_of, place_for


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("gpu1", "gpu1"),
        ("lab:9000", "lab:9000"),
        ("unix:/run/one", "unix:_run_one"),
        ("..", "__"),
        (".", "_"),
        ("a.b", "a.b"),
        ("../..", ".._.."),
    ],
)
def test_a_host_has_a_folder_of_its_name_whatever_that_is(name, folder):
    assert folder_of(name) == folder
    assert place_for(name, "all") == f"all/{folder}/"
    assert place_for(name, Path("all")) == f"all/{folder}/"
    assert place_for(name, "all/{host}.txt") == f"all/{folder}.txt"
    assert place_for(name, b"{host}/all") == f"{folder}/all"


def test_what_is_no_path_is_refused():
    with pytest.raises(TypeError):
        place_for("gpu1", 7)  # type: ignore[arg-type]
