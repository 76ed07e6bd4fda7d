"""Entry point of `ae rebuild` in the code of another version, run in a clone of the recorded commit.

    python -m aeops.provenance.rebuild_entry describe RECIPE         # one line of JSON: see `Description`
    python -m aeops.provenance.rebuild_entry run-stage STAGE RECIPE  # runs the stage as dvc.lock recorded it

Each version records the name and the number of its entry point in the tag `rebuild.entry`: `aeops.provenance.rebuild_entry/1`. A
rebuild runs the module that is recorded, in the clone's folder, so modules may move from one version to the next. What has to
stay, or else needs a new `VERSION` with a reader for the old one in rebuild/plan.py:

- the two commands above and the keys of `Description`;
- the current folder is the project, with the recorded recipe, dvc.lock, params.yaml and data/<dataset>; AE_HOME is its state
  folder, and `<AE_HOME>/sources` holds what the recipe's studies read;
- a stage that fails writes `{"kind": ..., "message": ...}` to the file that AE_ERROR_FILE names, and does not exit with 0;
- the stages, one of them called train, leave `artifacts/<recipe>/` with bundle/, report/, training/trail.csv and verdict.json,
  and a training writes its progress to `<AE_HOME>/training/<recipe>/progress.jsonl`.
"""

import argparse
import json
import runpy
import shlex
import sys
from pathlib import Path
from typing import Any, TypedDict

import yaml

from aeops.data.stage_code import STAGES, stage_sha256
from aeops.errors import DataError
from aeops.machine.entry_point import run_main
from aeops.machine.platform_info import platform_facts

ENTRY_VERSION = 1
STAGE_COMMAND, OLD_COMMAND = ["sh", ".dvc/stage"], ["python", "-m"]  # how a stage's command in dvc.lock begins, and did once
ENTRY_NAME = f"aeops.provenance.rebuild_entry/{ENTRY_VERSION}"  # as lineage records it


class CodeDescription(TypedDict):
    """What a version's code says of itself and of this machine.

    Attributes:
        version: of the entry point.
        platform: the platform.* tags that a version made here would have.
        stages: names of the stages, in the order in which they are run.
        changed: the stages whose code is not what dvc.lock recorded.
    """

    version: int
    platform: dict[str, str]
    stages: list[str]
    changed: list[str]


def describe_code(root: Path, recipe: str) -> CodeDescription:
    """Describe the code in `root`, and compare it with what the recorded dvc.lock says of a recipe's stages.

    Raises:
        DataError: dvc.lock lacks a stage of the recipe, or names a command of another form than those of dvc.yaml.
    """
    changed_stages = []
    for stage in STAGES:
        locked_stage = _locked_stage(root, stage, recipe)
        recorded_sha256 = locked_stage.get("params", {}).get("params.yaml", {}).get(f"code.{stage}")
        if recorded_sha256 != stage_sha256(root, stage):
            changed_stages.append(stage)
    return CodeDescription(version=ENTRY_VERSION, platform=platform_facts(), stages=list(STAGES), changed=changed_stages)


def stage_command(root: Path, stage: str, recipe: str) -> list[str]:
    """Return the module of a recorded stage and its arguments; raises as `describe` does."""
    words = shlex.split(_locked_stage(root, stage, recipe)["cmd"])
    if words[:2] == OLD_COMMAND:
        return words[2:]
    return [f"aeops.stages.{stage}", *words[3:]]


def _locked_stage(root: Path, stage: str, recipe: str) -> dict[str, Any]:
    """Return what dvc.lock recorded of a stage; raises as `describe` does."""
    name = f"{stage}@{recipe}"
    stages = yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    locked: dict[str, Any] = stages.get(name, {})
    command = locked.get("cmd", "")
    if shlex.split(command)[:2] not in (STAGE_COMMAND, OLD_COMMAND):
        raise DataError(f"expected a command `sh .dvc/stage ...` for {name} in the recorded dvc.lock, got {command or 'nothing'}")
    return locked


def main() -> None:
    parser = argparse.ArgumentParser(prog=f"python -m {ENTRY_NAME.partition('/')[0]}", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("describe").add_argument("recipe")
    stage_parser = commands.add_parser("run-stage")
    stage_parser.add_argument("stage", choices=STAGES)
    stage_parser.add_argument("recipe")
    arguments = parser.parse_args()
    root = Path.cwd()
    if arguments.command == "describe":
        print(json.dumps(describe_code(root, arguments.recipe)))
        return
    sys.argv = stage_command(root, arguments.stage, arguments.recipe)
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    run_main(main)
