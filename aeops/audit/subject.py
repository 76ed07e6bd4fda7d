"""What is audited: an accepted dataset, or a recipe's source read now."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from ae_models.spec import InputSpec, join_names, suggest_match
from aeops.data.dataset import content_sha256, read_index, read_shards, require_receipt
from aeops.data.shards import read_input
from aeops.errors import UsageError
from aeops.kinds.interface import DataKind, load_kind
from aeops.kinds.samples import SampleSpec
from aeops.machine.child_process import run_module
from aeops.machine.lock import file_lock
from aeops.machine.stored_json import read_json
from aeops.project import Project, shorten_name
from aeops.recipe.reader import Recipe, load_recipe, recipe_names

DATASET, SOURCE = "dataset", "source"


@dataclass(frozen=True)
class AuditSubject:
    """Samples with their index.

    Attributes:
        name: of the recipe or dataset that was asked for.
        origin: DATASET or SOURCE.
        folder: of the dataset.
        kind_name, kind: of its samples.
        input: the section input, as the dataset has it.
        spec: of its samples.
        content_sha256: of the dataset.
        index: of the samples that are looked at, a row each, numbered from 0.
        rows: of the whole dataset.
        label_text: returns a label as a person knows it.
    """

    name: str
    origin: str
    folder: Path
    kind_name: str
    kind: DataKind
    input: InputSpec
    spec: SampleSpec
    content_sha256: str
    index: pd.DataFrame
    rows: int
    label_text: Callable[[int], str]

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the positions in `index` of a shard's rows, and their stored samples (k, ...)."""
        for part, samples in read_shards(self.folder, self.index):
            yield part.index.to_numpy(), samples

    def sample_blocks(self) -> Iterator[np.ndarray]:
        """Yield the stored samples (k, ...) of one shard after another, in the order of `index`."""
        for _, samples in self.blocks():
            yield samples

    def samples(self, rows: list[int]) -> np.ndarray:
        """Return the stored samples (k, ...) at these positions of `index`, in this order."""
        found: dict[int, np.ndarray] = {}
        for part, samples in read_shards(self.folder, self.index.iloc[sorted(set(rows))]):
            found |= dict(zip(part.index.tolist(), samples, strict=True))
        return np.stack([found[row] for row in rows])

    def label(self, row: int) -> str:
        """Return the label of a sample in words; empty where it has none."""
        label = self.index["label"].iloc[row]
        return "" if pd.isna(label) else self.label_text(int(label))


@contextmanager
def open_subject(project: Project, name: str, *, from_source: bool, max_samples: int) -> Iterator[AuditSubject]:
    """Open what is to be audited; a source is read into a scratch folder that is deleted at the end.

    Args:
        project: whose dataset or recipe it is.
        name: of a recipe, or of a dataset in data/.
        from_source: whether to read the recipe's source although its dataset is accepted.
        max_samples: that are looked at; of a larger set those with the lowest SHA-256, so that it is always the same choice.

    Raises:
        UsageError: there is no recipe and no dataset of that name, or mistakes in the recipe.
        DataError: the dataset does not match its receipt, or the source is not what the recipe says.
    """
    recipe = _find_recipe(project, name)
    dataset = project.dataset(name if recipe is None else recipe.data.dataset)
    if recipe is None and from_source:
        raise UsageError(f"--source: {name} is a dataset without a recipe of that name; expected the name of a recipe")
    if dataset.is_dir() and not from_source:
        receipt = require_receipt(dataset, _recipe_of_dataset(project, recipe, dataset.name))
        yield _subject(name, DATASET, dataset, receipt["content_sha256"], recipe, max_samples)
        return
    assert recipe is not None, "a dataset without a recipe exists"
    folder = project.home / "audit" / f"{recipe.name}-source"
    with file_lock(project, f"audit-{recipe.name}"):  # another audit of the same source waits for the folder
        shutil.rmtree(folder, ignore_errors=True)
        try:
            arguments = ["aeops.stages.ingest", "--recipe", str(project.recipe_file(recipe.name)), "--out", str(folder)]
            arguments.append("--whole")
            run_module(arguments, root=project.root, home=project.home, log=project.logs / "audit-ingest.log")
            yield _subject(name, SOURCE, folder, content_sha256(folder), recipe, max_samples)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _find_recipe(project: Project, name: str) -> Recipe | None:
    """Return the recipe of that name; None where there is none but an accepted dataset is called so."""
    recipes = recipe_names(project)
    if name in recipes:
        return load_recipe(project, name)
    data = project.dataset("")
    datasets = sorted(folder.name for folder in data.iterdir() if folder.is_dir()) if data.is_dir() else []
    if name in datasets:
        return None
    listing = join_names(recipes) or "none in recipes/"
    stored = f", or a dataset: {join_names(datasets)}" if datasets else ""
    raise UsageError(
        f"no recipe or dataset {shorten_name(name)!r}: expected a recipe: {listing}{stored}"
        f"{suggest_match(name, [*recipes, *datasets])}"
    )


def _recipe_of_dataset(project: Project, recipe: Recipe | None, dataset: str) -> str:
    """Return the name of a recipe that ingests the dataset, for messages."""
    return dataset if recipe is None else recipe.name


def _subject(name: str, origin: str, folder: Path, sha256: str, recipe: Recipe | None, max_samples: int) -> AuditSubject:
    description = read_json(folder / "dataset.json", "kind", "shape", "low", "high")
    shape = tuple(description["shape"])
    spec = SampleSpec(shape, shape, float(description["low"]), float(description["high"]), shape)
    index = read_index(folder)
    rows = len(index)
    if rows > max_samples:
        index = index.sort_values(["sha256", "id"]).head(max_samples)
    index = index.sort_values(["shard", "row"])
    label_text = str if recipe is None else recipe.label_text
    kind = description["kind"]
    if "channels" in description:
        raise UsageError(
            f"{name} is a series that is stored step by step, and a step alone has neither a copy nor a wrong label: expected a "
            "dataset of samples; ae score says which steps of a series are unlike the others"
        )
    stored = read_input(description)
    if recipe is not None:
        stored = replace(stored, one_hot=recipe.fit.input.one_hot)
    index = index.reset_index(drop=True)
    return AuditSubject(name, origin, folder, kind, load_kind(kind), stored, spec, sha256, index, rows, label_text)
