"""Rebuild a registered version from its record alone, in a scratch folder, and compare it with what is registered.

What lies where:

    <home>/rebuild/<recipe>-<version>/   record/  the run's files
                                         code/    a clone of the repository: code, data and results, with its own DVC cache
                                         state/   what AE_HOME is there: checkpoints, logs
    <home>/rebuild/env-<lock>-<Python>/  an environment of a recorded lock, kept for the next rebuild
"""

import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from aeops.errors import AeError
from aeops.machine.child_process import run_module
from aeops.machine.lock import run_lock
from aeops.machine.progress import ProgressBar, ProgressFollower
from aeops.machine.terminal import print_progress
from aeops.project import Project
from aeops.provenance.rebuild.differences import RebuildComparison, compare_rebuild
from aeops.provenance.rebuild.plan import RebuildPlan, make_plan
from aeops.registry.store import Store

SUCCESS_VERDICTS = ("identical", "equivalent")


@dataclass(frozen=True)
class RebuildResult:
    """The result of a rebuild.

    Attributes:
        name: such as digits@7.
        comparison: the verdict with its reasons.
        seconds: what each stage took.
        scratch_folder: where all files still lie; None where it was removed.
    """

    name: str
    comparison: RebuildComparison
    seconds: dict[str, float]
    scratch_folder: Path | None


def rebuild(project: Project, store: Store, recipe: str, version_name: str, *, keep_files: bool) -> RebuildResult:
    """Rebuild a version and write the verdict on it as tags, and nothing else into the registry.

    Args:
        project: whose state folder gets the scratch folder.
        store: the registry.
        recipe: the model's name.
        version_name: a version or an alias.
        keep_files: leave the scratch folder also where the rebuild succeeds.

    Raises:
        UsageError: no such version.
        DataError: a piece is missing; names all of them, before anything runs.
        AeError: a stage failed; the scratch folder is left for a look.
    """
    version = store.version(recipe, version_name)
    scratch_folder = project.home / "rebuild" / f"{recipe}-{version.version}"
    with run_lock(Project(project.root, project.home / "rebuild"), f"ae rebuild {recipe}@{version.version}"):
        shutil.rmtree(scratch_folder, ignore_errors=True)
        scratch_folder.mkdir(parents=True)
        try:
            print_progress("checking every piece of the record")
            plan = make_plan(project, store, recipe, version, scratch_folder)
        except BaseException:
            shutil.rmtree(scratch_folder)
            raise
        for name, (recorded_value, value) in plan.platform_differences().items():
            print_progress(f"this machine differs in {name}: {recorded_value} recorded, {value} here")
        seconds = _run_stages(plan)
        artifacts = plan.clone.artifacts(recipe)
        comparison = compare_rebuild(plan.record, plan.bundle, artifacts / "bundle", artifacts, plan.platform_differences())
        store.set_tags(recipe, version.version, _verdict_tags(comparison, plan.description["platform"]))
        if not keep_files and comparison.verdict in SUCCESS_VERDICTS:
            shutil.rmtree(scratch_folder)
            return RebuildResult(plan.record.name, comparison, seconds, None)
    return RebuildResult(plan.record.name, comparison, seconds, scratch_folder)


def _run_stages(plan: RebuildPlan) -> dict[str, float]:
    """Run every stage in the clone, without DVC's cache; return the seconds that each took."""
    seconds = {}
    for stage in plan.description["stages"]:
        print_progress(f"{stage} {plan.record.name}")
        started_at = time.monotonic()
        if stage == "train":
            _run_training(plan)
        else:
            _run_stage(plan, stage)
        seconds[stage] = time.monotonic() - started_at
    return seconds


def _run_training(plan: RebuildPlan) -> None:
    """Run the stage train with a bar over the epochs."""
    epochs = int(plan.record.result("metrics.json")["history"]["epochs"])
    progress_follower = ProgressFollower(plan.clone.training(plan.record.recipe) / "progress.jsonl")
    with ProgressBar(epochs) as progress_bar:
        _run_stage(plan, "train", on_poll=lambda: progress_bar.show(progress_follower.new_rows()))


def _run_stage(plan: RebuildPlan, stage: str, on_poll: Callable[[], None] | None = None) -> None:
    clone = plan.clone
    arguments, log = [plan.entry, "run-stage", stage, plan.record.recipe], clone.logs / f"{stage}.log"
    try:
        run_module(
            arguments,
            root=clone.root,
            home=clone.home,
            log=log,
            on_poll=on_poll,
            python=plan.python,
            other_version=True,
        )
    except AeError as error:
        raise type(error)(f"the stage {stage} of {plan.record.name} fails when it is rebuilt ({log}): {error}") from error


def _verdict_tags(comparison: RebuildComparison, platform_tags: dict[str, str]) -> dict[str, str]:
    return {
        "rebuild.verdict": comparison.verdict,
        "rebuild.time": datetime.now(UTC).isoformat(timespec="seconds"),
        "rebuild.machine": f"{platform.node()}: {platform_tags['platform.cpu']}, GPU: {platform_tags['platform.gpu']}",
    }
