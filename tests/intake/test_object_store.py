"""`ae new` on a bucket of an S3 server: its files become samples, and what leads out, is too much or cannot be had is refused."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from image_folders import dirt, encoded, textures
from intake_project import NewProject
from PIL import Image
from s3_server import Bucket, s3_bucket

from aeops.data.sources import remote, stored_files
from aeops.data.sources.catalogue import source_digest
from aeops.errors import AeError, DataError


@pytest.fixture(scope="module")
def running() -> Iterator[Bucket]:
    with s3_bucket() as bucket:
        yield bucket


@pytest.fixture
def bucket(running: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket, whose server is the one of this process's environment."""
    running.clear()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    return running


def pictures(count: int = 110) -> dict[str, bytes]:
    files = {}
    for number, image in enumerate(textures(count)):
        files[f"shoes/{number:04d}.png"] = encoded(Image.fromarray(image), "PNG")
    return files


@pytest.mark.slow
def test_pictures_of_a_bucket_are_samples_and_dirt_is_set_aside_by_name(
    project: NewProject, bucket: Bucket, tmp_path: Path
) -> None:
    reasons = dirt(tmp_path)
    bucket.put(pictures() | {f"shoes/bad/{name}": (tmp_path / name).read_bytes() for name in reasons})
    bucket.put({"shoes/": b"", "shoes/empty/": b"", "other/1.png": b"?"})  # a console of a store makes folders like these
    code, printed, errors = project.new("shoes", "s3://factory/shoes/", "--yes")
    assert (code, errors) == (0, "")
    assert project.keys("shoes")["data"]["source"]["path"] == "s3://factory/shoes/"
    samples = project.samples("shoes")
    assert samples.ids is not None
    assert {name for name in samples.ids if not name.startswith("bad/")} == {name.removeprefix("shoes/") for name in pictures()}
    assert set(samples.set_aside) == {f"bad/{name}" for name in set(reasons) - {"pages.tiff", "animated.webp"}}
    written = [path.read_bytes() for path in project.root.rglob("*") if path.is_file()]
    assert not any(b"very-secret-key" in content for content in written)
    assert "very-secret-key" not in printed + errors


@pytest.mark.slow
def test_a_change_is_seen_and_only_what_changed_is_fetched(project: NewProject, bucket: Bucket, tmp_path: Path) -> None:
    files = {f"shoes/{number}/{number}.png": bytes(number + 1) for number in range(8)}
    bucket.put(files)
    folder = remote.fetch_address("s3://factory/shoes", tmp_path)
    inodes = {path.name: path.stat().st_ino for path in folder.rglob("*.png")}
    bucket.put({"shoes/3/3.png": b"other", "shoes/9/9.png": b"new"})
    bucket.client.delete_object(Bucket="factory", Key="shoes/5/5.png")
    assert remote.fetch_address("s3://factory/shoes", tmp_path) == folder
    found = {path.name: path.read_bytes() for path in folder.rglob("*.png")}
    assert found == {f"{number}.png": bytes(number + 1) for number in (0, 1, 2, 4, 6, 7)} | {"3.png": b"other", "9.png": b"new"}
    same = {path.name for path in folder.rglob("*.png") if path.stat().st_ino == inodes.get(path.name)}
    assert same == {"0.png", "1.png", "2.png", "4.png", "6.png", "7.png"}


@pytest.mark.slow
def test_a_file_of_a_bucket_is_a_table(project: NewProject, bucket: Bucket) -> None:
    rows = "\n".join(["a,b", *[f"{number * 7 % 13},{number / 8}" for number in range(150)]])
    bucket.put({"tables/rows.csv": rows.encode()})
    assert project.new("rows", "s3://factory/tables/rows.csv", "--yes")[0] == 0
    digest = source_digest(project.recipe("rows"), project.project)
    assert source_digest(project.recipe("rows"), project.project) == digest
    bucket.put({"tables/rows.csv": f"{rows}\n1,2".encode()})
    assert source_digest(project.recipe("rows"), project.project) != digest
    assert len(project.samples("rows").array) == 151


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("shoes/../../out.png", "a file lies outside of the folder that was asked for: 'out.png'"),
        ("shoes/a.png/b.png", "two files at this address cannot lie in one folder: 'a.png' and 'a.png/b.png'"),
    ],
)
def test_names_that_no_folder_can_hold_are_refused_and_nothing_is_left(
    project: NewProject, bucket: Bucket, key: str, message: str
) -> None:
    bucket.put({"shoes/a.png": b"1", key: b"2"})
    before = sorted(project.root.rglob("*"))
    code, _, errors = project.new("shoes", "s3://factory/shoes", "--yes")
    assert code == 3
    assert message in errors
    assert not list(project.root.rglob("*.png"))
    assert {path.name for path in set(project.root.rglob("*")) - set(before)} <= {".ae", "sources", "remote"}


@pytest.mark.slow
def test_too_much_is_refused_and_nothing_is_left(project: NewProject, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put(pictures(5))
    monkeypatch.setattr(stored_files, "MAX_BYTES", 1000)
    with pytest.raises(DataError, match="more than 1,000 bytes lie at this address"):
        remote.fetch_address("s3://factory/shoes", project.project.home)
    monkeypatch.setattr(stored_files, "MAX_FILES", 4)
    with pytest.raises(DataError, match="5 files lie at this s3:// address, expected at most 4"):
        remote.fetch_address("s3://factory/shoes", project.project.home)
    assert not list(project.root.rglob("*.png"))


@pytest.mark.parametrize("address", ["s3://factory/nothing", "s3://no-such-bucket/shoes"])
def test_an_address_without_files_says_so(project: NewProject, bucket: Bucket, address: str) -> None:
    code, _, errors = project.new("shoes", address, "--yes")
    assert code == 3
    assert "nothing lies at this s3:// address: correct data.source.path" in errors


def test_a_server_that_is_gone_or_refuses_is_no_fault_of_the_data(
    project: NewProject, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(AeError, match="the s3:// address could not be read") as refused:
        remote.fetch_address("s3://factory/shoes", project.project.home)
    assert "very-secret-key" not in str(refused.value)
