"""Rebuild a registered version from its record alone, in a scratch folder, and compare it with what is registered.

What lies where:

    <home>/rebuild/<recipe>-<version>/   record/  the run's files
                                         code/    a clone of the repository: code, data and results, with its own DVC cache
                                         state/   what AE_HOME is there: checkpoints, logs
    <home>/rebuild/env-<lock>-<Python>/  an environment of a recorded lock, kept for the next rebuild
"""

import platform
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from aeops.errors import AeError
from aeops.machine.child_process import run_module
from aeops.machine.lock import run_lock
from aeops.machine.progress import ProgressBar, ProgressFollower
from aeops.project import Project
from aeops.provenance.rebuild.differences import Likeness, compare
from aeops.provenance.rebuild.plan import Plan, make_plan
from aeops.registry.store import Store

SUCCESSES = ("identical", "equivalent")


@dataclass(frozen=True)
class Rebuilt:
    """The result of a rebuild.

    Attributes:
        name: such as digits@7.
        likeness: the verdict with its reasons.
        seconds: what each stage took.
        scratch: where everything still lies; None where it was removed.
    """

    name: str
    likeness: Likeness
    seconds: dict[str, float]
    scratch: Path | None


def rebuild(project: Project, store: Store, recipe: str, which: str, *, keep: bool) -> Rebuilt:
    """Rebuild a version and write the verdict on it as tags, and nothing else into the registry.

    Args:
        which: a version or an alias.
        keep: leave the scratch folder also where the rebuild succeeds.

    Raises:
        UsageError: no such version.
        DataError: a piece is missing; names all of them, before anything runs.
        AeError: a stage failed; the scratch folder is left for a look.
    """
    version = store.version(recipe, which)
    scratch = project.home / "rebuild" / f"{recipe}-{version.version}"
    with run_lock(Project(project.root, project.home / "rebuild"), f"ae rebuild {recipe}@{version.version}"):
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        try:
            say("checking every piece of the record")
            plan = make_plan(project, store, recipe, version, scratch)
        except BaseException:
            shutil.rmtree(scratch)
            raise
        for name, (recorded, here) in plan.differing().items():
            say(f"this machine differs in {name}: {recorded} recorded, {here} here")
        seconds = run_stages(plan)
        artifacts = plan.clone.artifacts(recipe)
        likeness = compare(plan.record, plan.bundle, artifacts / "bundle", artifacts, plan.differing())
        store.set_tags(recipe, version.version, verdict_tags(likeness, plan.description["platform"]))
        kept = keep or likeness.verdict not in SUCCESSES
        if not kept:
            shutil.rmtree(scratch)
    return Rebuilt(plan.record.name, likeness, seconds, scratch if kept else None)


def say(text: str) -> None:
    print(f"{text} ...", file=sys.stderr, flush=True)


def run_stages(plan: Plan) -> dict[str, float]:
    """Run every stage in the clone, without DVC's cache; return the seconds that each took."""
    seconds = {}
    for stage in plan.description["stages"]:
        say(f"{stage} {plan.record.name}")
        started = time.monotonic()
        if stage == "train":
            run_training(plan)
        else:
            run_stage(plan, stage)
        seconds[stage] = time.monotonic() - started
    return seconds


def run_training(plan: Plan) -> None:
    """Run the stage train with a bar over the epochs."""
    epochs = int(plan.record.result("metrics.json")["history"]["epochs"])
    follower = ProgressFollower(plan.clone.training(plan.record.recipe) / "progress.jsonl")
    with ProgressBar(epochs) as bar:
        run_stage(plan, "train", on_poll=lambda: bar.show(follower.new_rows()))


def run_stage(plan: Plan, stage: str, on_poll: Callable[[], None] | None = None) -> None:
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


def verdict_tags(likeness: Likeness, machine: dict[str, str]) -> dict[str, str]:
    return {
        "rebuild.verdict": likeness.verdict,
        "rebuild.time": datetime.now(UTC).isoformat(timespec="seconds"),
        "rebuild.machine": f"{platform.node()}: {machine['platform.cpu']}, GPU: {machine['platform.gpu']}",
    }
