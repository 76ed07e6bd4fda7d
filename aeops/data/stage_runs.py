"""Stages of a recipe outside DVC: several trainings side by side, each in a folder that a hash of all that decides it names.

A folder is the state folder of its stages, too, so that checkpoints of an `ae run` stay, and a training that was killed goes on.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ae_models.checksums import json_sha256, verify_training
from ae_models.errors import BundleError
from ae_models.mappings import drop_keys
from ae_models.spec import TrainSpec
from aeops.data.stage_code import stage_sha256
from aeops.files import atomic_write, make_folder
from aeops.machine.child_process import ChildProcess, run_module
from aeops.project import Project

KEY_DIGITS = 16  # of the SHA-256 that names a folder


def training_key(project: Project, raw_data: Mapping[str, Any], weights: Mapping[str, Any], content_sha256: str) -> str:
    """Return the SHA-256 of everything that decides a training.

    Args:
        project: whose code prepares and trains.
        raw_data: the section data as the recipe's file holds it; its source does not count, as the content does.
        weights: the sections input, model and train.
        content_sha256: of the dataset that the samples are prepared from.
    """
    return json_sha256(
        {
            "content_sha256": content_sha256,
            "data": drop_keys(raw_data, {"source"}),
            "weights": dict(weights),
            "code": {stage: stage_sha256(project.root, stage) for stage in ("prepare", "train")},
        }
    )


@dataclass(frozen=True)
class StageCommand:
    """A module's command line and where it runs: all that a machine has to know to run it.

    Attributes:
        arguments: the module's name and its arguments.
        root: the folder to run it in.
        home: its state folder.
        log: receives its output.
        cores: that it uses; of a training, for each of its workers.
        workers: processes that share each batch of a training; here they are its own children.
        group: the folder in which they meet, where another place starts each of them.
        uses_gpu: whether each of them takes a GPU where there is one.
    """

    arguments: tuple[str, ...]
    root: Path
    home: Path
    log: Path
    cores: int = 1
    workers: int = 1
    group: Path | None = None
    uses_gpu: bool = False

    def start(self) -> ChildProcess:
        """Start it here, as a process of its own."""
        return ChildProcess(self.arguments, root=self.root, home=self.home, log=self.log)


@dataclass(frozen=True)
class StageStarter:
    """Starts stages on prepared samples in a state folder of their own.

    Attributes:
        project: whose code runs.
        home: the state folder of the stages, with their logs.
        recipe_file: the recipe that they read.
        prepared: the folder of the stage prepare.
    """

    project: Project
    home: Path
    recipe_file: Path
    prepared: Path

    def training_command(self, train: TrainSpec, checkpoints: Path, out: Path) -> StageCommand:
        """Return the command line of the stage train, with what its place has to know of its workers."""
        on_gpu = train.accelerator != "cpu"
        command = self.command("train", out=out)
        return replace(command, cores=train.threads, workers=train.workers, group=checkpoints, uses_gpu=on_gpu)

    def command(self, stage: str, *options: str, out: Path) -> StageCommand:
        """Return the command line of a stage that writes `out`."""
        arguments = ("--recipe", str(self.recipe_file), "--prepared", str(self.prepared), *options, "--out", str(out))
        log = self.home / "logs" / f"{stage}.log"
        return StageCommand((f"aeops.stages.{stage}", *arguments), self.project.root, self.home, log)

    def run(self, stage: str, *options: str, out: Path, on_poll: Callable[[], None] | None = None) -> None:
        """Run a stage until it ends; raises as `run_module` does."""
        command = self.command(stage, *options, out=out)
        run_module(command.arguments, root=command.root, home=command.home, log=command.log, on_poll=on_poll)


def write_recipe(project: Project, home: Path, file: Path, text: str) -> None:
    """Write the recipe that stages in a state folder read, and link the project's sources there."""
    make_folder(file.parent)
    atomic_write(file, text)
    sources, target = home / "sources", project.home / "sources"
    if not (sources.is_symlink() and sources.readlink() == target):  # else the state folder was moved
        sources.unlink(missing_ok=True)
        sources.symlink_to(target)


def is_trained(training: Path) -> bool:
    """Return whether the folder of a stage train holds a whole training; of one that is damaged, this is said on stderr."""
    if not training.is_dir():
        return False
    try:
        verify_training(training)
    except BundleError as error:
        print(f"{error.reason} in {training}: it is trained again", file=sys.stderr, flush=True)
        return False
    return True
