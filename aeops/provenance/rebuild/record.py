"""Record of a version in the registry: its tags and the files of its run. A rebuild reads nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ae_models.names import names_not_in
from aeops.files import file_sha256
from aeops.machine.stored_json import read_json
from aeops.provenance.code_archive import ARCHIVE_NAME
from aeops.provenance.lineage import RECORDED_FILES
from aeops.registry.store import Store
from aeops.registry.versions import VersionInfo

RUN_FOLDER = "rebuild"  # among the run's files
WEIGHT_LOG_PATH = f"{RUN_FOLDER}/trail.csv"
ARCHIVE_PATH = f"{RUN_FOLDER}/{ARCHIVE_NAME}"
PATCH_PATH = f"{RUN_FOLDER}/worktree.diff"
RESULT_FILES = ("metrics.json", "verdict.json")


@dataclass(frozen=True)
class Record:
    """A version's record on disk.

    Attributes:
        recipe: the model's name.
        version: number, tags, run.
        folder: the run's files, under the paths that they have there.
    """

    recipe: str
    version: VersionInfo
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.recipe}@{self.version.version}"

    @property
    def tags(self) -> dict[str, str]:
        return self.version.tags

    @property
    def dataset(self) -> str:
        return self.tags["data.dataset"]

    @property
    def recipe_file(self) -> Path:
        return self.folder / RUN_FOLDER / f"{self.recipe}.yaml"

    @property
    def patch(self) -> Path | None:
        """Changes of the worktree against the recorded commit; None where there were none."""
        if self.tags.get("git.dirty") != "true":
            return None
        return self.folder / PATCH_PATH

    @property
    def code_archive(self) -> Path | None:
        """Code of the run that is in no commit; None where it all is."""
        return self.folder / ARCHIVE_PATH if "code.sha256" in self.tags else None

    @property
    def weight_log(self) -> Path | None:
        """Log of the weights' hashes by step; None where the version is older than such logs."""
        file = self.folder / WEIGHT_LOG_PATH
        if not file.is_file():
            return None
        return file

    def recorded_files(self) -> dict[str, Path]:
        """Return the files that a run recorded whole, by their path in the project."""
        files = {f"recipes/{self.recipe}.yaml": self.recipe_file}
        for name in RECORDED_FILES:
            if f"file.{name}" in self.tags:
                files[name] = self.folder / RUN_FOLDER / name
        return files

    def result(self, name: str) -> dict[str, Any]:
        """Return metrics.json or verdict.json, as they were when the version was registered."""
        return dict(read_json(self.folder / name))


def read_record(store: Store, recipe: str, version: VersionInfo, folder: Path) -> tuple[Record, list[str]]:
    """Download the record of a version and check it against the SHA-256 in its lineage.

    Args:
        store: the registry.
        recipe: the model's name.
        version: with its whole lineage as tags.
        folder: where to put the files.

    Returns:
        The record, and a message for each piece that is missing or was altered.
    """
    expected_sha256 = _expected_checksums(recipe, version.tags)
    run_files = {*store.files(version.run_id), *store.files(version.run_id, RUN_FOLDER)}
    for path in run_files & {*expected_sha256, WEIGHT_LOG_PATH}:
        store.download_file(version.run_id, path, folder)
    problems = []
    for path in sorted(expected_sha256.keys() - run_files):
        problems.append(f"{path} is not among the files of its run {version.run_id}")
    for path in sorted(run_files & expected_sha256.keys()):
        actual, expected = file_sha256(folder / path), expected_sha256[path]
        if expected is not None and actual != expected:
            problems.append(f"{path} of its run is altered: SHA-256 {actual[:12]}, {expected[:12]} is recorded")
    return Record(recipe, version, folder), problems + _missing_tags(version.tags)


def _expected_checksums(recipe: str, tags: Mapping[str, str]) -> dict[str, str | None]:
    """Return the files of the run that a rebuild needs, each with the SHA-256 in the tags; None if they hold none."""
    checksums: dict[str, str | None] = dict.fromkeys(RESULT_FILES)
    checksums[f"{RUN_FOLDER}/{recipe}.yaml"] = tags.get("recipe.sha256")
    for name in RECORDED_FILES:
        if f"file.{name}" in tags:
            checksums[f"{RUN_FOLDER}/{name}"] = tags[f"file.{name}"]
    if "code.sha256" in tags:
        checksums[ARCHIVE_PATH] = None  # what it holds is checked when it is unpacked
    if tags.get("git.dirty") == "true" and tags.get("git.commit") != "none":
        checksums[PATCH_PATH] = tags.get("git.diff_sha256")
    return checksums


def _missing_tags(tags: Mapping[str, str]) -> list[str]:
    required_tags = ("git.commit", "data.dataset", "data.content_sha256", "file.dvc.lock", "file.data.dvc", "bundle_sha256")
    return [f"its tag {name} is missing" for name in names_not_in(required_tags, tags)]
