"""A version's lineage: a dozen tags on MLflow's page, all of it in a file of its run, and older versions with tags alone."""

from collections.abc import Callable
from pathlib import Path

import pytest

from aeops.errors import DataError
from aeops.files import file_sha256
from aeops.provenance.lineage import LINEAGE_PATH, LINEAGE_TAG, with_lineage, write_lineage
from aeops.registry.store import Store

LINEAGE = {
    "git.commit": "a" * 40,
    "git.dirty": "false",
    "data.dataset": "digits",
    "data.content_sha256": "c" * 64,
    "platform.cpu": "one",
    "file.dvc.lock": "d" * 64,
    "rebuild.entry": "x/1",
    "seed": "0",
}


@pytest.fixture
def registered(store: Store, start: Callable[[], str], bundle: Callable[..., Path], tmp_path: Path) -> str:
    """Return the run of a version that has its lineage in a file."""
    run = start()
    file = tmp_path / "lineage.json"
    tags = write_lineage(file, LINEAGE)
    store.log_files(run, [file], "rebuild")
    store.register(run, "digits", bundle(), tags | {"verdict": "accepted"}, "# digits")
    return run


def test_the_tags_are_those_that_a_person_looks_for_and_the_file_has_the_rest(store: Store, registered: str) -> None:
    version = store.version("digits", "1")
    assert "platform.cpu" not in version.tags
    assert version.tags["git.commit"] == "a" * 40
    assert version.run_id == registered
    whole = with_lineage(store, "digits", version)
    assert LINEAGE.items() <= whole.tags.items()
    assert (whole.tags["verdict"], whole.tags["bundle_sha256"]) == ("accepted", version.tags["bundle_sha256"])


def test_an_older_version_has_all_of_it_as_tags_until_a_later_run_makes_its_bundle_again(
    store: Store, start: Callable[[], str], bundle: Callable[..., Path], tmp_path: Path
) -> None:
    place = bundle()
    store.register(start(), "digits", place, LINEAGE | {"platform.cpu": "the old one"}, "# digits")
    old = store.version("digits", "1")
    assert with_lineage(store, "digits", old) == old
    again, file = start(), tmp_path / "lineage.json"
    tags = write_lineage(file, LINEAGE)
    store.log_files(again, [file], "rebuild")
    store.register(again, "digits", place, tags, "# digits")
    assert with_lineage(store, "digits", store.version("digits", "1")).tags["platform.cpu"] == "one"


def test_a_lineage_that_is_gone_or_altered_is_named(store: Store, registered: str) -> None:
    version = store.version("digits", "1")
    file = Path(store.client.get_run(registered).info.artifact_uri.removeprefix("file://")) / LINEAGE_PATH
    assert file_sha256(file) == version.tags[LINEAGE_TAG]
    file.write_text(file.read_text(encoding="utf-8").replace('"0"', '"1"'), encoding="utf-8")
    with pytest.raises(DataError, match=r"rebuild/lineage.json of digits@1 is altered: SHA-256 [0-9a-f]{12}, [0-9a-f]{12} is"):
        with_lineage(store, "digits", version)
    file.unlink()
    with pytest.raises(DataError, match=r"rebuild/lineage.json of digits@1 is not among the files of its run"):
        with_lineage(store, "digits", version)


def test_a_model_is_described_and_a_picture_is_shown_by_its_address(store: Store, registered: str) -> None:
    picture = store.picture_markdown(registered, "figures/a b.svg", "scores")
    assert picture == f"![scores](get-artifact?path=figures%2Fa%20b.svg&run_uuid={registered})"
    store.describe_model("digits", f"{picture}{'x' * 6000}")
    assert store.client.get_registered_model("digits").description.startswith(picture)
    store.log_dataset(registered, {"dataset": "digits, test samples", "content_sha256": "e" * 64, "num_rows": 9}, "evaluation")
    inputs = store.client.get_run(registered).inputs.dataset_inputs
    assert [(one.dataset.name, one.tags[0].value) for one in inputs] == [
        ("digits", "training"),
        ("digits, test samples", "evaluation"),
    ]
