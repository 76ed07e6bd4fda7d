"""Paths in the project's folder and its state folder. Creates nothing."""

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from aeops.errors import DataError, UsageError
from aeops.plugins import use_project

CODE_ROOT = Path(__file__).resolve().parents[1]  # of the checkout whose code this process runs
RECIPE_NAME = re.compile(r"[^\W_][\w.-]*")  # letters and digits of any language, -, _ and .; it names files, stages and models
MAX_RECIPE_NAME_BYTES = 100  # a file system takes 255, and suffixes are added


def is_recipe_name(name: str) -> bool:
    """Return whether a recipe may have this name.

    >>> [is_recipe_name(name) for name in ("digits", "line-2.b", "../digits", "./digits", "")]
    [True, True, False, False, False]
    """
    return RECIPE_NAME.fullmatch(name) is not None and len(name.encode()) <= MAX_RECIPE_NAME_BYTES


def shorten_name(name: str) -> str:
    """Return a name that a person typed as a message shows it: not longer than a name may be.

    >>> shorten_name("digits")
    'digits'
    """
    if len(name) <= MAX_RECIPE_NAME_BYTES:
        return name
    return f"{name[:MAX_RECIPE_NAME_BYTES]}..."


@dataclass(frozen=True)
class Project:
    """A folder with recipes, which may be a checkout of this package, and its state.

    Attributes:
        root: the folder that holds dvc.yaml and recipes/.
        home: the state folder: `.ae/` in the root, or where AE_HOME says.
    """

    root: Path
    home: Path

    @property
    def holds_code(self) -> bool:
        """Whether it is a checkout of this package: one of its versions is then code of a git commit, and else installed code."""
        return (self.root / "aeops").is_dir()

    @property
    def recipes(self) -> Path:
        return self.root / "recipes"

    def recipe_file(self, recipe: str) -> Path:
        return self.recipes / f"{recipe}.yaml"

    def seed_record(self, recipe: str) -> Path:
        """Return the recipe's record of seeds, which may not exist; it is committed with the recipe."""
        return self.recipes / "seeds" / f"{recipe}.json"

    def judgements(self, dataset: str) -> Path:
        """Return the file of what people have decided about samples in quarantine; it is committed with the recipes."""
        return self.recipes / "quarantine" / f"{dataset}.jsonl"

    def suite_record(self, recipe: str) -> Path:
        """Return the record of bounds that people have widened; it is committed with the recipes."""
        return self.recipes / "suites" / f"{recipe}.jsonl"

    def dataset(self, dataset: str) -> Path:
        """Return the folder of the accepted dataset, versioned by data.dvc."""
        return self.root / "data" / dataset

    def artifacts(self, recipe: str) -> Path:
        """Return the folder of the outputs of a recipe's DVC stages: prepared/, training/, bundle/, report/, verdict.json."""
        return self.root / "artifacts" / recipe

    def source_paths(self, path: str) -> list[Path]:
        """Return the paths at which a source's file or folder is looked for, in that order."""
        folders = [self.root]
        if user_folder := os.environ.get("AE_SOURCES"):
            folders.append(Path(user_folder).expanduser().resolve())
        folders += [self.home / "sources", self.root.parent / "shared" / "data"]
        return list(dict.fromkeys(folder / path for folder in folders))

    def find_source(self, path: str) -> Path:
        """Return the file or folder that a recipe's source names by `path`.

        Raises:
            DataError: it is in none of the folders.
        """
        candidates = self.source_paths(path)
        for candidate in candidates:
            if candidate.exists():
                return candidate
        raise DataError(f"{path}: no such file; looked for {', '.join(map(str, candidates))}")

    def incoming(self, dataset: str) -> Path:
        """Return the folder of a dataset that is ingested and not yet validated."""
        return self.home / "incoming" / dataset

    def image_hashes(self, dataset: str) -> Path:
        """Return the file of the perceptual hashes of a dataset's images, by which near copies are found."""
        return self.home / "source-records" / f"{dataset}.hashes.npz"

    def ingest_progress(self, recipe: str) -> Path:
        """Return the file that says how far a source is read."""
        return self.logs / f"ingest-{recipe}.progress"

    def quarantine(self, dataset: str) -> Path:
        return self.home / "quarantine" / dataset

    def validation(self, dataset: str) -> Path:
        """Return the folder of the last validation's validation.json, passed or not."""
        return self.home / "validation" / dataset

    @property
    def data_docs(self) -> Path:
        """Great Expectations' pages on the last validation of each dataset: <dataset>/index.html."""
        return self.home / "data-docs"

    def training(self, recipe: str) -> Path:
        """Return the folder of a training's checkpoints and live progress, outside DVC's outputs (DVC deletes those first)."""
        return self.home / "training" / recipe

    def seed_runs(self, recipe: str) -> Path:
        """Return the folder of what `ae seeds` has trained and measured of the recipe."""
        return self.home / "seeds" / recipe

    def sweeps(self, recipe: str) -> Path:
        """Return the folder of what `ae sweep` has trained and measured of the recipe, and of its tables."""
        return self.home / "sweeps" / recipe

    def reports(self, recipe: str) -> Path:
        """Return the folder of the last run's report.html and model card."""
        return self.home / "reports" / recipe

    @property
    def mlflow(self) -> Path:
        return self.home / "mlflow"

    @property
    def prefect(self) -> Path:
        return self.home / "prefect"

    @property
    def locks_folder(self) -> Path:
        return self.home / "locks"

    @property
    def logs(self) -> Path:
        return self.home / "logs"


def find_project(start: Path | None = None) -> Project:
    """Return the project that `start` (default: the current folder) lies in.

    Raises:
        UsageError: no folder from `start` upwards holds both dvc.yaml and recipes/; or the checkout has an environment of its own
            and this process runs another checkout's code, as by the scripts of an environment that was copied with a checkout.
    """
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "dvc.yaml").is_file() and (folder / "recipes").is_dir():
            if (folder / ".venv").is_dir() and (folder / "aeops").is_dir() and folder != CODE_ROOT:
                raise UsageError(
                    f"this command runs the code of {CODE_ROOT} in the checkout {folder}: the environment {folder / '.venv'} was "
                    f"copied or moved. Type `make -C {shlex.quote(str(folder))} env`, then the same command again"
                )
            home = Path(os.environ.get("AE_HOME") or folder / ".ae").expanduser().resolve()
            use_project(folder)
            return Project(root=folder, home=home)
    raise UsageError(
        f"{start} lies in no project (a folder with dvc.yaml and recipes/): cd to one, then type the command again, or make a "
        "project of this folder: type `ae init`"
    )
