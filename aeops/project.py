"""Where things are: the project's folder and its state folder. Light, creates nothing."""

import os
from dataclasses import dataclass
from pathlib import Path

from aeops.errors import DataError, UsageError


@dataclass(frozen=True)
class Project:
    """A checkout and its state.

    Attributes:
        root: the folder that holds dvc.yaml and recipes/.
        home: the state folder: `.ae/` in the root, or where AE_HOME says.
    """

    root: Path
    home: Path

    @property
    def recipes(self) -> Path:
        return self.root / "recipes"

    def recipe_file(self, recipe: str) -> Path:
        return self.recipes / f"{recipe}.yaml"

    def dataset(self, dataset: str) -> Path:
        """The accepted dataset, versioned by data.dvc."""
        return self.root / "data" / dataset

    def artifacts(self, recipe: str) -> Path:
        """What the DVC stages of a recipe write: prepared/, bundle/, training/, report/, verdict.json."""
        return self.root / "artifacts" / recipe

    def source_places(self, path: str) -> list[Path]:
        """Where a source's file or folder may lie, in the order in which it is looked for."""
        named = os.environ.get("AE_SOURCES")
        folders = (
            self.root,
            *([Path(named).expanduser().resolve()] if named else []),
            self.home / "sources",
            self.root.parent / "shared" / "data",
        )
        return list(dict.fromkeys(folder / path for folder in folders))

    def find_source(self, path: str) -> Path:
        """The file or folder that a recipe's source names by `path`.

        Raises:
            DataError: it is in none of the folders.
        """
        places = self.source_places(path)
        for place in places:
            if place.exists():
                return place
        raise DataError(f"{path}: no such file; looked for {', '.join(map(str, places))}")

    def incoming(self, dataset: str) -> Path:
        """A freshly ingested dataset that nothing has validated yet."""
        return self.home / "incoming" / dataset

    def quarantine(self, dataset: str) -> Path:
        return self.home / "quarantine" / dataset

    def validation(self, dataset: str) -> Path:
        """The last validation: validation.json, whether it passed or not."""
        return self.home / "validation" / dataset

    @property
    def data_docs(self) -> Path:
        """Great Expectations' pages on the last validation of each dataset: <dataset>/index.html."""
        return self.home / "data-docs"

    def training(self, recipe: str) -> Path:
        """Checkpoints and live progress of a training, outside DVC's outputs (DVC deletes those first)."""
        return self.home / "training" / recipe

    def reports(self, recipe: str) -> Path:
        """The last run's report.html and model card."""
        return self.home / "reports" / recipe

    @property
    def mlflow(self) -> Path:
        return self.home / "mlflow"

    @property
    def prefect(self) -> Path:
        return self.home / "prefect"

    @property
    def locks(self) -> Path:
        return self.home / "locks"

    @property
    def logs(self) -> Path:
        return self.home / "logs"


def find_project(start: Path | None = None) -> Project:
    """The project that `start` (default: the current folder) lies in.

    Raises:
        UsageError: no folder from `start` upwards holds both dvc.yaml and recipes/.
    """
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "dvc.yaml").is_file() and (folder / "recipes").is_dir():
            home = Path(os.environ.get("AE_HOME") or folder / ".ae").expanduser().resolve()
            return Project(root=folder, home=home)
    raise UsageError(
        f"{start} lies in no project (a folder with dvc.yaml and recipes/): cd to the checkout, then type the command again"
    )
