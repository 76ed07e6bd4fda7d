"""What DVC needs to run the stages of a project: dvc.yaml, and the script by which its commands find their Python."""

import sys
from collections.abc import Iterable
from pathlib import Path

from aeops.data.listed_recipes import listed_recipes
from aeops.data.own_code import OWN_STAGES
from aeops.files import atomic_write
from aeops.machine.lock import PROJECT_FILES_LOCK, file_lock
from aeops.plugins import own_parts
from aeops.project import Project
from aeops.project_files.templates import PIPELINE_FILES, is_own_file, read_template

DVC_FILE = "dvc.yaml"
PYTHON_RECORD = ".dvc/tmp/ae-python"  # which Python the last `ae` in this folder ran with, on this machine
PLOTS = """\
  - "RECIPE: training":
      x: epoch
      y:
        artifacts/RECIPE/training/history.csv: [train_loss, validation_error]
      x_label: epoch
      y_label: error
  - "RECIPE: ROC":
      x: false_alarms
      y:
        artifacts/RECIPE/report/thresholds.csv: caught
      x_label: share of normal samples flagged
      y_label: share of the novelty caught
  - "RECIPE: reconstruction errors":
      x: error
      y:
        artifacts/RECIPE/report/errors.csv: [normal, novelty]
      x_label: reconstruction error
      y_label: share of samples
"""


def pipeline_text(path: str, root: Path) -> str:
    """Return the text of dvc.yaml or .dvc/stage, as this version of the package writes it for the project in a folder.

    dvc.yaml names metrics and plots of the recipes that params.yaml lists: DVC repeats stages for them, but no plots. Where the
    project has plugins, the commands of stages that an own part can change carry the hash of its code, which params.yaml has.

    Raises:
        UsageError: a plugin cannot be imported, or declares something of another form; or params.yaml is no YAML.
    """
    text = read_template(PIPELINE_FILES[path])
    if path != DVC_FILE:
        return text
    if own_parts(root).declared_by:
        for stage in OWN_STAGES:
            text = text.replace(f"sh .dvc/stage {stage} ", f"sh .dvc/stage {stage}${{item.own.{stage}}} ")
    return text + metrics_and_plots(listed_recipes(Project(root, root / ".ae")))


def metrics_and_plots(recipes: Iterable[str]) -> str:
    """Return the lines of dvc.yaml by which `dvc metrics diff` and `dvc plots diff` compare versions; empty without recipes."""
    names = list(recipes)
    if not names:
        return ""
    lines = ["metrics:", *(f"  - artifacts/{name}/report/metrics.json" for name in names), "plots:"]
    return "\n".join(lines) + "\n" + "".join(PLOTS.replace("RECIPE", name) for name in names)


def write_pipeline_files(project: Project) -> list[str]:
    """Write those that are missing or that another version of this package wrote; return their paths.

    A dvc.yaml that a person wrote stays as it is.
    """
    written = []
    with file_lock(project, PROJECT_FILES_LOCK):
        for path in PIPELINE_FILES:
            file, text = project.root / path, pipeline_text(path, project.root)
            if file.is_file() and (not is_own_file(file) or file.read_text(encoding="utf-8") == text):
                continue
            atomic_write(file, text)
            written.append(path)
    return written


def record_python(project: Project) -> None:
    """Record this Python for a `dvc repro` that somebody types later in a shell without it: see .dvc/stage."""
    file = project.root / PYTHON_RECORD
    if not file.is_file() or file.read_text(encoding="utf-8") != sys.executable:
        atomic_write(file, sys.executable)
