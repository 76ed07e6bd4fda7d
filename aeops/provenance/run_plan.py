"""What a run of a recipe would do, by what dvc.lock records of the last one: which stages run, and why. It runs nothing."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from aeops.data.pipeline_files import DVC_FILE, pipeline_text
from aeops.data.stage_code import STAGES, code_hashes
from aeops.project import Project
from aeops.project_files.templates import is_own_file

NOT_RUN = "it has not run here"
ABSENT = "nothing"
MAX_VALUE = 60  # characters of a value that are shown


@dataclass(frozen=True)
class StagePlan:
    """A DVC stage in a run to come.

    Attributes:
        stage: its name.
        reasons: why it would run; none: it is up to date.
    """

    stage: str
    reasons: list[str]


def plan_run(
    project: Project,
    recipe: str,
    raw_recipe: Mapping[str, Any],
    dataset: str,
    own_code: Mapping[str, str] = MappingProxyType({}),
) -> list[StagePlan]:
    """Return the stages of a recipe in their order, for data that stays as it was accepted last.

    A stage whose inputs equal those of any earlier run is restored from DVC's cache in place of running.

    Args:
        raw_recipe: as its file says, or would say.
        dataset: that it reads.
        own_code: stage -> what stands behind its name in its command: see `aeops.data.own_code.stage_suffixes`.
    """
    stages, recorded = _stages(project), _yaml(project.root / "dvc.lock").get("stages", {})
    hashes, running = code_hashes(project.root), set[str]()
    producers = {}
    for name in STAGES:
        for out in stages[name]["do"]["outs"]:
            producers[_path(out, recipe, dataset)] = name
    plans = []
    for name in STAGES:
        entry = recorded.get(f"{name}@{recipe}")
        inputs = [_path(path, recipe, dataset) for path in stages[name]["do"]["deps"]]
        reasons = [NOT_RUN]
        if entry is not None:
            command = _command(stages[name]["do"]["cmd"], recipe, dataset, own_code)
            reasons = [*_command_changes(name, entry, command)]
            reasons += _changes(project, name, entry, hashes[name], recipe, raw_recipe)
        reasons += [f"{producers[path]} runs" for path in inputs if producers.get(path) in running]
        if reasons:
            running.add(name)
        plans.append(StagePlan(name, reasons))
    return plans


def _stages(project: Project) -> dict[str, Any]:
    """Return the stages of dvc.yaml: as the next run will write them, where this package writes the file."""
    file = project.root / DVC_FILE
    if is_own_file(file):
        return dict(yaml.safe_load(pipeline_text(DVC_FILE, project.root))["stages"])
    return dict(_yaml(file)["stages"])


def _command(template: str, recipe: str, dataset: str, own_code: Mapping[str, str]) -> str:
    for stage, suffix in own_code.items():
        template = template.replace(f"${{item.own.{stage}}}", suffix)
    return _path(template, recipe, dataset)


def _command_changes(stage: str, entry: Mapping[str, Any], command: str) -> Iterator[str]:
    """Yield why a stage's command is another one: by the code of the project's own parts, or by a new version of dvc.yaml."""
    before = str(entry.get("cmd", ""))
    if before == command:
        return
    own_code = re.compile(rf"^(sh \.dvc/stage {stage}):[0-9a-f]+")
    if own_code.sub(r"\1", before) == own_code.sub(r"\1", command):
        yield "the code of its own parts changed"
    else:
        yield "its command changed"


def _yaml(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    return dict(yaml.safe_load(file.read_bytes()) or {})


def _path(template: str | Mapping[str, Any], recipe: str, dataset: str) -> str:
    """Return a path of dvc.yaml, where one with settings is the key of a mapping."""
    text = template if isinstance(template, str) else next(iter(template))
    return text.replace("${key}", recipe).replace("${item.dataset}", dataset)


def _changes(
    project: Project, stage: str, entry: Mapping[str, Any], code: str, recipe: str, raw_recipe: Mapping[str, Any]
) -> Iterator[str]:
    """Yield why a stage that has run would run again, by what it reads itself."""
    params = entry.get("params", {})
    if params.get("params.yaml", {}).get(f"code.{stage}") != code:
        yield "its code changed"
    for section, before in params.get(f"recipes/{recipe}.yaml", {}).items():
        yield from _differences(section, before, raw_recipe.get(section))
    for dependency in entry.get("deps", []):
        if dependency["path"].startswith("data/"):
            md5 = _dataset_md5(project, dependency["path"])
            if md5 is None:
                yield "data.dvc does not record its data"
            elif md5 != dependency.get("md5"):
                yield "the data changed"


def _differences(path: str, before: Any, after: Any) -> Iterator[str]:
    """Yield each setting that differs, as `train.epochs: 50 -> 5`."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in dict.fromkeys([*before, *after]):
            yield from _differences(f"{path}.{key}", before.get(key), after.get(key))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after) and any(map(_is_mapping, after)):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _differences(f"{path}.{index}", one, other)
    elif before != after:
        yield f"{path}: {_short(before)} -> {_short(after)}"


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _short(value: Any) -> str:
    if value is None:
        return ABSENT
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}..."


def _dataset_md5(project: Project, path: str) -> str | None:
    """Return DVC's hash of a dataset as data.dvc records it; None where it does not."""
    for entry in _yaml(project.root / "data.dvc").get("outs") or []:
        if entry.get("path") == path:
            return str(entry.get("md5"))
    return None
