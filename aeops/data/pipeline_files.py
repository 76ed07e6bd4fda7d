"""What DVC needs to run the stages of a project: dvc.yaml, and the script by which its commands find their Python."""

import sys
from pathlib import Path

from aeops.data.own_code import OWN_STAGES
from aeops.files import atomic_write
from aeops.plugins import own_parts
from aeops.project import Project
from aeops.project_files.templates import PIPELINE_FILES, is_own_file, read_template

DVC_FILE = "dvc.yaml"
PYTHON_RECORD = ".dvc/tmp/ae-python"  # which Python the last `ae` in this folder ran with, on this machine


def pipeline_text(path: str, root: Path) -> str:
    """Return the text of dvc.yaml or .dvc/stage, as this version of the package writes it for the project in a folder.

    Where it has plugins, the commands of stages that an own part can change carry the hash of its code, which params.yaml has.

    Raises:
        UsageError: a plugin cannot be imported, or declares something of another form.
    """
    text = read_template(PIPELINE_FILES[path])
    if path == DVC_FILE and own_parts(root).declared_by:
        for stage in OWN_STAGES:
            text = text.replace(f"sh .dvc/stage {stage} ", f"sh .dvc/stage {stage}${{item.own.{stage}}} ")
    return text


def write_pipeline_files(project: Project) -> list[str]:
    """Write those that are missing or that another version of this package wrote; return their paths.

    A dvc.yaml that a person wrote stays as it is. Call it while holding the run lock.
    """
    written = []
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
