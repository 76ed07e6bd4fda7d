"""Measure a bundle's power on faults that are injected into validation samples: for a sweep, which may not look at test samples.

    python -m aeops.sweeps.power_measurement --recipe FILE --samples DIR --bundle DIR --rate 0.01 --out FILE

Every trial is measured at the same rate of false alarms, on its own score's calibration samples, so that a recipe's threshold
makes no difference between them.
"""

import argparse
from pathlib import Path

import numpy as np

from aeops.bundle.detector import Detector
from aeops.data.fit_samples import calibration_file
from aeops.evaluation import model_input
from aeops.evaluation.fault_power import CALIBRATION_ROWS, PowerSamples, measure_score_power, model_scores
from aeops.evaluation.reference import REFERENCE_SEED
from aeops.evaluation.sampling import even_indices
from aeops.files import make_folder, write_json
from aeops.machine.entry_point import run_main
from aeops.project import Project, find_project
from aeops.recipe.metric_names import MODEL_DETECTOR
from aeops.recipe.reader import Recipe, read_recipe

MAX_NORMALS = 500  # validation samples that get faults


def measure_validation_power(recipe: Recipe, project: Project, samples: Path, bundle: Path, rate: float) -> dict[str, object]:
    """Measure the mean power and separation of a bundle's score on validation samples.

    Args:
        recipe: the bundle's.
        project: where a file of calibration samples that the recipe names is looked for.
        samples: a folder with validation.npy and calibration.npy, of normal samples.
        bundle: of the trained model.
        rate: of false alarms, at which the share of caught faults counts.

    Returns:
        `power` and `separation` in [0, 1], None where no fault changed a sample, the power by fault as `faults`, and the number
        of `samples`.
    """
    validation = np.load(samples / "validation.npy", mmap_mode="r")
    rows = even_indices(len(validation), MAX_NORMALS)
    calibration = np.load(calibration_file(samples, recipe, project), mmap_mode="r")
    calibration = calibration[even_indices(len(calibration), CALIBRATION_ROWS)]
    served = model_input.served_inputs(recipe.fit, calibration, REFERENCE_SEED)
    power_samples = PowerSamples(recipe.fit, rows, np.asarray(validation[rows]), served)
    power = measure_score_power(model_scores(Detector(bundle)), rate, power_samples)[MODEL_DETECTOR]
    return {
        "power": power.mean,
        "separation": power.mean_separation,
        "faults": power.by_fault,
        "samples": len(rows),
        "rate": rate,
    }


def main() -> None:
    """Parse the command line, measure, and write the result as JSON."""
    parser = argparse.ArgumentParser(prog="python -m aeops.sweeps.power_measurement", description=__doc__.splitlines()[0])
    for name in ("recipe", "samples", "bundle", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--rate", type=float, required=True)
    arguments = parser.parse_args()

    def run_measurement() -> None:
        recipe = read_recipe(arguments.recipe)
        result = measure_validation_power(recipe, find_project(), arguments.samples, arguments.bundle, arguments.rate)
        make_folder(arguments.out.parent)
        write_json(arguments.out, result)

    run_main(run_measurement)


if __name__ == "__main__":
    main()
