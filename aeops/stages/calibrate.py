"""Stage calibrate: choose score and threshold of trained weights, and export them: the bundle. It takes seconds.

Run: python -m aeops.stages.calibrate --recipe recipes/digits.yaml --prepared DIR --training DIR --out DIR
"""

import argparse
from pathlib import Path

from ae_models.calibration import calibrate
from ae_models.spec import SampleRules
from aeops.data.fit_samples import open_fit_samples
from aeops.kinds.interface import load_kind
from aeops.machine.entry_point import run_main
from aeops.project import Project, find_project
from aeops.recipe.reader import Recipe, read_recipe


def calibrate_bundle(recipe: Recipe, project: Project, prepared: Path, training: Path, bundle: Path) -> None:
    """Calibrate the weights of a training and write the bundle.

    Args:
        recipe: its sections score, threshold and validate determine the result; the weights must be those of its others.
        project: where a file of calibration samples that the recipe names is looked for.
        prepared: the folder of the stage prepare.
        training: the folder of the stage train.
        bundle: the folder to write; it is replaced at the end.

    Raises:
        DataError: the prepared folder is incomplete.
        BundleError: the training is incomplete, altered, or not that of the recipe.
        SpecError: too few samples for the threshold.
        SampleError: scores that no threshold can be chosen from.
    """
    samples = open_fit_samples(prepared, recipe, project)
    calibration_sha256 = None
    if recipe.calibration_samples is not None:
        calibration_sha256 = recipe.calibration_samples.samples_sha256
    calibrate(
        samples.fit,
        training,
        samples.roles,
        content_sha256=samples.content_sha256,
        bundle=bundle,
        rules=served_rules(recipe),
        extras=samples.extras,
        calibration_sha256=calibration_sha256,
    )


def served_rules(recipe: Recipe) -> SampleRules:
    """Return the rules for samples that the model is served: what is expected of a dataset's samples is expected of them.

    Samples that are served corrupted have another mean and spread than those of the dataset, which the bounds are about.
    """
    section, source = recipe.validate, recipe.fit.input
    expected: dict[str, tuple[float, float]] = {}
    if section.blank == "refuse":
        expected["blank"] = (0, 0)
    if source.given == "clean":
        expected |= load_kind(source.kind).served_bounds(section.sample_bounds(source))
    return SampleRules(section.missing, expected, section.unknown, section.infinite, recipe.data.source.id_column)


def main() -> None:
    """Parse the command line and calibrate."""
    parser = argparse.ArgumentParser(description="Make a bundle of a recipe's trained weights.")
    for option in ("recipe", "prepared", "training", "out"):
        parser.add_argument(f"--{option}", type=Path, required=True)
    arguments = parser.parse_args()
    folders = (arguments.prepared, arguments.training, arguments.out)
    run_main(lambda: calibrate_bundle(read_recipe(arguments.recipe), find_project(), *folders))


if __name__ == "__main__":
    main()
