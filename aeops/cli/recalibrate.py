"""`ae recalibrate RECIPE`: another threshold for the champion's weights, in seconds and without a training."""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aeops.cli.outputs import add_json_option, print_json
from aeops.cli.recipe_change import changed_recipe
from aeops.cli.run import run_flow, show_summary
from aeops.cli.stopped_runs import notice_of_stop
from aeops.project import Project, find_project

if TYPE_CHECKING:
    from aeops.recipe.reader import Recipe

RATE_KEY = "false_alarm_rate"


def add_command(commands: Any) -> None:
    """Add `ae recalibrate` to the commands of the parser."""
    command = commands.add_parser("recalibrate", help="give the champion another threshold, in seconds; nothing is trained")
    command.add_argument("recipe", help="name of a file in recipes/, such as digits")
    rate_help = "the threshold's false_alarm_rate, such as 0.005: written to the recipe (default: as the recipe says)"
    command.add_argument("--rate", type=float, help=rate_help)
    data_help = "calibrate on the normal samples of a file or folder: their copy's name is written to the recipe"
    command.add_argument("--on", type=Path, metavar="DATA", help=data_help)
    add_json_option(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Change the recipe, run the recalibration flow and print its summary.

    The recipe is changed back where the gate refuses the result or the flow fails, so that it says what the champion does.

    Returns:
        0 if the new version is champion or waits for approval, else the exit code of the gate.
    """
    start_time = time.monotonic()
    from aeops.machine.run_watch import RunWatch

    with RunWatch(notice_of_stop("recalibrate", arguments.recipe)) as watch:
        from aeops.data.dvc import require_path_without_braces
        from aeops.errors import GateError
        from aeops.machine.access import require_writable_checkout
        from aeops.machine.environment import prepare_environment, require_disk_space
        from aeops.machine.lock import RunUse, run_lock
        from aeops.recipe.reader import load_recipe
        from aeops.registry.aliases import CHAMPION
        from aeops.registry.version_state import WAITING

        project = find_project()
        recipe = load_recipe(project, arguments.recipe, with_keys=True)
        require_rate(recipe, arguments.rate)
        require_path_without_braces(project)
        require_disk_space(project)
        require_writable_checkout(project)
        prepare_environment(project)
        with run_lock(project, f"ae recalibrate {recipe.name}", RunUse(recipe.name, recipe.data.dataset)):
            settings = threshold_settings(project, recipe, arguments.rate, arguments.on)
            paths = {f"threshold.{key}": value for key, value in settings.items()}
            with changed_recipe(project, recipe, paths) as change:
                summary = run_flow(project, recipe.name, watch, "recalibration")
                if summary["verdict"] == "accepted" and summary["state"] in (CHAMPION, WAITING):
                    change.keep()
        if arguments.json:
            print_json(summary)
        else:
            show_summary(summary, time.monotonic() - start_time)
    return 0 if change.is_kept else GateError.exit_code


def require_rate(recipe: "Recipe", rate: float | None) -> None:
    """Check that `--rate` names a setting that the recipe's threshold has, with a value that it may have.

    Raises:
        UsageError: it does not; the message says what to type.
    """
    from ae_models.errors import SpecError
    from ae_models.spec import PART_SPECS, SpecReader, spec_to_dict
    from aeops.errors import UsageError

    if rate is None:
        return
    threshold = spec_to_dict(recipe.fit.threshold)
    if RATE_KEY not in threshold:
        settings = ", ".join(key for key in threshold if key != "kind") or "no setting"
        raise UsageError(
            f"--rate: the threshold of kind {threshold['kind']} has no {RATE_KEY}, but {settings}: change "
            f"recipes/{recipe.name}.yaml, then type `ae recalibrate {recipe.name}`"
        )
    reader = SpecReader("--rate")
    reader.read_kind(PART_SPECS["threshold"], threshold | {RATE_KEY: rate}, "threshold")
    try:
        reader.finish()
    except SpecError as error:
        raise UsageError(str(error)) from error


def threshold_settings(project: Project, recipe: "Recipe", rate: float | None, data: Path | None) -> dict[str, float | str]:
    """Return the settings of the recipe's threshold that the command line asks for; samples are stored in the state folder.

    Raises:
        UsageError: there is no such file, or the recipe has not been trained here.
        DataError: samples that a threshold of this recipe cannot be calibrated on.
    """
    from aeops.bundle.detector import Detector
    from aeops.data.calibration_data import store_calibration_samples
    from aeops.errors import UsageError

    settings: dict[str, float | str] = {}
    if rate is not None:
        settings[RATE_KEY] = rate
    if data is not None:
        if recipe.fit.input.target_channels:
            raise UsageError(
                f"--on: {recipe.name} has input.target_channels, and samples of a file have no target: leave --on out"
            )
        bundle = project.artifacts(recipe.name) / "bundle"
        if not bundle.is_dir():
            raise UsageError(f"{recipe.name} has not been trained here: type `ae run {recipe.name}` first")
        stored = store_calibration_samples(project, recipe.name, Detector(bundle), data)
        settings |= vars(stored)
    return settings
