"""The trainings and measurements of trials, each in a folder that a hash of all that decides it names, in .ae/sweeps/RECIPE.

None is made twice: a sweep that was killed goes on with what is missing, and another sweep finds what this one has trained. The
folder may be deleted at any time.
"""

import math
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ae_models.checksums import json_sha256
from ae_models.spec import spec_to_dict
from aeops.data.stage_code import EXEMPT_MODULES, stage_sha256
from aeops.data.stage_runs import KEY_DIGITS, StageCommand, StageStarter, is_trained, training_key, write_recipe
from aeops.errors import DataError
from aeops.files import make_folder
from aeops.machine.progress import finished_rows
from aeops.machine.source_files import source_hashes
from aeops.machine.stored_json import read_json_if_whole
from aeops.project import Project
from aeops.recipe.edit import with_settings
from aeops.recipe.yaml_reader import parse_yaml
from aeops.sweeps.axes import BY_ERROR, BY_POWER, BY_SEPARATION
from aeops.sweeps.plan import Rung, Trial

POWER_MODULE = "aeops.sweeps.power_measurement"
TEST_FILES = "test"  # what the names of the test samples' files begin with


@dataclass(frozen=True)
class SweepFolder:
    """Where a sweep of a recipe reads and writes.

    Attributes:
        project: whose code runs.
        path: .ae/sweeps/RECIPE.
        samples: the prepared samples without those of the test: no process of a sweep is given the way to them.
        content_sha256: of the dataset.
    """

    project: Project
    path: Path
    samples: Path
    content_sha256: str


def link_samples(prepared: Path, samples: Path) -> None:
    """Make a folder of links to prepared files, all but those of the test samples.

    Raises:
        DataError: there are none.
    """
    if not (prepared / "prepared.json").is_file():
        raise DataError(f"{prepared}: the prepared dataset is incomplete: prepared.json is missing")
    make_folder(samples)
    for old in samples.iterdir():
        old.unlink()
    for file in sorted(prepared.iterdir()):
        if not file.name.startswith(TEST_FILES):
            (samples / file.name).symlink_to(file)


@dataclass(frozen=True)
class TrialRun:
    """A trial in one rung: a training of so many epochs, and its measurement.

    Attributes:
        folder: of the sweep.
        trial: whose settings these are.
        epochs: of the training.
        text: of the recipe's file that its stages read.
        work: the folder of the training, which is the state folder of its processes, too.
        measurement: the file of its power.
        rate: of false alarms, at which that is measured.
    """

    folder: SweepFolder
    trial: Trial
    epochs: int
    text: str
    work: Path
    measurement: Path
    rate: float

    @property
    def training(self) -> Path:
        """Return the folder that the stage train writes."""
        return self.work / "result"

    @property
    def progress(self) -> Path:
        """Return the file that the stage train appends a line an epoch to."""
        return self.work / "training" / self.trial.recipe.name / "progress.jsonl"

    @property
    def _bundle(self) -> Path:
        return self.work / f"bundle-{self.measurement.stem}"

    def is_trained(self) -> bool:
        """Return whether its training is whole."""
        return is_trained(self.training)

    def is_measured(self) -> bool:
        """Return whether its power is measured."""
        return read_json_if_whole(self.measurement, BY_POWER, BY_SEPARATION) is not None

    def training_commands(self) -> tuple[StageCommand, ...]:
        """Write its recipe and return what trains it."""
        train = self.trial.recipe.fit.train
        return (self._starter().training_command(train, self.progress.parent, out=self.training),)

    def measuring_commands(self) -> tuple[StageCommand, ...]:
        """Write its recipe and return what measures its power once it is trained."""
        starter, bundle = self._starter(), self._bundle
        calibrate = starter.command("calibrate", "--training", str(self.training), out=bundle)
        measure = (
            *(POWER_MODULE, "--recipe", str(starter.recipe_file), "--samples", str(self.folder.samples)),
            *("--bundle", str(bundle), "--rate", repr(self.rate), "--out", str(self.measurement)),
        )
        log = self.work / "logs" / "power.log"
        return calibrate, StageCommand(measure, self.folder.project.root, self.work, log)

    def remove_bundle(self) -> None:
        """Remove the bundle that its power was measured of: the training and the measurement stay."""
        shutil.rmtree(self._bundle, ignore_errors=True)

    def value(self, metric: str) -> float | None:
        """Return what was measured, None where that is still to be done; NaN where it is no number.

        Of an ensemble, the error is the mean over its members.
        """
        if metric != BY_ERROR:
            document = read_json_if_whole(self.measurement, BY_POWER, BY_SEPARATION)
            return None if document is None else _number(document[metric])
        if not self.is_trained():
            return None
        last = finished_rows(self.training / "history.csv")[-1]
        errors = [value for name, value in last.items() if name.startswith("validation_error")]
        return sum(errors) / len(errors)

    def _starter(self) -> StageStarter:
        # Beside those of other scores on the same weights, whose processes may run at this moment.
        recipe_file = self.work / "recipes" / self.measurement.stem / f"{self.trial.recipe.name}.yaml"
        write_recipe(self.folder.project, self.work, recipe_file, self.text)
        return StageStarter(self.folder.project, self.work, recipe_file, self.folder.samples)


@cache
def _measuring_sha256(root: Path) -> str:
    return json_sha256(source_hashes(root, [POWER_MODULE], exempt=EXEMPT_MODULES))


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def make_trial_run(folder: SweepFolder, trial: Trial, rung: Rung, rate: float) -> TrialRun:
    """Return a trial in a rung, with the folders that its settings name."""
    project, recipe = folder.project, trial.recipe
    epochs, text = rung.epochs(recipe), trial.trained_text
    weights: dict[str, Any] = spec_to_dict(recipe.fit.weights)
    if epochs != recipe.fit.train.total_epochs:
        text = with_settings(text, {"train.epochs": epochs, "train.budget": 1.0}, f"{recipe.name}.yaml")
        weights["train"] = weights["train"] | {"epochs": epochs, "budget": 1.0}
    raw_data = parse_yaml(text.encode(), recipe.name)["data"]
    training = training_key(project, raw_data, weights, folder.content_sha256)
    measured = {
        "training": training,
        "score": spec_to_dict(recipe.fit.score),
        "rate": rate,
        "code": [stage_sha256(project.root, "calibrate"), _measuring_sha256(project.root)],
    }
    work = folder.path / "trials" / training[:KEY_DIGITS]
    measurement = folder.path / "powers" / f"{json_sha256(measured)[:KEY_DIGITS]}.json"
    return TrialRun(folder, trial, epochs, text, work, measurement, rate)
