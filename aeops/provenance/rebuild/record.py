"""The record of a version in the registry: its tags and the files of its run. A rebuild reads nothing else."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aeops.files import file_sha256, read_json
from aeops.provenance.lineage import RECORDED_FILES
from aeops.registry.store import Store
from aeops.registry.versions import VersionInfo

FOLDER = "rebuild"  # among the run's files
TRAIL, PATCH = f"{FOLDER}/trail.csv", f"{FOLDER}/worktree.diff"
RESULTS = ("metrics.json", "verdict.json")


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
        return self.folder / FOLDER / f"{self.recipe}.yaml"

    @property
    def patch(self) -> Path | None:
        """The worktree's changes against the recorded commit; None where there were none."""
        return self.folder / PATCH if self.tags.get("git.dirty") == "true" else None

    @property
    def trail(self) -> Path | None:
        """None where the version is older than trails."""
        file = self.folder / TRAIL
        return file if file.is_file() else None

    def recorded(self) -> dict[str, Path]:
        """Return the files that a run recorded whole, by their path in the project."""
        kept = {name: self.folder / FOLDER / name for name in RECORDED_FILES if f"file.{name}" in self.tags}
        return {f"recipes/{self.recipe}.yaml": self.recipe_file} | kept

    def result(self, name: str) -> dict[str, Any]:
        """Return metrics.json or verdict.json, as they were when the version was registered."""
        return dict(read_json(self.folder / name))


def read_record(store: Store, recipe: str, version: VersionInfo, place: Path) -> tuple[Record, list[str]]:
    """Download the record to `place`; return it, and what is missing of it or was altered."""
    wanted = sums(recipe, version.tags)
    kept = {*store.files(version.run_id), *store.files(version.run_id, FOLDER)}
    for path in (*(kept & wanted.keys()), *(kept & {TRAIL})):
        store.download_file(version.run_id, path, place)
    faults = [f"{path} is not among the files of its run {version.run_id}" for path in sorted(wanted.keys() - kept)]
    for path in sorted(kept & wanted.keys()):
        found, recorded = file_sha256(place / path), wanted[path]
        if recorded is not None and found != recorded:
            faults.append(f"{path} of its run is altered: SHA-256 {found[:12]}, {recorded[:12]} is recorded in its tags")
    return Record(recipe, version, place), faults + missing_tags(version.tags)


def sums(recipe: str, tags: dict[str, str]) -> dict[str, str | None]:
    """Return the files of the run that a rebuild needs, each with the SHA-256 in the tags; None if they hold none."""
    needed: dict[str, str | None] = dict.fromkeys(RESULTS)
    needed[f"{FOLDER}/{recipe}.yaml"] = tags.get("recipe.sha256")
    needed |= {f"{FOLDER}/{name}": tags[f"file.{name}"] for name in RECORDED_FILES if f"file.{name}" in tags}
    if tags.get("git.dirty") == "true" and tags.get("git.commit") != "none":
        needed[PATCH] = tags.get("git.diff_sha256")
    return needed


def missing_tags(tags: dict[str, str]) -> list[str]:
    needed = ("git.commit", "data.dataset", "data.content_sha256", "file.dvc.lock", "file.data.dvc", "bundle_sha256")
    return [f"its tag {name} is missing" for name in needed if name not in tags]
