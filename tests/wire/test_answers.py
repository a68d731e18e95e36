"""What commands for files answer: as data, as a sequence, as text for people."""

import msgspec
import pytest

from mlepool.wire.answers import Content, FileInfo, Listing, OsInfo

SCRIPT = FileInfo("run.sh", "file", 12, 0o755, 0.0, "ann", "lab", path="/exp/run.sh")
FOLDER = FileInfo("out", "folder", 4096, 0o700, 0.0, "ann", "lab", path="/exp/out")
LINK = FileInfo("last", "link", 3, 0o777, 0.0, "ann", "lab", "out", "/exp/last")
LISTING = Listing("/exp", (LINK, FOLDER, SCRIPT))


@pytest.mark.parametrize(
    "value", [SCRIPT, LISTING, Content("/x", b"\0", 0, 1, (1, 2)), OsInfo("linux")]
)
def test_a_value_comes_back_from_the_wire(value):
    data = msgspec.msgpack.decode(msgspec.msgpack.encode(value))
    assert msgspec.convert(data, type(value)) == value
    assert msgspec.convert(value, type(value)) is value  # what a client has made


def test_an_entry_reads_like_a_line_of_ls():
    cells = SCRIPT.cells()
    assert cells[:4] == ("-rwxr-xr-x", "ann", "lab", "12")
    assert str(SCRIPT) == " ".join(cells)
    assert str(SCRIPT).endswith(" run.sh")
    assert str(FOLDER).startswith("drwx------")
    assert str(FOLDER).endswith("out/")
    assert str(LINK).endswith("last -> out")


def test_a_name_can_not_write_to_a_terminal():
    assert str(FileInfo("a\x1b[2Jb", "file")).endswith(r"'a\x1b[2Jb'")


def test_a_listing_is_a_table():
    head, *lines = str(LISTING).splitlines()
    assert head == "/exp:"
    assert len({line.index("1970") for line in lines}) == 1
    assert repr(LISTING) == str(LISTING)
    assert str(Listing("/exp")) == "/exp: nothing"


def test_a_listing_is_a_sequence_and_finds_names():
    assert (len(LISTING), LISTING.names) == (3, ["last", "out", "run.sh"])
    assert LISTING["out"].is_folder
    assert not LISTING["out"].is_file
    assert LISTING[-1] is SCRIPT
    assert LISTING[1:] == (FOLDER, SCRIPT)
    assert "out" in LISTING
    assert SCRIPT in LISTING
    assert "none" not in LISTING
    assert list(LISTING) == [LINK, FOLDER, SCRIPT]
    with pytest.raises(KeyError, match="none"):
        LISTING["none"]


def test_a_notebook_shows_a_table_with_nothing_unescaped():
    shown = Listing("/exp", (FileInfo("<b>", "file"),))._repr_html_()
    assert "&lt;b&gt;" in shown
    assert "<b>" not in shown


def test_a_system_reads_as_a_line():
    info = OsInfo("linux", "6.1", "Debian 12", "x86_64")
    assert str(info) == "Debian 12 (linux 6.1, x86_64)"
