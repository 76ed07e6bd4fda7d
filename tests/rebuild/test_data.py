"""The data of a version is found by hash, and what is missing or altered is named before anything runs."""

import hashlib
import json
from pathlib import Path

import pytest

from aeops.data import dvc
from aeops.errors import DataError
from aeops.files import file_sha256
from aeops.project import Project
from aeops.provenance.rebuild.data import RecordedFolder, borrow_sources, missing_objects, named_files

LOCAL = "[core]\n    remote = local\n['remote \"local\"']\n    url = ../.ae/dvc-remote\n"


def md5_of(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def keep(remote: Path, content: bytes, ending: str = "") -> str:
    """Stores an object as DVC does; returns its name."""
    md5 = md5_of(content)
    file = remote / "files" / "md5" / md5[:2] / f"{md5[2:]}{ending}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return f"{md5}{ending}"


@pytest.fixture
def remote(tmp_path: Path) -> tuple[Path, RecordedFolder, dict[str, str]]:
    """A remote with two datasets, as versions before an entry for each recorded them: its folder, data/, the files' objects."""
    place = tmp_path / "remote"
    files = {name: keep(place, name.encode()) for name in ("small/a.npy", "small/b.npy", "smaller/c.npy")}
    listed = json.dumps([{"md5": md5, "relpath": name} for name, md5 in files.items()]).encode()
    return place, RecordedFolder("data", keep(place, listed, ".dir")), files


def test_of_a_dataset_with_an_entry_of_its_own_every_file_is_asked_for(tmp_path: Path) -> None:
    md5 = keep(tmp_path, b"a")
    listed = json.dumps([{"md5": md5, "relpath": "shards/a.npy"}]).encode()
    folder = RecordedFolder("data/small", keep(tmp_path, listed, ".dir"))
    assert missing_objects(tmp_path, folder, "small") == []
    object_of(tmp_path, md5).unlink()
    assert missing_objects(tmp_path, folder, "small") == [f"data/small/shards/a.npy ({md5} is missing)"]
    assert missing_objects(tmp_path, folder, "other") == [f"data/other, which {folder.md5} does not list"]


def object_of(place: Path, md5: str) -> Path:
    return place / "files" / "md5" / md5[:2] / md5[2:]


def test_a_whole_remote_lacks_nothing(remote) -> None:
    place, folder, _ = remote
    assert missing_objects(place, folder, "small") == []


def test_every_file_that_is_missing_or_altered_is_named_and_other_datasets_do_not_count(remote) -> None:
    place, folder, files = remote
    object_of(place, files["small/a.npy"]).unlink()
    object_of(place, files["small/b.npy"]).write_bytes(b"other bytes")
    object_of(place, files["smaller/c.npy"]).unlink()
    assert missing_objects(place, folder, "small") == [
        f"data/small/a.npy ({files['small/a.npy']} is missing)",
        f"data/small/b.npy ({files['small/b.npy']} is altered)",
    ]


def test_a_list_that_is_gone_or_altered_and_a_dataset_that_it_lacks_are_named(remote) -> None:
    place, folder, _ = remote
    assert missing_objects(place, folder, "other") == [f"data/other, which {folder.md5} does not list"]
    object_of(place, folder.md5).write_bytes(b"[]")
    assert missing_objects(place, folder, "small") == [f"the list of the files of data/ ({folder.md5} is altered)"]
    object_of(place, folder.md5).unlink()
    assert missing_objects(place, folder, "small") == [f"the list of the files of data/ ({folder.md5} is missing)"]


def test_a_clone_reads_from_the_users_remote_through_a_cache_of_its_own(tmp_path: Path) -> None:
    user, clone = (Project(tmp_path / name, tmp_path / f"{name}-home") for name in ("user", "clone"))
    for project in (user, clone):
        (project.root / ".dvc").mkdir(parents=True)
        (project.root / ".dvc" / "config").write_text(LOCAL)
    dvc.lend_remote(user, clone)
    told = (clone.root / ".dvc" / "config.local").read_text()
    assert f"url = {user.home / 'dvc-remote'}" in told
    assert "dir = cache" in told  # below the clone's .dvc
    assert (clone.root / ".dvc" / "config.local").stat().st_mode & 0o777 == 0o600
    assert not (user.root / ".dvc" / "config.local").exists()


def test_a_remote_of_the_users_own_counts_and_a_relative_one_is_beside_the_users_configuration(tmp_path: Path) -> None:
    user = Project(tmp_path / "user", tmp_path / "home")
    (user.root / ".dvc").mkdir(parents=True)
    committed = tmp_path / "config"
    committed.write_text("[core]\n    remote = ours\n['remote \"ours\"']\n    url = ../store%20room\n")
    assert dvc.remote_of(user, committed) == str(user.root / "store%20room")
    (user.root / ".dvc" / "config.local").write_text("['remote \"ours\"']\n    url = s3://bucket/place\n")
    assert dvc.remote_of(user, committed) == "s3://bucket/place"
    committed.write_text("[core]\n    analytics = false\n")
    with pytest.raises(DataError, match=r"names no remote .*dvc remote add"):
        dvc.remote_of(user, committed)


def test_files_of_studies_are_found_by_their_sums_and_borrowed(tmp_path: Path, record_of) -> None:
    user, clone = (Project(tmp_path / name, tmp_path / name / ".ae") for name in ("user", "clone"))
    (user.home / "sources" / "text").mkdir(parents=True)
    file = user.home / "sources" / "text" / "pairs.csv"
    file.write_text("a,b\n")
    study = f"sentences: {{pairs: text/pairs.csv, pairs_sha256: '{file_sha256(file)}', share: 0.4}}"
    recipe = f"evaluate: {{studies: {{{study}}}}}\n".encode()
    borrow_sources(user, record_of({}, {"rebuild/small.yaml": recipe}), clone)
    assert clone.find_source("text/pairs.csv").read_text() == "a,b\n"
    file.write_text("other\n")
    with pytest.raises(DataError, match=r"pairs\.csv is another file than the recipe knows"):
        borrow_sources(user, record_of({}), clone)
    file.unlink()
    with pytest.raises(DataError, match=r"text/pairs\.csv: no such file"):
        borrow_sources(user, record_of({}), clone)


@pytest.mark.parametrize("place", ["neighbour", "checkout"])
def test_the_source_that_holds_the_masks_is_borrowed_wherever_it_is_found(place: str, tmp_path: Path, record_of) -> None:
    user = Project(tmp_path / "user", tmp_path / "user" / ".ae")
    clone = Project(tmp_path / "far" / "clone", tmp_path / "far" / "clone" / ".ae")
    file = {"neighbour": tmp_path / "shared" / "data", "checkout": user.root}[place] / "tiles" / "tiles.npz"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"images and masks")
    recipe = b"data: {source: {kind: masked-images, path: tiles/tiles.npz}}\nevaluate: {studies: {pixels: {blur: 1}}}\n"
    borrow_sources(user, record_of({}, {"rebuild/small.yaml": recipe}), clone)
    assert clone.find_source("tiles/tiles.npz").read_bytes() == b"images and masks"


def test_a_source_outside_the_project_or_gone_is_no_problem_of_a_rebuild(tmp_path: Path, record_of) -> None:
    user, clone = (Project(tmp_path / name, tmp_path / name / ".ae") for name in ("user", "clone"))
    for path in ("../elsewhere.npz", "/elsewhere.npz", "gone.npz"):
        recipe = f"data: {{source: {{kind: npz, path: {path}}}}}\n".encode()
        borrow_sources(user, record_of({}, {"rebuild/small.yaml": recipe}), clone)
    assert not (clone.home / "sources").exists()


def test_calibration_samples_of_a_file_are_borrowed_too(tmp_path: Path, record_of) -> None:
    user, clone = (Project(tmp_path / name, tmp_path / name / ".ae") for name in ("user", "clone"))
    file = user.home / "sources" / "calibration" / "small-1.npy"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"samples")
    samples = f"{{kind: mad, samples: calibration/small-1.npy, samples_sha256: '{file_sha256(file)}'}}"
    borrow_sources(user, record_of({}, {"rebuild/small.yaml": f"threshold: {samples}\n".encode()}), clone)
    assert clone.find_source("calibration/small-1.npy").read_bytes() == b"samples"


def test_the_file_of_a_frozen_network_is_borrowed_once_for_a_model_and_its_rivals(tmp_path: Path, record_of) -> None:
    user, clone = (Project(tmp_path / name, tmp_path / name / ".ae") for name in ("user", "clone"))
    file = user.home / "sources" / "networks" / "backbone.onnx"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"network")
    encode = f"encode: {{kind: onnx, path: networks/backbone.onnx, path_sha256: '{file_sha256(file)}'}}"
    recipe = f"model: {{{encode}}}\nevaluate: {{studies: {{rivals: {{other: {{model: {{{encode}}}}}}}}}}}\n".encode()
    borrow_sources(user, record_of({}, {"rebuild/small.yaml": recipe}), clone)
    assert clone.find_source("networks/backbone.onnx").read_bytes() == b"network"


def test_every_recipe_with_a_file_in_a_study_is_understood() -> None:
    import yaml

    recipes = Path(__file__).parents[2] / "recipes"
    found = {file.stem: dict(named_files(yaml.safe_load(file.read_text())["evaluate"])) for file in recipes.glob("*.yaml")}
    assert list(found["news-text"]) == ["text/stsb_en_dev.csv.gz", "text/bbc_news_summary.csv.gz"]
    assert not any(files for name, files in found.items() if name != "news-text")
