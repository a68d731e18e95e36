"""Looking at files, as one client."""

import os

import pytest

from mlepool.worker.commands import files


def test_a_folder_is_listed_with_what_is_hidden(ctx):
    (ctx.cwd / "b").mkdir()
    (ctx.cwd / ".a").write_text("12345")
    (ctx.cwd / "c").symlink_to("b")
    listing = files.ls(ctx)
    assert [(one.name, one.kind) for one in listing] == [
        (".a", "file"),
        ("b", "folder"),
        ("c", "link"),
    ]
    assert listing.path == str(ctx.cwd)
    assert listing[".a"].size == 5
    assert listing["b"].path == str(ctx.cwd / "b")
    assert files.ls(ctx, "c").path == str(ctx.cwd / "b")
    assert files.ls(ctx, ".a").names == [".a"]
    assert files.ls(ctx, after=b"b").names == ["c"]
    with pytest.raises(FileNotFoundError):
        files.ls(ctx, "none")


def test_stat_follows_a_link_or_not(ctx):
    (ctx.cwd / "file").write_text("1")
    (ctx.cwd / "link").symlink_to("file")
    (ctx.cwd / "dangling").symlink_to("none")
    assert files.stat(ctx, "link").kind == "file"
    assert files.stat(ctx, "link", follow=False).target == "file"
    assert files.stat(ctx, "dangling", follow=False).kind == "link"
    with pytest.raises(FileNotFoundError):
        files.stat(ctx, "dangling")
    os.chmod(ctx.cwd / "file", 0o640)
    assert files.stat(ctx, ctx.cwd.joinpath("file").as_posix()).mode == 0o640


def test_glob_spells_names_as_the_pattern_does(ctx):
    (ctx.cwd / "runs/1").mkdir(parents=True)
    (ctx.cwd / "runs/1/m.json").write_text("{}")
    (ctx.cwd / "own").mkdir()
    (ctx.cwd / "own/m.json").write_text("secret")
    assert files.glob(ctx, "runs/*/m.json").names == ["runs/1/m.json"]
    assert files.glob(ctx, f"{ctx.cwd}/r*").names == [f"{ctx.cwd}/runs"]
    assert files.glob(ctx, "**/m.json").names == ["runs/1/m.json"]
    assert files.glob(ctx, "r*")[0].path == str(ctx.cwd / "runs")
    assert files.glob(ctx, "runs/*/m.json", after=b"runs/1/m.json").names == []
    for path in ("../*", "/etc/*", "own/*"):
        with pytest.raises(PermissionError):
            files.glob(ctx, path)


def test_cd_checks_and_tells_where(ctx):
    (ctx.cwd / "sub").mkdir()
    (ctx.cwd / "link").symlink_to("sub")
    (ctx.cwd / "file").touch()
    assert files.cd(ctx, "link") == str(ctx.cwd / "sub")
    assert files.cd(ctx, ".") == files.cwd(ctx) == str(ctx.cwd)
    with pytest.raises(NotADirectoryError) as caught:
        files.cd(ctx, "file")
    assert caught.value.filename == str(ctx.cwd / "file")
    with pytest.raises(FileNotFoundError):
        files.cd(ctx, "none")
    with pytest.raises(PermissionError):
        files.cd(ctx, "..")
