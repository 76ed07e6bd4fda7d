"""Paths that lead elsewhere, links, pipes, and what may not be read: refused or left out by name, and never waited for."""

import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from image_folders import textures, write_images
from intake_project import NewProject
from source_rows import article, articles_file, parts, write_csv

from aeops.data.sources.files import LINK_REASON
from aeops.errors import AeError, DataError, UsageError
from aeops.intake.look import propose
from aeops.intake.proposal import Choices

NOBODY = 65534


@contextmanager
def without_rights(path: Path) -> Iterator[None]:
    """Let this process be one that may not read a path."""
    path.chmod(0)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        path.chmod(0o700)


@pytest.mark.parametrize("kind", ["folder", "file", "folder in a folder"])
def test_what_may_not_be_read_is_named(project: NewProject, kind: str) -> None:
    nearby = project.project  # which is read once, before the rights are gone
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others as a whole
        folder = Path(name)
        folder.chmod(0o755)
        path = folder / ("rows.csv" if kind == "file" else "data")
        write_csv(parts(), path) if kind == "file" else path.mkdir()
        origin = folder if kind == "folder in a folder" else path
        with without_rights(path), pytest.raises(AeError, match=r"cannot be (listed|read) \(Permission denied\)"):
            propose(str(origin), nearby, "x", Choices())


def test_a_pipe_is_no_file_and_nothing_waits_for_it(project: NewProject, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.csv")
    code, _, errors = project.new("x", tmp_path / "rows.csv", "--yes")
    assert code == 3
    assert "is no regular file" in errors
    write_images(tmp_path / "pictures", textures(110, 16))
    os.mkfifo(tmp_path / "pictures" / "pipe.png")
    assert project.new("x", tmp_path / "pictures", "--yes")[0] == 0
    assert project.samples("x").set_aside == {"pipe.png": "no regular file"}


@pytest.mark.parametrize("kind", ["tables", "texts"])
def test_links_in_a_folder_are_not_followed_and_are_named(project: NewProject, tmp_path: Path, kind: str) -> None:
    folder, outside = tmp_path / "data", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    if kind == "tables":
        write_csv(parts(), folder / "a.csv")
        write_csv(parts(), outside / "b.csv")
        link = folder / "b.csv"
    else:
        for number in range(120):
            (folder / f"{number}.txt").write_bytes(article(number))
        (outside / "b.txt").write_bytes(article(500))
        link = folder / "b.txt"
    link.symlink_to(outside / link.name)
    (folder / "more").symlink_to(outside)
    code, printed, errors = project.new("x", folder, "--yes")
    assert (code, errors) == (0, "")
    assert "links, which are not followed: b." in printed
    samples = project.samples("x")
    assert len(samples.array) == 120
    assert samples.set_aside == dict.fromkeys((link.name, "more"), LINK_REASON)


@pytest.mark.parametrize(
    ("name", "mode"),
    [("../rows.csv", 0), ("/etc/rows.csv", 0), ("a/../../rows.csv", 0), ("..\\rows.csv", 0), ("rows.csv", 0o120777)],
)
def test_an_archive_whose_file_leads_out_or_is_a_link_is_refused(
    project: NewProject, tmp_path: Path, name: str, mode: int
) -> None:
    member = zipfile.ZipInfo(name)
    member.external_attr = mode << 16
    with zipfile.ZipFile(tmp_path / "rows.zip", "w") as archive:
        archive.writestr(member, "/etc/passwd" if mode else parts().to_csv())
    code, _, errors = project.new("x", tmp_path / "rows.zip", "--yes")
    assert code == 3
    assert "leads out of it" in errors or "is a link" in errors
    assert "rows.zip" in errors


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"masks": "../truth"}, "masks: expected a path below the source's folder"),
        ({"test": "/etc"}, "test: expected a path below the source's folder"),
        (
            {"labels": {"file": "../truth.csv"}},
            "labels.file: expected a path below the source's folder",
        ),
    ],
)
def test_a_recipe_whose_paths_lead_out_of_the_folder_is_refused(
    project: NewProject, tmp_path: Path, keys: dict[str, object], message: str
) -> None:
    write_images(tmp_path / "pictures" / "good", textures(110, 16))
    assert project.new("x", tmp_path / "pictures", "--yes", "--labels", "none")[0] == 0
    recipe = project.keys("x")
    recipe["data"]["source"] |= keys
    project.project.recipe_file("x").write_text(yaml.safe_dump(recipe))
    with pytest.raises(UsageError, match=message):
        project.recipe("x")


def test_a_file_that_became_a_folder_or_went_is_refused_by_its_name(project: NewProject, tmp_path: Path) -> None:
    path = tmp_path / "news.jsonl"
    articles_file(path)
    assert project.new("x", path, "--yes")[0] == 0
    path.unlink()
    with pytest.raises(DataError, match=r"news\.jsonl"):
        project.samples("x")
    path.mkdir()
    with pytest.raises(DataError, match=r"news\.jsonl"):
        project.samples("x")
